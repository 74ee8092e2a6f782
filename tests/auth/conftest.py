"""People, the auth service's database, and calls as an administrator."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

import asyncpg
import grpc
import pytest

from deploy.local.mesh import Mesh
from tests.auth.people import MakePerson, Person
from tests.conftest import AuthStub, Metadata, bearer, eventually
from thmnayah.auth.v1.audit_pb2 import AuditEvent, ListAuditEventsRequest
from thmnayah.auth.v1.audit_pb2_grpc import AuditServiceStub
from thmnayah.auth.v1.auth_pb2 import CreateUserRequest, LoginRequest, Tokens, User
from thmnayah.auth.v1.sessions_pb2_grpc import SessionServiceStub
from thmnayah.auth.v1.users_pb2 import InviteUserRequest
from thmnayah.auth.v1.users_pb2_grpc import UserServiceStub

if TYPE_CHECKING:
    from thmnayah.auth.v1.audit_pb2_grpc import AuditServiceAsyncStub
    from thmnayah.auth.v1.users_pb2_grpc import UserServiceAsyncStub

    UsersStub = UserServiceAsyncStub
    Database = asyncpg.Connection[asyncpg.Record]
else:
    UsersStub, Database = UserServiceStub, asyncpg.Connection

PASSWORD = "Correct-Horse-7"

if TYPE_CHECKING:  # the typed face of the stub exists for the type checker alone
    from thmnayah.auth.v1.sessions_pb2_grpc import SessionServiceAsyncStub

    SessionStub = SessionServiceAsyncStub
else:
    SessionStub = SessionServiceStub

MakeUser = Callable[..., Awaitable[User]]
Find = Callable[..., Awaitable[list[AuditEvent]]]
Invite = Callable[[str], Awaitable[User]]


async def sign_in(auth: AuthStub, email: str, password: str = PASSWORD, *, device: str = "") -> Tokens:
    request = LoginRequest(email=email, password=password, device_token=device)
    return await auth.Login(request, timeout=10)


async def minute_later(auth_db: Database, email: str) -> None:
    """Waits until what was mailed is noted, and lets a minute pass for it."""

    async def done() -> str:
        return await auth_db.execute(
            "UPDATE mails SET done_time = done_time - interval '2 minutes'"
            " WHERE email_key = $1 AND done_time IS NOT NULL",
            email,
        )

    await eventually(done, lambda status: status != "UPDATE 0")


@pytest.fixture(scope="session")
def admin(admin_token: str) -> Metadata:
    """The metadata of an administrator's calls."""
    return bearer(admin_token)


@pytest.fixture(scope="session")
def make_user(auth: AuthStub, admin: Metadata) -> MakeUser:
    """Makes an account with PASSWORD unless told otherwise."""

    async def make(email: str = "", password: str = PASSWORD, roles: tuple[str, ...] = ("reader",)) -> User:
        request = CreateUserRequest(
            email=email or f"user-{secrets.token_hex(6)}@example.com", password=password, roles=roles
        )
        return await auth.CreateUser(request, metadata=admin, timeout=10)

    return make


@pytest.fixture(scope="session")
def sessions(edge: grpc.aio.Channel) -> SessionStub:
    return SessionServiceStub(edge)


@pytest.fixture(scope="session")
def make_person(edge: grpc.aio.Channel, make_user: MakeUser) -> MakePerson:
    """Makes an account and signs in with it."""

    async def make(*roles: str) -> Person:
        person = Person(edge, await make_user(roles=roles or ("reader",)), PASSWORD)
        await person.login()
        return person

    return make


@pytest.fixture(scope="session")
def users(edge: grpc.aio.Channel) -> UsersStub:
    return UserServiceStub(edge)


@pytest.fixture(scope="session")
def invite(users: UsersStub, admin: Metadata) -> Invite:
    """Invites somebody as a reader, by a word that nobody else uses."""

    async def make(word: str) -> User:
        request = InviteUserRequest(email=f"{word}@example.com", roles=["reader"])
        return await users.InviteUser(request, metadata=admin, timeout=10)

    return make


@pytest.fixture
async def auth_db(mesh: Mesh) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    conn = await asyncpg.connect(mesh.database_url("auth"))
    yield conn
    await conn.close()


@pytest.fixture(scope="session")
def records(edge: grpc.aio.Channel) -> "AuditServiceAsyncStub":
    return AuditServiceStub(edge)


@pytest.fixture(scope="session")
def find(records: "AuditServiceAsyncStub", admin: Metadata) -> Find:
    """All events that a filter finds, newest first."""

    async def read(filter: str, page_size: int = 200) -> list[AuditEvent]:
        found: list[AuditEvent] = []
        request = ListAuditEventsRequest(filter=filter, page_size=page_size)
        while True:
            page = await records.ListAuditEvents(request, metadata=admin, timeout=10)
            found += page.audit_events
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    return read
