"""People, the auth service's database, and calls as an administrator."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import grpc
import pytest

from deploy.local.mesh import Mesh
from tests.auth.people import MakePerson, Person
from tests.conftest import AuthStub, Metadata, bearer
from thmnayah.auth.v1.auth_pb2 import CreateUserRequest, User

PASSWORD = "Correct-Horse-7"

MakeUser = Callable[..., Awaitable[User]]


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
def make_person(edge: grpc.aio.Channel, make_user: MakeUser) -> MakePerson:
    """Makes an account and signs in with it."""

    async def make(*roles: str) -> Person:
        person = Person(edge, await make_user(roles=roles or ("reader",)), PASSWORD)
        await person.login()
        return person

    return make


@pytest.fixture
async def auth_db(mesh: Mesh) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    conn = await asyncpg.connect(mesh.database_url("auth"))
    yield conn
    await conn.close()
