"""ContentService: each RPC's transaction, its function and its event."""

from libs import outbox, rpc
from libs.cache import Cache, Local
from libs.db import Pool, connection, transaction
from libs.identity import caller
from libs.rpc import Context
from services.content import contents, fields, types
from thmnayah.content.v1 import content_pb2, content_pb2_grpc
from thmnayah.content.v1.content_pb2 import Content
from thmnayah.content.v1.types_pb2 import ContentType

READ_DRAFTS = "content.read_drafts"


class ContentService(content_pb2_grpc.ContentServiceServicer):
    """The servicer of thmnayah.content.v1.ContentService, where each RPC is described."""

    def __init__(
        self,
        db: Pool,
        published: Cache[Content],
        lists: Local[content_pb2.ListContentsResponse],
        types: Local[ContentType],
    ) -> None:
        """Args:
        published: what readers see of an item, by its id; its fields as they are stored.
        lists: what readers see of lists, by what they ask for; the items' fields as they are stored.
        types: by their ids, an empty one for each that nobody defined.
        """
        self.db = db
        self.types = types
        self.published = published
        self.lists = lists

    async def CreateContent(self, request: content_pb2.CreateContentRequest, context: Context) -> Content:
        if contents.normalize(request.content):
            rpc.validate(request)
        kind = await self._type(request.content.type)
        async with connection(self.db) as conn:
            content = await contents.create(conn, request.content, kind, created_by=caller.get().user_id)
        return await _tagged(content, context)

    async def GetContent(self, request: content_pb2.GetContentRequest, context: Context) -> Content:
        if not _sees_drafts(request.view):
            stored = await self.published.get(request.id, lambda: self._published(request.id))
            return await _tagged(await self._shown(stored), context)
        async with connection(self.db) as conn:
            return await _tagged(await contents.get_draft(conn, request.id), context)

    async def _changed(self, content_id: str) -> None:
        """Let no reader see an item as it was before a change that is committed."""
        await self.lists.changed(content_id)
        await self.published.changed(content_id)

    async def _type(self, type_id: str) -> ContentType:
        async def load() -> ContentType:
            async with connection(self.db) as conn:
                return await types.find(conn, type_id)

        return await self.types.get(type_id, load)

    async def _shown(self, stored: Content) -> Content:
        """An item with its fields by their names of today; what is stored stays as it is, since others read it too."""
        if not stored.fields:
            return stored
        content = Content()
        content.CopyFrom(stored)
        return fields.show(content, await self._type(content.type))

    async def _published(self, content_id: str) -> Content:
        async with connection(self.db) as conn:
            return await contents.get_published(conn, content_id)

    async def ListContents(
        self, request: content_pb2.ListContentsRequest, context: Context
    ) -> content_pb2.ListContentsResponse:
        if _sees_drafts(request.view):
            page = await self._list(request, drafts=True)
        else:
            key = request.SerializeToString(deterministic=True).hex()
            page = await self.lists.get(key, lambda: self._list(request, drafts=False))
        if not any(item.fields for item in page.contents):
            return page
        shown = [await self._shown(item) for item in page.contents]
        return content_pb2.ListContentsResponse(contents=shown, next_page_token=page.next_page_token)

    async def _list(
        self, request: content_pb2.ListContentsRequest, *, drafts: bool
    ) -> content_pb2.ListContentsResponse:
        async with connection(self.db) as conn:
            return await contents.list_page(
                conn,
                drafts=drafts,
                filter=request.filter,
                order_by=request.order_by,
                page_size=request.page_size,
                page_token=request.page_token,
            )

    async def UpdateContent(self, request: content_pb2.UpdateContentRequest, context: Context) -> Content:
        if contents.normalize(request.content):
            rpc.validate(request)
        async with transaction(self.db) as conn:
            content = await contents.update(
                conn, request.content, paths=request.update_mask.paths, etag=_etag(request.content.etag)
            )
            if content is None:
                content = await contents.get_draft(conn, request.content.id)
            else:
                await outbox.add(conn, content_pb2.ContentUpdated(content=content), about=content.id)
        return await _tagged(content, context)

    async def PublishContent(self, request: content_pb2.PublishContentRequest, context: Context) -> Content:
        async with transaction(self.db) as conn:
            content, shown = await contents.publish(conn, request.id, locales=request.locales, etag=_etag(request.etag))
            if shown is not None:
                await outbox.add(conn, content_pb2.ContentPublished(content=shown), about=content.id)
        await self._changed(content.id)
        return await _tagged(content, context)

    async def UnpublishContent(self, request: content_pb2.UnpublishContentRequest, context: Context) -> Content:
        async with transaction(self.db) as conn:
            content, shown = await contents.unpublish(
                conn, request.id, locales=request.locales, etag=_etag(request.etag)
            )
            if shown is not None:
                await outbox.add(conn, content_pb2.ContentUnpublished(content=shown), about=content.id)
        await self._changed(content.id)
        return await _tagged(content, context)

    async def DeleteContent(self, request: content_pb2.DeleteContentRequest, context: Context) -> Content:
        async with transaction(self.db) as conn:
            content = await contents.delete(conn, request.id, etag=_etag(request.etag))
            gone = Content(id=content.id, type=content.type, version=content.version, delete_time=content.delete_time)
            await outbox.add(conn, content_pb2.ContentDeleted(content=gone), about=content.id)
        await self._changed(content.id)
        return content


def _sees_drafts(view: content_pb2.View.ValueType) -> bool:
    """Which side of an item the caller gets; asking for drafts without the permission is refused."""
    if view == content_pb2.DRAFT:
        caller.get().require(READ_DRAFTS)
    return view != content_pb2.PUBLISHED and caller.get().may(READ_DRAFTS)


def _etag(given: str) -> str:
    return given or rpc.request_header("if-match")


async def _tagged(content: Content, context: Context) -> Content:
    """The content, with its etag as a header: Envoy makes it REST's `ETag`."""
    await context.send_initial_metadata((("etag", content.etag),))
    return content
