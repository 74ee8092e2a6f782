"""Who calls the content service in its tests, and what it announces."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import asyncpg
import grpc
import httpx
import pytest
from google.protobuf import symbol_database

from tests.conftest import Metadata, TaxonomyStub, bearer
from tests.content.filing import Filing
from tests.content.items import Caller
from tests.content.rest import Rest
from thmnayah.content.v1.content_pb2 import Content


@dataclass(frozen=True)
class Announced:
    """An event as it stands in the outbox."""

    subject: str
    headers: dict[str, str]
    content: Content


Announcements = Callable[[str], Awaitable[list[Announced]]]


@pytest.fixture(scope="session")
def anyone(edge: grpc.aio.Channel) -> Caller:
    """Calls without a token."""
    return Caller(edge)


@pytest.fixture(scope="session")
def editing(edge: grpc.aio.Channel, editor: Metadata) -> Caller:
    """An editor's calls."""
    return Caller(edge, editor)


@pytest.fixture(scope="session")
async def reviewing(edge: grpc.aio.Channel, sign_in: Callable[..., Awaitable[str]]) -> Caller:
    """Another editor's calls."""
    return Caller(edge, bearer(await sign_in("editor")))


@pytest.fixture(scope="session")
def reading(edge: grpc.aio.Channel, reader: Metadata) -> Caller:
    """The calls of somebody signed in who may only read."""
    return Caller(edge, reader)


@pytest.fixture(scope="session")
def admin(rest: httpx.AsyncClient, admin_token: str) -> Rest:
    """An administrator's calls over REST."""
    return Rest(rest, admin_token)


@pytest.fixture(scope="session")
def anybody(rest: httpx.AsyncClient) -> Rest:
    """Calls over REST without a token."""
    return Rest(rest, "")


@pytest.fixture(scope="session")
def filing(taxonomy: TaxonomyStub, editor: Metadata) -> Filing:
    """An editor's calls to TaxonomyService."""
    return Filing(taxonomy, editor)


@pytest.fixture(scope="session")
def administering(taxonomy: TaxonomyStub, admin_token: str) -> Filing:
    """An administrator's calls to TaxonomyService."""
    return Filing(taxonomy, bearer(admin_token))


@pytest.fixture(scope="session")
def browsing(taxonomy: TaxonomyStub) -> Filing:
    """Calls to TaxonomyService without a token."""
    return Filing(taxonomy)


@pytest.fixture
def announced(content_db: "asyncpg.Connection[asyncpg.Record]") -> Announcements:
    """The events about an item, in the order of its changes."""

    async def read(content_id: str) -> list[Announced]:
        rows = await content_db.fetch(
            "SELECT subject, headers, payload FROM outbox WHERE headers->>'ce-subject' = $1 ORDER BY position",
            content_id,
        )
        found = []
        for row in rows:
            headers = json.loads(row["headers"])
            message = symbol_database.Default().GetSymbol(headers["ce-type"]).FromString(row["payload"])
            found.append(Announced(row["subject"], headers, getattr(message, "content")))  # noqa: B009 — its type is known at run time alone
        return found

    return read
