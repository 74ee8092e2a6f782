"""Who refers to an item, what that forbids, and what is left when it is done all the same."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import grpc
import pytest

from deploy.local.mesh import Mesh
from libs import db
from services.content import references
from tests.conftest import eventually
from tests.content.items import Caller, Refusal, refusal, refused
from tests.content.rest import Json, Rest, define, field, make, reason, violations
from thmnayah.content.v1.content_pb2 import Content, Schedule
from thmnayah.content.v1.values_pb2 import Value

NOBODY = "0190b0a0-0000-7000-8000-000000000000"


def to(*ids: str) -> Value:
    """A list of references."""
    return Value(list=Value.List(values=[Value(reference=each) for each in ids]))


async def person(caller: Caller, *, published: bool = False, **fields: Any) -> Content:
    made = await caller.create(type="person", **fields)
    return await caller.publish(made.id) if published else made


async def article(caller: Caller, *authors: str, published: bool = False, **fields: Any) -> Content:
    made = await caller.create(fields={"authors": to(*authors)}, **fields)
    return await caller.publish(made.id) if published else made


async def used(rest: Rest, content_id: str, page_size: int = 50) -> list[Json]:
    """All places that refer to an item."""
    found: list[Json] = []
    token = ""
    while True:
        answer = await rest.ok(
            "GET", f"contents/{content_id}/references", None, pageSize=str(page_size), pageToken=token
        )
        found += answer["references"]
        token = answer["nextPageToken"]
        if not token:
            return found


def sides(found: list[Json]) -> list[tuple[str, str]]:
    return [(each["contentId"], each["side"]) for each in found]


async def test_the_references_to_an_item_are_listed(editing: Caller, admin: Rest, anybody: Rest) -> None:
    author = await person(editing, published=True)
    item = await article(editing, author.id, author.id, title={"ar": "كاتب", "en": "Writer"})
    expected = {
        "contentId": item.id,
        "type": "article",
        "title": {"ar": "كاتب", "en": "Writer"},
        "field": "authors",
        "locale": "",
        "side": "DRAFT",
        "broken": False,
    }
    assert await used(admin, author.id) == [expected]
    assert await used(anybody, author.id) == []

    await editing.publish(item.id, "ar")
    assert sides(await used(admin, author.id)) == [(item.id, "DRAFT"), (item.id, "PUBLISHED")]
    assert await used(anybody, author.id) == [{**expected, "title": {"ar": "كاتب"}, "side": "PUBLISHED"}]

    await editing.update(item.id, paths=["fields.authors"])  # the draft refers to nobody now
    assert sides(await used(admin, author.id)) == [(item.id, "PUBLISHED")]
    await editing.publish(item.id, "ar")
    assert await used(admin, author.id) == []


async def test_an_item_that_is_filed_is_indexed_too(editing: Caller, admin: Rest, word: str) -> None:
    author = await person(editing)

    item = await article(editing, author.id, category=word)

    assert sides(await used(admin, author.id)) == [(item.id, "DRAFT")]


async def test_readers_learn_of_no_draft_by_what_refers_to_what(editing: Caller, anybody: Rest) -> None:
    hidden, seen = await person(editing), await person(editing, published=True)
    await article(editing, hidden.id, seen.id)
    shown = await article(editing, seen.id, published=True)

    assert sides(await used(anybody, seen.id)) == [(shown.id, "PUBLISHED")]
    of_hidden, of_nothing = [await anybody.call("GET", f"contents/{each}/references") for each in (hidden.id, NOBODY)]
    assert reason(of_hidden) == reason(of_nothing) == (404, "CONTENT_NOT_FOUND")
    assert of_hidden.json()["message"].replace(hidden.id, NOBODY) == of_nothing.json()["message"]
    for query in (f"broken_references:{hidden.id}", "brokenReferences:*"):
        assert violations(await anybody.call("GET", "contents", filter=query)).keys() == {"filter"}


async def test_references_come_a_page_at_a_time(editing: Caller, admin: Rest, anybody: Rest) -> None:
    author = await person(editing, published=True)
    items = [await article(editing, author.id, published=number % 2 == 0) for number in range(5)]
    expected = [
        (item.id, side) for item in items for side in ("DRAFT", "PUBLISHED") if item.version > 1 or side == "DRAFT"
    ]

    assert sides(await used(admin, author.id)) == expected
    for size in (1, 2, 3, 8):
        assert sides(await used(admin, author.id, page_size=size)) == expected
        assert sides(await used(anybody, author.id, page_size=size)) == [
            one for one in expected if one[1] == "PUBLISHED"
        ]
    for token in ("x", "WyJhIl0"):
        answer = await admin.call("GET", f"contents/{author.id}/references", pageToken=token)
        assert violations(answer).keys() == {"pageToken"}


async def test_references_are_found_in_lists_groups_and_locales(
    editing: Caller, admin: Rest, anybody: Rest, word: str
) -> None:
    people = {"reference": {"types": ["person"]}}
    cast = {"list": {"item": {"group": {"fields": [field("who", people), field("part")]}}}}
    kind = await define(admin, word, field("cast", cast), field("host", people, localized=True))
    one = await person(editing, title={"ar": "ممثل"}, published=True)
    two = await person(editing, published=True)
    item = await make(
        admin,
        word,
        {
            "cast": {
                "list": {
                    "values": [{"group": {"values": {"who": {"reference": each.id.upper()}}}} for each in (one, two)]
                }
            },
            "host": {"localized": {"values": {"ar": {"reference": one.id}, "en": {"reference": two.id}}}},
        },
    )
    await editing.publish(item["id"], "ar")

    places = {(each["field"], each["locale"], each["side"]) for each in await used(admin, one.id)}
    assert places == {
        (name, locale, side) for name, locale in (("cast.who", ""), ("host", "ar")) for side in ("DRAFT", "PUBLISHED")
    }
    assert {(each["field"], each["locale"]) for each in await used(anybody, two.id)} == {("cast.who", "")}

    kind["fields"][0]["name"] = "players"
    kind["fields"][0]["kind"]["list"]["item"]["group"]["fields"][0]["name"] = "player"
    await admin.ok("PATCH", f"contentTypes/t-{word}", kind, updateMask="fields")
    assert {each["field"] for each in await used(anybody, two.id)} == {"players.player"}


async def test_references_are_found_in_rich_text(editing: Caller, admin: Rest, anybody: Rest, word: str) -> None:
    await define(admin, word, field("story", {"richText": {}}))
    block, linked, hidden = [await person(editing, published=True) for _ in range(3)]
    spans = [{"text": "see", "contentId": linked.id}]
    inner = [{"blocks": [{"paragraph": {"spans": spans}}]}]
    blocks = [{"reference": {"contentId": block.id}}, {"list": {}, "items": inner}]
    item = await make(admin, word, {"story": {"richText": {"blocks": blocks}}})

    assert {each["field"] for each in await used(admin, block.id)} == {"story.blocks.reference.contentId"}
    assert sides(await used(admin, linked.id)) == [(item["id"], "DRAFT")]
    await editing.publish(item["id"])
    assert sides(await used(anybody, linked.id)) == [(item["id"], "PUBLISHED")]
    assert reason(await admin.call("POST", f"contents/{linked.id}:unpublish", {})) == (400, "CONTENT_REFERENCED")

    page = await anybody.ok("GET", f"contents/{item['id']}", None, expand="story")
    assert {each["id"] for each in page["expanded"]} == {block.id, linked.id}
    assert await used(admin, hidden.id) == []


@pytest.mark.parametrize("how", ["delete", "unpublish", "archive"])
async def test_what_published_items_refer_to_stays_unless_it_is_forced(
    editing: Caller, anyone: Caller, admin: Rest, anybody: Rest, how: str
) -> None:
    author = await person(editing, published=True)
    items = [await article(editing, author.id, published=True) for _ in range(6)]
    await article(editing, author.id)  # a draft stands in no way
    take = getattr(editing, how)

    said = await refused(take(author.id))

    assert (said.code, said.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CONTENT_REFERENCED")
    assert said.metadata == {"count": "6"}
    assert list(said.violations) == [f"contents.{item.id}" for item in items[:5]]
    assert (await anyone.get(author.id)).state == Content.PUBLISHED

    await take(author.id, force=True)
    assert (await refused(anyone.get(author.id))).code == grpc.StatusCode.NOT_FOUND
    found = await used(admin, author.id)
    assert Counter((each["side"], each["broken"]) for each in found) == {
        ("PUBLISHED", True): 6,
        ("DRAFT", how == "delete"): 7,
    }
    assert reason(await anybody.call("GET", f"contents/{author.id}/references")) == (404, "CONTENT_NOT_FOUND")
    broken = await editing.walk(filter=f"broken_references:{author.id}")
    assert len(broken) == 6 + (how == "delete")
    assert {item.id for item in items} <= {
        item.id for item in await editing.walk(filter="broken_references:*", page_size=200)
    }


async def test_what_comes_back_is_broken_no_longer(editing: Caller, admin: Rest) -> None:
    author = await person(editing, published=True)
    await article(editing, author.id, published=True)
    await editing.delete(author.id, force=True)

    await editing.undelete(author.id)
    assert {each["side"]: each["broken"] for each in await used(admin, author.id)} == {
        "DRAFT": False,
        "PUBLISHED": True,
    }
    await editing.publish(author.id)
    assert not any(each["broken"] for each in await used(admin, author.id))
    assert await editing.walk(filter=f"broken_references:{author.id}") == []


async def test_a_locale_is_taken_from_those_alone_who_refer_to_another(editing: Caller, admin: Rest, word: str) -> None:
    await define(admin, word, field("host", {"reference": {}}, localized=True))
    host = await person(editing, title={"ar": "مضيف", "en": "Host"}, published=True)
    item = await make(admin, word, {"host": {"localized": {"values": {"ar": {"reference": host.id}}}}})
    await editing.publish(item["id"])

    await editing.unpublish(host.id, "en")
    assert (await refused(editing.unpublish(host.id, "ar"))).reason == "CONTENT_REFERENCED"
    await editing.publish(host.id)
    await editing.unpublish(host.id, "ar", force=True)
    assert {each["side"]: each["broken"] for each in await used(admin, host.id)} == {"DRAFT": False, "PUBLISHED": True}


async def test_an_item_that_refers_to_itself_is_in_nobodys_way(editing: Caller, admin: Rest, word: str) -> None:
    await define(admin, word, field("next", {"reference": {}}))
    item = await make(admin, word)
    await editing.update(item["id"], fields={"next": Value(reference=item["id"])})

    await editing.publish(item["id"])
    assert sides(await used(admin, item["id"])) == [(item["id"], "DRAFT"), (item["id"], "PUBLISHED")]
    await editing.unpublish(item["id"])
    assert sides(await used(admin, item["id"])) == [(item["id"], "DRAFT")]
    await editing.delete(item["id"])


async def test_a_scheduled_unpublish_says_that_it_is_referred_to(editing: Caller, anyone: Caller) -> None:
    author = await person(editing, published=True)
    await article(editing, author.id, published=True)

    await editing.schedule(author.id, Schedule.UNPUBLISH, datetime.now(UTC) + timedelta(seconds=2))

    failed = await eventually(lambda: editing.get(author.id), lambda item: item.schedules[0].state != Schedule.PENDING)
    assert failed.schedules[0].problem == "CONTENT_REFERENCED"
    assert (await anyone.get(author.id)).state == Content.PUBLISHED


async def test_references_outlive_what_they_refer_to(
    editing: Caller, admin: Rest, content_db: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    author = await person(editing, published=True)
    item = await article(editing, author.id, published=True)
    await editing.delete(author.id, force=True)
    await content_db.execute("DELETE FROM contents WHERE id = $1", author.id)  # as the purge of the trash does

    found = await used(admin, author.id)
    assert sides(found) == [(item.id, "DRAFT"), (item.id, "PUBLISHED")]
    assert all(each["broken"] for each in found)
    await editing.update(item.id, paths=["fields.authors"])
    await editing.publish(item.id)
    assert reason(await admin.call("GET", f"contents/{author.id}/references")) == (404, "CONTENT_NOT_FOUND")


@pytest.mark.parametrize("how", ["delete", "unpublish"])
async def test_no_published_reference_leads_nowhere_whoever_comes_first(editing: Caller, admin: Rest, how: str) -> None:
    outcomes: Counter[tuple[str, str]] = Counter()

    async def outcome(call: Any) -> str:
        try:
            await call
        except grpc.aio.AioRpcError as error:
            said: Refusal = refusal(error)
            return said.reason
        return ""

    for _ in range(12):
        author = await person(editing, published=True)
        items = [await article(editing, author.id) for _ in range(2)]
        taken, *shown = await asyncio.gather(
            outcome(getattr(editing, how)(author.id)), *(outcome(editing.publish(item.id)) for item in items)
        )
        if taken == "":
            assert set(shown) <= {"REFERENCE_UNPUBLISHED", "REFERENCE_DELETED"}
        else:
            assert taken == "CONTENT_REFERENCED"
            assert "" in shown
        assert not any(each["broken"] for each in await used(admin, author.id) if each["side"] == "PUBLISHED")
        outcomes[taken, shown[0]] += 1
    assert sum(outcomes.values()) == 12


async def test_items_from_before_the_index_are_looked_through(
    mesh: Mesh, editing: Caller, admin: Rest, content_db: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    author = await person(editing, published=True)
    items = [await article(editing, author.id, published=published) for published in (True, False)]
    expected = await used(admin, author.id)
    for table in ("draft_references", "publication_references"):
        await content_db.execute(f"DELETE FROM {table} WHERE to_id = $1", author.id)
    assert await used(admin, author.id) == []
    await content_db.execute("INSERT INTO reference_backfill (after_id) VALUES ($1)", author.id)

    pools = [await db.connect(mesh.database_url("content"), service="backfill", size=1) for _ in range(2)]
    await asyncio.gather(*map(references.backfill, pools))
    for pool in pools:
        await pool.close()

    assert await used(admin, author.id) == expected
    assert len(expected) == 3
    assert sides(expected)[0] == (items[0].id, "DRAFT")
    assert await content_db.fetchval("SELECT count(*) FROM reference_backfill") == 0
