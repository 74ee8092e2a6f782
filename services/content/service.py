"""The services of content: each RPC's transaction, its function and its reply."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC
from functools import partial
from typing import cast

from libs import etags, rpc
from libs.batches import Batched
from libs.db import Connection, Pool, connection, transaction
from libs.errors import NotFound
from libs.identity import caller
from libs.permissions import DELETE, PUBLISH, READ_DRAFTS, REVIEW, UPDATE
from libs.rpc import Context
from services.content import (
    access,
    caches,
    contents,
    expansions,
    fields,
    publishing,
    revisions,
    schedules,
    together,
    types,
    waits,
    workflow,
)
from services.content.alone import Alone, LockNeeded
from services.content.caches import Caches
from services.content.locales import Locales
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


class ContentService(content_pb2_grpc.ContentServiceServicer):
    """The servicer of thmnayah.content.v1.ContentService, where each RPC is described."""

    def __init__(self, db: Pool, caches: Caches, locales: Locales) -> None:
        self.db = db
        self.caches = caches
        self.locales = locales
        self._published_bytes = Batched(self._read_published)

    async def CreateContent(self, request: content_pb2.CreateContentRequest, context: Context) -> Content:
        if contents.normalize(request.content):
            rpc.validate(request)
        kind = await self._type(request.content.type)
        async with connection(self.db) as conn:
            grants = await access.check_new(conn, request.content, kind, caller.get().user_id)
            content = await contents.create(conn, request.content, kind, created_by=caller.get().user_id)
        return await etags.tagged(access.narrow(content, grants), context)

    async def GetContent(self, request: content_pb2.GetContentRequest, context: Context) -> Content:
        chain = await self.locales.chain(request)
        read = partial(self._expanded, request, chain) if request.expand else partial(self.read, request.id, chain)
        return await etags.tagged(await either(request.view, read), context)

    async def read(self, content_id: str, chain: Sequence[str], *, drafts: bool) -> Content:
        """One side of an item in the locales asked for, in all when there are none."""
        if not drafts:
            shown = await self.caches.published.get(content_id, lambda: self._published(content_id), self._shown)
            if not chain:
                return shown
            content = Content()
            content.CopyFrom(shown)  # others read it too
            contents.resolve(content, chain)
            return content
        async with connection(self.db) as conn:
            scope = await access.scope(conn)
            draft = await contents.get_draft(conn, content_id)
        if scope is not None:
            grants = scope.held(access.resource(draft))
            if not grants:
                raise contents.not_found(content_id)
            access.narrow(draft, grants)
        if chain:
            contents.resolve(draft, chain)
        return draft

    async def _type(self, type_id: str) -> ContentType:
        async def load() -> ContentType:
            async with connection(self.db) as conn:
                return await types.find(conn, type_id)

        return await self.caches.types.get(type_id, load)

    async def _shown(self, content: Content) -> Content:
        """An item that was stored, with its fields by their names of today."""
        return fields.show(content, await self._type(content.type)) if content.fields else content

    async def _published(self, content_id: str) -> Content:
        stored = await self._published_bytes.get(content_id)
        if stored is None:
            raise contents.not_found(content_id)
        return Content.FromString(stored)

    async def _read_published(self, ids: Sequence[str]) -> list[bytes | None]:
        async with connection(self.db) as conn:
            return await contents.find_published(conn, ids)

    async def ListContents(
        self, request: content_pb2.ListContentsRequest, context: Context
    ) -> content_pb2.ListContentsResponse:
        if request.deleted:
            caller.get().require(READ_DRAFTS)
        chain = await self.locales.chain(request)
        if sees_drafts(request.view) or request.deleted:
            return await self._list(request, chain, drafts=True)
        key = " ".join((caches.key(request), *chain))
        page = await self.caches.lists.get_bytes(key, lambda: self._list(request, chain, drafts=False))
        return cast("content_pb2.ListContentsResponse", rpc.Encoded(content_pb2.ListContentsResponse.DESCRIPTOR, page))

    async def _list(
        self, request: content_pb2.ListContentsRequest, chain: Sequence[str], *, drafts: bool
    ) -> content_pb2.ListContentsResponse:
        async with connection(self.db) as conn:
            scope = await access.scope(conn) if drafts else None
            page = await contents.list_page(
                conn,
                drafts=drafts,
                deleted=request.deleted,
                filter=request.filter,
                chain=chain,
                order_by=request.order_by,
                page_size=request.page_size,
                page_token=request.page_token,
                scope=scope,
            )
            return await expansions.show(conn, page, request.expand, chain, drafts=drafts, scope=scope)

    async def _expanded(self, request: content_pb2.GetContentRequest, chain: Sequence[str], *, drafts: bool) -> Content:
        """An item with what it refers to, kept like a list of one: the same changes make it untrue."""

        async def load() -> content_pb2.ListContentsResponse:
            async with connection(self.db) as conn:
                scope = await access.scope(conn) if drafts else None
                found = await contents.find_all(conn, [request.id], chain, drafts=drafts, scope=scope)
                page = content_pb2.ListContentsResponse(contents=found)
                page = await expansions.show(conn, page, request.expand, chain, drafts=drafts, scope=scope)
                return expansions.join(page)

        key = " ".join(("one", caches.key(request), *chain))
        page = await (load() if drafts else self.caches.lists.get(key, load))
        if not page.contents:
            raise contents.not_found(request.id)
        return page.contents[0]

    async def UpdateContent(self, request: content_pb2.UpdateContentRequest, context: Context) -> Content:
        if contents.normalize(request.content):
            rpc.validate(request)
        etag = request.content.etag
        step = partial(
            contents.update,
            content=request.content,
            paths=request.update_mask.paths,
            etag=etag or rpc.request_header("if-match"),
            merge=bool(etag),  # If-Match is about the whole item (RFC 9110)
            author=caller.get().user_id,
            note=request.note,
            autosave=request.autosave,
        )
        writes = (request.content, request.update_mask.paths)
        changed = await _change_alone(self.db, request.content.id, step, UPDATE, writes=writes)
        return await etags.tagged(changed, context)

    async def PublishContent(self, request: content_pb2.PublishContentRequest, context: Context) -> Content:
        if request.references == request.BOTH:
            async with transaction(self.db) as conn:
                grants = await access.sees(conn, request.id)
                content, changed = await together.publish(
                    conn, request.id, locales=request.locales, etag=etags.given(request.etag)
                )
            for content_id in changed:
                await self.caches.item_changed(content_id)
            return await etags.tagged(access.narrow(content, grants), context)
        if request.references == request.WAIT:
            step = partial(waits.publish, locales=request.locales, author=caller.get().user_id)
            content = await change(self.db, request.id, request.etag, step, PUBLISH, request.locales)
        else:
            step = partial(publishing.publish, locales=request.locales, etag=etags.given(request.etag))
            content = await _change_alone(self.db, request.id, step, PUBLISH, request.locales, shown=True)
        await self.caches.item_changed(request.id)
        return await etags.tagged(content, context)

    async def UnpublishContent(self, request: content_pb2.UnpublishContentRequest, context: Context) -> Content:
        step = partial(publishing.unpublish, locales=request.locales, force=request.force)
        content = await change(self.db, request.id, request.etag, step, PUBLISH, request.locales)
        await self.caches.item_changed(request.id)
        return await etags.tagged(content, context)

    async def DeleteContent(self, request: content_pb2.DeleteContentRequest, context: Context) -> Content:
        async with transaction(self.db) as conn:
            grants = await access.check(conn, request.id, DELETE)
            content = await contents.delete(conn, request.id, etag=etags.given(request.etag), force=request.force)
        await self.caches.item_changed(request.id)
        return access.narrow(content, grants)

    async def UndeleteContent(self, request: content_pb2.UndeleteContentRequest, context: Context) -> Content:
        async with transaction(self.db) as conn:
            grants = await access.check(conn, request.id, DELETE, deleted=True)
            content = await contents.undelete(conn, request.id)
        return await etags.tagged(access.narrow(content, grants), context)


class WorkflowService(workflow_pb2_grpc.WorkflowServiceServicer):
    """The servicer of thmnayah.content.v1.WorkflowService, where each RPC is described."""

    def __init__(self, db: Pool, caches: Caches) -> None:
        self.db = db
        self.caches = caches

    async def SubmitContent(self, request: workflow_pb2.SubmitContentRequest, context: Context) -> Content:
        step = partial(
            workflow.submit,
            locales=request.locales,
            reviewers=request.reviewers,
            due_time=request.due_time.ToDatetime(UTC) if request.HasField("due_time") else None,
            note=request.note,
            author=caller.get().user_id,
        )
        changed = await change(self.db, request.id, request.etag, step, UPDATE, request.locales)
        return await etags.tagged(changed, context)

    async def ApproveContent(self, request: workflow_pb2.ApproveContentRequest, context: Context) -> Content:
        step = partial(
            workflow.approve, locales=request.locales, revision=request.revision, reviewer=caller.get().user_id
        )
        changed = await change(self.db, request.id, request.etag, step, REVIEW, request.locales)
        return await etags.tagged(changed, context)

    async def RequestContentChanges(
        self, request: workflow_pb2.RequestContentChangesRequest, context: Context
    ) -> Content:
        step = partial(workflow.request_changes, locales=request.locales, note=request.note)
        changed = await change(self.db, request.id, request.etag, step, REVIEW, request.locales)
        return await etags.tagged(changed, context)

    async def ArchiveContent(self, request: workflow_pb2.ArchiveContentRequest, context: Context) -> Content:
        step = partial(workflow.archive, locales=request.locales, force=request.force)
        content = await change(self.db, request.id, request.etag, step, PUBLISH, request.locales)
        await self.caches.item_changed(request.id)
        return await etags.tagged(content, context)

    async def RestoreContent(self, request: workflow_pb2.RestoreContentRequest, context: Context) -> Content:
        step = partial(workflow.restore, locales=request.locales)
        changed = await change(self.db, request.id, request.etag, step, PUBLISH, request.locales)
        return await etags.tagged(changed, context)

    async def ScheduleContent(self, request: workflow_pb2.ScheduleContentRequest, context: Context) -> Content:
        step = partial(schedules.add, schedule=request.schedule, author=caller.get().user_id)
        changed = await change(self.db, request.id, request.etag, step, PUBLISH, request.schedule.locales)
        return await etags.tagged(changed, context)

    async def UnscheduleContent(self, request: workflow_pb2.UnscheduleContentRequest, context: Context) -> Content:
        step = partial(schedules.remove, schedule_id=request.schedule_id)
        changed = await change(self.db, request.id, "", step, PUBLISH, ())
        return await etags.tagged(changed, context)

    async def ConfirmTranslation(self, request: workflow_pb2.ConfirmTranslationRequest, context: Context) -> Content:
        step = partial(workflow.confirm_translation, locales=request.locales, paths=request.paths)
        changed = await change(self.db, request.id, request.etag, step, UPDATE, request.locales)
        return await etags.tagged(changed, context)


class RevisionService(revisions_pb2_grpc.RevisionServiceServicer):
    """The servicer of thmnayah.content.v1.RevisionService, where each RPC is described."""

    def __init__(self, db: Pool) -> None:
        self.db = db

    async def ListRevisions(
        self, request: revisions_pb2.ListRevisionsRequest, context: Context
    ) -> revisions_pb2.ListRevisionsResponse:
        async with connection(self.db) as conn:
            await access.sees(conn, request.id)
            return await revisions.list_page(
                conn, request.id, page_size=request.page_size, page_token=request.page_token
            )

    async def GetRevision(self, request: revisions_pb2.GetRevisionRequest, context: Context) -> revisions_pb2.Revision:
        async with connection(self.db) as conn:
            grants = await access.sees(conn, request.id)
            revision = await revisions.get(conn, request.id, request.number)
        access.narrow(revision.content, grants)
        return revision

    async def DiffRevisions(
        self, request: revisions_pb2.DiffRevisionsRequest, context: Context
    ) -> revisions_pb2.RevisionDiff:
        async with connection(self.db) as conn:
            grants = await access.sees(conn, request.id)
            older, newer = await revisions.pair(conn, request.id, getattr(request, "from"), request.to)
        for each in (older, newer):
            access.narrow(each.content, grants)
        # Long texts take a while to align: other calls go on meanwhile.
        return await asyncio.to_thread(revisions.diff, older, newer)

    async def RestoreRevision(self, request: revisions_pb2.RestoreRevisionRequest, context: Context) -> Content:
        async with connection(self.db) as conn:
            await access.sees(conn, request.id)
            kept = (await revisions.get(conn, request.id, request.number)).content
        step = partial(
            contents.update,
            content=kept,
            paths=request.paths or ["*"],
            etag=etags.given(request.etag),
            merge=False,
            author=caller.get().user_id,
            note=f"= {request.number}",
            restores=request.number,
        )
        changed = await _change_alone(self.db, request.id, step, UPDATE, writes=(kept, request.paths or ["*"]))
        return await etags.tagged(changed, context)


async def change(
    db: Pool,
    content_id: str,
    etag: str | None,
    step: Callable[[Connection, Row], Awaitable[Content | None]],
    permission: str,
    locales: Sequence[str] = (),
    *,
    writes: tuple[Content, Sequence[str]] | None = None,
) -> Content:
    """Change an item that nobody else changes meanwhile; the draft afterwards, also when nothing changed.

    Args:
        etag: of the request; None when the step checks it.
        permission, locales, writes: what the caller needs for it, see `access.check`.
    """
    async with transaction(db) as conn:
        grants = await access.check(conn, content_id, permission, locales, writes=writes)
        row = await contents.read(conn, content_id, lock=True)
        if etag is not None:
            etags.check(etags.given(etag), row["version"])
        return access.narrow(await step(conn, row) or contents.draft(row), grants)


async def _change_alone(
    db: Pool,
    content_id: str,
    step: Callable[[Connection, Row], Awaitable[Content | None]],
    permission: str,
    locales: Sequence[str] = (),
    *,
    writes: tuple[Content, Sequence[str]] | None = None,
    shown: bool = False,
) -> Content:
    """The same without a lock where that is enough, see `alone`; the step checks the etag.

    Args:
        shown: the step looks at what readers see.
    """
    if not access.limited(permission):
        async with connection(db) as conn:
            row = await contents.read_alone(conn, content_id, shown=shown)
            try:
                return await step(cast("Connection", Alone(conn)), row) or contents.draft(row)
            except LockNeeded:
                pass
    return await change(db, content_id, None, step, permission, locales, writes=writes)


async def either(view: content_pb2.View.ValueType, read: Callable[..., Awaitable[Content]]) -> Content:
    """One item, from the side that the caller gets: what readers see, where its draft is not for them.

    Args:
        read: reads a side of it, by `drafts`.
    """
    drafts = sees_drafts(view)
    if drafts and view == content_pb2.VIEW_UNSPECIFIED and access.limited():
        with suppress(NotFound):
            return await read(drafts=True)
        drafts = False
    return await read(drafts=drafts)


def sees_drafts(view: content_pb2.View.ValueType) -> bool:
    """Which side of an item the caller gets; asking for drafts without the permission is refused."""
    if view == content_pb2.DRAFT:
        caller.get().require(READ_DRAFTS)
    return view != content_pb2.PUBLISHED and caller.get().may(READ_DRAFTS)
