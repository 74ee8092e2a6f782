"""What items refer to, beside them in one answer: which, for whom, and never older than what is published."""

import asyncio
from typing import Any

import grpc
import httpx
import pytest

from deploy.local.mesh import Mesh
from libs import db
from services.content import contents, expansions
from services.content.expansions import MAX_ITEMS
from tests.content.items import SECONDS, Caller, refused
from tests.content.rest import Json, Rest, define, field, make, violations
from tests.content.test_references import article, person, to
from thmnayah.content.v1.content_pb2 import (
    PUBLISHED,
    Content,
    ListContentsRequest,
    ListContentsResponse,
    PublishContentRequest,
)
from thmnayah.content.v1.values_pb2 import Value

SERIES = ["season.programme.presenters", "guests"]


async def episode(caller: Caller, word: str, programme: str, guest: str) -> Content:
    season = await caller.create(type="season", fields={"programme": Value(reference=programme)})
    values = {"season": Value(reference=season.id), "guests": to(guest)}
    return await caller.create(type="episode", category=word, fields=values)


async def listed(caller: Caller, **question: Any) -> ListContentsResponse:
    return await caller.content.ListContents(ListContentsRequest(**question), metadata=caller.metadata, timeout=SECONDS)


async def test_what_a_page_refers_to_comes_with_it_once(editing: Caller, anyone: Caller, word: str) -> None:
    presenter, guest = await person(editing), await person(editing)
    programme = await editing.create(type="programme", fields={"presenters": to(presenter.id)})
    items = [await episode(editing, word, programme.id, guest.id) for _ in range(3)]
    for item in items:
        await editing.publish(item.id, references=PublishContentRequest.BOTH)
    seasons = {item.fields["season"].reference for item in items}
    question = {"filter": f'category = "{word}"', "expand": SERIES}

    page = await listed(anyone, **question)

    assert {each.id for each in page.contents} == {item.id for item in items}
    assert sorted(each.id for each in page.expanded) == sorted([*seasons, programme.id, presenter.id, guest.id])
    assert list(page.expanded[0].expanded) == []
    for each in page.expanded:
        assert each == await anyone.get(each.id)
    assert {each.id for each in (await listed(anyone, **{**question, "expand": ["season"]})).expanded} == seasons
    assert [*(await listed(anyone, filter=question["filter"])).expanded] == []
    drafts = await listed(editing, **question)
    assert {each.id for each in drafts.expanded} == {each.id for each in page.expanded}
    for each in drafts.expanded:
        assert each == await editing.get(each.id)


async def test_an_item_comes_with_what_it_refers_to(editing: Caller, anybody: Rest, rest: httpx.AsyncClient) -> None:
    author = await person(editing, title={"en": "First"}, published=True)
    item = await article(editing, author.id, published=True)
    path = f"/v1/contents/{item.id}?expand=authors"

    first = await rest.get(path)
    assert [each["title"] for each in first.json()["expanded"]] == [{"en": "First"}]
    assert first.json()["fields"] == (await anybody.ok("GET", f"contents/{item.id}"))["fields"]
    assert (await rest.get(path, headers={"if-none-match": first.headers["etag"]})).status_code == 304

    await editing.update(author.id, title={"en": "Second"})
    await editing.publish(author.id)
    second = await rest.get(path, headers={"if-none-match": first.headers["etag"]})
    assert [each["title"] for each in second.json()["expanded"]] == [{"en": "Second"}]

    answer = await editing.get(item.id, expand=["authors"])
    assert [each.id for each in answer.expanded] == [author.id]
    await editing.update(item.id, etag=answer.etag, tags=["a"])  # it stands for the version that was read


@pytest.mark.parametrize("how", ["unpublish", "delete"])
async def test_readers_get_what_is_published_alone(
    editing: Caller, anyone: Caller, anybody: Rest, word: str, how: str
) -> None:
    author = await person(editing, published=True)
    item = await article(editing, author.id, published=True, category=word)
    await editing.update(author.id, title={"en": "A draft"})
    question: dict[str, Any] = {"filter": f'category = "{word}"', "expand": ["authors"]}

    assert [dict(each.title) for each in (await listed(anyone, **question)).expanded] == [{"en": "Title"}]
    assert [dict(each.title) for each in (await listed(editing, **question)).expanded] == [{"en": "A draft"}]
    assert [dict(each.title) for each in (await listed(editing, **question, view=PUBLISHED)).expanded] == [
        {"en": "Title"}
    ]

    await getattr(editing, how)(author.id, force=True)
    assert [*(await listed(anyone, **question)).expanded] == []
    assert (await anybody.ok("GET", f"contents/{item.id}", expand="authors"))["expanded"] == []
    hidden = await person(editing)
    await editing.update(item.id, fields={"authors": to(hidden.id)})
    assert [*(await listed(anyone, **question)).expanded] == []
    assert [each.id for each in (await listed(editing, **question)).expanded] == [hidden.id]
    draft = await article(editing, published=False)
    assert (await refused(anyone.get(draft.id, expand=["authors"]))).code == grpc.StatusCode.NOT_FOUND


async def test_what_is_expanded_is_in_the_locale_of_the_read(editing: Caller, anyone: Caller, word: str) -> None:
    both = {"ar": "كاتب", "en": "Writer"}
    one, two = await person(editing, title=both, published=True), await person(editing, published=True)
    item = await article(editing, one.id, two.id, title={"ar": "مقال"}, published=True, category=word)
    question: dict[str, Any] = {"filter": f'category = "{word}"', "expand": ["authors"], "locale": "ar"}

    for page in (await listed(anyone, **question), await listed(editing, **question)):
        assert [dict(each.title) for each in page.expanded] == [{"ar": "كاتب"}]
    fallen = await listed(anyone, **question, fallback=True)
    assert [(dict(each.title), each.resolved_locales["title"]) for each in fallen.expanded] == [
        ({"ar": "كاتب"}, "ar"),
        ({"ar": "Title"}, "en"),
    ]
    alone = await anyone.get(item.id, expand=["authors"], locale="ar")
    assert [dict(each.title) for each in alone.expanded] == [{"ar": "كاتب"}]


async def test_of_a_localized_field_the_reads_locale_is_followed(
    editing: Caller, admin: Rest, anyone: Caller, word: str
) -> None:
    cast = {"list": {"item": {"group": {"fields": [field("who", {"reference": {}})]}}}}
    await define(admin, word, field("cast", cast, localized=True))
    people = {each: await person(editing, title={"ar": "أ", "en": "A"}, published=True) for each in ("ar", "en")}
    values = {
        locale: {"list": {"values": [{"group": {"values": {"who": {"reference": each.id}}}}]}}
        for locale, each in people.items()
    }
    item = await make(admin, word, {"cast": {"localized": {"values": values}}})
    await editing.publish(item["id"])

    every = await anyone.get(item["id"], expand=["cast"])
    arabic = await anyone.get(item["id"], expand=["cast"], locale="ar")
    assert {each.id for each in every.expanded} == {each.id for each in people.values()}
    assert [each.id for each in arabic.expanded] == [people["ar"].id]


@pytest.mark.parametrize(
    ("expand", "named"),
    [
        (["authors", "nothing"], "expand[1]"),
        (["subtitle"], "expand[0]"),
        (["season.subtitle"], "expand[0]"),
        (["a.b.c.d"], "expand[0]"),
        (["authors'"], "expand[0]"),
        (["authors", "authors"], "expand"),
        ([f"f{number}" for number in range(11)], "expand"),
    ],
)
async def test_what_is_no_reference_is_not_expanded(
    editing: Caller, rest: httpx.AsyncClient, expand: list[str], named: str
) -> None:
    item = await article(editing, (await person(editing, published=True)).id, published=True)

    for path in ("/v1/contents", f"/v1/contents/{item.id}"):
        answer = await rest.get(path, params=[("expand", each) for each in expand])
        assert answer.status_code == 400
        assert violations(answer).keys() == {named}


async def test_lists_name_fields_as_their_type_does_today(
    editing: Caller, admin: Rest, anybody: Rest, word: str
) -> None:
    kind = await define(admin, word, field("before", {"reference": {}}))
    author = await person(editing, published=True)
    item = await make(admin, word, {"before": {"reference": author.id}}, category=word)
    await editing.publish(item["id"])

    async def seen(name: str) -> Json:
        page = await anybody.ok("GET", "contents", None, filter=f'category = "{word}"', expand=name)
        assert [each["id"] for each in page["expanded"]] == [author.id]
        fields: Json = page["contents"][0]["fields"]
        return fields

    assert await seen("before") == {"before": {"reference": author.id}}
    kind["fields"][0]["name"] = "after"
    await admin.ok("PATCH", f"contentTypes/t-{word}", kind, updateMask="fields")
    assert await seen("after") == {"after": {"reference": author.id}}


async def test_a_depth_takes_one_statement_whatever_the_page(mesh: Mesh, editing: Caller, word: str) -> None:
    presenter, guest = await person(editing), await person(editing)
    programme = await editing.create(type="programme", fields={"presenters": to(presenter.id)})
    items = [await episode(editing, word, programme.id, guest.id) for _ in range(6)]
    pool = await db.connect(mesh.database_url("content"), service="count", size=1)
    counts = []
    async with db.connection(pool) as conn:
        for few in (items[:1], items):
            page = ListContentsResponse(
                contents=await contents.find_all(conn, [item.id for item in few], [], drafts=True)
            )
            asked: list[str] = []
            with conn.query_logger(lambda record, asked=asked: asked.append(record.query)):
                await expansions.show(conn, page, SERIES, [], drafts=True)
                await conn.fetchval("SELECT 'the logger is told of a statement when the next one waits'")
            assert len(page.expanded) == len(few) + 3
            counts.append(len([each for each in asked if " FROM " in each]))
    await pool.close()

    assert counts == [4, 4]  # all types, then each depth


async def test_more_than_an_answer_holds_is_refused(editing: Caller, admin: Rest, word: str) -> None:
    await define(admin, word, field("all", {"list": {"item": {"reference": {}}}}))
    people: list[str] = []
    while len(people) <= MAX_ITEMS:
        people += [each.id for each in await asyncio.gather(*(person(editing) for _ in range(50)))]
    item = await make(admin, word)

    await editing.update(item["id"], fields={"all": to(*people[:MAX_ITEMS])})
    assert len((await editing.get(item["id"], expand=["all"])).expanded) == MAX_ITEMS
    await editing.update(item["id"], fields={"all": to(*people[: MAX_ITEMS + 1])})
    assert violations(await admin.call("GET", f"contents/{item['id']}", expand="all")).keys() == {"expand"}
