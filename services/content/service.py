"""The services of content: each RPC's transaction, its function and its reply."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC

from libs import rpc
from libs.cache import Cache, Local
from libs.db import Connection, Pool, connection, transaction
from libs.identity import caller
from libs.rpc import Context
from services.content import contents, fields, publishing, revisions, schedules, types, workflow
from services.content.stages import Row
from thmnayah.content.v1 import (
    content_pb2,
    content_pb2_grpc,
    revisions_pb2,
    revisions_pb2_grpc,
    workflow_pb2,
    workflow_pb2_grpc,
)
from thmnayah.content.v1.content_pb2 import Content
from thmnayah.content.v1.types_pb2 import ContentType

READ_DRAFTS = "content.read_drafts"


@dataclass(frozen=True)
class Readers:
    """What readers see, as far as this process remembers it."""

    published: Cache[Content]
    """Items by their ids, their fields as they are stored."""
    lists: Local[content_pb2.ListContentsResponse]
    """Pages by what was asked, the items' fields as they are stored."""

    async def changed(self, content_id: str) -> None:
        """Let no reader see an item as it was before a change that is committed."""
        await self.lists.changed(content_id)
        await self.published.changed(content_id)


class ContentService(content_pb2_grpc.ContentServiceServicer):
    """The servicer of thmnayah.content.v1.ContentService, where each RPC is described."""

    def __init__(self, db: Pool, readers: Readers, types: Local[ContentType]) -> None:
        """Args:
        types: by their ids, an empty one for each that nobody defined.
        """
        self.db = db
        self.readers = readers
        self.types = types

    async def CreateContent(self, request: content_pb2.CreateContentRequest, context: Context) -> Content:
        if contents.normalize(request.content):
            rpc.validate(request)
        kind = await self._type(request.content.type)
        async with connection(self.db) as conn:
            content = await contents.create(conn, request.content, kind, created_by=caller.get().user_id)
        return await _tagged(content, context)

    async def GetContent(self, request: content_pb2.GetContentRequest, context: Context) -> Content:
        if not _sees_drafts(request.view):
            stored = await self.readers.published.get(request.id, lambda: self._published(request.id))
            return await _tagged(await self._shown(stored), context)
        async with connection(self.db) as conn:
            return await _tagged(await contents.get_draft(conn, request.id), context)

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
        if request.deleted:
            caller.get().require(READ_DRAFTS)
        if _sees_drafts(request.view) or request.deleted:
            page = await self._list(request, drafts=True)
        else:
            key = request.SerializeToString(deterministic=True).hex()
            page = await self.readers.lists.get(key, lambda: self._list(request, drafts=False))
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
                deleted=request.deleted,
                filter=request.filter,
                order_by=request.order_by,
                page_size=request.page_size,
                page_token=request.page_token,
            )

    async def UpdateContent(self, request: content_pb2.UpdateContentRequest, context: Context) -> Content:
        if contents.normalize(request.content):
            rpc.validate(request)
        etag = request.content.etag
        async with transaction(self.db) as conn:
            content = await contents.update(
                conn,
                request.content,
                paths=request.update_mask.paths,
                etag=etag or rpc.request_header("if-match"),
                merge=bool(etag),  # If-Match is about the whole item (RFC 9110)
                author=caller.get().user_id,
                note=request.note,
                autosave=request.autosave,
            )
            if content is None:
                content = await contents.get_draft(conn, request.content.id)
        return await _tagged(content, context)

    async def PublishContent(self, request: content_pb2.PublishContentRequest, context: Context) -> Content:
        async def publish(conn: Connection, row: Row) -> Content | None:
            return await publishing.publish(conn, row, locales=request.locales)

        content = await _change(self.db, request.id, request.etag, publish)
        await self.readers.changed(request.id)
        return await _tagged(content, context)

    async def UnpublishContent(self, request: content_pb2.UnpublishContentRequest, context: Context) -> Content:
        async def unpublish(conn: Connection, row: Row) -> Content | None:
            return await publishing.unpublish(conn, row, locales=request.locales)

        content = await _change(self.db, request.id, request.etag, unpublish)
        await self.readers.changed(request.id)
        return await _tagged(content, context)

    async def DeleteContent(self, request: content_pb2.DeleteContentRequest, context: Context) -> Content:
        async with transaction(self.db) as conn:
            content = await contents.delete(conn, request.id, etag=_etag(request.etag))
        await self.readers.changed(request.id)
        return content

    async def UndeleteContent(self, request: content_pb2.UndeleteContentRequest, context: Context) -> Content:
        async with transaction(self.db) as conn:
            content = await contents.undelete(conn, request.id)
        return await _tagged(content, context)


class WorkflowService(workflow_pb2_grpc.WorkflowServiceServicer):
    """The servicer of thmnayah.content.v1.WorkflowService, where each RPC is described."""

    def __init__(self, db: Pool, readers: Readers) -> None:
        self.db = db
        self.readers = readers

    async def SubmitContent(self, request: workflow_pb2.SubmitContentRequest, context: Context) -> Content:
        async def submit(conn: Connection, row: Row) -> Content | None:
            return await workflow.submit(
                conn,
                row,
                locales=request.locales,
                reviewers=request.reviewers,
                due_time=request.due_time.ToDatetime(UTC) if request.HasField("due_time") else None,
                note=request.note,
                author=caller.get().user_id,
            )

        return await _tagged(await _change(self.db, request.id, request.etag, submit), context)

    async def ApproveContent(self, request: workflow_pb2.ApproveContentRequest, context: Context) -> Content:
        async def approve(conn: Connection, row: Row) -> Content | None:
            return await workflow.approve(
                conn,
                row,
                locales=request.locales,
                revision=request.revision,
                reviewer=caller.get().user_id,
            )

        return await _tagged(await _change(self.db, request.id, request.etag, approve), context)

    async def RequestContentChanges(
        self, request: workflow_pb2.RequestContentChangesRequest, context: Context
    ) -> Content:
        async def give_back(conn: Connection, row: Row) -> Content | None:
            return await workflow.request_changes(conn, row, locales=request.locales, note=request.note)

        return await _tagged(await _change(self.db, request.id, request.etag, give_back), context)

    async def ArchiveContent(self, request: workflow_pb2.ArchiveContentRequest, context: Context) -> Content:
        async def archive(conn: Connection, row: Row) -> Content | None:
            return await workflow.archive(conn, row, locales=request.locales)

        content = await _change(self.db, request.id, request.etag, archive)
        await self.readers.changed(request.id)
        return await _tagged(content, context)

    async def RestoreContent(self, request: workflow_pb2.RestoreContentRequest, context: Context) -> Content:
        async def restore(conn: Connection, row: Row) -> Content | None:
            return await workflow.restore(conn, row, locales=request.locales)

        return await _tagged(await _change(self.db, request.id, request.etag, restore), context)

    async def ScheduleContent(self, request: workflow_pb2.ScheduleContentRequest, context: Context) -> Content:
        async def add(conn: Connection, row: Row) -> Content | None:
            return await schedules.add(conn, row, request.schedule, author=caller.get().user_id)

        return await _tagged(await _change(self.db, request.id, request.etag, add), context)

    async def UnscheduleContent(self, request: workflow_pb2.UnscheduleContentRequest, context: Context) -> Content:
        async def remove(conn: Connection, row: Row) -> Content | None:
            return await schedules.remove(conn, row, request.schedule_id)

        return await _tagged(await _change(self.db, request.id, "", remove), context)


class RevisionService(revisions_pb2_grpc.RevisionServiceServicer):
    """The servicer of thmnayah.content.v1.RevisionService, where each RPC is described."""

    def __init__(self, db: Pool) -> None:
        self.db = db

    async def ListRevisions(
        self, request: revisions_pb2.ListRevisionsRequest, context: Context
    ) -> revisions_pb2.ListRevisionsResponse:
        async with connection(self.db) as conn:
            return await revisions.list_page(
                conn, request.id, page_size=request.page_size, page_token=request.page_token
            )

    async def GetRevision(self, request: revisions_pb2.GetRevisionRequest, context: Context) -> revisions_pb2.Revision:
        async with connection(self.db) as conn:
            return await revisions.get(conn, request.id, request.number)

    async def DiffRevisions(
        self, request: revisions_pb2.DiffRevisionsRequest, context: Context
    ) -> revisions_pb2.RevisionDiff:
        async with connection(self.db) as conn:
            older, newer = await revisions.pair(conn, request.id, getattr(request, "from"), request.to)
        # Long texts take a while to align: other calls go on meanwhile.
        return await asyncio.to_thread(revisions.diff, older, newer)

    async def RestoreRevision(self, request: revisions_pb2.RestoreRevisionRequest, context: Context) -> Content:
        async with transaction(self.db) as conn:
            kept = (await revisions.get(conn, request.id, request.number)).content
            content = await contents.update(
                conn,
                kept,
                paths=request.paths or ["*"],
                etag=_etag(request.etag),
                merge=False,
                author=caller.get().user_id,
                note=f"= {request.number}",
            )
            if content is None:
                content = await contents.get_draft(conn, request.id)
        return await _tagged(content, context)


async def _change(
    db: Pool, content_id: str, etag: str, change: Callable[[Connection, Row], Awaitable[Content | None]]
) -> Content:
    """Change an item that nobody else changes meanwhile; the draft afterwards, also when nothing changed."""
    async with transaction(db) as conn:
        row = await contents.read(conn, content_id, lock=True)
        contents.check_etag(_etag(etag), row["version"])
        return await change(conn, row) or contents.draft(row)


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
