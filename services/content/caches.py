"""What readers are answered from memory, and which events empty it."""

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Self

from google.protobuf.message import Message
from nats.aio.client import Client as NatsClient
from redis.asyncio import Redis

from libs import cache
from libs.cache import Cache, Local
from thmnayah.content.v1.content_pb2 import Content, ListContentsResponse
from thmnayah.content.v1.taxonomy_pb2 import ListCategoriesResponse, ListLocalesResponse, ListTagsResponse
from thmnayah.content.v1.types_pb2 import ContentType

ITEMS = ("content.published", "content.unpublished", "content.deleted")
LOCALES = ("locale.created", "locale.updated")
TREE = ("category.created", "category.updated", "category.moved", "category.deleted")
TYPES = ("contentType.created", "contentType.updated", "contentType.deleted")

# Enough for a tree of thousands, and for the first pages of the tags.
_TAXONOMY_BYTES = 2 * 1024 * 1024
# Some ten thousand slugs.
_SLUGS_BYTES = 8 * 1024 * 1024
# Some hundred types of a hundred fields.
_TYPE_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class Caches:
    """The caches of this process."""

    published: Cache[Content]
    """What readers see of an item, by its id; in Valkey, with its fields as they are stored."""
    lists: Local[ListContentsResponse]
    """What readers see of lists, by what they ask for, with what is expanded; tags and categories likewise."""
    tags: Local[ListTagsResponse]
    categories: Local[ListCategoriesResponse]
    locales: Local[ListLocalesResponse]
    """All locales, under one key."""
    slugs: Local[Content]
    """What slugs lead readers to, by type, slug and locales: its id, and its slug of today."""
    types: Local[ContentType]
    """Types by their ids, an empty one for each that nobody defined."""

    @classmethod
    def make(cls, redis: Redis, nats: NatsClient, *, cache_bytes: int, list_cache_bytes: int) -> Self:
        """Empty ones."""
        return cls(
            Cache("content", redis, nats, parse=Content.FromString, size_bytes=cache_bytes),
            Local("lists", nats, parse=ListContentsResponse.FromString, size_bytes=list_cache_bytes),
            Local("tags", nats, parse=ListTagsResponse.FromString, size_bytes=_TAXONOMY_BYTES),
            Local("categories", nats, parse=ListCategoriesResponse.FromString, size_bytes=_TAXONOMY_BYTES),
            Local("locales", nats, parse=ListLocalesResponse.FromString, size_bytes=_TAXONOMY_BYTES),
            Local("slugs", nats, parse=Content.FromString, size_bytes=_SLUGS_BYTES),
            Local("types", nats, parse=lru_cache(1000)(ContentType.FromString), size_bytes=_TYPE_BYTES),
        )

    async def follow(self, nats: NatsClient) -> None:
        """Hear, for ever, of changes in other processes."""
        handlers = {
            **dict.fromkeys(ITEMS, self._item_heard),
            **dict.fromkeys(LOCALES, self.locale_changed),
            **dict.fromkeys(TREE, self.tree_changed),
            **dict.fromkeys(TYPES, self.type_changed),
            "content.slug_released": self.slugs.changed,
        }
        await cache.follow(nats, handlers, [getattr(self, each.name) for each in fields(self)])

    async def _item_heard(self, content_id: str) -> None:
        await self._lists_changed(content_id)
        await self.published.heard(content_id)

    async def item_changed(self, content_id: str) -> None:
        """Let no reader see an item as it was before a change that is committed."""
        await self._lists_changed(content_id)
        await self.published.changed(content_id)

    async def _lists_changed(self, content_id: str) -> None:
        await self.lists.changed(content_id)
        await self.tags.changed(content_id)
        await self.slugs.changed(content_id)

    async def tree_changed(self, category_id: str) -> None:
        """Let nobody see the categories as they were before a change that is committed."""
        await self.categories.changed(category_id)
        await self.lists.changed(category_id)  # one may ask for what is below a category

    async def locale_changed(self, code: str) -> None:
        """Let nobody see a locale as it was before a change that is committed."""
        await self.locales.changed(code)
        await self.lists.changed(code)  # one may ask for what a locale falls back to

    async def type_changed(self, type_id: str) -> None:
        """Let nobody see a type, or the fields of its items, as before a change that is committed."""
        await self.types.changed(type_id)
        self.published.clear()  # names the fields; only now, so that nothing is kept of the type before
        await self.lists.changed(type_id)


def key(request: Message) -> str:
    """What an answer to a request is kept under."""
    return request.SerializeToString(deterministic=True).hex()
