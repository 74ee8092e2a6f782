"""Runs the auth service: python -m services.auth.

With commands it does these instead, in order, and ends: `migrate` brings the database up to date,
`create-admin` makes the first administrator out of THMNAYAH_ADMIN_EMAIL and THMNAYAH_ADMIN_PASSWORD
and prints "created", or "exists" when somebody can administer the installation already.
"""

import asyncio
import base64
import sys
from datetime import timedelta
from pathlib import Path

import structlog
from pydantic import Field, SecretStr, field_validator

from libs import config, db, errors, events, identity, outbox, rpc, telemetry
from services.auth import keys, sessions, users
from services.auth.passwords import Passwords
from services.auth.service import AuthService
from thmnayah.auth.v1 import auth_pb2, auth_pb2_grpc

MIGRATIONS = Path(__file__).parent / "migrations"
FORGET_SECONDS = 3600

_log = structlog.get_logger(__name__)


class Settings(config.StoreSettings):
    """Settings of the auth service."""

    secret_key: SecretStr = Field(description="32 random bytes in base64, under which signing keys are stored.")
    access_token_seconds: int = Field(1800, ge=60, le=86_400, description="Life of an access token.")
    refresh_token_seconds: int = Field(604_800, ge=60, description="Life of a refresh token that is not used.")
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
    nats = await events.connect(settings.nats_url.get_secret_value(), service="auth")
    await events.ensure_stream(nats, "user")
    async with db.transaction(pool) as conn:
        signer = await keys.ensure(conn, base64.b64decode(settings.secret_key.get_secret_value()))
    servicer = AuthService(
        pool,
        signer,
        Passwords(),
        access_life=timedelta(seconds=settings.access_token_seconds),
        refresh_life=timedelta(seconds=settings.refresh_token_seconds),
    )

    async def own_keys() -> auth_pb2.JsonWebKeySet:
        async with db.connection(pool) as conn:
            return await keys.key_set(conn)

    async def forget() -> None:
        while True:
            try:
                async with db.transaction(pool) as conn:
                    await sessions.forget_expired(conn)
            except errors.Unavailable:
                _log.warning("expired_sessions_kept")
            await asyncio.sleep(FORGET_SECONDS)

    await rpc.serve(
        settings,
        verifier=identity.Verifier(own_keys),
        register=lambda server: auth_pb2_grpc.add_AuthServiceServicer_to_server(servicer, server),
        needs={"postgresql": lambda: db.ping(pool)},
        uses={"nats": lambda: events.ping(nats)},
        tasks=[lambda: outbox.relay(pool, nats), forget],
    )
    await nats.close()
    await pool.close()


async def create_admin(settings: Settings) -> str:
    """Make the first administrator; returns "created", or "exists" when there is one."""
    request = auth_pb2.CreateUserRequest(
        email=settings.admin_email,
        password=settings.admin_password.get_secret_value(),
        display_name="Administrator",
        roles=["admin"],
    )
    pool = await db.connect(settings.database_url.get_secret_value(), service="auth", size=1)
    try:
        async with db.transaction(pool) as conn:
            if await users.any_admin(conn):
                return "exists"
            rpc.validate(request)
            password_hash = await Passwords().hash(request.password)
            user = await users.create(conn, request, password_hash=password_hash)
            await outbox.add(conn, auth_pb2.UserCreated(user=user), about=user.id)
    finally:
        await pool.close()
    return "created"


def main() -> None:
    settings = Settings.load()
    telemetry.start("auth", settings)
    for name in sys.argv[1:]:
        if name == "migrate":
            asyncio.run(db.migrate(settings.database_url.get_secret_value(), MIGRATIONS))
        elif name == "create-admin":
            try:
                print(asyncio.run(create_admin(settings)))
            except errors.InvalidArgument as error:
                fields = {"email": "THMNAYAH_ADMIN_EMAIL", "password": "THMNAYAH_ADMIN_PASSWORD"}
                sys.exit("\n".join(f"{fields.get(name, name)}: {why}" for name, why in error.violations.items()))
    if len(sys.argv) == 1:
        rpc.run(serve(settings))
    telemetry.stop()


if __name__ == "__main__":
    main()
