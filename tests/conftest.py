"""The real mesh, started once for each worker, and how tests speak to it."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import asyncpg
import grpc
import httpx
import pytest

from deploy.local.mesh import Mesh, free_ports
from deploy.local.settings import LocalSettings
from thmnayah.auth.v1.auth_pb2 import CreateUserRequest, LoginRequest
from thmnayah.auth.v1.auth_pb2_grpc import AuthServiceStub
from thmnayah.content.v1.content_pb2_grpc import ContentServiceStub
from thmnayah.content.v1.rich_text_pb2_grpc import RichTextServiceStub
from thmnayah.content.v1.taxonomy_pb2_grpc import TaxonomyServiceStub
from thmnayah.content.v1.workflow_pb2_grpc import WorkflowServiceStub
from thmnayah.search.v1.search_pb2_grpc import SearchServiceStub

ADMIN_EMAIL = "admin@example.com"
ADMIN_PASSWORD = "Passw0rd-of-tests"
CORS_ORIGIN = STUDIO_URL = "https://studio.example.com"

if TYPE_CHECKING:  # the typed faces of the stubs exist for the type checker alone
    from thmnayah.auth.v1.auth_pb2_grpc import AuthServiceAsyncStub
    from thmnayah.content.v1.content_pb2_grpc import ContentServiceAsyncStub
    from thmnayah.content.v1.rich_text_pb2_grpc import RichTextServiceAsyncStub
    from thmnayah.content.v1.taxonomy_pb2_grpc import TaxonomyServiceAsyncStub
    from thmnayah.content.v1.workflow_pb2_grpc import WorkflowServiceAsyncStub
    from thmnayah.search.v1.search_pb2_grpc import SearchServiceAsyncStub

    AuthStub = AuthServiceAsyncStub
    ContentStub = ContentServiceAsyncStub
    RichTextStub = RichTextServiceAsyncStub
    SearchStub = SearchServiceAsyncStub
    TaxonomyStub = TaxonomyServiceAsyncStub
    WorkflowStub = WorkflowServiceAsyncStub
else:
    AuthStub, ContentStub, SearchStub = AuthServiceStub, ContentServiceStub, SearchServiceStub
    RichTextStub, TaxonomyStub, WorkflowStub = RichTextServiceStub, TaxonomyServiceStub, WorkflowServiceStub

T = TypeVar("T")
Metadata = tuple[tuple[str, str], ...]


def free_port() -> int:
    """A port nobody uses now."""
    return free_ports("port")["port"]


def mesh_settings(folder: Path) -> LocalSettings:
    """Settings of a mesh that shares nothing with another."""
    return LocalSettings(http_port=free_port(), data_dir=folder, admin_email=ADMIN_EMAIL, admin_password=ADMIN_PASSWORD)


@pytest.fixture(scope="session", autouse=True)
def _without_limits() -> Iterator[None]:
    """All tests call from one address, and some a great deal."""
    with pytest.MonkeyPatch.context() as environ:
        for limit in ("ANONYMOUS_CALLS_PER_MINUTE", "ANONYMOUS_CALLS_PER_HOUR", "PERSON_CALLS_PER_MINUTE"):
            environ.setenv(f"THMNAYAH_{limit}", "0")
        environ.setenv("THMNAYAH_KEY_CALLS_PER_MINUTE", "0")
        yield


@pytest.fixture(scope="session")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    """A running mesh."""
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("THMNAYAH_CORS_ORIGINS", CORS_ORIGIN)
        environ.setenv("THMNAYAH_OIDC_PRIVATE_HOSTS", "127.0.0.1")
        environ.setenv("THMNAYAH_REGISTRATION", "true")
        environ.setenv("THMNAYAH_STUDIO_URL", STUDIO_URL)
        mesh = Mesh(mesh_settings(tmp_path_factory.mktemp("mesh")), print)
        try:
            await mesh.start()
            yield mesh
        finally:
            await mesh.stop()


@pytest.fixture(scope="session")
async def rest(mesh: Mesh) -> AsyncIterator[httpx.AsyncClient]:
    """REST through the edge, anonymous."""
    async with httpx.AsyncClient(base_url=f"http://{mesh.address}", timeout=20) as client:
        yield client


@pytest.fixture(scope="session")
async def edge(mesh: Mesh) -> AsyncIterator[grpc.aio.Channel]:
    """gRPC through the edge."""
    async with grpc.aio.insecure_channel(mesh.address) as channel:
        yield channel


@pytest.fixture(scope="session")
def auth(edge: grpc.aio.Channel) -> AuthStub:
    return AuthServiceStub(edge)


@pytest.fixture(scope="session")
def content(edge: grpc.aio.Channel) -> ContentStub:
    return ContentServiceStub(edge)


@pytest.fixture(scope="session")
def taxonomy(edge: grpc.aio.Channel) -> TaxonomyStub:
    return TaxonomyServiceStub(edge)


@pytest.fixture(scope="session")
def rich_text(edge: grpc.aio.Channel) -> RichTextStub:
    return RichTextServiceStub(edge)


@pytest.fixture(scope="session")
def search(edge: grpc.aio.Channel) -> SearchStub:
    return SearchServiceStub(edge)


@pytest.fixture(scope="session")
async def admin_token(auth: AuthStub) -> str:
    tokens = await auth.Login(LoginRequest(email=ADMIN_EMAIL, password=ADMIN_PASSWORD), timeout=10)
    return str(tokens.access_token)


@pytest.fixture(scope="session")
async def sign_in(auth: AuthStub, admin_token: str) -> Callable[..., Awaitable[str]]:
    """Makes a new user with a role and returns an access token of theirs."""

    async def make(role: str) -> str:
        email = f"{role}-{secrets.token_hex(6)}@example.com"
        request = CreateUserRequest(email=email, password=ADMIN_PASSWORD, roles=[role])
        await auth.CreateUser(request, metadata=bearer(admin_token), timeout=10)
        tokens = await auth.Login(LoginRequest(email=email, password=ADMIN_PASSWORD), timeout=10)
        return str(tokens.access_token)

    return make


@pytest.fixture(scope="session")
async def editor_token(sign_in: Callable[..., Awaitable[str]]) -> str:
    return await sign_in("editor")


@pytest.fixture(scope="session")
async def reader_token(sign_in: Callable[..., Awaitable[str]]) -> str:
    return await sign_in("reader")


@pytest.fixture(scope="session")
def editor(editor_token: str) -> Metadata:
    """The metadata of an editor's calls."""
    return bearer(editor_token)


@pytest.fixture(scope="session")
def reader(reader_token: str) -> Metadata:
    """The metadata of a reader's calls."""
    return bearer(reader_token)


@pytest.fixture
async def content_db(mesh: Mesh) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    conn = await asyncpg.connect(mesh.database_url("content"))
    yield conn
    await conn.close()


@pytest.fixture
async def search_db(mesh: Mesh) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    conn = await asyncpg.connect(mesh.database_url("search"))
    yield conn
    await conn.close()


@pytest.fixture
def word() -> str:
    """A word that stands in no other test's texts."""
    return "w" + secrets.token_hex(6)


def bearer(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


async def eventually(
    attempt: Callable[[], Awaitable[T]], until: Callable[[T], bool] = bool, *, seconds: float = 10
) -> T:
    """The first result that `until` accepts; the test fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        result = await attempt()
        if until(result):
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s; the last result was {result!r}")
        await asyncio.sleep(0.05)
