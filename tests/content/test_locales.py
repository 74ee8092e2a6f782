"""Locales: what may be set up, and what stands in for a text that is missing."""

import asyncpg
import grpc
import httpx
import pytest

from tests.conftest import bearer, eventually
from tests.content.filing import Filing
from tests.content.items import Caller, refused
from thmnayah.content.v1.content_pb2 import DRAFT, PUBLISHED
from thmnayah.content.v1.taxonomy_pb2 import Locale
from thmnayah.content.v1.values_pb2 import Value


@pytest.fixture(scope="session")
async def german(administering: Filing) -> Locale:
    """A locale that falls back to English, then Arabic; set up once for a mesh, since none is ever removed."""
    known = await administering.locales()
    return known.get("de") or await administering.create_locale(
        "de", name={"ar": "الألمانية", "en": "German", "de": "Deutsch"}, fallback=["en", "ar"]
    )


async def test_arabic_and_english_are_there_from_the_start_and_stand_in_for_each_other(browsing: Filing) -> None:
    known = await browsing.locales()

    arabic, english = known["ar"], known["en"]
    assert (arabic.direction, list(arabic.fallback)) == (Locale.RTL, ["en"])
    assert (english.direction, list(english.fallback)) == (Locale.LTR, ["ar"])
    assert dict(arabic.name) == {"ar": "العربية", "en": "Arabic"}
    assert dict(english.name) == {"ar": "الإنجليزية", "en": "English"}


async def test_a_new_locale_may_be_written_in_and_read_at_once(administering: Filing, editing: Caller) -> None:
    made = await administering.create_locale("ur", name={"ur": "اردو", "en": "Urdu"}, direction=Locale.RTL)

    item = await editing.create(title={"ur": "عنوان"})

    assert (made.version, made.etag, made.direction) == (1, '"1"', Locale.RTL)
    assert dict((await editing.get(item.id, locale="ur")).title) == {"ur": "عنوان"}
    assert (await administering.locales())["ur"] == made


async def test_a_locale_is_read_and_changed_over_rest(
    rest: httpx.AsyncClient, german: Locale, admin_token: str
) -> None:
    signed_in = dict(bearer(admin_token))

    read = await rest.get("/v1/locales/de")
    changed = await rest.patch(
        "/v1/locales/de",
        params={"updateMask": "name.ar"},
        json={"name": {"ar": "الألمانيّة"}},
        headers=signed_in | {"if-match": read.headers["etag"]},
    )
    late = await rest.patch(
        "/v1/locales/de", json={"name": {"ar": "x"}}, headers=signed_in | {"if-match": read.headers["etag"]}
    )

    assert read.json()["fallback"] == list(german.fallback)
    assert changed.json()["name"]["ar"] == "الألمانيّة"
    assert changed.json()["name"]["de"] == "Deutsch"
    assert changed.headers["etag"] == f'"{read.json()["version"] + 1}"'
    assert late.status_code == 412
    assert (await rest.get("/v1/locales/de")).json() == changed.json()
    assert [each["code"] for each in (await rest.get("/v1/locales")).json()["locales"]][:2] == ["ar", "de"]
    assert (await rest.get("/v1/locales/zz")).json()["details"][0]["reason"] == "LOCALE_NOT_FOUND"


@pytest.mark.parametrize(
    ("fields", "violation"),
    [
        ({"code": "zz", "fallback": ["xx"]}, "locale.fallback[0]"),
        ({"code": "zz", "fallback": ["en", "zz"]}, "locale.fallback[1]"),
        ({"code": "zz", "fallback": ["en", "en"]}, "locale.fallback"),
        ({"code": "zz", "name": {"xx": "x"}}, "locale.name.xx"),
        ({"code": "zz", "name": {"en": " "}}, "locale.name.en"),
        ({"code": "zz", "name": {}}, "locale.name"),
        ({"code": "zz", "direction": Locale.DIRECTION_UNSPECIFIED}, "locale.direction"),
        ({"code": "Arabic"}, "locale.code"),
        ({"code": "", "name": {"en": "x"}}, "locale.code"),
    ],
)
async def test_what_is_wrong_with_a_locale_is_named(
    administering: Filing, fields: dict[str, object], violation: str
) -> None:
    refusal = await refused(administering.create_locale(**fields))  # type: ignore[arg-type]

    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert list(refusal.violations) == [violation]


@pytest.mark.usefixtures("german")
async def test_a_locale_is_set_up_once_and_by_administrators_alone(
    administering: Filing, filing: Filing, browsing: Filing
) -> None:
    assert (await refused(administering.create_locale("ar"))).reason == "LOCALE_EXISTS"
    assert (await refused(filing.create_locale("zz"))).code == grpc.StatusCode.PERMISSION_DENIED
    assert (await refused(browsing.update_locale("de", name={"en": "x"}))).code == grpc.StatusCode.UNAUTHENTICATED
    unknown = await refused(administering.update_locale("zz", name={"en": "x"}))
    itself = await refused(administering.update_locale("de", fallback=["de"]))
    assert (unknown.reason, list(itself.violations)) == ("LOCALE_NOT_FOUND", ["locale.fallback[0]"])


async def test_a_read_in_a_locale_holds_its_texts_alone(editing: Caller, anyone: Caller) -> None:
    item = await editing.create(
        title={"ar": "عنوان", "en": "Title"}, description={"en": "Said"}, body={"ar": "نص", "en": "Body"}
    )
    await editing.publish(item.id)

    for caller in (editing, anyone):
        read = await caller.get(item.id, locale="ar")
        assert (dict(read.title), dict(read.description), dict(read.body)) == ({"ar": "عنوان"}, {}, {"ar": "نص"})
        assert dict(read.slug) == {"ar": item.slug["ar"]}
        assert dict(read.resolved_locales) == {"slug": "ar", "title": "ar", "body": "ar"}
    assert not (await anyone.get(item.id)).resolved_locales


@pytest.mark.usefixtures("german")
async def test_the_fallback_stands_in_field_by_field(editing: Caller, anyone: Caller) -> None:
    item = await editing.create(title={"ar": "عنوان", "en": "Title"}, description={"ar": "وصف"}, body={"en": "Body"})
    await editing.publish(item.id)

    for caller in (editing, anyone):
        read = await caller.get(item.id, locale="de", fallback=True)
        assert dict(read.title) == {"de": "Title"}
        assert dict(read.description) == {"de": "وصف"}
        assert dict(read.body) == {"de": "Body"}
        assert dict(read.resolved_locales) == {"slug": "en", "title": "en", "description": "ar", "body": "en"}
        chosen = await caller.get(item.id, locale="de", fallback_locales=["ar"])
        assert dict(chosen.resolved_locales) == {"slug": "ar", "title": "ar", "description": "ar"}
        assert chosen.etag != read.etag
        assert (await refused(caller.get(item.id, locale="de"))).reason == "CONTENT_NOT_FOUND"


async def test_a_locale_that_is_not_published_is_not_there_for_readers(
    editing: Caller, anyone: Caller, word: str
) -> None:
    item = await editing.create(title={"ar": "عربي", "en": "Secret of " + word}, description={"en": "Secret"})
    await editing.publish(item.id, "ar")

    refusal = await refused(anyone.get(item.id, locale="en"))
    fallen = await anyone.get(item.id, locale="en", fallback=True)

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "CONTENT_NOT_FOUND")
    assert dict(fallen.title) == {"en": "عربي"}
    assert set(fallen.resolved_locales.values()) == set(fallen.locales) == {"ar"}
    assert "secret" not in str(fallen).lower()
    assert dict((await editing.get(item.id, locale="en")).title) == {"en": "Secret of " + word}


async def test_a_list_in_a_locale_holds_the_items_that_are_in_it(editing: Caller, anyone: Caller, word: str) -> None:
    both = await editing.create(title={"ar": "كلاهما", "en": "Both"}, category=word)
    arabic = await editing.create(title={"ar": "عربي", "en": "Draft"}, category=word)
    await editing.publish(both.id)
    await editing.publish(arabic.id, "ar")
    question = {"filter": f'category = "{word}"', "order_by": "create_time", "page_size": 1, "view": PUBLISHED}

    for caller in (anyone, editing):
        english = await caller.walk(**question, locale="en")
        fallen = await caller.walk(**question, locale="en", fallback=True)
        assert [dict(item.title) for item in english] == [{"en": "Both"}]
        assert [dict(item.title) for item in fallen] == [{"en": "Both"}, {"en": "عربي"}]
        assert [item.resolved_locales["title"] for item in fallen] == ["en", "ar"]
    drafts = await editing.walk(**{**question, "view": DRAFT}, locale="en")
    assert [dict(item.title) for item in drafts] == [{"en": "Both"}, {"en": "Draft"}]


async def test_a_new_fallback_holds_for_reads_that_were_remembered(
    administering: Filing, editing: Caller, anyone: Caller, word: str
) -> None:
    await administering.create_locale("fa", direction=Locale.RTL, fallback=["ar"])
    item = await editing.create(title={"ar": "عربي", "en": "English"}, category=word)
    await editing.publish(item.id)
    question = {"filter": f'category = "{word}"', "locale": "fa", "fallback": True}
    before = await anyone.get(item.id, locale="fa", fallback=True)
    assert dict((await anyone.page(**question))[0][0].title) == {"fa": "عربي"}

    await administering.update_locale("fa", fallback=["en", "ar"])

    after = await anyone.get(item.id, locale="fa", fallback=True)
    assert (dict(before.title), dict(after.title)) == ({"fa": "عربي"}, {"fa": "English"})
    assert after.etag != before.etag
    assert dict((await anyone.page(**question))[0][0].title) == {"fa": "English"}


async def test_an_etag_of_a_read_in_a_locale_guards_a_change(editing: Caller) -> None:
    item = await editing.create()
    read = await editing.get(item.id, locale="en")

    assert (await editing.update(item.id, title={"en": "New"}, etag=read.etag)).version == 2
    assert (await refused(editing.update(item.id, title={"en": "x"}, etag=read.etag))).reason == "ETAG_MISMATCH"


@pytest.mark.parametrize(
    ("locale", "violation"),
    [
        ({"locale": "xx"}, "locale"),
        ({"locale": "EN"}, "locale"),
        ({"locale": "en", "fallback_locales": ["ar", "xx"]}, "fallbackLocales[1]"),
        ({"fallback": True}, "locale"),
        ({"fallback_locales": ["ar"]}, "locale"),
    ],
)
async def test_a_locale_that_cannot_be_read_is_named(
    editing: Caller, locale: dict[str, object], violation: str
) -> None:
    item = await editing.create()

    for call in (editing.get(item.id, **locale), editing.page(**locale)):  # type: ignore[arg-type]
        refusal = await refused(call)
        assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
        assert list(refusal.violations) == [violation]


async def test_a_locale_is_asked_for_over_rest(rest: httpx.AsyncClient, editing: Caller) -> None:
    item = await editing.create(title={"ar": "عنوان"})
    await editing.publish(item.id)

    missing = await rest.get(f"/v1/contents/{item.id}", params={"locale": "en"})
    fallen = await rest.get(f"/v1/contents/{item.id}", params={"locale": "en", "fallback": "true"})
    chosen = await rest.get("/v1/contents", params={"locale": "en", "fallbackLocales": "ar", "pageSize": 1})

    assert missing.status_code == 404
    assert fallen.json()["title"] == {"en": "عنوان"}
    assert fallen.json()["resolvedLocales"]["title"] == "ar"
    assert list(chosen.json()["contents"][0]["title"]) == ["en"]


async def test_changes_of_locales_are_announced(
    administering: Filing, content_db: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await administering.create_locale("tr")
    await administering.update_locale("tr", name={"ar": "التركية"})
    await administering.update_locale("tr", name={"ar": "التركية"})

    async def subjects() -> list[str]:
        rows = await content_db.fetch(
            "SELECT subject FROM outbox WHERE headers->>'ce-subject' = 'tr' AND sent_time IS NOT NULL ORDER BY position"
        )
        return [row["subject"] for row in rows]

    assert await eventually(subjects, lambda found: len(found) == 2) == ["locale.created", "locale.updated"]


async def test_localized_fields_are_resolved_like_texts(editing: Caller, anyone: Caller, word: str) -> None:
    synopsis = Value(localized=Value.Localized(values={"en": Value(text="Told")}))
    item = await editing.create(
        type="documentary",
        title={"ar": "عنوان", "en": "Title"},
        category=word,
        fields={"synopsis": synopsis, "releaseYear": Value(number=1999)},
    )
    await editing.publish(item.id)

    for caller in (editing, anyone):
        (listed,) = await caller.walk(locale="ar", fallback=True, filter=f"category = {word}")
        for read in (listed, await caller.get(item.id, locale="ar", fallback=True)):
            assert read.fields["synopsis"].localized.values["ar"].text == "Told"
            assert read.fields["releaseYear"].number == 1999
            assert dict(read.resolved_locales) == {"slug": "ar", "title": "ar", "fields.synopsis": "en"}
        assert list((await caller.get(item.id, locale="ar")).fields) == ["releaseYear"]
        assert (await caller.get(item.id)).fields["synopsis"] == synopsis


async def test_what_an_older_release_publishes_is_listed_by_its_locales(
    editing: Caller, anyone: Caller, content_db: "asyncpg.Connection[asyncpg.Record]", word: str
) -> None:
    item = await editing.create(title={"ar": "عنوان", "en": "Title"}, category=word)
    await editing.publish(item.id, "en")

    # It knows nothing of `publications.locales`, and writes `contents.published` behind it.
    async with content_db.transaction():
        await content_db.execute("UPDATE publications SET locales = '{}' WHERE id = $1", item.id)
        await content_db.execute(
            "UPDATE contents SET published = published || jsonb_build_object('ar', published -> 'en') WHERE id = $1",
            item.id,
        )

    kept = await content_db.fetchval("SELECT locales FROM publications WHERE id = $1", item.id)
    assert kept == ["ar", "en"]
    assert [each.id for each in await anyone.walk(filter=f'category = "{word}"', locale="en")] == [item.id]
