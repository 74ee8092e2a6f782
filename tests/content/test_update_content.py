"""UpdateContent: what changes, what stays, and what happens when two change at once."""

import asyncio
from typing import Any

import grpc
import pytest

from tests.content.conftest import Announcements
from tests.content.items import Caller, refusal, refused
from thmnayah.content.v1.content_pb2 import Content

FULL: dict[str, Any] = {
    "title": {"ar": "عنوان", "en": "Title"},
    "description": {"ar": "وصف", "en": "Description"},
    "body": {"ar": "نص", "en": "Body"},
    "category": "history",
    "tags": ["a", "b"],
}


async def test_a_mask_changes_what_it_names_alone(editing: Caller) -> None:
    item = await editing.create(**FULL)

    changed = await editing.update(
        item.id, paths=["title.ar", "tags"], title={"ar": "جديد", "en": "ignored"}, tags=["c"], category="ignored"
    )

    wanted = Content()
    wanted.CopyFrom(item)
    wanted.title["ar"] = "جديد"
    wanted.tags[:] = ["c"]
    wanted.version, wanted.etag = 2, '"2"'
    wanted.locales["en"].stale = True  # its title is older than the Arabic one now
    wanted.translations["title.en"].CopyFrom(Content.Translation(source_locale="ar", source_version=1, stale=True))
    wanted.update_time.CopyFrom(changed.update_time)
    assert changed == wanted == await editing.get(item.id)
    assert changed.update_time.ToMicroseconds() > item.update_time.ToMicroseconds()


async def test_a_mask_with_a_whole_map_replaces_it(editing: Caller) -> None:
    item = await editing.create(**FULL)

    changed = await editing.update(item.id, paths=["title", "description"], title={"ar": "وحيد"})

    assert dict(changed.title) == {"ar": "وحيد"}
    assert dict(changed.description) == {}
    assert set(changed.locales) == {"ar"}
    assert dict(changed.body) == {"ar": "نص", "en": "Body"}


async def test_a_path_without_a_value_is_cleared(editing: Caller, word: str) -> None:
    item = await editing.create(**FULL, external_id=word)

    changed = await editing.update(
        item.id, paths=["description.ar", "body", "category", "tags", "externalId", "title.ar"]
    )

    assert dict(changed.description) == {"en": "Description"}
    assert dict(changed.title) == {"en": "Title"}
    assert (dict(changed.body), changed.category, list(changed.tags), changed.external_id) == ({}, "", [], "")
    again = await editing.create(external_id=word)
    assert again.external_id == word


async def test_without_a_mask_every_value_given_is_set_locale_by_locale(editing: Caller) -> None:
    item = await editing.create(**FULL)

    changed = await editing.update(item.id, title={"en": "New"}, category="news")

    assert dict(changed.title) == {"ar": "عنوان", "en": "New"}
    assert (changed.category, list(changed.tags)) == ("news", ["a", "b"])
    assert dict(changed.body) == FULL["body"]


async def test_a_star_replaces_the_whole_item(editing: Caller) -> None:
    item = await editing.create(**FULL)

    changed = await editing.update(item.id, paths=["*"], title={"en": "Alone"})

    assert (dict(changed.title), dict(changed.body), changed.category, list(changed.tags)) == (
        {"en": "Alone"},
        {},
        "",
        [],
    )


async def test_what_the_service_sets_is_not_looked_at_without_a_mask(editing: Caller) -> None:
    item = await editing.create(**FULL)

    changed = await editing.update(
        item.id, title={"en": "New"}, type="episode", state=Content.PUBLISHED, version=9, created_by="me"
    )

    assert (changed.type, changed.state, changed.version, changed.created_by) == (
        "article",
        Content.DRAFT,
        2,
        item.created_by,
    )


@pytest.mark.parametrize(
    "path",
    ["id", "type", "state", "locales", "version", "create_time", "createTime", "update_time", "publish_time"]
    + ["created_by", "createdBy", "delete_time"],
)
async def test_what_the_service_sets_may_not_be_in_a_mask(editing: Caller, path: str) -> None:
    item = await editing.create(**FULL)

    refusal = await refused(editing.update(item.id, paths=["title.en", path], title={"en": "New"}))

    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert list(refusal.violations) == ["updateMask"]
    assert await editing.get(item.id) == item


@pytest.mark.parametrize(
    "path", ["titel", "title.en.x", "title.fr", "category.ar", "tags.0", "locales.ar", "", " ", "title.", "'"]
)
async def test_a_path_that_is_no_field_is_refused(editing: Caller, path: str) -> None:
    item = await editing.create(**FULL)

    refusal = await refused(editing.update(item.id, paths=[path, "category"], title={"en": "New"}, category="x"))

    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert await editing.get(item.id) == item


async def test_a_request_that_changes_nothing_at_all_is_refused(editing: Caller) -> None:
    item = await editing.create(**FULL)

    assert list((await refused(editing.update(item.id))).violations) == ["updateMask"]


@pytest.mark.parametrize(
    ("paths", "fields", "violation"),
    [
        (["title"], {}, "content.title"),
        (["title.ar", "title.en"], {}, "content.title"),
        ([], {"title": {"fr": "x"}}, "content.title.fr"),
        ([], {"title": {"en": ""}}, "content.title.en"),
        ([], {"title": {"en": "a\u202eb"}}, "content.title.en"),
        ([], {"slug": {"en": "no slug"}}, "content.slug.en"),
    ],
)
async def test_an_update_keeps_the_rules_of_a_new_item(
    editing: Caller, paths: list[str], fields: dict[str, Any], violation: str
) -> None:
    item = await editing.create(**FULL)

    refusal = await refused(editing.update(item.id, paths=paths, **fields))

    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert list(refusal.violations) == [violation]
    assert await editing.get(item.id) == item


async def test_an_address_stays_when_the_title_changes(editing: Caller) -> None:
    item = await editing.create(title={"en": "First title"})

    changed = await editing.update(item.id, title={"en": "Second title"})

    assert dict(changed.slug) == dict(item.slug)


async def test_a_new_locale_gets_an_address_and_a_cleared_one_is_made_again(editing: Caller, word: str) -> None:
    item = await editing.create(type="t-" + word, title={"en": "First title"})

    bilingual = await editing.update(item.id, title={"ar": "عنوان ثان", "en": "Second title"})
    renamed = await editing.update(item.id, paths=["slug.en"])

    assert dict(bilingual.slug) == {"ar": "عنوان-ثان", "en": "first-title"}
    assert dict(renamed.slug) == {"ar": "عنوان-ثان", "en": "second-title"}


async def test_an_address_that_was_given_up_is_free(editing: Caller, word: str) -> None:
    first = await editing.create(slug={"en": word})

    await editing.update(first.id, slug={"en": word + "-2"})
    second = await editing.create(slug={"en": word})

    assert second.slug["en"] == word
    assert (await refused(editing.update(first.id, slug={"en": word}))).reason == "SLUG_TAKEN"


async def test_a_refused_address_leaves_the_old_one_in_place(editing: Caller, word: str) -> None:
    await editing.create(slug={"en": word})
    item = await editing.create(slug={"en": word + "-2"})

    assert (await refused(editing.update(item.id, slug={"en": word}))).reason == "SLUG_TAKEN"

    assert (await refused(editing.create(slug={"en": word + "-2"}))).reason == "SLUG_TAKEN"
    assert await editing.get(item.id) == item


async def test_an_external_id_of_another_item_is_refused(editing: Caller, word: str) -> None:
    await editing.create(external_id=word)
    item = await editing.create()

    refusal = await refused(editing.update(item.id, external_id=word))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "EXTERNAL_ID_TAKEN")


async def test_two_items_that_swap_their_addresses_are_told_and_not_broken(editing: Caller, word: str) -> None:
    first, second = await editing.create(slug={"en": "a" + word}), await editing.create(slug={"en": "b" + word})

    for turn in range(24):
        names = ("b", "a") if turn % 2 == 0 else ("a", "b")
        results = await asyncio.gather(
            editing.update(first.id, slug={"en": names[0] + word}),
            editing.update(second.id, slug={"en": names[1] + word}),
            return_exceptions=True,
        )
        for result in results:
            assert isinstance(result, (Content, grpc.aio.AioRpcError))
            if isinstance(result, grpc.aio.AioRpcError):
                assert result.code() in {grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.ABORTED}
    slugs = {(await editing.get(item.id)).slug["en"] for item in (first, second)}
    assert slugs == {"a" + word, "b" + word}


@pytest.mark.parametrize("etag", ['"1"', "1", '"1-published"', "*", ""])
async def test_an_update_goes_through_with_the_etag_that_was_read(editing: Caller, etag: str) -> None:
    item = await editing.create(**FULL)

    assert (await editing.update(item.id, title={"en": "New"}, etag=etag)).version == 2


@pytest.mark.parametrize("etag", ['"1"', '"3"', '"02"', '"-"', "x", '""', '"2-x"', "é"])
async def test_a_stale_etag_is_refused_and_changes_nothing(
    editing: Caller, announced: Announcements, etag: str
) -> None:
    item = await editing.create(**FULL)
    item = await editing.update(item.id, title={"en": "Second"})

    refusal = await refused(editing.update(item.id, title={"en": "Third"}, etag=etag))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert refusal.metadata["etag"] == '"2"'
    assert await editing.get(item.id) == item
    assert len(await announced(item.id)) == 2


async def test_saving_what_is_there_changes_nothing_and_announces_nothing(
    editing: Caller, announced: Announcements, word: str
) -> None:
    item = await editing.create(**FULL, external_id=word)
    before = await announced(item.id)

    same = [
        await editing.update(item.id, **FULL),
        await editing.update(item.id, title={"en": "Title"}, etag=item.etag),
        await editing.update(item.id, paths=["tags", "category"], tags=["a", "b"], category="history"),
        await editing.update(item.id, slug=dict(item.slug), external_id=word),
        await editing.update(item.id, paths=["etag"], etag=item.etag),
    ]

    assert same == [item] * len(same)
    assert await announced(item.id) == before


async def test_of_64_writers_with_one_etag_one_wins(editing: Caller, announced: Announcements) -> None:
    item = await editing.create(**FULL)

    for round_number in range(2, 6):
        results = await asyncio.gather(
            *(
                editing.update(item.id, title={"en": f"{round_number} by {writer}"}, etag=item.etag)
                for writer in range(64)
            ),
            return_exceptions=True,
        )
        won = [result for result in results if isinstance(result, Content)]
        lost = [refusal(result) for result in results if isinstance(result, grpc.aio.AioRpcError)]
        assert (len(won), len(lost)) == (1, 63)
        assert {(each.code, each.reason) for each in lost} == {(grpc.StatusCode.ABORTED, "ETAG_MISMATCH")}
        item = won[0]
        assert item.version == round_number
        assert await editing.get(item.id) == item
    assert [event.content.version for event in await announced(item.id)] == [1, 2, 3, 4, 5]


async def test_writers_without_an_etag_lose_no_change_of_another_field(
    editing: Caller, announced: Announcements
) -> None:
    item = await editing.create(**FULL)

    await asyncio.gather(
        *(editing.update(item.id, title={"en": f"Title {number}"}) for number in range(16)),
        *(editing.update(item.id, body={"ar": f"نص {number}"}) for number in range(16)),
    )

    last = await editing.get(item.id)
    assert last.version == 33
    events = await announced(item.id)
    assert [event.content.version for event in events] == list(range(1, 34))
    assert events[-1].content == last
    assert last.title["en"] != "Title"
    assert last.body["ar"] != "نص"


async def test_only_who_may_update_updates(editing: Caller, anyone: Caller, reading: Caller) -> None:
    item = await editing.create()

    for caller, code in (
        (anyone, grpc.StatusCode.UNAUTHENTICATED),
        (reading, grpc.StatusCode.PERMISSION_DENIED),
    ):
        assert (await refused(caller.update(item.id, title={"en": "x"}))).code == code
    assert await editing.get(item.id) == item
