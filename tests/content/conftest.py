"""Who calls the content service in its tests, and what it announces."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import asyncpg
import pytest
from google.protobuf import symbol_database

from tests.conftest import ContentStub, Metadata, TaxonomyStub, bearer
from tests.content.filing import Filing
from tests.content.items import Caller
from thmnayah.content.v1.content_pb2 import Content


@dataclass(frozen=True)
class Announced:
    """An event as it stands in the outbox."""

    subject: str
    headers: dict[str, str]
    content: Content


Announcements = Callable[[str], Awaitable[list[Announced]]]


@pytest.fixture(scope="session")
def anyone(content: ContentStub) -> Caller:
    """Calls without a token."""
    return Caller(content)


@pytest.fixture(scope="session")
def editing(content: ContentStub, editor: Metadata) -> Caller:
    """An editor's calls."""
    return Caller(content, editor)


@pytest.fixture(scope="session")
def reading(content: ContentStub, reader: Metadata) -> Caller:
    """The calls of somebody signed in who may only read."""
    return Caller(content, reader)


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
