"""Translations: what each text was made from, and which no longer say what their source does."""

import uuid
from typing import Any

import pytest

from tests.content.items import Caller
from tests.content.rest import Json, Rest, define, field, make, reason, violations

AR, EN = {"ar": "عنوان"}, {"en": "Title"}


class Desk:
    """An editor's work on one item, in numbered saves."""

    def __init__(self, admin: Rest, path: str) -> None:
        self.admin = admin
        self.path = path

    async def write(self, *locales: str, etag: str = "", **settings: Any) -> Json:
        """New titles in some locales."""
        titles = {locale: f"{locale} {uuid.uuid4()}" for locale in locales}
        return await self.admin.ok("PATCH", self.path, {"title": titles, "etag": etag, **settings})

    async def confirm(self, **what: Any) -> Json:
        return await self.admin.ok("POST", f"{self.path}:confirmTranslation", what)

    async def restore(self, number: int, *paths: str) -> Json:
        return await self.admin.ok("POST", f"{self.path}/revisions/{number}:restore", {"paths": list(paths)})


def made_from(item: Json) -> dict[str, tuple[str, int, bool]]:
    """For each text that tells of it, the locale and the version it was made from, and whether that is old."""
    told = item["translations"]
    late = {path.rpartition(".")[2] for path, each in told.items() if each["stale"]}
    assert late == {locale for locale, status in item["locales"].items() if status["stale"]}
    return {path: (each["sourceLocale"], each["sourceVersion"], each["stale"]) for path, each in told.items()}


@pytest.fixture
async def desk(admin: Rest) -> Desk:
    made = await admin.ok("POST", "contents", {"type": "article", "title": {**AR, **EN}})
    assert made_from(made) == {}
    return Desk(admin, f"contents/{made['id']}")


async def test_a_translation_follows_its_source(desk: Desk) -> None:
    assert made_from(await desk.write("en")) == {"title.ar": ("en", 1, True)}
    # What catches up says nothing new: its source need not follow it.
    assert made_from(await desk.write("ar")) == {"title.ar": ("en", 2, False)}
    assert made_from(await desk.write("en")) == {"title.ar": ("en", 2, True)}
    assert made_from(await desk.write("ar", "en")) == {}
    # What said the same and says something else now is the source.
    assert made_from(await desk.write("ar")) == {"title.en": ("ar", 5, True)}


async def test_a_text_that_is_added_is_made_from_the_newest(admin: Rest, desk: Desk) -> None:
    item = await desk.admin.ok("PATCH", desk.path, {"description": AR})
    assert made_from(item) == {}

    item = await desk.admin.ok("PATCH", desk.path, {"description": EN})

    assert made_from(item) == {"description.en": ("ar", 2, False)}
    assert made_from(await admin.ok("GET", desk.path)) == made_from(item)
    item = await desk.admin.ok("PATCH", desk.path, {}, updateMask="description.ar")
    assert made_from(item) == {}


async def test_who_did_not_see_the_newest_source_did_not_translate_it(desk: Desk) -> None:
    read = await desk.admin.ok("GET", desk.path)
    await desk.write("en")

    item = await desk.write("ar", etag=read["etag"])

    assert made_from(item) == {"title.ar": ("en", 1, True)}
    assert made_from(await desk.write("ar", etag=item["etag"])) == {"title.ar": ("en", 2, False)}


async def test_a_text_that_still_holds_is_confirmed(editing: Caller, admin: Rest, desk: Desk, word: str) -> None:
    await desk.admin.ok("PATCH", desk.path, {"description": {**AR, **EN}, "category": word})
    await desk.write("en")
    before = await desk.admin.ok("PATCH", desk.path, {"description": {"en": "New"}})
    assert made_from(before) == {"title.ar": ("en", 1, True), "description.ar": ("en", 2, True)}
    late = f"category = {word} AND stale:ar"
    assert len(await editing.walk(filter=late)) == 1

    one = await desk.confirm(paths=["title.ar"])
    assert made_from(one) == {"title.ar": ("en", 3, False), "description.ar": ("en", 2, True)}
    rest = await desk.confirm(locales=["ar"])

    assert made_from(rest) == {"title.ar": ("en", 3, False), "description.ar": ("en", 4, False)}
    assert (rest["version"], rest["title"]) == (6, before["title"])
    assert await editing.walk(filter=late) == []
    assert await desk.confirm(locales=["ar", "en"]) == rest
    assert [each["number"] for each in (await admin.ok("GET", f"{desk.path}/revisions"))["revisions"]] == [4, 3, 2, 1]
    assert made_from(await desk.write("en")) == {"title.ar": ("en", 3, True), "description.ar": ("en", 4, False)}


async def test_a_confirmation_is_announced_and_leaves_reviews_and_readers_alone(
    editing: Caller, reviewing: Caller, anyone: Caller, announced: Any
) -> None:
    item = await editing.create(title={**AR, **EN})
    await editing.update(item.id, title={"en": "New"})
    await editing.publish(item.id, "en")
    await editing.submit(item.id, "ar")
    approved = await reviewing.approve(item.id, "ar")
    shown = await anyone.get(item.id)

    confirmed = await editing.confirm_translation(item.id, "ar")

    assert not confirmed.locales["ar"].stale
    assert confirmed.locales["ar"].review == approved.locales["ar"].review
    assert confirmed.locales["en"] == approved.locales["en"]
    assert [(event.subject, event.content) for event in (await announced(item.id))[-1:]] == [
        ("content.updated", confirmed)
    ]
    assert await anyone.get(item.id) == shown
    assert not shown.translations


async def test_a_confirmation_that_cannot_be_is_refused(rest: Any, reader_token: str, desk: Desk) -> None:
    path = f"{desk.path}:confirmTranslation"

    for body, violation in (
        ({}, "locales"),
        ({"paths": ["title"]}, "paths[0]"),
        ({"paths": ["title.ar", "fields.nothing.ar"]}, "paths[1]"),
    ):
        assert list(violations(await desk.admin.call("POST", path, body))) == [violation]
    late = await desk.admin.call("POST", path, {"locales": ["ar"]}, {"If-Match": '"9"'})
    assert reason(late) == (412, "ETAG_MISMATCH")
    assert (await Rest(rest, reader_token).call("POST", path, {"locales": ["ar"]})).status_code == 403


async def test_a_revision_that_comes_back_says_what_it_said(desk: Desk) -> None:
    await desk.write("en")
    await desk.write("ar")
    behind = {"title.ar": ("en", 1, True)}

    # Then the Arabic was older than the English, which is still there.
    assert made_from(await desk.restore(2)) == behind
    # And here it was made from it.
    assert made_from(await desk.restore(3)) == {"title.ar": ("en", 2, False)}
    # Both as they were written together.
    assert made_from(await desk.restore(1)) == {}
    # One of them, from before the other was written: version 7 is the newest English.
    await desk.write("en")
    assert made_from(await desk.restore(3, "title.ar")) == {"title.ar": ("en", 2, True)}
    # All of a revision that was behind.
    await desk.write("ar", "en")
    assert made_from(await desk.restore(2)) == behind


async def test_what_is_taken_back_is_no_news(desk: Desk) -> None:
    await desk.write("ar")

    assert made_from(await desk.restore(1, "title.ar")) == {"title.ar": ("en", 1, False)}


async def test_fields_keep_their_sources_under_any_name_and_without_locales_have_none(
    editing: Caller, admin: Rest, word: str
) -> None:
    kind = await define(admin, word, field("synopsis", localized=True), field("length"))
    item = await make(admin, word, {"synopsis": localized(ar="قديم", en="Old")}, category=word)
    path = f"contents/{item['id']}"
    changed = await admin.ok(
        "PATCH", path, {"fields": {"synopsis": localized(en="New")}}, updateMask="fields.synopsis.en"
    )
    assert made_from(changed) == {"fields.synopsis.ar": ("en", 1, True)}

    async def change(**settings: Any) -> None:
        first, *others = kind["fields"]
        kind.update(await admin.ok("PATCH", f"contentTypes/t-{word}", {"fields": [{**first, **settings}, *others]}))

    await change(name="summary")
    assert made_from(await admin.ok("GET", path)) == {"fields.summary.ar": ("en", 1, True)}
    (listed,) = (await admin.ok("GET", "contents", None, filter=f"category = {word} AND stale:ar"))["contents"]
    assert made_from(listed) == {"fields.summary.ar": ("en", 1, True)}
    (revision,) = [await admin.ok("GET", f"{path}/revisions/2")]
    assert list(revision["content"]["translations"]) == ["fields.summary.ar"]
    await change(localized=False)
    assert made_from(await admin.ok("GET", path)) == {}
    saved = await admin.ok("PATCH", path, {"tags": [word]})
    assert made_from(saved) == {}
    assert await editing.walk(filter=f"category = {word} AND stale:ar") == []
    await change(localized=True)
    assert made_from(await admin.ok("GET", path)) == {"fields.summary.ar": ("en", 1, True)}
    confirmed = await admin.ok("POST", f"{path}:confirmTranslation", {"paths": ["fields.summary.ar"]})
    assert made_from(confirmed) == {"fields.summary.ar": ("en", 2, False)}


async def test_of_three_locales_the_newest_is_the_source(administering: Any, desk: Desk) -> None:
    if "ms" not in await administering.locales():
        await administering.create_locale("ms")
    await desk.write("ms")
    item = await desk.write("en")
    assert made_from(item) == {"title.ms": ("en", 1, True), "title.ar": ("en", 1, True)}

    item = await desk.write("ar")

    assert made_from(item) == {"title.ms": ("en", 1, True), "title.ar": ("en", 3, False)}


def localized(**texts: str) -> Json:
    return {"localized": {"values": {locale: {"text": each} for locale, each in texts.items()}}}
