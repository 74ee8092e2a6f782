"""What is announced of each change: one event, in order, with the whole item and its version."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import httpx
import nats
import pytest
from nats.js.api import ConsumerConfig, DeliverPolicy

from deploy.local.mesh import Mesh
from tests.content.conftest import Announcements
from tests.content.items import Caller, refused
from thmnayah.content.v1.content_pb2 import Content, ContentUpdated

Heard = Callable[[str], Awaitable[list[tuple[dict[str, str], bytes]]]]


@pytest.fixture
async def heard(mesh: Mesh) -> AsyncIterator[Heard]:
    """The events about an item as a new reader of the stream gets them, up to the one of its deletion."""
    client = await nats.connect(mesh.nats_url())
    subscription = await client.jetstream().subscribe(
        "content.>", ordered_consumer=True, config=ConsumerConfig(deliver_policy=DeliverPolicy.NEW)
    )

    async def listen(content_id: str) -> list[tuple[dict[str, str], bytes]]:
        found = []
        async with asyncio.timeout(10):
            async for message in subscription.messages:
                headers = dict(message.headers or {})
                if headers.get("ce-subject") == content_id:
                    found.append(({"nats-subject": message.subject, **headers}, message.data))
                    if message.subject == "content.deleted":
                        break
        return found

    yield listen
    await client.close()


async def test_every_change_is_announced_once_with_the_item_as_it_then_is(
    editing: Caller, anyone: Caller, announced: Announcements
) -> None:
    item = await editing.create(title={"ar": "عنوان", "en": "Title"}, body={"en": "Body"})
    updated = await editing.update(item.id, title={"en": "New"})
    arabic = await editing.publish(item.id, "ar")
    shown_arabic = await anyone.get(item.id)
    both = await editing.publish(item.id)
    shown = await anyone.get(item.id)
    less = await editing.unpublish(item.id, "ar")
    shown_less = await anyone.get(item.id)
    none = await editing.unpublish(item.id)
    deleted = await editing.delete(item.id)

    events = await announced(item.id)

    assert [event.subject for event in events] == [
        "content.created",
        "content.updated",
        "content.published",
        "content.published",
        "content.unpublished",
        "content.unpublished",
        "content.deleted",
    ]
    changes = [item, updated, arabic, both, less, none, deleted]
    assert [event.content.version for event in events] == [change.version for change in changes] == list(range(1, 8))
    assert [event.content for event in events[:2]] == [item, updated]
    assert [event.content for event in events[2:5]] == [shown_arabic, shown, shown_less]
    assert not events[5].content.locales
    assert not events[5].content.title
    gone = Content(id=item.id, type=item.type, version=7, delete_time=deleted.delete_time)
    assert events[6].content == gone


async def test_an_event_carries_the_headers_of_a_cloud_event(editing: Caller, announced: Announcements) -> None:
    item = await editing.create()

    (event,) = await announced(item.id)

    assert event.headers["ce-specversion"] == "1.0"
    assert uuid.UUID(event.headers["ce-id"]).version == 7
    assert event.headers["ce-type"] == "thmnayah.content.v1.ContentCreated"
    assert event.headers["ce-source"] == "/services/content"
    assert event.headers["ce-subject"] == item.id
    assert event.headers["content-type"] == "application/protobuf"
    assert abs(datetime.fromisoformat(event.headers["ce-time"]) - datetime.now(UTC)) < timedelta(seconds=30)


async def test_an_event_carries_the_request_id_of_the_call(
    rest: httpx.AsyncClient, editor_token: str, announced: Announcements
) -> None:
    request_id = str(uuid.uuid4())

    answer = await rest.post(
        "/v1/contents",
        json={"type": "article", "title": {"en": "Title"}},
        headers={"authorization": f"Bearer {editor_token}", "x-request-id": request_id},
    )

    (event,) = await announced(answer.json()["id"])
    assert event.headers["x-request-id"] == request_id


async def test_what_changes_nothing_is_not_announced(editing: Caller, announced: Announcements, word: str) -> None:
    item = await editing.create(external_id=word)
    await editing.publish(item.id)
    before = await announced(item.id)

    await editing.publish(item.id)
    await editing.unpublish(item.id, "ar")
    await editing.update(item.id, title={"en": "Title"})
    await refused(editing.update(item.id, title={"en": "x"}, etag='"9"'))
    await refused(editing.update(item.id, title={"fr": "x"}))
    await refused(editing.publish(item.id, "ar"))
    await refused(editing.delete(item.id, etag='"1"'))
    await refused(editing.create(external_id=word))

    assert await announced(item.id) == before


async def test_the_stream_holds_what_the_outbox_holds(editing: Caller, announced: Announcements, heard: Heard) -> None:
    item = await editing.create()
    await editing.publish(item.id)
    await editing.delete(item.id)

    received = await heard(item.id)

    events = await announced(item.id)
    assert [headers["nats-subject"] for headers, _ in received] == [event.subject for event in events]
    for (headers, _), event in zip(received, events, strict=True):
        assert event.headers.items() <= headers.items()
        assert headers["Nats-Msg-Id"] == event.headers["ce-id"]


async def test_the_events_of_an_item_travel_in_the_order_of_its_versions(editing: Caller, heard: Heard) -> None:
    item = await editing.create()
    await asyncio.gather(*(editing.update(item.id, body={"en": f"Body {number}"}) for number in range(48)))
    await editing.delete(item.id)

    received = await heard(item.id)

    updates = [data for headers, data in received if headers["nats-subject"] == "content.updated"]
    assert [ContentUpdated.FromString(data).content.version for data in updates] == list(range(2, 50))


async def test_a_call_without_a_reader_at_its_end_is_announced_as_it_happened(
    editing: Caller, announced: Announcements
) -> None:
    item = await editing.create()
    calls = [asyncio.ensure_future(editing.update(item.id, body={"en": f"Body {number}"})) for number in range(20)]
    await asyncio.sleep(0)
    for number, call in enumerate(calls):
        if number % 2:
            call.cancel()
        else:
            await asyncio.wait([call])
    await asyncio.gather(*calls, return_exceptions=True)

    last = await editing.update(item.id, title={"en": "Last"})

    assert [event.content.version for event in await announced(item.id)] == list(range(1, last.version + 1))
