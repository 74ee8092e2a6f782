"""Custom fields of items: what they may hold, how they are changed, and who sees them."""

import asyncio
import uuid

import pytest

from tests.content.items import Caller, refused
from tests.content.rest import Json, Rest, define, field, make, reason, violations
from thmnayah.content.v1.values_pb2 import Value


def localized(**texts: str) -> Json:
    return {"localized": {"values": {locale: {"text": text} for locale, text in texts.items()}}}


@pytest.mark.parametrize(
    ("kind", "value", "path"),
    [
        ({"text": {}}, {"number": 1}, "content.fields.a"),
        ({"text": {"minLength": 2}}, {"text": "x"}, "content.fields.a"),
        ({"text": {"maxLength": 2}}, {"text": "xyz"}, "content.fields.a"),
        ({"text": {"pattern": "[0-9]+"}}, {"text": "1x"}, "content.fields.a"),
        ({"text": {}}, {"localized": {"values": {"ar": {"text": "x"}}}}, "content.fields.a"),
        ({"text": {}}, {}, "content.fields.a.kind"),
        ({"number": {"min": 1}}, {"number": 0}, "content.fields.a"),
        ({"number": {"max": 1}}, {"number": 2}, "content.fields.a"),
        ({"number": {"whole": True}}, {"number": 1.5}, "content.fields.a"),
        ({"number": {}}, {"number": "NaN"}, "content.fields.a.number"),
        ({"boolean": {}}, {"text": "true"}, "content.fields.a"),
        ({"dateTime": {}}, {"duration": "1s"}, "content.fields.a"),
        ({"duration": {}}, {"duration": "-1s"}, "content.fields.a"),
        ({"enum": {"options": [{"value": "x"}]}}, {"enumValue": "y"}, "content.fields.a"),
        ({"json": {}}, {"json": {"a": "\x00"}}, "content.fields.a"),
        ({"json": {}}, {"json": "x" * 65_536}, "content.fields.a"),
        ({"reference": {}}, {"reference": str(uuid.uuid4())}, "content.fields.a"),
        (
            {"list": {"item": {"text": {}}, "maxItems": 1}},
            {"list": {"values": [{"text": "x"}] * 2}},
            "content.fields.a",
        ),
        ({"list": {"item": {"text": {}}}}, {"list": {"values": [{"number": 1}]}}, "content.fields.a[0]"),
        ({"group": {"fields": [field("b")]}}, {"group": {"values": {"c": {"text": "x"}}}}, "content.fields.a.c"),
        ({"group": {"fields": [field("b", required=True)]}}, {"group": {"values": {}}}, "content.fields.a.b"),
    ],
)
async def test_what_a_field_does_not_take_is_refused_by_its_path(
    admin: Rest, word: str, kind: Json, value: Json, path: str
) -> None:
    await define(admin, word, field("a", kind))

    refused = await admin.call("POST", "contents", {"type": f"t-{word}", "title": {"en": "x"}, "fields": {"a": value}})

    assert refused.status_code == 400, refused.text
    assert list(violations(refused)) == [path]


async def test_a_name_that_no_type_defines_is_refused(admin: Rest, word: str) -> None:
    free = {"type": f"t-{word}", "title": {"en": "x"}, "fields": {"a": {"text": "x"}}}
    assert list(violations(await admin.call("POST", "contents", free))) == ["content.fields.a"]
    await define(admin, word, field("b"))
    assert list(violations(await admin.call("POST", "contents", free))) == ["content.fields.a"]
    item = await make(admin, word)

    refusal = await admin.call("PATCH", f"contents/{item['id']}", {"fields": {}}, updateMask="fields.a")

    assert list(violations(refusal)) == ["content.fields.a"]


async def test_a_locale_that_is_not_set_up_is_refused(admin: Rest, word: str) -> None:
    await define(admin, word, field("a", localized=True))

    refusal = await admin.call(
        "POST", "contents", {"type": f"t-{word}", "title": {"en": "x"}, "fields": {"a": localized(fr="x")}}
    )

    assert list(violations(refusal)) == ["content.fields.a.fr"]


async def test_fields_are_changed_one_by_one_and_locale_by_locale(admin: Rest, word: str) -> None:
    await define(admin, word, field("partNumber", {"number": {}}), field("synopsis", localized=True))
    values: Json = {"partNumber": {"number": 1}, "synopsis": localized(ar="ع", en="e")}
    item = await make(admin, word, values)
    path = f"contents/{item['id']}"

    one = await admin.ok("PATCH", path, {"fields": {"synopsis": localized(ar="جديد")}}, updateMask="fields.synopsis.ar")
    assert one["fields"] == {"partNumber": {"number": 1}, "synopsis": localized(ar="جديد", en="e")}
    unmasked = await admin.ok("PATCH", path, {"fields": {"partNumber": {"number": 2}}})
    assert unmasked["fields"] == {"partNumber": {"number": 2}, "synopsis": localized(ar="جديد", en="e")}
    cleared = await admin.ok("PATCH", path, {}, updateMask="fields.synopsis.en,fields.partNumber")
    assert cleared["fields"] == {"synopsis": localized(ar="جديد")}
    whole = await admin.ok("PATCH", path, {"fields": {"partNumber": {"number": 3}}}, updateMask="fields")
    assert whole["fields"] == {"partNumber": {"number": 3}}
    assert (await admin.ok("PATCH", path, {"fields": {"partNumber": {"number": 3}}}))["version"] == whole["version"]


async def test_a_new_item_gets_the_defaults(admin: Rest, word: str) -> None:
    await define(
        admin,
        word,
        field("a", {"number": {}}, defaultValue={"number": 7}),
        field("b", localized=True, defaultValue={"text": "x"}),
    )

    assert (await make(admin, word))["fields"] == {"a": {"number": 7}, "b": localized(ar="x", en="x")}
    assert (await make(admin, word, {"a": {"number": 1}}))["fields"]["a"] == {"number": 1}


async def test_publishing_names_what_is_missing(admin: Rest, anybody: Rest, word: str) -> None:
    await define(admin, word, field("synopsis", required=True, localized=True), field("code", required=True))
    item = await make(admin, word, {"synopsis": localized(ar="ع", en=" ")})
    path = f"contents/{item['id']}"

    refusal = await admin.call("POST", f"{path}:publish", {})

    assert reason(refusal) == (400, "LOCALE_INCOMPLETE")
    assert set(violations(refusal)) == {"fields.synopsis.en", "fields.code"}
    await admin.ok("PATCH", path, {"fields": {"code": {"text": "x"}}})
    await admin.ok("POST", f"{path}:publish", {"locales": ["ar"]})
    assert (await anybody.ok("GET", path))["fields"] == {"synopsis": localized(ar="ع"), "code": {"text": "x"}}


async def test_a_draft_of_a_field_is_not_for_readers(admin: Rest, anybody: Rest, word: str) -> None:
    await define(admin, word, field("note"), field("synopsis", localized=True))
    published = {"note": {"text": "old"}, "synopsis": localized(ar="قديم", en="old")}
    item = await make(admin, word, published)
    path = f"contents/{item['id']}"
    await admin.ok("POST", f"{path}:publish", {})

    draft = {"note": {"text": "new"}, "synopsis": localized(ar="جديد", en="new")}
    await admin.ok("PATCH", path, {"fields": draft})
    assert (await anybody.ok("GET", path))["fields"] == published
    await admin.ok("POST", f"{path}:publish", {"locales": ["ar"]})
    both = {"note": {"text": "new"}, "synopsis": localized(ar="جديد", en="old")}
    assert (await anybody.ok("GET", path))["fields"] == both
    await admin.ok("POST", f"{path}:unpublish", {"locales": ["en"]})
    assert (await anybody.ok("GET", path))["fields"] == {"note": {"text": "new"}, "synopsis": localized(ar="جديد")}
    assert (await admin.ok("GET", path))["fields"] == draft


async def test_a_unique_value_is_held_once(admin: Rest, word: str) -> None:
    await define(admin, word, field("code", unique=True), field("name", unique=True, localized=True))

    body = {"type": f"t-{word}", "title": {"en": "x"}, "fields": {"code": {"text": "x"}, "name": localized(en="n")}}
    answers = await asyncio.gather(*(admin.call("POST", "contents", body) for _ in range(8)))

    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
    lost = next(answer for answer in answers if answer.status_code == 409)
    assert reason(lost) == (409, "FIELD_VALUE_TAKEN")
    assert set(violations(lost)) == {"content.fields.code", "content.fields.name.en"}
    other = await make(admin, word, {"code": {"text": "y"}, "name": localized(ar="n")})
    taken = await admin.call("PATCH", f"contents/{other['id']}", {"fields": {"code": {"text": "x"}}})
    assert list(violations(taken)) == ["content.fields.code"]
    first = next(answer.json() for answer in answers if answer.status_code == 200)
    await admin.ok("PATCH", f"contents/{first['id']}", {"fields": {"code": {"text": "z"}}})
    await admin.ok("PATCH", f"contents/{other['id']}", {"fields": {"code": {"text": "x"}}})
    await admin.ok("DELETE", f"contents/{other['id']}")
    await make(admin, word, {"code": {"text": "x"}})


async def test_a_reference_is_to_an_item_of_its_type(admin: Rest, word: str) -> None:
    season = await admin.ok("POST", "contents", {"type": "season", "title": {"en": word}})
    person = await admin.ok("POST", "contents", {"type": "person", "title": {"en": word}})
    people = {"list": {"values": [{"reference": person["id"]}, {"reference": season["id"]}]}}

    async def episode(fields: Json) -> list[str]:
        answer = await admin.call("POST", "contents", {"type": "episode", "title": {"en": word}, "fields": fields})
        return list(violations(answer))

    assert await episode({"season": {"reference": season["id"]}, "number": {"number": 1}}) == []
    assert await episode({"season": {"reference": person["id"]}}) == ["content.fields.season"]
    assert await episode({"presenters": people}) == ["content.fields.presenters[1]"]


async def test_text_is_stored_composed(admin: Rest, word: str) -> None:
    await define(admin, word, field("a"), field("b", {"json": {}}))

    item = await make(admin, word, {"a": {"text": "Cafe\u0301"}, "b": {"json": {"e\u0301": ["a\u0301"]}}})

    assert item["fields"] == {"a": {"text": "Café"}, "b": {"json": {"é": ["á"]}}}


async def test_what_breaks_a_changed_type_is_not_published_as_it_is(admin: Rest, word: str) -> None:
    kind = await define(admin, word, field("a"))
    item = await make(admin, word, {"a": {"text": "long"}})
    changed = {"fields": [field("a", {"text": {"maxLength": 2}})]}
    await admin.ok("PATCH", f"contentTypes/{kind['id']}", changed, updateMask="fields", allowBreaking="true")

    refusal = await admin.call("POST", f"contents/{item['id']}:publish", {})

    assert list(violations(refusal)) == ["fields.a"]
    assert (await admin.ok("GET", f"contents/{item['id']}"))["fields"] == {"a": {"text": "long"}}


async def test_fields_are_the_same_over_grpc(admin: Rest, editing: Caller, word: str) -> None:
    await define(admin, word, field("a", {"number": {}}))

    made = await editing.create(type=f"t-{word}", fields={"a": Value(number=2)})
    refusal = await refused(editing.update(made.id, paths=["fields.a"], fields={"a": Value(text="x")}))

    assert made.fields["a"] == Value(number=2)
    assert list(refusal.violations) == ["content.fields.a"]
    assert (await editing.get(made.id)).fields == made.fields
