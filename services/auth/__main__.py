"""Runs the auth service, or does something for whoever holds its database, and ends.

    python -m services.auth                            serves
    python -m services.auth migrate                    brings the database up to date
    python -m services.auth verify-audit [--head HEAD] checks the chain of the audit, and that it leads through a
                                                       head that was noted; prints the head
    python -m services.auth create-admin               makes the first administrator, if there is none,
                                                       of THMNAYAH_ADMIN_EMAIL and THMNAYAH_ADMIN_PASSWORD
    python -m services.auth create-user EMAIL ROLE …   makes an account; the password is a line of standard input
    python -m services.auth rotate-keys                publishes a new signing key, which is used a little later
    python -m services.auth rotate-keys --remove KID   withdraws a signing key at once

The two that make accounts print "created", or "exists". `migrate create-admin` does one after the other.
"""

import asyncio
import base64
import sys
from datetime import timedelta
from pathlib import Path

import grpc
import structlog
from envoy_auth import external_auth_pb2_grpc
from nats.aio.client import Client as NatsClient
from nats.errors import Error as NatsError
from pydantic import Field, SecretStr, ValidationInfo, field_validator

from libs import config, db, errors, events, identity, outbox, rpc, telemetry
from libs.denials import Denials
from libs.revocations import Revocations
from libs.roles import Roles
from services.auth import (
    audit,
    challenges,
    email_changes,
    keys,
    mails,
    oidc_logins,
    password_codes,
    password_rules,
    people,
    revocations,
    roles,
    sessions,
    throttle,
    users,
)
from services.auth.api_key_service import ApiKeyService, ServiceAccountService
from services.auth.audit_service import AuditService
from services.auth.exchange import EdgeService, Exchange
from services.auth.group_service import GroupService
from services.auth.mfa_service import MfaService
from services.auth.oidc_client import Client
from services.auth.oidc_service import OidcService
from services.auth.passkeys import RelyingParty
from services.auth.passwords import Passwords
from services.auth.role_service import RoleService
from services.auth.scim_service import ScimService
from services.auth.service import AuthService
from services.auth.session_service import SessionService
from services.auth.signing_key_service import SigningKeyService
from services.auth.user_service import UserService
from thmnayah.auth.v1 import (
    api_keys_pb2_grpc,
    audit_pb2_grpc,
    auth_pb2,
    auth_pb2_grpc,
    groups_pb2_grpc,
    mfa_pb2_grpc,
    oidc_pb2_grpc,
    roles_pb2,
    roles_pb2_grpc,
    scim_pb2_grpc,
    sessions_pb2,
    sessions_pb2_grpc,
    signing_keys_pb2_grpc,
    users_pb2_grpc,
)

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
    session_seconds: int = Field(2_592_000, ge=60, description="Life of a session, however it is used.")
    key_days: int = Field(90, ge=1, description="How long tokens are signed with one key.")
    key_publish_seconds: float = Field(
        150, ge=1, description="From a key's publication to its use; longer than the edge keeps keys."
    )
    old_secret_key: SecretStr = Field(SecretStr(""), description="THMNAYAH_SECRET_KEY as it was before it was changed.")
    api_key_environment: str = Field(
        "live", pattern="^[a-z]{2,10}$", description="What API keys of this installation are marked with."
    )
    api_key_days: int = Field(365, ge=1, description="Longest life of a person's API key.")
    webauthn_rp_id: str = Field(
        "localhost", description="Domain that passkeys are made for; it cannot be changed later."
    )
    webauthn_origins: str = Field(
        "http://localhost:8080", description="Origins whose pages may ask for passkeys, joined by commas."
    )
    oidc_private_hosts: str = Field(
        "", description="Hosts in a private network that OpenID Connect providers may be at, joined by commas."
    )
    registration: bool = Field(False, description="Whether anybody may ask for an account, as a reader.")
    smtp_url: SecretStr = Field(
        SecretStr(""), description="smtp://user:password@host:587 or smtps://… that mails go to; empty: to mail_dir."
    )
    mail_dir: Path = Field(Path("var/mail"), description="Folder that mails are written to where there is no smtp_url.")
    mail_from: str = Field("Thmnayah <no-reply@thmnayah.local>", description="Whom mails come from.")
    studio_url: str = Field("", description="Where the Studio is, whose pages mails link to; empty: no links.")
    admin_email: str = Field("", description="E-mail address of the first administrator, for `create-admin`.")
    admin_password: SecretStr = Field(SecretStr(""), description="Password of the first administrator.")

    @field_validator("secret_key", "old_secret_key")
    @classmethod
    def _is_32_bytes(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        if info.field_name == "old_secret_key" and not value.get_secret_value():
            return value
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
    refused = Denials(nats)
    ring = await key_ring(settings, pool)
    secret_key = base64.b64decode(settings.secret_key.get_secret_value())
    terms = sessions.Terms(
        access=timedelta(seconds=settings.access_token_seconds),
        idle=timedelta(seconds=settings.refresh_token_seconds),
        absolute=timedelta(seconds=settings.session_seconds),
        secret_key=secret_key,
    )
    party = RelyingParty(settings.webauthn_rp_id, tuple(settings.webauthn_origins.split(",")))

    async def own_revocations(request: sessions_pb2.ListRevocationsRequest) -> sessions_pb2.ListRevocationsResponse:
        async with db.connection(pool) as conn:
            return await revocations.list_since(conn, request)

    revoked = Revocations(own_revocations)

    async def own_keys() -> auth_pb2.JsonWebKeySet:
        async with db.connection(pool) as conn:
            return await keys.key_set(conn)

    async def own_roles(request: roles_pb2.GetRoleSnapshotRequest) -> roles_pb2.RoleSnapshot:
        async with db.connection(pool) as conn:
            return await roles.snapshot(conn, request.version)

    known = Roles(own_roles)
    passwords = Passwords()
    smtp_url = settings.smtp_url.get_secret_value()
    send = mails.by_smtp(smtp_url) if smtp_url else mails.to_folder(settings.mail_dir)

    def register(server: grpc.aio.Server) -> None:
        signing_in = AuthService(pool, ring, passwords, party, throttle.Devices(secret_key), terms)
        auth_pb2_grpc.add_AuthServiceServicer_to_server(signing_in, server)
        users_pb2_grpc.add_UserServiceServicer_to_server(
            UserService(pool, passwords, registration=settings.registration), server
        )
        groups_pb2_grpc.add_GroupServiceServicer_to_server(GroupService(pool), server)
        scim_pb2_grpc.add_ScimServiceServicer_to_server(ScimService(pool), server)
        mfa_pb2_grpc.add_MfaServiceServicer_to_server(MfaService(pool, signing_in), server)
        client = Client(frozenset(filter(None, settings.oidc_private_hosts.split(","))))
        oidc_pb2_grpc.add_OidcServiceServicer_to_server(OidcService(pool, signing_in, client), server)
        sessions_pb2_grpc.add_SessionServiceServicer_to_server(SessionService(pool), server)
        signing_keys_pb2_grpc.add_SigningKeyServiceServicer_to_server(SigningKeyService(ring), server)
        roles_pb2_grpc.add_RoleServiceServicer_to_server(RoleService(pool, known), server)
        audit_pb2_grpc.add_AuditServiceServicer_to_server(AuditService(pool), server)
        exchange = Exchange(pool, ring, revoked, environment=settings.api_key_environment)
        api_keys_pb2_grpc.add_ApiKeyServiceServicer_to_server(
            ApiKeyService(pool, exchange, longest=timedelta(days=settings.api_key_days)), server
        )
        api_keys_pb2_grpc.add_ServiceAccountServiceServicer_to_server(ServiceAccountService(pool), server)
        external_auth_pb2_grpc.add_AuthorizationServicer_to_server(EdgeService(exchange), server)

    await rpc.serve(
        settings,
        verifier=identity.Verifier(own_keys, known, revoked),
        register=register,
        denied=refused.note,
        needs={"postgresql": lambda: db.ping(pool)},
        uses={"nats": lambda: events.ping(nats)},
        tasks=[
            lambda: events.stay_connected(nats, settings.nats_url.get_secret_value(), service="auth"),
            lambda: outbox.relay(pool, nats, stream="user", replicas=settings.stream_replicas),
            lambda: revoked.listen(nats),
            ring.follow,
            lambda: _forget(pool),
            refused.tell,
            lambda: audit.keep_linking(pool),
            lambda: _record_content(pool, nats),
            lambda: _record_denials(pool, nats, settings.stream_replicas),
            lambda: mails.relay(pool, send, sender=settings.mail_from, studio_url=settings.studio_url),
        ],
    )
    await pool.close()


async def _forget(pool: db.Pool) -> None:
    """Remove, for ever, what ended."""
    while True:
        try:
            async with db.transaction(pool) as conn:
                await sessions.forget_expired(conn)
                await revocations.forget_expired(conn)
                await challenges.forget_expired(conn)
                await oidc_logins.forget_expired(conn)
                await password_codes.forget_expired(conn)
                await email_changes.forget_expired(conn)
                await mails.forget_done(conn)
                await throttle.forget_old(conn)
                await people.forget_unverified(conn)
        except errors.Unavailable:
            _log.warning("expired_sessions_kept")
        await asyncio.sleep(FORGET_SECONDS)


async def _record_content(pool: db.Pool, nats: NatsClient) -> None:
    """Put on record, for ever, what the events of content tell."""
    await events.consume(
        pool,
        nats,
        stream="content",
        consumer="audit",
        subjects=audit.CONTENT_SUBJECTS,
        handler=audit.put,
        pause_seconds=audit.POLL_SECONDS,
    )


async def _record_denials(pool: db.Pool, nats: NatsClient, replicas: int) -> None:
    """The same for denials, which all services publish on a stream of this one."""
    while True:
        try:
            await events.connected(nats)
            await events.ensure_stream(nats, "audit", replicas=replicas)
            break
        except (NatsError, TimeoutError, OSError) as error:
            events.raise_if_cancelled(error)
            await asyncio.sleep(1)
    await events.consume(pool, nats, stream="audit", consumer="audit", subjects=["audit.>"], handler=audit.put)


async def key_ring(settings: Settings, pool: db.Pool) -> keys.Ring:
    """The installation's signing keys."""
    ring = keys.Ring(
        pool,
        base64.b64decode(settings.secret_key.get_secret_value()),
        publish=timedelta(seconds=settings.key_publish_seconds),
        access_life=timedelta(seconds=settings.access_token_seconds),
        rotate_after=timedelta(days=settings.key_days),
    )
    await ring.load(base64.b64decode(settings.old_secret_key.get_secret_value()))
    return ring


async def rotate_keys(settings: Settings, remove: str = "") -> str:
    """Publish a signing key or withdraw one; returns the key that will be used next or is used, and from when on.

    Raises:
        NotFound: there is none to remove.
    """
    pool = await db.connect(settings.database_url.get_secret_value(), service="auth", size=1)
    try:
        ring = await key_ring(settings, pool)
        key = await (ring.remove(remove) if remove else ring.rotate())
    finally:
        await pool.close()
    return f"{key.kid} {key.use_time.ToJsonString()}"


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
            request.roles[:] = await roles.assignable(conn, request.roles, by=None)
            password_rules.check(request.password, email=request.email, name=request.display_name)
            password_hash = await Passwords().hash(request.password)
            user = await users.create(conn, request, password_hash=password_hash)
            await outbox.add(conn, auth_pb2.UserCreated(user=user), about=user.id)
    except errors.AlreadyExists:
        return "exists"
    finally:
        await pool.close()
    return "created"


async def verify_audit(settings: Settings, noted: str) -> None:
    """Print the head of the audit's chain, or end the process with where it breaks."""
    try:
        expected = audit.Head.parse(noted)
    except ValueError:
        sys.exit("--head: is not a head, such as 12:9f86d08…")
    pool = await db.connect(settings.database_url.get_secret_value(), service="auth", size=1)
    head, problem, more = audit.Head(), "", True
    while more:
        async with db.connection(pool) as conn:
            head, problem, more = await audit.verify(conn, head, noted=expected, limit=audit.BATCH)
    await pool.close()
    if problem:
        sys.exit(f"the chain is broken: {problem}")
    print(head)


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
            roles=["administrator"],
        )
        _create(settings, admin, first_admin=True)
    elif commands[:1] == ["create-user"] and len(commands) > 2:
        email, *roles = commands[1:]
        password = sys.stdin.readline().rstrip("\n")
        _create(settings, auth_pb2.CreateUserRequest(email=email, password=password, roles=roles))
    elif commands == ["rotate-keys"] or (commands[:2] == ["rotate-keys", "--remove"] and len(commands) == 3):
        try:
            print(asyncio.run(rotate_keys(settings, *commands[2:])))
        except errors.NotFound as error:
            sys.exit(str(error))
    elif commands == ["verify-audit"] or (commands[:2] == ["verify-audit", "--head"] and len(commands) == 3):
        asyncio.run(verify_audit(settings, commands[2] if len(commands) == 3 else ""))
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
