"""Rich text as the value of a custom field: what it takes, how it is kept, and who sees it."""

import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from openapi_schema_validator import OAS31Validator

from services.content.rich_text import blocks, values
from tests.content.rest import Json, Rest, define, field, make, reason, violations
from tests.content.test_rich_text_forms import TEXTS
from thmnayah.content.v1.rich_text_pb2 import RichText

RICH: Json = {"richText": {}}


def paragraph(words: str, block_id: str = "", **span: Any) -> Json:
    given = {"paragraph": {"spans": [{"text": words, **span}]}}
    return {"id": block_id, **given} if block_id else given


def text(*some: Json) -> Json:
    return {"richText": {"blocks": list(some)}}


def localized(**texts: Json) -> Json:
    return {"localized": {"values": texts}}


def nested(levels: int) -> Json:
    """A paragraph in lists, so many blocks deep in all."""
    block = paragraph("deep")
    for _ in range(levels - 1):
        block = {"list": {}, "items": [{"blocks": [block]}]}
    return block


def bare(value: Json) -> Json:
    """Blocks as they were sent: without what the service adds, and without what is not set."""
    if isinstance(value, list):
        return [bare(each) for each in value]
    if isinstance(value, dict):
        return {
            name: bare(each)
            for name, each in value.items()
            if name != "dir"
            and each is not False
            and each not in ("", [], None)
            and not (name == "id" and each.startswith("b"))
        }
    return value


async def test_a_text_is_kept_with_an_id_and_a_direction_for_each_block(admin: Rest, word: str) -> None:
    await define(admin, word, field("a", RICH, localized=True), field("b", RICH))
    body = {
        "a": localized(ar=text(paragraph("2025"), paragraph("words", "mine"), {"divider": {}})),
        "b": text({"list": {"ordered": True, "start": 0}, "items": [{"blocks": [paragraph("كلام", bold=True)]}]}),
    }

    item = await make(admin, word, body)

    shown = item["fields"]["a"]["localized"]["values"]["ar"]["richText"]["blocks"]
    assert [block["dir"] for block in shown] == ["RTL", "LTR", "RTL"]
    assert shown[1]["id"] == "mine"
    assert all(block["id"] for block in shown)
    assert bare(item["fields"]["b"]) == bare(body["b"])
    assert await admin.ok("GET", f"contents/{item['id']}") == item
    again = await admin.ok("PATCH", f"contents/{item['id']}", {"fields": item["fields"]}, updateMask="fields")
    assert again["version"] == item["version"]


async def test_text_stands_in_lists_and_groups_and_is_a_default(admin: Rest, word: str) -> None:
    inner = {"group": {"fields": [field("body", RICH)]}}
    await define(
        admin,
        word,
        field("parts", {"list": {"item": inner}}, localized=True),
        field("intro", RICH, localized=True, defaultValue=text(paragraph("مرحبا"))),
    )

    part = {"group": {"values": {"body": text(paragraph("words", "x"))}}}
    item = await make(admin, word, {"parts": localized(en={"list": {"values": [part, part]}})})

    assert bare(item["fields"]["parts"]) == bare(localized(en={"list": {"values": [part, part]}}))
    assert bare(item["fields"]["intro"]) == localized(ar=text(paragraph("مرحبا")), en=text(paragraph("مرحبا")))


@pytest.mark.parametrize(
    ("rules", "value", "path"),
    [
        ({}, {"text": "x"}, "content.fields.a"),
        ({}, text({}), "content.fields.a.rich_text.blocks[0].kind"),
        ({}, text(paragraph("a", "x"), paragraph("b", "x")), "content.fields.a.blocks[1].id"),
        ({}, text({"list": {}}), "content.fields.a.blocks[0].items"),
        ({}, text({"heading": {"level": 9}}), "content.fields.a.richText.blocks[0].heading.level"),
        ({}, text({"image": {"url": "https://a.example/", "alt": "\ufb2c" * 400}}), "content.fields.a.blocks[0].image"),
        ({"maxLength": 3}, text(paragraph("ab"), paragraph("cd")), "content.fields.a"),
        (
            {"blocks": ["paragraph", "quote"]},
            text({"quote": {"blocks": [{"divider": {}}]}}),
            "content.fields.a.blocks[0].quote.blocks[0]",
        ),
        ({}, text({"reference": {"contentId": str(uuid.uuid4())}}), "content.fields.a.blocks[0].reference.contentId"),
        (
            {},
            text(paragraph("a"), paragraph("b", contentId=str(uuid.uuid4()))),
            "content.fields.a.blocks[1].paragraph.spans[0].contentId",
        ),
    ],
)
async def test_what_a_text_may_not_hold_is_refused_by_its_path(
    admin: Rest, word: str, rules: Json, value: Json, path: str
) -> None:
    await define(admin, word, field("a", {"richText": rules}))

    refused = await admin.call("POST", "contents", {"type": f"t-{word}", "title": {"en": "x"}, "fields": {"a": value}})

    assert refused.status_code == 400, refused.text
    assert [each.replace("rich_text", "richText") for each in violations(refused)] == [
        path.replace("rich_text", "richText")
    ]


async def test_blocks_stand_twenty_in_one_another_and_no_deeper(admin: Rest, word: str) -> None:
    await define(admin, word, field("a", RICH, localized=True))
    table: Json = {"table": {"rows": [{"cells": [{"spans": [{"text": "x"}]}]}]}}
    deep = nested(20)
    leaf = deep
    while "items" in leaf:
        leaf = leaf["items"][0]["blocks"][0]
    leaf.clear()
    leaf.update(table)

    item = await make(admin, word, {"a": localized(ar=text(deep))})
    refused = await admin.call(
        "POST", "contents", {"type": f"t-{word}", "title": {"ar": "ع"}, "fields": {"a": localized(ar=text(nested(21)))}}
    )

    assert bare(item["fields"]["a"]) == bare(localized(ar=text(deep)))
    assert await admin.ok("GET", f"contents/{item['id']}") == item
    assert reason(refused) == (400, "INVALID_REQUEST")
    assert "20" in next(iter(violations(refused).values()))


async def test_a_text_refers_to_items_that_are_there(admin: Rest, word: str) -> None:
    await define(admin, word, field("a", RICH))
    other = (await make(admin, word))["id"]

    item = await make(admin, word, {"a": text({"reference": {"contentId": other}}, paragraph("x", contentId=other))})

    assert item["fields"]["a"]["richText"]["blocks"][0]["reference"]["contentId"] == other


async def test_a_text_without_words_is_none_to_publish(admin: Rest, anybody: Rest, word: str) -> None:
    await define(admin, word, field("a", RICH, required=True, localized=True))
    item = await make(admin, word, {"a": localized(ar=text(paragraph(" ")), en=text({"divider": {}}))})
    path = f"contents/{item['id']}"

    refused = await admin.call("POST", f"{path}:publish", {})
    assert list(violations(refused)) == ["fields.a.ar"]
    await admin.ok("POST", f"{path}:publish", {"locales": ["en"]})
    assert bare((await anybody.ok("GET", path))["fields"]) == {"a": localized(en=text({"divider": {}}))}
    await admin.ok("PATCH", path, {"fields": {"a": localized(en=text(paragraph("unseen")))}})
    assert "unseen" not in (await anybody.call("GET", path)).text


async def test_a_text_is_never_unique(admin: Rest, word: str) -> None:
    body = {"id": f"t-{word}", "name": {"en": "Type"}, "fields": [field("a", RICH, unique=True)]}

    assert list(violations(await admin.call("POST", "contentTypes", body))) == ["contentType.fields[0].unique"]


async def test_a_diff_tells_of_blocks_and_a_restore_brings_them_back(admin: Rest, word: str) -> None:
    await define(admin, word, field("a", RICH, localized=True))
    first = [paragraph("one two", "p"), {"id": "d", "divider": {}}, paragraph("gone", "g"), paragraph("stays", "s")]
    item = await make(admin, word, {"a": localized(ar=text(*first))})
    path = f"contents/{item['id']}"
    second = [{"id": "d", "divider": {}}, paragraph("one three", "p"), paragraph("stays", "s"), paragraph("new", "n")]
    await admin.ok("PATCH", path, {"fields": {"a": localized(ar=text(*second))}})

    (change,) = (await admin.ok("GET", f"{path}/revisions:diff"))["changes"]

    assert (change["field"], change["locale"], change["segments"]) == ("fields.a", "ar", [])
    told = {each["id"]: each for each in change["blocks"]}
    assert {block_id: each["change"] for block_id, each in told.items() if block_id != "d"} == {
        "p": "CHANGED",
        "n": "ADDED",
        "g": "REMOVED",
    }
    assert told.get("d", {"moved": False})["moved"] != told["p"]["moved"]  # one of the two went past the other
    fates = [(each["fate"], each["text"]) for each in told["p"]["segments"]]
    assert fates == [("KEPT", "one "), ("DELETED", "two"), ("INSERTED", "three")]
    restored = await admin.ok("POST", f"{path}/revisions/1:restore", {})
    assert restored["fields"] == item["fields"]


async def test_the_schema_takes_the_text_of_a_field_and_no_other(admin: Rest, word: str) -> None:
    kind = await define(admin, word, field("a", RICH), field("b", {"richText": {"blocks": ["paragraph", "list"]}}))
    items: list[Json] = [{"blocks": [paragraph("x")]}]
    item = await make(
        admin, word, {"a": text({"list": {}, "items": items}, {"divider": {}}), "b": text({"list": {}, "items": items})}
    )
    schema = (await admin.call("GET", f"contentTypes/{kind['id']}:schema")).json()

    OAS31Validator.check_schema(schema)
    validator = OAS31Validator(schema)
    sent = bare(item)
    assert [error.message for error in validator.iter_errors(sent)] == []
    for wrong in (
        {"b": text({"divider": {}})},
        {"b": text({"list": {}, "items": [{"blocks": [{"divider": {}}]}]})},
        {"a": text({"paragraph": {"spans": [{"text": "x", "blink": True}]}})},
        {"a": text({"heading": {"level": 7}})},
        {"a": text({"id": "x"})},
    ):
        assert list(validator.iter_errors({**sent, "fields": wrong})), wrong


async def test_the_types_that_are_read_have_a_story(admin: Rest) -> None:
    for name in ("article", "page", "documentary", "episode", "programme"):
        kind = await admin.ok("GET", f"contentTypes/{name}")
        story = next(each for each in kind["fields"] if each["name"] == "story")
        assert (story["localized"], story["title"]) == (True, {"ar": "المتن", "en": "Story"})
        assert "richText" in story["kind"]


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_any_text_is_read_as_it_was_stored(given: RichText) -> None:
    held = values.stored(given, "ar")
    read = values.parse(held)

    assert values.stored(read, "ar") == held
    assert blocks.plain_text(read) == blocks.plain_text(values.parse(values.stored(given, "")))
    expected = RichText()
    expected.CopyFrom(given)
    blocks.normalize(expected, locale="ar")
    for (_, _, made), (_, _, kept) in zip(blocks.walk(expected.blocks), blocks.walk(read.blocks), strict=True):
        made.id = kept.id
    assert read == expected
