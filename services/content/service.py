"""ContentService: each RPC's transaction, its function and its event."""

from libs import outbox, rpc
from libs.db import Pool, connection, transaction
from libs.identity import caller
from libs.rpc import Context
from services.content import contents, etags
from services.content.caches import Caches
from services.content.locales import Locales
from thmnayah.content.v1 import content_pb2, content_pb2_grpc
from thmnayah.content.v1.content_pb2 import Content

READ_DRAFTS = "content.read_drafts"


class ContentService(content_pb2_grpc.ContentServiceServicer):
    """The servicer of thmnayah.content.v1.ContentService, where each RPC is described."""

    def __init__(self, db: Pool, caches: Caches, locales: Locales) -> None:
        self.db = db
        self.caches = caches
        self.locales = locales

    async def CreateContent(self, request: content_pb2.CreateContentRequest, context: Context) -> Content:
        if contents.normalize(request.content):
            rpc.validate(request)
        async with connection(self.db) as conn:
            content = await contents.create(conn, request.content, created_by=caller.get().user_id)
        return await etags.tagged(content, context)

    async def GetContent(self, request: content_pb2.GetContentRequest, context: Context) -> Content:
        chain = await self.locales.chain(request)
        if sees_drafts(request.view):
            async with connection(self.db) as conn:
                content = await contents.get_draft(conn, request.id)
        else:
            content = await self.caches.published.get(request.id, lambda: self._published(request.id))
        if chain:
            whole, content = content, Content()  # others may read what was kept
            content.CopyFrom(whole)
            contents.resolve(content, chain)
        return await etags.tagged(content, context)

    async def _published(self, content_id: str) -> Content:
        async with connection(self.db) as conn:
            return await contents.get_published(conn, content_id)

    async def ListContents(
        self, request: content_pb2.ListContentsRequest, context: Context
    ) -> content_pb2.ListContentsResponse:
        if sees_drafts(request.view):
            return await self._list(request, drafts=True)
        key = request.SerializeToString(deterministic=True).hex()
        return await self.caches.lists.get(key, lambda: self._list(request, drafts=False))

    async def _list(
        self, request: content_pb2.ListContentsRequest, *, drafts: bool
    ) -> content_pb2.ListContentsResponse:
        chain = await self.locales.chain(request)
        async with connection(self.db) as conn:
            return await contents.list_page(
                conn,
                drafts=drafts,
                filter=request.filter,
                chain=chain,
                order_by=request.order_by,
                page_size=request.page_size,
                page_token=request.page_token,
            )

    async def UpdateContent(self, request: content_pb2.UpdateContentRequest, context: Context) -> Content:
        if contents.normalize(request.content):
            rpc.validate(request)
        async with transaction(self.db) as conn:
            content = await contents.update(
                conn, request.content, paths=request.update_mask.paths, etag=etags.given(request.content.etag)
            )
            if content is None:
                content = await contents.get_draft(conn, request.content.id)
            else:
                await outbox.add(conn, content_pb2.ContentUpdated(content=content), about=content.id)
        return await etags.tagged(content, context)

    async def PublishContent(self, request: content_pb2.PublishContentRequest, context: Context) -> Content:
        async with transaction(self.db) as conn:
            content, shown = await contents.publish(
                conn, request.id, locales=request.locales, etag=etags.given(request.etag)
            )
            if shown is not None:
                await outbox.add(conn, content_pb2.ContentPublished(content=shown), about=content.id)
        await self.caches.item_changed(content.id)
        return await etags.tagged(content, context)

    async def UnpublishContent(self, request: content_pb2.UnpublishContentRequest, context: Context) -> Content:
        async with transaction(self.db) as conn:
            content, shown = await contents.unpublish(
                conn, request.id, locales=request.locales, etag=etags.given(request.etag)
            )
            if shown is not None:
                await outbox.add(conn, content_pb2.ContentUnpublished(content=shown), about=content.id)
        await self.caches.item_changed(content.id)
        return await etags.tagged(content, context)

    async def DeleteContent(self, request: content_pb2.DeleteContentRequest, context: Context) -> Content:
        async with transaction(self.db) as conn:
            content = await contents.delete(conn, request.id, etag=etags.given(request.etag))
            gone = Content(id=content.id, type=content.type, version=content.version, delete_time=content.delete_time)
            await outbox.add(conn, content_pb2.ContentDeleted(content=gone), about=content.id)
        await self.caches.item_changed(content.id)
        return content


def sees_drafts(view: content_pb2.View.ValueType) -> bool:
    """Which side of an item the caller gets; asking for drafts without the permission is refused."""
    if view == content_pb2.DRAFT:
        caller.get().require(READ_DRAFTS)
    return view != content_pb2.PUBLISHED and caller.get().may(READ_DRAFTS)
