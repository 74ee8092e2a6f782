"""Types of content: their definitions, and which items a change of one would break."""

import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import asyncpg
from google.protobuf import json_format

from libs import paging, patterns, text
from libs.db import Connection, Record, fetch_one
from libs.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from services.content import fields, locales, unique_values
from thmnayah.content.v1.types_pb2 import (
    ContentType,
    Field,
    Kind,
    ListContentTypesResponse,
    WorkflowPolicy,
)

MAX_FIELDS = 100
MAX_DEPTH = 5
UNIQUE_KINDS = ("text", "number", "date_time", "duration", "enum", "reference")

_DEFINED = ("name", "description", "fields", "workflow", "slug_policy")
_COLUMNS = "id, definition::text AS definition, built_in, version, create_time, update_time"


async def get(conn: Connection, type_id: str, *, lock: bool = False) -> ContentType:
    """A type that somebody defined; with `lock`, nobody else changes it before the transaction ends."""
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS} FROM content_types WHERE id = $1 {'FOR UPDATE' if lock else ''}", type_id
    )
    if row is None:
        raise NotFound("CONTENT_TYPE_NOT_FOUND", f"no content type {type_id}", f"لا يوجد نوع محتوى {type_id}")
    return _type(row)


async def find(conn: Connection, type_id: str) -> ContentType:
    """A type; an empty one when nobody defined it."""
    row = await conn.fetchrow(f"SELECT {_COLUMNS} FROM content_types WHERE id = $1", type_id)
    return ContentType() if row is None else _type(row)


async def find_all(conn: Connection, ids: Iterable[str] | None = None) -> dict[str, ContentType]:
    """Those of some types that somebody defined, or all, by their ids; do not change them."""
    rows = await conn.fetch(
        "SELECT id, definition::text AS definition FROM content_types WHERE $1::text[] IS NULL OR id = ANY($1)",
        None if ids is None else list(ids),
    )
    return {row["id"]: parse(row["definition"]) for row in rows}


async def policy(conn: Connection, type_id: str) -> WorkflowPolicy:
    """What must be so before an item of a type is published: nothing, for a type that nobody defined."""
    return (await find(conn, type_id)).workflow


async def list_page(conn: Connection, *, page_size: int, page_token: str) -> ListContentTypesResponse:
    """A page of types, and the token of the next one."""
    question = ("content_types",)
    after = paging.keys(page_token, question, (str,))
    size = paging.size(page_size)
    rows = await conn.fetch(
        f"SELECT {_COLUMNS} FROM content_types WHERE id > $1 ORDER BY id LIMIT $2", after[0] if after else "", size + 1
    )
    response = ListContentTypesResponse(content_types=map(_type, rows[:size]))
    if len(rows) > size:
        response.next_page_token = paging.token([rows[size - 1]["id"]], question)
    return response


async def create(conn: Connection, given: ContentType) -> ContentType:
    """Store a new type; its fields get their ids."""
    kind = _normal(given)
    _identify(kind.fields, (), "contentType.fields")
    await _check(conn, kind)
    try:
        row = await fetch_one(
            conn,
            f"INSERT INTO content_types (id, definition) VALUES ($1, $2) RETURNING {_COLUMNS}",
            kind.id,
            _definition(kind),
        )
    except asyncpg.UniqueViolationError:
        raise AlreadyExists(
            "CONTENT_TYPE_EXISTS",
            f"there is a content type {kind.id} already",
            f"نوع المحتوى {kind.id} موجود",
            violations={"contentType.id": "is taken"},
        ) from None
    return _type(row)


async def changed(conn: Connection, current: ContentType, given: ContentType, *, paths: Sequence[str]) -> ContentType:
    """The type as it would be with the values given, at the paths given, or, without any, at every one that has one.

    It changes nothing.
    """
    kind = ContentType()
    kind.CopyFrom(current)
    for path in paths or [name for name in _DEFINED if _has(given, name)]:
        _set(kind, path, given)
    kind = _normal(kind)
    if not kind.name:
        raise InvalidArgument({"contentType.name": "is required in at least one locale"})
    _identify(kind.fields, current.fields, "contentType.fields")
    await _check(conn, kind)
    return kind


async def breakages(
    conn: Connection, before: ContentType, after: ContentType, *, hold: bool
) -> list[ContentType.Breakage]:
    """For each field, how many items a change breaks.

    Args:
        hold: let no item be written from then on to the end of the transaction, so that this stays so. What takes
            long is done before; then only what was written meanwhile is looked at again. Readers never wait.
    """
    old = {each.id: each for each in before.fields}
    new = {each.id: each for each in after.fields}
    removed = [each for each in old if each not in new]
    asked = [each for each in after.fields if each.required and not _was(old, each, "required", "localized")]
    unique = [each.id for each in after.fields if each.unique and not _was(old, each, "unique")]
    rekinded = [each for each in after.fields if each.id in old and each.kind != old[each.id].kind]
    found: list[tuple[str, ContentType.Reason.ValueType, int]] = []
    invalid: dict[str, set[Any]] = {each.id: set() for each in rekinded}
    if rekinded:
        kinds = {each.id: each.kind for each in rekinded}
        since = await conn.fetchval("SELECT pg_snapshot_xmin(pg_current_snapshot())::xid::text")
        await _find_invalid(conn, after.id, kinds, invalid)
    if hold:
        await hold_items(conn)
        if rekinded:
            await _find_invalid(conn, after.id, kinds, invalid, since=since)
    if removed:
        rows = await conn.fetch(_COUNT_HOLDING, after.id, removed)
        found += [(old[row["field"]].name, ContentType.REMOVED, row["items"]) for row in rows]
    found += [(new[each].name, ContentType.INVALID, len(items)) for each, items in invalid.items() if items]
    if asked:
        rows = await conn.fetch(
            _COUNT_MISSING, after.id, [each.id for each in asked], [each.localized for each in asked]
        )
        found += [(new[row["field"]].name, ContentType.MISSING, row["items"]) for row in rows]
    if unique:
        rows = await conn.fetch(_COUNT_DUPLICATES, after.id, unique)
        found += [(new[row["field"]].name, ContentType.DUPLICATE, row["items"]) for row in rows]
    return [ContentType.Breakage(field=name, reason=reason, items=items) for name, reason, items in found]


async def hold_items(conn: Connection) -> None:
    """Let no item be written before the transaction ends, so that what was counted stays so; readers do not wait."""
    await conn.execute("LOCK TABLE contents IN EXCLUSIVE MODE")


def raise_if_breaking(breaks: Sequence[ContentType.Breakage]) -> None:
    """Raises: FailedPrecondition when a change breaks any item, with the fields and how many."""
    if not breaks:
        return
    violations: dict[str, str] = {}
    for each in breaks:
        path = f"contentType.fields.{each.field}"
        said = f"breaks {each.items} items ({ContentType.Reason.Name(each.reason)})"
        violations[path] = f"{violations[path]}, {said}" if path in violations else said
    named = "; ".join(f"{path}: {said}" for path, said in violations.items())
    raise FailedPrecondition(
        "CONTENT_TYPE_CHANGE_BREAKS",
        f"the change would break items: {named}",
        f"هذا التغيير يفسد عناصر موجودة: {'، '.join(each.field for each in breaks)}",
        violations=violations,
        metadata={each.field: str(each.items) for each in breaks},
    )


async def store(conn: Connection, before: ContentType, after: ContentType) -> ContentType:
    """Make a type what it is after a change."""
    row = await fetch_one(
        conn,
        f"""
        UPDATE content_types SET definition = $2, version = version + 1, update_time = now()
        WHERE id = $1
        RETURNING {_COLUMNS}
        """,
        after.id,
        _definition(after),
    )
    if unique_values.fields(before) != unique_values.fields(after):
        await unique_values.claim_all(conn, after.id, unique_values.fields(after))
    return _type(row)


async def delete(conn: Connection, kind: ContentType) -> None:
    """Take a type away that no item has."""
    if kind.built_in:
        raise FailedPrecondition(
            "CONTENT_TYPE_BUILT_IN", f"{kind.id} came with the platform", f"النوع {kind.id} من أصل المنصة"
        )
    await hold_items(conn)
    items = await conn.fetchval("SELECT count(*) FROM contents WHERE type = $1 AND delete_time IS NULL", kind.id)
    if items:
        raise FailedPrecondition(
            "CONTENT_TYPE_IN_USE",
            f"{items} items have the type {kind.id}",
            f"عدد العناصر من النوع {kind.id}: {items}",
            metadata={"items": str(items)},
        )
    await conn.execute("DELETE FROM content_types WHERE id = $1", kind.id)


@lru_cache(maxsize=1000)
def parse(definition: str) -> ContentType:
    """A stored definition, always the same message for the same one: do not change it."""
    return json_format.Parse(definition, ContentType())


_COUNT_HOLDING = """
    SELECT field, count(*)::int AS items
    FROM contents, unnest($2::text[]) AS field
    WHERE contents.type = $1 AND contents.delete_time IS NULL AND contents.fields ? field
    GROUP BY field ORDER BY field
"""

_COUNT_MISSING = """
    SELECT field, count(*)::int AS items
    FROM contents, unnest($2::text[], $3::boolean[]) AS asked (field, localized)
    WHERE contents.type = $1 AND contents.delete_time IS NULL AND contents.published <> '{}'
      AND (NOT contents.fields ? field
           OR localized AND NOT contents.fields -> field ? ''
              AND NOT contents.fields -> field ?& ARRAY(SELECT jsonb_object_keys(contents.published)))
    GROUP BY field ORDER BY field
"""

_COUNT_DUPLICATES = """
    SELECT field, sum(items)::int AS items
    FROM (
        SELECT field, count(*) AS items
        FROM contents, unnest($2::text[]) AS field, jsonb_each(contents.fields -> field) AS held
        WHERE contents.type = $1 AND contents.delete_time IS NULL
        GROUP BY field, held.key, held.value
        HAVING count(*) > 1
    ) AS equal
    GROUP BY field ORDER BY field
"""

_HELD = """
    SELECT id, delete_time IS NULL AS there, field, contents.fields -> field AS held
    FROM contents, unnest($2::text[]) AS field
    WHERE contents.type = $1
"""
# A transaction is no older than the other: ages count backwards.
_SINCE = "AND age(contents.xmin) <= age($3::text::xid)"


async def _find_invalid(
    conn: Connection, type_id: str, kinds: dict[str, Kind], found: dict[str, set[Any]], *, since: str = ""
) -> None:
    """For each field, find the items that hold a value that its kind does not let them; checked as a save would.

    Args:
        found: what is found is put here, and what is not so any more taken out.
        since: a transaction; only what it or a later one wrote is looked at.
    """
    query, parameters = (_HELD + _SINCE, (since,)) if since else (_HELD, ())
    async for row in conn.cursor(query, type_id, list(kinds), *parameters, prefetch=100):
        findings = fields.Findings()
        for value in (row["held"] or {}).values() if row["there"] else ():
            fields.check(kinds[row["field"]], value, "", findings)
        (found[row["field"]].add if findings.violations else found[row["field"]].discard)(row["id"])


def _was(old: dict[str, Field], field: Field, *names: str) -> bool:
    """Whether the field was like that before."""
    return field.id in old and all(getattr(old[field.id], name) == getattr(field, name) for name in names)


def _type(row: Record) -> ContentType:
    kind = ContentType()
    kind.CopyFrom(parse(row["definition"]))
    kind.id = row["id"]
    kind.built_in = row["built_in"]
    kind.version = row["version"]
    kind.etag = f'"{row["version"]}"'
    kind.create_time.FromDatetime(row["create_time"])
    kind.update_time.FromDatetime(row["update_time"])
    return kind


def _definition(kind: ContentType) -> dict[str, Any]:
    """What is kept of a type as one: all but what has a column of its own, and the id, which checks name."""
    kept = ContentType(id=kind.id)
    for name in _DEFINED:
        if _has(kind, name):
            _set(kept, name, kind)
    return json_format.MessageToDict(kept, preserving_proto_field_name=True)


def _has(kind: ContentType, name: str) -> bool:
    return name in {field.name for field, _ in kind.ListFields()}


def _set(kind: ContentType, path: str, given: ContentType) -> None:
    name, _, locale = path.partition(".")
    if path == "*":
        for each in _DEFINED:
            _set(kind, each, given)
    elif locale and name in ("name", "description"):
        texts, of_given = getattr(kind, name), getattr(given, name)
        if locale in of_given:
            texts[locale] = of_given[locale]
        else:
            texts.pop(locale, None)
    elif path in _DEFINED:
        kind.ClearField(name)  # type: ignore[arg-type]  # one of _DEFINED
        if _has(given, name):
            kind.MergeFrom(ContentType(**{name: getattr(given, name)}))
    elif path != "etag":
        raise InvalidArgument({"updateMask": f"{path} is not a field that can be set"})


def _normal(kind: ContentType) -> ContentType:
    """The same with every text in the form it is stored in."""
    return json_format.Parse(text.nfc(json_format.MessageToJson(kind, ensure_ascii=False)), ContentType())


def _identify(given: Sequence[Field], known: Sequence[Field], at: str) -> None:
    """Give each field the id of the one it was, by its id or else its name, or a new one."""
    by_id = {each.id: each for each in known}
    by_name = {each.name: each for each in known}
    for number, field in enumerate(given):
        if field.id and field.id not in by_id:
            raise InvalidArgument({f"{at}[{number}].id": "is not a field of this type; leave it out for a new one"})
        same = by_id.get(field.id) or by_name.get(field.name, Field())
        field.id = same.id or f"f{secrets.token_hex(8)}"
        _identify(_inner(field.kind)[0], _inner(same.kind)[0], f"{at}[{number}].kind")
    ids = Counter(field.id for field in given)
    for number, field in enumerate(given):
        if ids[field.id] > 1:
            raise InvalidArgument({f"{at}[{number}].id": "stands twice"})


def _inner(kind: Kind) -> tuple[Sequence[Field], int]:
    """The fields of the group that a kind is, or that is in its lists, and how deep lists and groups are down to it."""
    depth = 0
    while kind.WhichOneof("kind") == "list":
        kind = kind.list.item
        depth += 1
    return (kind.group.fields, depth + 1) if kind.WhichOneof("kind") == "group" else ((), depth)


async def _check(conn: Connection, kind: ContentType) -> None:
    """Raises: InvalidArgument for fields that contradict themselves, and for locales that are not set up."""
    violations = dict(_check_fields(kind.fields, "contentType.fields", depth=0))
    if _count(kind.fields) > MAX_FIELDS:
        violations["contentType.fields"] = f"must be at most {MAX_FIELDS}, with those inside groups"
    required = {
        locale: f"contentType.workflow.requiredLocales[{number}]"
        for number, locale in enumerate(kind.workflow.required_locales)
    }
    violations |= await locales.unknown(conn, required)
    if violations:
        raise InvalidArgument(violations)


def _count(given: Sequence[Field]) -> int:
    return sum(1 + _count(_inner(field.kind)[0]) for field in given)


def _check_fields(given: Sequence[Field], at: str, *, depth: int) -> Iterator[tuple[str, str]]:
    names = Counter(fields.snake(field.name) for field in given)
    for number, field in enumerate(given):
        path = f"{at}[{number}]"
        if names[fields.snake(field.name)] > 1:
            yield f"{path}.name", "is the name of two fields"
        name = str(field.kind.WhichOneof("kind"))
        if field.unique and name not in UNIQUE_KINDS:
            yield f"{path}.unique", f"is not for {name}; only for {', '.join(UNIQUE_KINDS)}"
        for setting in ("localized", "unique", "default_value"):
            if depth and _has_value(field, setting):
                yield f"{path}.{_json_name(setting)}", "is not for fields inside a group"
        inner, levels = _inner(field.kind)
        if depth + levels > MAX_DEPTH:
            yield f"{path}.kind", f"nests lists and groups more than {MAX_DEPTH} deep"
            continue
        wrong = list(_check_kind(field.kind, f"{path}.kind"))
        yield from wrong
        if inner:
            yield from _check_fields(inner, f"{path}.kind.group.fields", depth=depth + levels)
        if field.HasField("default_value") and not wrong:
            findings = fields.Findings()
            fields.check_default(field, f"{path}.defaultValue", findings)
            yield from findings.violations.items()


def _json_name(name: str) -> str:
    """default_value → defaultValue"""
    return Field.DESCRIPTOR.fields_by_name[name].json_name


def _has_value(field: Field, name: str) -> bool:
    return name in {each.name for each, _ in field.ListFields()}


def _check_kind(kind: Kind, at: str) -> Iterator[tuple[str, str]]:
    """What is wrong with a kind, whose own rules hold; fields of groups are not looked at."""
    match kind.WhichOneof("kind"):
        case "text" if kind.text.pattern:
            try:
                patterns.ecma_pattern(kind.text.pattern)
                patterns.matches(kind.text.pattern, "")
            except ValueError as error:
                yield f"{at}.text.pattern", str(error)
        case "enum":
            values = [option.value for option in kind.enum.options]
            if len(set(values)) < len(values):
                yield f"{at}.enum.options", "must not hold a value twice"
        case "list":
            yield from _check_kind(kind.list.item, f"{at}.list.item")
