"""Publishing what refers to unpublished items: refused, done later, or done with them."""

import asyncio
from collections import Counter
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from deploy.local.mesh import Mesh
from libs import db, identity, permissions
from services.content import together, waits
from tests.conftest import eventually
from tests.content.conftest import Announcements
from tests.content.items import Caller, refusal, refused
from tests.content.rest import Rest, define, field, make, reason, violations
from tests.content.test_references import article, person
from thmnayah.content.v1.content_pb2 import Content, PublishContentRequest, Schedule
from thmnayah.content.v1.values_pb2 import Value

WAIT, BOTH = PublishContentRequest.WAIT, PublishContentRequest.BOTH


async def series(caller: Caller) -> tuple[Content, Content, Content]:
    """An episode of a season of a programme."""
    programme = await caller.create(type="programme")
    season = await caller.create(type="season", fields={"programme": Value(reference=programme.id)})
    return await caller.create(type="episode", fields={"season": Value(reference=season.id)}), season, programme


async def published(caller: Caller, content_id: str) -> Content:
    return await eventually(lambda: caller.get(content_id), lambda item: item.state == Content.PUBLISHED)


async def test_what_refers_to_unpublished_items_is_refused_with_every_path(editing: Caller, admin: Rest) -> None:
    seen, hidden, other = [await person(editing, published=each == 0) for each in range(3)]
    item = await article(editing, seen.id, hidden.id, other.id)

    answer = await admin.call("POST", f"contents/{item.id}:publish", {})

    assert reason(answer) == (400, "REFERENCE_UNPUBLISHED")
    assert violations(answer) == {
        f"fields.authors[{number}]": f"refers to {each.id}, which is not published"
        for number, each in ((1, hidden), (2, other))
    }
    assert (await editing.get(item.id)).state == Content.DRAFT
    await editing.delete(hidden.id)
    answer = await admin.call("POST", f"contents/{item.id}:publish", {"references": "WAIT"})
    assert reason(answer) == (400, "REFERENCE_DELETED")
    assert "deleted" in violations(answer)["fields.authors[1]"]


async def test_a_localized_reference_needs_its_item_in_its_own_locale(editing: Caller, admin: Rest, word: str) -> None:
    await define(admin, word, field("host", {"reference": {}}, localized=True), field("guest", {"reference": {}}))
    english = await person(editing, published=True)
    hosts = {"host": {"localized": {"values": {each: {"reference": english.id} for each in ("ar", "en")}}}}
    item = await make(admin, word, {**hosts, "guest": {"reference": english.id}})

    await editing.publish(item["id"], "en")
    said = await refused(editing.publish(item["id"], "ar"))

    assert said.violations == {"fields.host.ar": f"refers to {english.id}, which is not published in ar"}
    await editing.update(english.id, title={"ar": "مضيف"})
    await editing.publish(english.id)
    await editing.publish(item["id"])


async def test_a_scheduled_publish_says_what_it_lacks(editing: Caller) -> None:
    item = await article(editing, (await person(editing)).id)

    await editing.schedule(item.id, Schedule.PUBLISH, datetime.now(UTC) + timedelta(seconds=2))

    failed = await eventually(lambda: editing.get(item.id), lambda one: one.schedules[0].state != Schedule.PENDING)
    assert failed.schedules[0].problem == "REFERENCE_UNPUBLISHED"
    assert failed.state == Content.DRAFT


async def test_all_are_published_in_one_go(editing: Caller, anyone: Caller, announced: Announcements) -> None:
    episode, season, programme = await series(editing)

    answer = await editing.publish(episode.id, references=BOTH)

    assert answer == await editing.get(episode.id)
    for item in (episode, season, programme):
        assert (await editing.get(item.id)).state == Content.PUBLISHED
        events = [event for event in await announced(item.id) if event.subject == "content.published"]
        assert [event.content for event in events] == [await anyone.get(item.id)]
        assert (await editing.unpublish(item.id)).state == Content.DRAFT  # an episode first, so nothing is in the way


async def test_what_is_published_together_is_what_is_published_alone(editing: Caller, anyone: Caller) -> None:
    values: dict[str, Any] = {
        "title": {"ar": "عنوان", "en": "Title"},
        "description": {"en": "D"},
        "tags": ["a", "b"],
        "category": "both",
    }
    one, two = [await person(editing, **values) for _ in range(2)]
    item = await article(editing, two.id, title=values["title"])

    await editing.publish(one.id)
    await editing.publish(item.id, references=BOTH)

    seen = [await anyone.get(each.id) for each in (one, two)]
    for content in seen:
        for name in ("id", "slug", "create_time", "update_time", "publish_time"):
            content.ClearField(name)
        for status in content.locales.values():
            status.ClearField("publish_time")
    assert seen[0] == seen[1]
    page = await anyone.walk(filter='category = "both"')
    assert {one.id, two.id} <= {each.id for each in page}
    assert await editing.publish(two.id) == await editing.get(two.id)  # nothing is left to do


async def test_a_cycle_is_published_once_from_both_its_sides_at_once(
    editing: Caller, admin: Rest, announced: Announcements, word: str
) -> None:
    await define(admin, word, field("next", {"reference": {}}))

    async def outcome(call: Awaitable[object]) -> str:
        try:
            await call
        except grpc.aio.AioRpcError as error:
            return refusal(error).reason
        return ""

    for _ in range(8):
        items = [await make(admin, word) for _ in range(4)]
        for item, after in zip(items, items[1:] + items[:1], strict=True):
            await editing.update(item["id"], fields={"next": Value(reference=after["id"])})
        said = await asyncio.gather(*(outcome(editing.publish(each["id"], references=BOTH)) for each in items))

        assert "" in said
        assert set(said) <= {"", "CONCURRENT_CHANGE"}
        for item in items:
            assert Counter(event.subject for event in await announced(item["id"]))["content.published"] == 1


async def test_all_or_none_are_published(editing: Caller, admin: Rest, word: str) -> None:
    await define(admin, word, workflow={"requiredApprovals": 1})
    strict, easy = await make(admin, word), await person(editing)
    await define(admin, f"{word}x", field("first", {"reference": {}}), field("second", {"reference": {}}))
    item = await make(admin, f"{word}x", {"first": {"reference": easy.id}, "second": {"reference": strict["id"]}})

    answer = await admin.call("POST", f"contents/{item['id']}:publish", {"references": "BOTH"})

    assert reason(answer) == (400, "APPROVAL_MISSING")
    assert answer.json()["message"].startswith(f"content {strict['id']}: ")
    assert {path.split(".")[1] for path in violations(answer)} == {strict["id"]}
    for each in (item["id"], strict["id"], easy.id):
        assert (await editing.get(each)).state == Content.DRAFT
    await editing.delete(easy.id)
    assert reason(await admin.call("POST", f"contents/{item['id']}:publish", {"references": "BOTH"}))[1] in (
        "REFERENCE_DELETED",
        "APPROVAL_MISSING",
    )


async def test_a_deleted_item_deeper_down_is_named(editing: Caller) -> None:
    episode, season, programme = await series(editing)
    await editing.delete(programme.id)

    said = await refused(editing.publish(episode.id, references=BOTH))

    assert said.reason == "REFERENCE_DELETED"
    assert said.metadata == {"content_id": season.id}
    assert [*said.violations] == [f"contents.{season.id}.fields.programme"]


async def test_the_others_follow_in_the_locales_they_have(editing: Caller) -> None:
    both = {"ar": "عنوان", "en": "Title"}
    one, two = await person(editing, title=both), await person(editing, title={"en": "Alone"})
    item = await article(editing, one.id, two.id, title=both)

    await editing.publish(item.id, "ar", references=BOTH)

    shown = {each: await editing.get(each) for each in (item.id, one.id, two.id)}
    assert {
        each: [locale for locale, status in content.locales.items() if status.state == Content.PUBLISHED]
        for each, content in shown.items()
    } == {item.id: ["ar"], one.id: ["ar"], two.id: ["en"]}


async def test_a_hundred_items_are_published_together_and_no_more(editing: Caller) -> None:
    people = await asyncio.gather(*(person(editing) for _ in range(100)))
    item = await article(editing, *(each.id for each in people))

    said = await refused(editing.publish(item.id, references=BOTH))
    assert (said.code, said.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "TOO_MANY_REFERENCES")

    await editing.publish(people[0].id)
    await editing.publish(item.id, references=BOTH)
    assert (await editing.get(people[-1].id)).state == Content.PUBLISHED


async def test_an_etag_holds_for_the_item_that_is_asked_for(editing: Caller) -> None:
    item = await article(editing, (await person(editing)).id)
    await editing.update(item.id, tags=["a"])

    assert (await refused(editing.publish(item.id, etag=item.etag, references=BOTH))).reason == "ETAG_MISMATCH"
    assert (await refused(editing.publish("0190b0a0-0000-7000-8000-000000000000", references=BOTH))).reason == (
        "CONTENT_NOT_FOUND"
    )


async def test_an_item_waits_for_the_last_it_refers_to(
    editing: Caller, anyone: Caller, announced: Announcements
) -> None:
    episode, season, programme = await series(editing)

    waiting = await editing.publish(episode.id, references=WAIT)
    await editing.publish(season.id, "en", references=WAIT)
    assert (waiting.state, waiting.HasField("waiting"), waiting.waiting.problem) == (Content.DRAFT, True, "")
    assert waiting == await editing.publish(episode.id, references=WAIT)
    assert (await refused(anyone.get(episode.id))).code == grpc.StatusCode.NOT_FOUND

    await editing.publish(programme.id)

    for item in (season, episode):
        done = await published(editing, item.id)
        assert not done.HasField("waiting")
        assert not (await anyone.get(item.id)).HasField("waiting")
        assert [event.subject for event in await announced(item.id)] == [
            "content.created",
            "content.waiting",
            "content.published",
        ]


async def test_what_lacks_nothing_waits_for_nothing(editing: Caller) -> None:
    item = await article(editing, (await person(editing, published=True)).id)

    assert (await editing.publish(item.id, references=WAIT)).state == Content.PUBLISHED


@pytest.mark.parametrize("how", ["deleted", "incomplete"])
async def test_a_wait_that_cannot_end_says_why(editing: Caller, announced: Announcements, how: str) -> None:
    author = await person(editing)
    item = await article(editing, author.id, title={"ar": "عنوان", "en": "Title"})
    await editing.publish(item.id, "ar", references=WAIT)

    if how == "deleted":
        await editing.delete(author.id)
    else:
        await editing.update(item.id, paths=["title.ar"])
        await editing.publish(author.id)

    failed = await eventually(lambda: editing.get(item.id), lambda one: bool(one.waiting.problem))
    assert failed.waiting.problem == ("REFERENCE_DELETED" if how == "deleted" else "LOCALE_INCOMPLETE")
    assert list(failed.waiting.locales) == ["ar"]
    assert failed.state == Content.DRAFT
    assert [event.subject for event in await announced(item.id)][-1] == "content.wait_failed"


async def test_a_wait_is_taken_back(editing: Caller) -> None:
    author = await person(editing)
    items = [await article(editing, author.id) for _ in range(3)]
    for item in items:
        await editing.publish(item.id, references=WAIT)

    assert not (await editing.unpublish(items[0].id)).HasField("waiting")
    assert not (await editing.delete(items[1].id)).HasField("waiting")
    await editing.publish(author.id)

    await published(editing, items[2].id)  # in the same round as the others would be
    assert (await editing.get(items[0].id)).state == Content.DRAFT


async def test_three_replicas_end_each_wait_once(mesh: Mesh, editing: Caller, announced: Announcements) -> None:
    author = await person(editing)
    items = [await article(editing, author.id) for _ in range(12)]
    for item in items:
        await editing.publish(item.id, references=WAIT)
    pools = [await db.connect(mesh.database_url("content"), service="replica", size=2) for _ in range(3)]

    async def nobody(_: str) -> None:
        """These replicas serve no reader."""

    replicas = [asyncio.create_task(waits.run(pool, nobody)) for pool in pools]
    await editing.publish(author.id)
    replicas[0].cancel()  # it may be in the middle of one
    for item in items:
        await published(editing, item.id)
    for task in replicas:
        task.cancel()
    await asyncio.gather(*replicas, return_exceptions=True)
    for pool in pools:
        await pool.close()

    for item in items:
        assert Counter(event.subject for event in await announced(item.id))["content.published"] == 1


async def test_ten_items_take_as_many_statements_as_two(mesh: Mesh, editing: Caller) -> None:
    pool = await db.connect(mesh.database_url("content"), service="count", size=1)
    identity.caller.set(identity.Identity(permissions=permissions.hold("", ["editor"], {})))
    counts = []
    async with db.transaction(pool) as conn:
        for number in (1, 1, 9):  # the first time the driver asks for types too
            item = await article(editing, *[(await person(editing)).id for _ in range(number)])
            asked: list[str] = []
            with conn.query_logger(lambda record, asked=asked: asked.append(record.query)):
                _, changed = await together.publish(conn, item.id, locales=[], etag="")
                await conn.fetchval("SELECT 'the logger is told of a statement when the next one waits'")
            assert len(changed) == number + 1
            counts.append(len([each for each in asked if "logger" not in each]))
    await pool.close()

    assert counts[1] == counts[2] <= 10
