"""SlugService: each RPC's transaction, its function and its reply."""

from contextlib import suppress
from functools import partial
from urllib.parse import urlencode

from google.protobuf import json_format

from libs import outbox, text
from libs.db import Pool, connection, transaction
from libs.errors import NotFound
from libs.memory import Memory
from libs.permissions import PUBLISH, may_read
from libs.rpc import Context
from services.content import access, contents, slugs
from services.content.caches import Caches
from services.content.locales import Locales
from services.content.service import ContentService, either
from thmnayah.content.v1 import slugs_pb2, slugs_pb2_grpc
from thmnayah.content.v1.content_pb2 import Content
from thmnayah.content.v1.slugs_pb2 import GetContentBySlugRequest, OldSlug

_ITEMS_BYTES = 8 * 1024 * 1024
_ITEM_BYTES = 400  # about


class SlugService(slugs_pb2_grpc.SlugServiceServicer):
    """The servicer of thmnayah.content.v1.SlugService, where each RPC is described."""

    def __init__(self, db: Pool, caches: Caches, locales: Locales, contents: ContentService) -> None:
        self.db = db
        self.caches = caches
        self.locales = locales
        self.contents = contents
        # The item whose own slug of today it is: nobody else's may be the same, so the item alone says whether it
        # still holds. Other ways from a slug to an item end with other items' changes: those are in `caches`.
        self._items = Memory[str, str](_ITEMS_BYTES)

    async def GetContentBySlug(self, request: GetContentBySlugRequest, context: Context) -> Content:
        slug = text.slug(request.slug)
        content = await either(request.view, partial(self._by_slug, request, slug))
        metadata = [("etag", content.etag)]
        if content.slug[request.locale] != slug:
            content.redirected_from = slug
            # The edge makes a 301 of it. Kept for good it would be wrong once another item has the slug.
            metadata += [("location", _address(request, content)), ("cache-control", "no-cache")]
        await context.send_initial_metadata(tuple(metadata))
        return content

    async def _by_slug(self, request: GetContentBySlugRequest, slug: str, *, drafts: bool) -> Content:
        chain = await self.locales.chain(request)

        async def find() -> Content:
            async with connection(self.db) as conn:
                scope = await access.scope(conn) if drafts else None
                return await slugs.find(conn, request.type, slug, chain, drafts=drafts, scope=scope)

        if drafts:
            return await self.contents.read((await find()).id, chain, drafts=True)
        key = " ".join((request.type, slug, *chain))
        if (item := self._items.get(key)) is not None:
            with suppress(NotFound):
                content = await self.contents.read(item, chain, drafts=False)
                if _is_own(content, slug, request.locale):
                    return content
            self._items.drop(key)
        found = await self.caches.slugs.get(key, find)
        with suppress(NotFound):
            content = await self.contents.read(found.id, chain, drafts=False)
            if content.slug[request.locale] == found.slug[request.locale]:
                if _is_own(content, slug, request.locale):
                    self._items.put(key, found.id, _ITEM_BYTES)
                return content
        # What is remembered of the slug or of the item is older than a change: the database is asked for both.
        found = await find()
        await self.caches.published.changed(found.id)
        return await self.contents.read(found.id, chain, drafts=False)

    async def ListOldSlugs(
        self, request: slugs_pb2.ListOldSlugsRequest, context: Context
    ) -> slugs_pb2.ListOldSlugsResponse:
        async with connection(self.db) as conn:
            grants = await access.sees(conn, request.id)
            row = await contents.read(conn, request.id)
            shown = None
            if grants is not None:
                known = {*row["title"], *row["published"]}
                shown = [locale for locale in known if may_read(grants, "slug", locale)]
            return await slugs.list_old(
                conn, row, page_size=request.page_size, page_token=request.page_token, locales=shown
            )

    async def ReleaseOldSlug(self, request: slugs_pb2.ReleaseOldSlugRequest, context: Context) -> OldSlug:
        old = OldSlug(locale=request.locale, slug=request.slug)
        async with transaction(self.db) as conn:
            await access.check(conn, request.id, PUBLISH, [old.locale])
            row = await contents.read(conn, request.id, lock=True)
            await slugs.release(conn, row, old.locale, old.slug)
            told = slugs_pb2.ContentSlugReleased(content=Content(id=request.id, type=row["type"]), old_slug=old)
            await outbox.add(conn, told, about=request.id)
        await self.caches.slugs.changed(request.id)
        return old


def _is_own(content: Content, slug: str, locale: str) -> bool:
    """Whether an item that was resolved has the slug in the locale itself, not by a fallback."""
    return content.slug[locale] == slug and content.resolved_locales["slug"] == locale


def _address(request: GetContentBySlugRequest, content: Content) -> str:
    """The same request by the slug of today, relative to its own address."""
    asked = GetContentBySlugRequest()
    asked.CopyFrom(request)
    asked.slug = content.slug[request.locale]
    query = json_format.MessageToDict(asked)
    return "?" + urlencode({name: "true" if value is True else value for name, value in query.items()}, doseq=True)
