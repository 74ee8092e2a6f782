"""Who publishes in the tests of search, and how they ask."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from tests.conftest import Metadata, SearchStub, eventually
from tests.content.items import Caller
from thmnayah.content.v1.content_pb2 import Content
from thmnayah.search.v1.search_pb2 import SearchRequest, SearchResponse, SearchResult


@dataclass(frozen=True)
class Finder:
    """Anybody's questions."""

    search: SearchStub

    async def ask(self, query: str, **question: Any) -> SearchResponse:
        return await self.search.Search(SearchRequest(query=query, **question), timeout=10)

    async def ids(self, query: str, **question: Any) -> list[str]:
        """The ids of what is found, best first."""
        return [result.content.id for result in await self.walk(query, **question)]

    async def walk(self, query: str, **question: Any) -> list[SearchResult]:
        """Every page's results."""
        answer = await self.ask(query, **question)
        found = list(answer.results)
        while answer.next_page_token:
            answer = await self.ask(query, **question, page_token=answer.next_page_token)
            found += answer.results
        return found

    async def until(self, query: str, wanted: Sequence[str], **question: Any) -> None:
        """Wait until these items, and no other, are found."""
        await eventually(lambda: self.ids(query, **question), lambda found: sorted(found) == sorted(wanted))


@pytest.fixture(scope="session")
def editing(edge: grpc.aio.Channel, editor: Metadata) -> Caller:
    """An editor's calls."""
    return Caller(edge, editor)


@pytest.fixture(scope="session")
def finder(search: SearchStub) -> Finder:
    return Finder(search)


async def published(editing: Caller, **fields: Any) -> Content:
    """A new item that readers see."""
    item = await editing.create(**fields)
    return await editing.publish(item.id)
