"""What tests say to the content service, and how they read a refusal of any service."""

from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.conftest import ContentStub, Metadata, WorkflowStub
from thmnayah.content.v1.content_pb2 import (
    VIEW_UNSPECIFIED,
    Content,
    CreateContentRequest,
    DeleteContentRequest,
    GetContentRequest,
    ListContentsRequest,
    PublishContentRequest,
    Schedule,
    UndeleteContentRequest,
    UnpublishContentRequest,
    UpdateContentRequest,
    View,
)
from thmnayah.content.v1.content_pb2_grpc import ContentServiceStub
from thmnayah.content.v1.workflow_pb2 import (
    ApproveContentRequest,
    ArchiveContentRequest,
    ConfirmTranslationRequest,
    RequestContentChangesRequest,
    RestoreContentRequest,
    ScheduleContentRequest,
    SubmitContentRequest,
    UnscheduleContentRequest,
)
from thmnayah.content.v1.workflow_pb2_grpc import WorkflowServiceStub

SECONDS = 10


@dataclass(frozen=True)
class Caller:
    """Somebody's calls to the content service."""

    channel: grpc.aio.Channel
    metadata: Metadata = field(default=(), repr=False)

    @property
    def content(self) -> ContentStub:
        return ContentServiceStub(self.channel)

    @property
    def workflow(self) -> WorkflowStub:
        return WorkflowServiceStub(self.channel)

    async def create(self, **fields: Any) -> Content:
        """Make a draft, an article called "Title" unless the fields say otherwise."""
        item = Content(**{"type": "article", "title": {"en": "Title"}, **fields})
        return await self.content.CreateContent(
            CreateContentRequest(content=item), metadata=self.metadata, timeout=SECONDS
        )

    async def get(self, content_id: str, view: View.ValueType = VIEW_UNSPECIFIED, **locale: Any) -> Content:
        request = GetContentRequest(id=content_id, view=view, **locale)
        return await self.content.GetContent(request, metadata=self.metadata, timeout=SECONDS)

    async def update(self, content_id: str, *, paths: Iterable[str] = (), etag: str = "", **fields: Any) -> Content:
        request = UpdateContentRequest(
            content=Content(id=content_id, etag=etag, **fields), update_mask=FieldMask(paths=paths)
        )
        return await self.content.UpdateContent(request, metadata=self.metadata, timeout=SECONDS)

    async def publish(self, content_id: str, *locales: str, etag: str = "", **how: Any) -> Content:
        request = PublishContentRequest(id=content_id, locales=locales, etag=etag, **how)
        return await self.content.PublishContent(request, metadata=self.metadata, timeout=SECONDS)

    async def unpublish(self, content_id: str, *locales: str, etag: str = "", force: bool = False) -> Content:
        request = UnpublishContentRequest(id=content_id, locales=locales, etag=etag, force=force)
        return await self.content.UnpublishContent(request, metadata=self.metadata, timeout=SECONDS)

    async def delete(self, content_id: str, *, etag: str = "", force: bool = False) -> Content:
        request = DeleteContentRequest(id=content_id, etag=etag, force=force)
        return await self.content.DeleteContent(request, metadata=self.metadata, timeout=SECONDS)

    async def submit(self, content_id: str, *locales: str, **said: Any) -> Content:
        request = SubmitContentRequest(id=content_id, locales=locales, **said)
        return await self.workflow.SubmitContent(request, metadata=self.metadata, timeout=SECONDS)

    async def approve(self, content_id: str, *locales: str, **said: Any) -> Content:
        request = ApproveContentRequest(id=content_id, locales=locales, **said)
        return await self.workflow.ApproveContent(request, metadata=self.metadata, timeout=SECONDS)

    async def give_back(self, content_id: str, *locales: str, note: str = "Once more") -> Content:
        request = RequestContentChangesRequest(id=content_id, locales=locales, note=note)
        return await self.workflow.RequestContentChanges(request, metadata=self.metadata, timeout=SECONDS)

    async def confirm_translation(self, content_id: str, *locales: str) -> Content:
        request = ConfirmTranslationRequest(id=content_id, locales=locales)
        return await self.workflow.ConfirmTranslation(request, metadata=self.metadata, timeout=SECONDS)

    async def archive(self, content_id: str, *locales: str, force: bool = False) -> Content:
        request = ArchiveContentRequest(id=content_id, locales=locales, force=force)
        return await self.workflow.ArchiveContent(request, metadata=self.metadata, timeout=SECONDS)

    async def restore(self, content_id: str, *locales: str) -> Content:
        request = RestoreContentRequest(id=content_id, locales=locales)
        return await self.workflow.RestoreContent(request, metadata=self.metadata, timeout=SECONDS)

    async def schedule(
        self, content_id: str, action: Schedule.Action.ValueType, moment: datetime, *locales: str, zone: str = "UTC"
    ) -> Content:
        local = moment.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%dT%H:%M:%S")
        wanted = Schedule(action=action, locales=locales, local_time=local, time_zone=zone)
        request = ScheduleContentRequest(id=content_id, schedule=wanted)
        return await self.workflow.ScheduleContent(request, metadata=self.metadata, timeout=SECONDS)

    async def unschedule(self, content_id: str, schedule_id: str = "") -> Content:
        request = UnscheduleContentRequest(id=content_id, schedule_id=schedule_id)
        return await self.workflow.UnscheduleContent(request, metadata=self.metadata, timeout=SECONDS)

    async def undelete(self, content_id: str) -> Content:
        request = UndeleteContentRequest(id=content_id)
        return await self.content.UndeleteContent(request, metadata=self.metadata, timeout=SECONDS)

    async def page(self, **question: Any) -> tuple[list[Content], str]:
        """One page of items, and the token of the next."""
        answer = await self.content.ListContents(
            ListContentsRequest(**question), metadata=self.metadata, timeout=SECONDS
        )
        return list(answer.contents), answer.next_page_token

    async def walk(self, **question: Any) -> list[Content]:
        """Every page's items."""
        found, token = await self.page(**question)
        while token:
            more, token = await self.page(**question, page_token=token)
            found += more
        return found


@dataclass(frozen=True)
class Refusal:
    """What a caller is told of a call that was refused."""

    code: grpc.StatusCode
    message: str
    reason: str
    violations: dict[str, str]
    metadata: dict[str, str]
    localized: tuple[str, str]
    retry_seconds: float | None


async def refused(call: Awaitable[object]) -> Refusal:
    """The refusal that a call ends with; the test fails when it is served."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return refusal(caught.value)


def refusal(error: grpc.aio.AioRpcError) -> Refusal:
    """What the error of a call says; Envoy's own errors come without details."""
    status: Any = rpc_status.from_call(error)  # type: ignore[arg-type]  # it reads trailers, which both kinds have
    info, localized = error_details_pb2.ErrorInfo(), error_details_pb2.LocalizedMessage()
    bad, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    for detail in status.details if status is not None else ():
        for part in (info, localized, bad, retry):
            detail.Unpack(part)
    return Refusal(
        code=error.code(),
        message=error.details() or "",
        reason=info.reason,
        violations={violation.field: violation.description for violation in bad.field_violations},
        metadata=dict(info.metadata),
        localized=(localized.locale, localized.message),
        retry_seconds=retry.retry_delay.ToTimedelta().total_seconds() if retry.HasField("retry_delay") else None,
    )
