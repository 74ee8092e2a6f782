"""ListContents: pages that hold every item once, in order, of the side the caller may see."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator

import grpc
import pytest

from tests.content.items import Caller, refused
from thmnayah.content.v1.content_pb2 import DRAFT, PUBLISHED, Content, View

SHELF = 'category = "the shelf"'


@pytest.fixture(scope="module")
async def shelf(editing: Caller) -> list[Content]:
    """20 drafts that no test changes, found by the filter SHELF, in the order they were made."""
    for left_behind in await editing.walk(filter=SHELF):
        await editing.delete(left_behind.id)
    return [await editing.create(category="the shelf", title={"en": f"Number {number}"}) for number in range(20)]


@pytest.fixture
async def many(editing: Caller, word: str) -> list[Content]:
    """9 drafts filed under `word`, in the order they were made."""
    return [await editing.create(category=word, title={"en": f"Number {number}"}) for number in range(9)]


@pytest.mark.parametrize("size", [1, 7, 19, 20, 21, 200])
async def test_pages_of_any_size_hold_every_item_once(editing: Caller, shelf: list[Content], size: int) -> None:
    first, token = await editing.page(filter=SHELF, page_size=size)

    assert len(first) == min(size, len(shelf))
    assert bool(token) == (size < len(shelf))
    found = await editing.walk(filter=SHELF, page_size=size)
    assert [item.id for item in found] == [item.id for item in reversed(shelf)]


async def test_a_page_holds_fifty_unless_told(editing: Caller, word: str) -> None:
    for _ in range(3):
        await asyncio.gather(*(editing.create(category=word) for _ in range(17)))

    page, token = await editing.page(filter=f'category = "{word}"')

    assert len(page) == 50
    assert token


@pytest.mark.parametrize("size", [-1, 201, 2**31 - 1])
async def test_a_page_of_an_unheard_of_size_is_refused(editing: Caller, size: int) -> None:
    refusal = await refused(editing.page(page_size=size))

    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert list(refusal.violations) == ["pageSize"]


@pytest.mark.parametrize(
    ("order_by", "view"),
    [
        ("create_time desc", DRAFT),
        ("create_time", PUBLISHED),
        ("update_time desc", PUBLISHED),
        ("update_time", DRAFT),
        ("publish_time", DRAFT),
        ("publish_time desc", PUBLISHED),
    ],
)
async def test_items_that_come_and_go_move_no_other(
    editing: Caller, many: list[Content], word: str, order_by: str, view: View.ValueType
) -> None:
    for item in many:
        await editing.publish(item.id)

    async with coming_and_going(editing, word):
        found = await editing.walk(filter=f'category = "{word}"', page_size=3, order_by=order_by, view=view)

    ids = [item.id for item in found]
    assert len(set(ids)) == len(ids)
    stayed = [item.id for item in many]
    wanted = stayed[::-1] if order_by.endswith("desc") else stayed
    assert [content_id for content_id in ids if content_id in set(stayed)] == wanted


@contextlib.asynccontextmanager
async def coming_and_going(editing: Caller, category: str) -> AsyncIterator[None]:
    """Items that are made, published and deleted for as long as the block runs."""

    async def come_and_go() -> None:
        while True:
            item = await editing.create(category=category)
            await editing.publish(item.id)
            await editing.delete(item.id)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(come_and_go()) for _ in range(3)]
        yield
        for task in tasks:
            task.cancel()


@pytest.mark.parametrize("order_by", ["", "create_time desc", "createTime  desc"])
async def test_the_newest_come_first_unless_told(editing: Caller, shelf: list[Content], order_by: str) -> None:
    page, _ = await editing.page(filter=SHELF, order_by=order_by)

    assert [item.id for item in page] == [item.id for item in reversed(shelf)]


async def test_an_edit_brings_an_item_to_the_front_by_update_time(
    editing: Caller, many: list[Content], word: str
) -> None:
    await editing.update(many[4].id, title={"en": "Edited"})

    page, _ = await editing.page(filter=f'category = "{word}"', order_by="update_time desc", page_size=1)

    assert page[0].id == many[4].id


async def test_by_publish_time_published_items_alone_are_listed(
    editing: Caller, many: list[Content], word: str
) -> None:
    for item in (many[8], many[2], many[5]):
        await editing.publish(item.id)

    found = await editing.walk(filter=f'category = "{word}"', order_by="publish_time", page_size=2)

    assert [item.id for item in found] == [many[8].id, many[2].id, many[5].id]


@pytest.mark.parametrize(
    "order_by", ["title", "create_time down", "create_time,id", "create_time; DROP TABLE contents", "desc", "category"]
)
async def test_an_order_that_is_not_there_is_refused(editing: Caller, order_by: str) -> None:
    refusal = await refused(editing.page(order_by=order_by))

    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert list(refusal.violations) == ["orderBy"]


async def test_a_page_token_belongs_to_its_question(editing: Caller, anyone: Caller, shelf: list[Content]) -> None:
    question = {"filter": SHELF, "page_size": 2}
    _, token = await editing.page(**question)

    for other in (
        {**question, "filter": ""},
        {**question, "filter": SHELF + " "},
        {**question, "order_by": "create_time"},
        {**question, "order_by": "update_time desc"},
        {**question, "view": PUBLISHED},
    ):
        refusal = await refused(editing.page(**other, page_token=token))
        assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
        assert list(refusal.violations) == ["pageToken"]
    assert list((await refused(anyone.page(**question, page_token=token))).violations) == ["pageToken"]
    page, _ = await editing.page(**{**question, "page_size": 5}, page_token=token)
    assert [item.id for item in page] == [item.id for item in shelf[17:12:-1]]


@pytest.mark.parametrize("token", ["x", "!!!!", "e30", "W10", "bnVsbA", "é", "A" * 1024, "Ww" * 500, "AAAA=AAAA"])
async def test_what_is_no_page_token_is_refused(anyone: Caller, token: str) -> None:
    refusal = await refused(anyone.page(page_token=token))

    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert list(refusal.violations) == ["pageToken"]


@pytest.mark.parametrize(
    "moment", ["yesterday", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-01-01T00:00:00", "", "٢"]
)
async def test_a_page_token_that_was_tampered_with_breaks_nothing(
    editing: Caller, shelf: list[Content], moment: str
) -> None:
    question = {"filter": SHELF, "page_size": 2}
    _, token = await editing.page(**question)
    digest, _, content_id = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    forged = base64.urlsafe_b64encode(json.dumps([digest, moment, content_id]).encode()).decode().rstrip("=")

    try:
        page, _ = await editing.page(**question, page_token=forged)
    except grpc.aio.AioRpcError as error:
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    else:
        assert {item.id for item in page} <= {item.id for item in shelf}


async def test_drafts_do_not_leak_into_lists(editing: Caller, anyone: Caller, reading: Caller, word: str) -> None:
    await editing.create(category=word)
    public = await editing.create(category=word, title={"en": "Old"})
    await editing.publish(public.id)
    await editing.update(public.id, title={"en": "New"}, tags=["new"])

    for caller in (anyone, reading):
        (seen,) = await caller.walk(filter=f'category = "{word}"')
        assert seen == await anyone.get(public.id)
        assert seen.title["en"] == "Old"
    assert len(await editing.walk(filter=f'category = "{word}"')) == 2
    assert len(await editing.walk(filter=f'category = "{word}"', view=PUBLISHED)) == 1


async def test_a_filter_does_not_tell_what_stands_in_a_draft(
    editing: Caller, anyone: Caller, reading: Caller, word: str
) -> None:
    item = await editing.create(category="old-" + word, tags=["old-" + word], external_id="old-" + word)
    await editing.publish(item.id)
    edited = await editing.update(item.id, category="new-" + word, tags=["new-" + word], external_id="new-" + word)

    draft = [
        f'category = "new-{word}"',
        f'tags:"new-{word}"',
        f'externalId = "new-{word}"',
        f'category = "old-{word}" AND update_time >= "{edited.update_time.ToJsonString()}"',
        f'category = "old-{word}" AND NOT tags:"old-{word}"',
    ]
    for caller in (anyone, reading):
        assert [await caller.walk(filter=filter) for filter in draft] == [[]] * len(draft)
        assert len(await caller.walk(filter=f'category = "old-{word}" AND tags:"old-{word}"')) == 1
    assert len(await editing.walk(filter=draft[0])) == 1
    assert len(await editing.walk(filter=f'category = "old-{word}"')) == 0


async def test_asking_for_drafts_needs_the_permission(anyone: Caller, reading: Caller) -> None:
    assert (await refused(reading.page(view=DRAFT))).code == grpc.StatusCode.PERMISSION_DENIED
    assert (await refused(anyone.page(view=DRAFT))).code in {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
    }


async def test_filters_narrow_by_every_field(editing: Caller, word: str) -> None:
    first = await editing.create(type="episode", category=word, tags=["تاريخ", "two words"], external_id=word)
    second = await editing.create(type="article", category=word)
    await editing.publish(second.id)
    middle = second.create_time.ToJsonString()

    for filter, wanted in (
        ('type = "episode"', {first.id}),
        ("type != episode", {second.id}),
        ('tags:"تاريخ"', {first.id}),
        ('tags = "two words"', {first.id}),
        ("tags:*", {first.id}),
        ("NOT tags:*", {second.id}),
        (f'external_id = "{word}"', {first.id}),
        ("externalId:*", {first.id}),
        ("NOT externalId:*", {second.id}),
        ("publishTime:*", {second.id}),
        (f'createTime >= "{middle}"', {second.id}),
        (f'create_time < "{middle}"', {first.id}),
        (f'type = "episode" OR create_time >= "{middle}"', {first.id, second.id}),
        ('type = "episode" AND tags:"none"', set()),
    ):
        found = await editing.walk(filter=f'category = "{word}" AND {filter}')
        assert {item.id for item in found} == wanted, filter


async def test_a_filter_finds_a_text_however_it_is_composed(editing: Caller, word: str) -> None:
    item = await editing.create(category=f"caf\u00e9-{word}", tags=["re\u0301sume\u0301"])

    found = await editing.walk(filter=f'category = "cafe\u0301-{word}" AND tags:"r\u00e9sum\u00e9"')

    assert [each.id for each in found] == [item.id]


@pytest.mark.parametrize(
    "filter",
    [
        'title = "x"',
        "category =",
        'category = "x',
        "(category = x",
        "category = x)",
        "category < x",
        "create_time > yesterday",
        'create_time > "2026-01-31"',
        'create_time > "2026-01-31T10:00:00"',
        'create_time > "0001-01-01T00:00:00+14:00"',
        'create_time < "9999-12-31T23:59:59-14:00"',
        "category = x; DROP TABLE contents",
        "category = 'x\0'",
        "(" * 30 + "category = x" + ")" * 30,
        " OR ".join(["category = x"] * 60),
    ],
)
async def test_a_filter_that_cannot_be_read_is_refused(anyone: Caller, filter: str) -> None:
    refusal = await refused(anyone.page(filter=filter))

    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert list(refusal.violations) == ["filter"]
