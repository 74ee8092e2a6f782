"""What tests say to the content service, and how they read a refusal of any service."""

from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.conftest import ContentStub, Metadata
from thmnayah.content.v1.content_pb2 import (
    VIEW_UNSPECIFIED,
    Content,
    CreateContentRequest,
    DeleteContentRequest,
    GetContentRequest,
    ListContentsRequest,
    PublishContentRequest,
    UnpublishContentRequest,
    UpdateContentRequest,
    View,
)

SECONDS = 10


@dataclass(frozen=True)
class Caller:
    """Somebody's calls to the content service."""

    content: ContentStub
    metadata: Metadata = field(default=(), repr=False)

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

    async def publish(self, content_id: str, *locales: str, etag: str = "") -> Content:
        request = PublishContentRequest(id=content_id, locales=locales, etag=etag)
        return await self.content.PublishContent(request, metadata=self.metadata, timeout=SECONDS)

    async def unpublish(self, content_id: str, *locales: str, etag: str = "") -> Content:
        request = UnpublishContentRequest(id=content_id, locales=locales, etag=etag)
        return await self.content.UnpublishContent(request, metadata=self.metadata, timeout=SECONDS)

    async def delete(self, content_id: str, *, etag: str = "") -> Content:
        request = DeleteContentRequest(id=content_id, etag=etag)
        return await self.content.DeleteContent(request, metadata=self.metadata, timeout=SECONDS)

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
