"""PublishContent and UnpublishContent: what readers see, and when."""

import grpc
import pytest

from tests.conftest import Metadata
from thmnayah.content.v1 import content_pb2
from thmnayah.content.v1.content_pb2 import Content, CreateContentRequest, GetContentRequest, PublishContentRequest
from thmnayah.content.v1.content_pb2_grpc import ContentServiceStub


async def draft(content: ContentServiceStub, editor: Metadata, **fields: object) -> Content:
    made = Content(type="article", title={"ar": "عنوان", "en": "Title"}, **fields)
    return await content.CreateContent(CreateContentRequest(content=made), metadata=editor, timeout=10)


async def test_a_draft_is_not_found_by_readers(content: ContentServiceStub, editor: Metadata, reader: Metadata) -> None:
    item = await draft(content, editor)

    for metadata in ((), reader):
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await content.GetContent(GetContentRequest(id=item.id), metadata=metadata, timeout=10)
        assert refusal.value.code() == grpc.StatusCode.NOT_FOUND


async def test_a_published_item_is_read_by_everyone(content: ContentServiceStub, editor: Metadata) -> None:
    item = await draft(content, editor)

    published = await content.PublishContent(PublishContentRequest(id=item.id), metadata=editor, timeout=10)
    seen = await content.GetContent(GetContentRequest(id=item.id), timeout=10)

    assert published.state == seen.state == Content.PUBLISHED
    assert dict(seen.title) == dict(item.title)
    assert seen.locales["ar"].state == content_pb2.Content.PUBLISHED
