"""CreateContent: what is stored of a new item, how it is addressed, and what is refused."""

import asyncio
import re
import time
import uuid

import grpc
import pytest

from tests.conftest import AuthStub
from tests.content.items import Caller, refused
from thmnayah.auth.v1.auth_pb2 import GetMeRequest
from thmnayah.content.v1.content_pb2 import Content


async def test_a_new_item_is_a_draft_with_what_it_was_given(editing: Caller, auth: AuthStub, word: str) -> None:
    before = time.time()

    made = await editing.create(
        type="documentary",
        title={"ar": "تاريخ الدرعية", "en": "History of Diriyah"},
        description={"ar": "وصف", "en": "A description"},
        body={"ar": "نص\nمن سطرين", "en": "Two\nlines"},
        category="history",
        tags=["الدرعية", "heritage"],
        external_id=word,
    )

    assert made.type == "documentary"
    assert dict(made.title) == {"ar": "تاريخ الدرعية", "en": "History of Diriyah"}
    assert dict(made.description) == {"ar": "وصف", "en": "A description"}
    assert dict(made.body) == {"ar": "نص\nمن سطرين", "en": "Two\nlines"}
    assert (made.category, list(made.tags), made.external_id) == ("history", ["الدرعية", "heritage"], word)
    assert (made.state, made.version, made.etag) == (Content.DRAFT, 1, '"1"')
    assert {locale: status.state for locale, status in made.locales.items()} == {
        "ar": Content.DRAFT,
        "en": Content.DRAFT,
    }
    assert uuid.UUID(made.id).version == 7
    me = await auth.GetMe(GetMeRequest(), metadata=editing.metadata, timeout=10)
    assert made.created_by == me.id
    assert before - 1 < made.create_time.ToMicroseconds() / 1e6 < time.time() + 1
    assert made.update_time == made.create_time
    assert not made.HasField("publish_time")
    assert not made.HasField("delete_time")
    assert await editing.get(made.id) == made


async def test_what_the_service_sets_is_not_taken_from_the_caller(editing: Caller) -> None:
    claimed = str(uuid.uuid4())

    made = await editing.create(
        id=claimed,
        state=Content.PUBLISHED,
        locales={"en": Content.LocaleStatus(state=Content.PUBLISHED)},
        version=7,
        etag='"7"',
        created_by=claimed,
    )

    assert made.id != claimed
    assert made.created_by != claimed
    assert (made.state, made.version, made.locales["en"].state) == (Content.DRAFT, 1, Content.DRAFT)


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("تاريخ الدرعية", "تاريخ-الدرعية"),
        ("الرِّيَاضُ في القَرن العشرين", "الرياض-في-القرن-العشرين"),
        ("الريـــاض", "الرياض"),
        ("ميزانية ٢٠٢٤", "ميزانية-٢٠٢٤"),
        ("ما هي الدرعية؟", "ما-هي-الدرعية"),
        ("قصة، وقصة أخرى؛ ثم…", "قصة-وقصة-أخرى-ثم"),
        ("ﷺ", "صلى-الله-عليه-وسلم"),
        ("می‌خواهم", "میخواهم"),
        ("Hello, World!", "hello-world"),
        ("  Ünïcode   Café  ", "ünïcode-café"),
        ("Episode 12: The End", "episode-12-the-end"),
        ("snake_case -- and / slashes", "snake-case-and-slashes"),
        ("the _best_ of", "the-best-of"),
        ("ＦＵＬＬ ｗｉｄｔｈ", "full-width"),
        ("Straße", "strasse"),
        ("e\u0301te\u0301", "été"),
    ],
)
async def test_an_address_is_made_from_the_title(editing: Caller, word: str, title: str, slug: str) -> None:
    made = await editing.create(type="t-" + word, title={"ar": title, "en": title})

    assert dict(made.slug) == {"ar": slug, "en": slug}


@pytest.mark.parametrize("title", ["!!!", "…", "؟", "😀", "\u0640\u0640", "\u064b", "👨‍👩‍👧"])
async def test_a_title_of_signs_alone_has_an_address_too(editing: Caller, word: str, title: str) -> None:
    first = await editing.create(type="t-" + word, title={"ar": title})
    second = await editing.create(type="t-" + word, title={"ar": title})

    assert first.slug["ar"]
    assert second.slug["ar"]
    assert first.slug["ar"] != second.slug["ar"]


@pytest.mark.parametrize("title", ["हिन्दी", "עִבְרִית", "x\u0302y", "ภาษาไทย", "مـٔ\u08f0"])
async def test_a_combining_mark_does_not_split_a_word(editing: Caller, word: str, title: str) -> None:
    made = await editing.create(type="t-" + word, title={"en": title})

    assert "-" not in made.slug["en"]


async def test_a_long_title_has_an_address_that_may_be_sent_back(editing: Caller, word: str) -> None:
    title = "كلمة " * 60
    first = await editing.create(type="t-" + word, title={"ar": title.strip()})
    second = await editing.create(type="t-" + word, title={"ar": title.strip()})

    for made in (first, second):
        assert len(made.slug["ar"]) <= 120
        assert re.fullmatch(r"\w+(-\w+)*", made.slug["ar"])
        again = await editing.update(made.id, slug=dict(made.slug))
        assert again == made


@pytest.mark.parametrize("title", ["௰ ten", "Ⅻ", "〇 zero", "½ half", "x² y³", "① one", "𐤀 alf", "ⅷ"])
async def test_every_address_that_is_made_may_be_sent_back(editing: Caller, word: str, title: str) -> None:
    made = await editing.create(type="t-" + word, title={"en": title})

    assert await editing.update(made.id, slug=dict(made.slug)) == made


async def test_equal_titles_get_different_addresses(editing: Caller, word: str) -> None:
    titles = {"ar": "عنوان " + word, "en": "Title " + word}

    made = await asyncio.gather(*(editing.create(title=titles) for _ in range(24)))

    for locale in titles:
        slugs = [item.slug[locale] for item in made]
        assert len(set(slugs)) == len(slugs)
        assert all(slug.startswith(min(slugs)) for slug in slugs)


async def test_an_address_is_free_in_another_type_and_another_locale(editing: Caller, word: str) -> None:
    await editing.create(type="article", title={"en": word}, slug={"en": word})

    other_type = await editing.create(type="episode", title={"en": word}, slug={"en": word})
    other_locale = await editing.create(type="article", title={"ar": word}, slug={"ar": word})

    assert other_type.slug["en"] == other_locale.slug["ar"] == word


async def test_an_address_of_another_item_is_refused(editing: Caller, word: str) -> None:
    await editing.create(slug={"en": word})

    refusal = await refused(editing.create(slug={"en": word}))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "SLUG_TAKEN")
    assert list(refusal.violations) == ["content.slug.en"]


async def test_a_refused_item_takes_no_address(editing: Caller, word: str) -> None:
    await editing.create(external_id=word)
    wanted = "free-" + word

    await refused(editing.create(external_id=word, slug={"en": wanted}))

    assert (await editing.create(slug={"en": wanted})).slug["en"] == wanted


async def test_addresses_that_look_alike_are_one(editing: Caller, word: str) -> None:
    await editing.create(title={"ar": "x"}, slug={"ar": "رياض" + word})

    for lookalike in ("رِيَاض" + word, "رياض" + word.upper()):
        refusal = await refused(editing.create(title={"ar": "x"}, slug={"ar": lookalike}))
        assert refusal.reason == "SLUG_TAKEN"


async def test_an_address_in_a_locale_without_a_title_is_not_dropped_in_silence(editing: Caller, word: str) -> None:
    refusal = await refused(editing.create(title={"ar": "عنوان"}, slug={"en": word}))

    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert list(refusal.violations) == ["content.slug.en"]


@pytest.mark.parametrize("slug", ["", "with space", "a--b", "-a", "a/b", "a.b", "\u200bzero", "رياض\u202e", "ّ"])
async def test_what_is_no_address_is_refused(editing: Caller, slug: str) -> None:
    refusal = await refused(editing.create(slug={"en": slug}))

    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert list(refusal.violations) == ["content.slug.en"]


async def test_an_external_id_is_used_once(editing: Caller, word: str) -> None:
    results = await asyncio.gather(*(editing.create(external_id=word) for _ in range(12)), return_exceptions=True)

    made = [result for result in results if isinstance(result, Content)]
    errors = [result for result in results if isinstance(result, grpc.aio.AioRpcError)]
    assert (len(made), len(errors)) == (1, 11)
    assert {error.code() for error in errors} == {grpc.StatusCode.ALREADY_EXISTS}
    refusal = await refused(editing.create(external_id=word))
    assert refusal.reason == "EXTERNAL_ID_TAKEN"
    assert list(refusal.violations) == ["content.externalId"]


async def test_an_external_id_is_one_however_it_is_composed(editing: Caller, word: str) -> None:
    await editing.create(external_id=f"caf\u00e9-{word}")

    refusal = await refused(editing.create(external_id=f"cafe\u0301-{word}"))

    assert refusal.reason == "EXTERNAL_ID_TAKEN"


async def test_items_without_an_external_id_are_many(editing: Caller) -> None:
    first, second = await editing.create(), await editing.create()

    assert first.id != second.id


@pytest.mark.parametrize("field", ["title", "description", "body", "slug"])
async def test_a_locale_that_is_not_set_up_is_refused(editing: Caller, field: str) -> None:
    fields = {"title": {"en": "x"}, field: {"en": "x", "fr": "x"}}

    refusal = await refused(editing.create(**fields))

    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert list(refusal.violations) == [f"content.{field}.fr"]


@pytest.mark.parametrize(
    ("fields", "violation"),
    [
        ({"title": {}}, "content.title"),
        ({"title": {"en": ""}}, "content.title.en"),
        ({"title": {"en": " \u00a0\u200f"}}, "content.title.en"),
        ({"title": {"EN": "x"}}, "content.title.EN"),
        ({"type": ""}, "content.type"),
        ({"type": "Not a type"}, "content.type"),
        ({"tags": ["a", "a"]}, "content.tags"),
        ({"tags": [""]}, "content.tags[0]"),
        ({"tags": [str(number) for number in range(51)]}, "content.tags"),
        ({"category": "a\u202eb"}, "content.category"),
        ({"category": "a/b"}, "content.category"),
        ({"category": "a\\b"}, "content.category"),
        ({"category": ".."}, "content.category"),
        ({"external_id": "x" * 201}, "content.externalId"),
        ({"description": {"en": "x" * 5001}}, "content.description.en"),
        ({"body": {"en": "x" * 200_001}}, "content.body.en"),
    ],
)
async def test_a_field_that_breaks_its_rule_is_named(
    editing: Caller, fields: dict[str, object], violation: str
) -> None:
    refusal = await refused(editing.create(**fields))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert list(refusal.violations) == [violation]


async def test_text_is_stored_composed(editing: Caller) -> None:
    made = await editing.create(
        title={"en": "Cafe\u0301"},
        description={"en": "A\u030angstro\u0308m"},
        body={"ar": "ا\u0653"},
        category="re\u0301sume\u0301",
        tags=["nai\u0308ve"],
    )

    assert dict(made.title) == {"en": "Café"}
    assert dict(made.description) == {"en": "Ångström"}
    assert dict(made.body) == {"ar": "آ"}
    assert (made.category, list(made.tags)) == ("résumé", ["naïve"])


async def test_a_tag_stands_once_however_it_is_composed(editing: Caller) -> None:
    made = await editing.create(tags=["caf\u00e9", "other", "cafe\u0301"])

    assert list(made.tags) == ["café", "other"]


async def test_only_who_may_create_creates(anyone: Caller, reading: Caller) -> None:
    assert (await refused(anyone.create())).code == grpc.StatusCode.UNAUTHENTICATED
    assert (await refused(reading.create())).code == grpc.StatusCode.PERMISSION_DENIED
