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
from services.auth import keys, mails, password_codes, password_rules, people, sessions, throttle, users
from services.auth.passwords import Passwords
from services.auth.service import AuthService
from services.auth.user_service import UserService
from thmnayah.auth.v1 import auth_pb2, auth_pb2_grpc, users_pb2_grpc

MIGRATIONS = Path(__file__).parent / "migrations"
FORGET_SECONDS = 3600

_log = structlog.get_logger(__name__)


class Settings(config.StoreSettings):
    """Settings of the auth service."""

    secret_key: SecretStr = Field(description="32 random bytes in base64, under which signing keys are stored.")
    access_token_seconds: int = Field(1800, ge=60, le=86_400, description="Life of an access token.")
    refresh_token_seconds: int = Field(604_800, ge=60, description="Life of a refresh token that is not used.")
    registration: bool = Field(False, description="Whether anybody may ask for an account, as a reader.")
    smtp_url: SecretStr = Field(
        SecretStr(""), description="smtp://user:password@host:587 or smtps://… that mails go to; empty: to mail_dir."
    )
    mail_dir: Path = Field(Path("var/mail"), description="Folder that mails are written to where there is no smtp_url.")
    mail_from: str = Field("Thmnayah <no-reply@thmnayah.local>", description="Whom mails come from.")
    studio_url: str = Field("", description="Where the Studio is, whose pages mails link to; empty: no links.")
    admin_email: str = Field("", description="E-mail address of the first administrator, for `create-admin`.")
    admin_password: SecretStr = Field(SecretStr(""), description="Password of the first administrator.")

    @field_validator("secret_key")
    @classmethod
    def _is_32_bytes(cls, value: SecretStr) -> SecretStr:
        if len(base64.b64decode(value.get_secret_value())) != 32:
            raise ValueError("must be 32 bytes in base64")
        return value

    @field_validator("smtp_url")
    @classmethod
    def _is_of_a_mail_server(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value():
            mails.by_smtp(value.get_secret_value())
        return value


async def serve(settings: Settings) -> None:
    pool = await db.connect(settings.database_url.get_secret_value(), service="auth", size=settings.pool_size)
    nats = NatsClient()
    secret_key = base64.b64decode(settings.secret_key.get_secret_value())
    async with db.transaction(pool) as conn:
        signer = await keys.ensure(conn, secret_key)
    passwords = Passwords()
    servicer = AuthService(
        pool,
        signer,
        passwords,
        throttle.Devices(secret_key),
        access_life=timedelta(seconds=settings.access_token_seconds),
        refresh_life=timedelta(seconds=settings.refresh_token_seconds),
    )

    people_servicer = UserService(pool, passwords, registration=settings.registration)
    smtp_url = settings.smtp_url.get_secret_value()
    send = mails.by_smtp(smtp_url) if smtp_url else mails.to_folder(settings.mail_dir)

    def register(server: grpc.aio.Server) -> None:
        auth_pb2_grpc.add_AuthServiceServicer_to_server(servicer, server)
        users_pb2_grpc.add_UserServiceServicer_to_server(people_servicer, server)

    async def own_keys() -> auth_pb2.JsonWebKeySet:
        async with db.connection(pool) as conn:
            return await keys.key_set(conn)

    async def forget() -> None:
        while True:
            try:
                async with db.transaction(pool) as conn:
                    await sessions.forget_expired(conn)
                    await password_codes.forget_expired(conn)
                    await mails.forget_done(conn)
                    await throttle.forget_old(conn)
                    await people.forget_unverified(conn)
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
            lambda: mails.relay(pool, send, sender=settings.mail_from, studio_url=settings.studio_url),
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
            users.check_roles(request.roles)
            password_rules.check(request.password, email=request.email, name=request.display_name)
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
