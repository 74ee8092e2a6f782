"""Runs the auth service, or does something for whoever holds its database, and ends.

    python -m services.auth                            serves
    python -m services.auth migrate                    brings the database up to date
    python -m services.auth create-admin               makes the first administrator, if there is none,
                                                       of THMNAYAH_ADMIN_EMAIL and THMNAYAH_ADMIN_PASSWORD
    python -m services.auth create-user EMAIL ROLE …   makes an account; the password is a line of standard input

The last two print "created", or "exists". `migrate create-admin` does one after the other.
"""

import asyncio
import base64
import sys
from datetime import timedelta
from pathlib import Path

import grpc
import structlog
from nats.aio.client import Client as NatsClient
from pydantic import Field, SecretStr, field_validator

from libs import config, db, errors, events, identity, outbox, rpc, telemetry
from services.auth import challenges, keys, sessions, users
from services.auth.mfa_service import MfaService
from services.auth.passkeys import RelyingParty
from services.auth.passwords import Passwords
from services.auth.service import AuthService
from thmnayah.auth.v1 import auth_pb2, auth_pb2_grpc, mfa_pb2_grpc

MIGRATIONS = Path(__file__).parent / "migrations"
FORGET_SECONDS = 3600

_log = structlog.get_logger(__name__)


class Settings(config.StoreSettings):
    """Settings of the auth service."""

    secret_key: SecretStr = Field(
        description="32 random bytes in base64, under which signing keys and TOTP seeds are stored."
    )
    access_token_seconds: int = Field(1800, ge=60, le=86_400, description="Life of an access token.")
    refresh_token_seconds: int = Field(604_800, ge=60, description="Life of a refresh token that is not used.")
    webauthn_rp_id: str = Field(
        "localhost", description="Domain that passkeys are made for; it cannot be changed later."
    )
    webauthn_origins: str = Field(
        "http://localhost:8080", description="Origins whose pages may ask for passkeys, joined by commas."
    )
    admin_email: str = Field("", description="E-mail address of the first administrator, for `create-admin`.")
    admin_password: SecretStr = Field(SecretStr(""), description="Password of the first administrator.")

    @field_validator("secret_key")
    @classmethod
    def _is_32_bytes(cls, value: SecretStr) -> SecretStr:
        if len(base64.b64decode(value.get_secret_value())) != 32:
            raise ValueError("must be 32 bytes in base64")
        return value


async def serve(settings: Settings) -> None:
    pool = await db.connect(settings.database_url.get_secret_value(), service="auth", size=settings.pool_size)
    nats = NatsClient()
    secret_key = base64.b64decode(settings.secret_key.get_secret_value())
    async with db.transaction(pool) as conn:
        signer = await keys.ensure(conn, secret_key)
    servicer = AuthService(
        pool,
        signer,
        Passwords(),
        RelyingParty(settings.webauthn_rp_id, tuple(settings.webauthn_origins.split(","))),
        access_life=timedelta(seconds=settings.access_token_seconds),
        refresh_life=timedelta(seconds=settings.refresh_token_seconds),
    )

    def register(server: grpc.aio.Server) -> None:
        auth_pb2_grpc.add_AuthServiceServicer_to_server(servicer, server)
        mfa_pb2_grpc.add_MfaServiceServicer_to_server(MfaService(pool, servicer, secret_key), server)

    async def own_keys() -> auth_pb2.JsonWebKeySet:
        async with db.connection(pool) as conn:
            return await keys.key_set(conn)

    async def forget() -> None:
        while True:
            try:
                async with db.transaction(pool) as conn:
                    await sessions.forget_expired(conn)
                    await challenges.forget_expired(conn)
            except errors.Unavailable:
                _log.warning("expired_sessions_kept")
            await asyncio.sleep(FORGET_SECONDS)

    await rpc.serve(
        settings,
        verifier=identity.Verifier(own_keys),
        register=register,
        needs={"postgresql": lambda: db.ping(pool)},
        uses={"nats": lambda: events.ping(nats)},
        tasks=[
            lambda: events.stay_connected(nats, settings.nats_url.get_secret_value(), service="auth"),
            lambda: outbox.relay(pool, nats, stream="user", replicas=settings.stream_replicas),
            forget,
        ],
    )
    await pool.close()


async def create_user(settings: Settings, request: auth_pb2.CreateUserRequest, *, first_admin: bool = False) -> str:
    """Make an account; returns "created", or "exists" when the address is taken.

    Args:
        first_admin: make it only while nobody can administer the installation.

    Raises:
        InvalidArgument: a rule of the request is broken.
    """
    pool = await db.connect(settings.database_url.get_secret_value(), service="auth", size=1)
    try:
        async with db.transaction(pool) as conn:
            if first_admin and await users.any_admin(conn):
                return "exists"
            rpc.validate(request)
            users.check_roles(request)
            password_hash = await Passwords().hash(request.password)
            user = await users.create(conn, request, password_hash=password_hash)
            await outbox.add(conn, auth_pb2.UserCreated(user=user), about=user.id)
    except errors.AlreadyExists:
        return "exists"
    finally:
        await pool.close()
    return "created"


def main() -> None:
    settings = Settings.load()
    telemetry.start("auth", settings)
    commands = sys.argv[1:]
    if not commands:
        rpc.run(serve(settings))
    if commands[:1] == ["migrate"]:
        from libs import migrations  # noqa: PLC0415 — a server has no use for it

        asyncio.run(migrations.migrate(settings.database_url.get_secret_value(), MIGRATIONS))
        commands = commands[1:]
    if commands == ["create-admin"]:
        admin = auth_pb2.CreateUserRequest(
            email=settings.admin_email,
            password=settings.admin_password.get_secret_value(),
            display_name="Administrator",
            roles=["admin"],
        )
        _create(settings, admin, first_admin=True)
    elif commands[:1] == ["create-user"] and len(commands) > 2:
        email, *roles = commands[1:]
        password = sys.stdin.readline().rstrip("\n")
        _create(settings, auth_pb2.CreateUserRequest(email=email, password=password, roles=roles))
    elif commands:
        sys.exit(__doc__)
    telemetry.stop()


def _create(settings: Settings, request: auth_pb2.CreateUserRequest, *, first_admin: bool = False) -> None:
    try:
        print(asyncio.run(create_user(settings, request, first_admin=first_admin)))
    except errors.InvalidArgument as error:
        settings_of = {"email": "THMNAYAH_ADMIN_EMAIL", "password": "THMNAYAH_ADMIN_PASSWORD"} if first_admin else {}
        sys.exit("\n".join(f"{settings_of.get(field, field)}: {why}" for field, why in error.violations.items()))


if __name__ == "__main__":
    main()
