"""Content types: how they are defined and changed, and what a change does to the items there are."""

import asyncio
from typing import Any

import asyncpg
import pytest
from openapi_schema_validator import OAS31Validator

from tests.content.rest import Json, Rest, define, field, make, reason, violations


async def test_a_type_is_defined_read_listed_and_deleted(admin: Rest, word: str, content_db: Any) -> None:
    made = await define(admin, word, field("length", {"duration": {}}, help={"ar": "بالثواني", "en": "In seconds"}))

    assert made["fields"][0]["id"]
    assert (made["version"], made["etag"], made["builtIn"]) == (1, '"1"', False)
    assert await admin.ok("GET", f"contentTypes/{made['id']}") == made
    listed: list[Json] = []
    token = ""
    while True:
        page = await admin.ok("GET", "contentTypes", pageSize="3", pageToken=token)
        listed += page["contentTypes"]
        token = page["nextPageToken"]
        if not token:
            break
    assert made in listed
    assert [each["id"] for each in listed] == sorted({each["id"] for each in listed})
    await admin.ok("DELETE", f"contentTypes/{made['id']}")
    assert reason(await admin.call("GET", f"contentTypes/{made['id']}")) == (404, "CONTENT_TYPE_NOT_FOUND")
    rows = await content_db.fetch(
        "SELECT subject FROM outbox WHERE headers->>'ce-subject' = $1 ORDER BY position", made["id"]
    )
    assert [row["subject"] for row in rows] == ["contentType.created", "contentType.deleted"]


async def test_the_types_of_a_media_house_are_there(admin: Rest) -> None:
    for name in ("programme", "season", "episode", "documentary", "article", "person", "page"):
        kind = await admin.ok("GET", f"contentTypes/{name}")
        assert kind["builtIn"]
        assert set(kind["name"]) == {"ar", "en"}
        assert all(set(each["title"]) == {"ar", "en"} for each in kind["fields"])
        refused = await admin.call("DELETE", f"contentTypes/{name}")
        assert reason(refused) == (400, "CONTENT_TYPE_BUILT_IN")


async def test_a_type_in_use_is_not_deleted(admin: Rest, word: str) -> None:
    kind = await define(admin, word)
    item = await make(admin, word)

    assert reason(await admin.call("DELETE", f"contentTypes/{kind['id']}")) == (400, "CONTENT_TYPE_IN_USE")

    await admin.ok("DELETE", f"contents/{item['id']}")
    await admin.ok("DELETE", f"contentTypes/{kind['id']}")


async def test_a_type_is_defined_once(admin: Rest, word: str) -> None:
    await define(admin, word)

    again = await admin.call("POST", "contentTypes", {"id": f"t-{word}", "name": {"en": "x"}})

    assert reason(again) == (409, "CONTENT_TYPE_EXISTS")


def nested(depth: int) -> Json:
    return {"text": {}} if depth == 0 else {"list": {"item": nested(depth - 1)}}


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ([field("a"), field("a")], "contentType.fields[0].name"),
        ([field("oneTwo"), field("one_two")], "contentType.fields[0].name"),
        ([field("1a")], "contentType.fields[0].name"),
        ([field("a", {})], "contentType.fields[0].kind.kind"),
        ([field("a", {"text": {"pattern": "("}})], "contentType.fields[0].kind.text.pattern"),
        (
            [field("a", {"list": {"item": {"text": {"pattern": "(?i)a"}}}})],
            "contentType.fields[0].kind.list.item.text.pattern",
        ),
        ([field("a", {"number": {"min": 3, "max": 2}})], "contentType.fields[0].kind.number"),
        (
            [field("a", {"enum": {"options": [{"value": "x"}, {"value": "x"}]}})],
            "contentType.fields[0].kind.enum.options",
        ),
        ([field("a", {"json": {}}, unique=True)], "contentType.fields[0].unique"),
        ([field("a", {"number": {"max": 5}}, defaultValue={"number": 6})], "contentType.fields[0].defaultValue"),
        ([field("a", nested(6))], "contentType.fields[0].kind"),
        (
            [field("a", {"group": {"fields": [field("b", localized=True)]}})],
            "contentType.fields[0].kind.group.fields[0].localized",
        ),
        ([field(f"a{number}") for number in range(101)], "contentType.fields"),
        ([field("a", {"group": {"fields": [field(f"b{number}") for number in range(100)]}})], "contentType.fields"),
        ([field("a", id="other")], "contentType.fields[0].id"),
    ],
)
async def test_what_contradicts_itself_is_refused_by_its_path(
    admin: Rest, word: str, fields: list[Json], path: str
) -> None:
    body = {"id": f"t-{word}", "name": {"en": "x"}, "fields": fields}

    refused = await admin.call("POST", "contentTypes", body)

    assert refused.status_code == 400
    assert path in violations(refused)


async def test_what_is_at_its_limit_is_taken(admin: Rest, word: str) -> None:
    await define(admin, word, field("deep", nested(5)), *(field(f"a{number}") for number in range(99)))


async def test_a_policy_is_kept_and_checked(admin: Rest, word: str) -> None:
    workflow = {"requiredApprovals": 2, "authorMayApprove": True, "requiredLocales": ["ar", "en"]}
    kind = await define(admin, word, workflow=workflow)
    assert kind["workflow"] == workflow

    for wrong, path in (
        ({"requiredApprovals": 11}, "contentType.workflow.requiredApprovals"),
        ({"requiredLocales": ["fr"]}, "contentType.workflow.requiredLocales[0]"),
    ):
        refused = await admin.call("PATCH", f"contentTypes/{kind['id']}", {"workflow": wrong}, updateMask="workflow")
        assert list(violations(refused)) == [path]


async def test_a_change_is_guarded_by_the_etag(admin: Rest, word: str) -> None:
    kind = await define(admin, word)
    path = f"contentTypes/{kind['id']}"

    changed = await admin.call(
        "PATCH", path, {"name": {"en": "New"}}, updateMask="name.en", headers={"If-Match": '"1"'}
    )
    stale = await admin.call("PATCH", path, {"name": {"en": "Newer"}}, headers={"If-Match": '"1"'})

    assert changed.json()["name"] == {"ar": "نوع", "en": "New"}
    assert changed.headers["etag"] == '"2"'
    assert stale.status_code == 412


async def test_a_renamed_field_keeps_its_values_for_editors_and_readers(admin: Rest, anybody: Rest, word: str) -> None:
    kind = await define(admin, word, field("note"), field("team", {"group": {"fields": [field("lead")]}}))
    values = {"note": {"text": "x"}, "team": {"group": {"values": {"lead": {"text": "y"}}}}}
    item = await make(admin, word, values)
    await admin.ok("POST", f"contents/{item['id']}:publish", {})
    assert (await anybody.ok("GET", f"contents/{item['id']}"))["fields"] == values

    kind["fields"][0]["name"] = "remark"
    kind["fields"][1]["kind"]["group"]["fields"][0]["name"] = "head"
    await admin.ok("PATCH", f"contentTypes/{kind['id']}", {"fields": kind["fields"]}, updateMask="fields")

    renamed = {"remark": {"text": "x"}, "team": {"group": {"values": {"head": {"text": "y"}}}}}
    for caller in (admin, anybody):
        assert (await caller.ok("GET", f"contents/{item['id']}"))["fields"] == renamed
        listed = await caller.ok("GET", "contents", filter=f'type = "t-{word}"')
        assert listed["contents"][0]["fields"] == renamed


async def test_a_field_loses_nothing_when_it_becomes_localized_and_back(admin: Rest, anybody: Rest, word: str) -> None:
    kind = await define(admin, word, field("note"), field("hint", localized=True))
    by_locale = {"localized": {"values": {"ar": {"text": "ع"}, "en": {"text": "e"}}}}
    item = await make(admin, word, {"note": {"text": "x"}, "hint": by_locale})
    await admin.ok("POST", f"contents/{item['id']}:publish", {})

    async def localize(note: bool, hint: bool) -> Json:
        kind["fields"][0]["localized"], kind["fields"][1]["localized"] = note, hint
        await admin.ok("PATCH", f"contentTypes/{kind['id']}", {"fields": kind["fields"]}, updateMask="fields")
        seen = await anybody.ok("GET", f"contents/{item['id']}")
        assert (await admin.ok("GET", f"contents/{item['id']}"))["fields"] == seen["fields"]
        return dict(seen["fields"])

    assert await localize(True, False) == {
        "note": {"localized": {"values": {"ar": {"text": "x"}, "en": {"text": "x"}}}},
        "hint": {"text": "ع"},
    }
    assert await localize(False, True) == {"note": {"text": "x"}, "hint": by_locale}


@pytest.mark.parametrize(
    ("before", "after", "values", "why"),
    [
        (field("a"), None, {"text": "x"}, "REMOVED"),
        (field("a"), field("a", {"number": {}}), {"text": "x"}, "INVALID"),
        (field("a"), field("a", {"text": {"maxLength": 2}}), {"text": "xyz"}, "INVALID"),
        (field("a"), field("a", {"text": {"pattern": "[0-9]+"}}), {"text": "x"}, "INVALID"),
        (field("a"), field("a", unique=True), {"text": "x"}, "DUPLICATE"),
        (field("a"), field("a", required=True), None, "MISSING"),
        (field("b"), field("a", required=True), None, "MISSING"),
    ],
)
async def test_a_change_is_counted_first_and_refused(
    admin: Rest, word: str, before: Json, after: Json | None, values: Json | None, why: str
) -> None:
    kind = await define(admin, word, before)
    for _ in range(2):
        item = await make(admin, word, {"a": values} if values else {})
        await admin.ok("POST", f"contents/{item['id']}:publish", {})
    path, body = f"contentTypes/{kind['id']}", {"fields": [after] if after else []}

    checked = await admin.ok("PATCH", path, body, updateMask="fields", validateOnly="true")
    refused = await admin.call("PATCH", path, body, updateMask="fields")

    assert checked["breaks"] == [{"field": "a", "reason": why, "items": 2}]
    assert reason(refused) == (400, "CONTENT_TYPE_CHANGE_BREAKS")
    assert list(violations(refused)) == ["contentType.fields.a"]
    assert (await admin.ok("GET", path))["version"] == 1
    done = await admin.ok("PATCH", path, body, updateMask="fields", allowBreaking="true")
    assert (done["version"], done["breaks"]) == (2, checked["breaks"])


async def test_a_change_that_breaks_nothing_is_made(admin: Rest, word: str) -> None:
    kind = await define(admin, word, field("a", {"text": {"maxLength": 5}}))
    await make(admin, word, {"a": {"text": "x"}})
    body = {"fields": [field("a", {"text": {"maxLength": 1}}, unique=True, required=True), field("b")]}

    changed = await admin.ok("PATCH", f"contentTypes/{kind['id']}", body, updateMask="fields")

    assert changed["breaks"] == []
    assert changed["fields"][0]["id"] == kind["fields"][0]["id"]


async def test_a_change_and_writes_at_once_leave_no_item_that_breaks_it(
    admin: Rest, word: str, content_db: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    kind = await define(admin, word, field("a"))
    body = {"fields": [field("a", {"text": {"maxLength": 3}})]}
    long = {"type": kind["id"], "title": {"en": "x"}, "fields": {"a": {"text": "long"}}}

    writes = [asyncio.create_task(admin.call("POST", "contents", long)) for _ in range(20)]
    change = await admin.call("PATCH", f"contentTypes/{kind['id']}", body, updateMask="fields", allowBreaking="true")
    writes += [asyncio.create_task(admin.call("POST", "contents", long)) for _ in range(5)]
    answers = await asyncio.gather(*writes)

    stored = await content_db.fetchval("SELECT count(*) FROM contents WHERE type = $1", kind["id"])
    assert sum(answer.status_code == 200 for answer in answers) == stored
    assert sum(each["items"] for each in change.json()["breaks"]) == stored
    assert all(answer.status_code == 400 for answer in answers[20:])


async def test_the_schema_of_a_type_takes_its_items_and_no_others(admin: Rest, word: str) -> None:
    kinds: dict[str, tuple[Json, Json]] = {
        "text": ({"text": {"maxLength": 5, "pattern": "[a-z]+"}}, {"text": "abc"}),
        "number": ({"number": {"min": 1, "max": 9, "whole": True}}, {"number": 3}),
        "boolean": ({"boolean": {}}, {"boolean": False}),
        "instant": ({"dateTime": {}}, {"dateTime": "2026-01-31T09:00:00Z"}),
        "length": ({"duration": {}}, {"duration": "1.500s"}),
        "choice": ({"enum": {"options": [{"value": "x"}]}}, {"enumValue": "x"}),
        "json": ({"json": {}}, {"json": {"a": [1, None]}}),
        "list": ({"list": {"item": {"number": {}}}}, {"list": {"values": [{"number": 1}]}}),
        "group": ({"group": {"fields": [field("b")]}}, {"group": {"values": {"b": {"text": "x"}}}}),
    }
    fields = [field(name, kind) for name, (kind, _) in kinds.items()]
    kind = await define(admin, word, *fields, field("both", localized=True, required=True))
    values = {name: value for name, (_, value) in kinds.items()}
    values["both"] = {"localized": {"values": {"ar": {"text": "ع"}}}}
    item = await make(admin, word, values)
    assert item["fields"] == values

    answer = await admin.call("GET", f"contentTypes/{kind['id']}:schema")

    assert answer.headers["content-type"] == "application/schema+json"
    OAS31Validator.check_schema(answer.json())
    validator = OAS31Validator(answer.json())
    assert list(validator.iter_errors(item)) == []
    for name in values:
        wrong = {**item, "fields": {**values, name: {"wrong": 1}}}
        assert list(validator.iter_errors(wrong)), name


async def test_a_changed_type_is_not_remembered(admin: Rest, word: str) -> None:
    kind = await define(admin, word)
    await make(admin, word)

    await admin.ok("PATCH", f"contentTypes/{kind['id']}", {"fields": [field("a")]}, updateMask="fields")

    assert (await make(admin, word, {"a": {"text": "x"}}))["fields"] == {"a": {"text": "x"}}
