"""References from items to items: found in what these hold, kept in an index, and checked before one would break."""

import asyncio
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import structlog

from libs.db import Connection, Pool, transaction
from libs.errors import FailedPrecondition, Failure
from services.content.fields import Json
from services.content.rich_text import values as rich_texts
from services.content.stages import Row
from thmnayah.content.v1.content_pb2 import Content
from thmnayah.content.v1.types_pb2 import ContentType, Field, Kind
from thmnayah.content.v1.values_pb2 import Value

# A path by the ids of fields (`f1[2].f3`), the locale or "", and the id that is referred to.
Reference: TypeAlias = tuple[str, str, str]
# What one side of an item refers to before and after a change, with the item's id.
Change: TypeAlias = tuple[str, Collection[Reference], Collection[Reference]]
Table: TypeAlias = Literal["draft_references", "publication_references"]

BACKFILL_ITEMS = 200
# Of those who refer to an item, how many a refusal names.
NAMED = 5

# Whether readers see what a row `r` of an index refers to.
SATISFIED = """
    EXISTS (SELECT FROM publications p WHERE p.id = r.to_id AND (r.locale = '' OR r.locale = ANY(p.locales)))
"""
# Whether a row `r` refers to an item that is neither there nor only in the trash.
GONE = "NOT EXISTS (SELECT FROM contents t WHERE t.id = r.to_id AND t.delete_time IS NULL)"
# The ids that an item of `contents` refers to in vain: for its editors, or for its readers.
BROKEN = f"""
    ARRAY(SELECT r.to_id::text FROM draft_references r WHERE r.from_id = contents.id AND {GONE}
          UNION SELECT r.to_id::text FROM publication_references r WHERE r.from_id = contents.id AND NOT {SATISFIED})
"""

_log = structlog.get_logger(__name__)


def found(value: Json | Value, at: str) -> Iterator[tuple[str, str]]:
    """Each path in a value, of one locale, at which it refers to an item, with the item's id.

    Args:
        value: as a draft keeps it, or as what is published does.
        at: the path of the value.
    """
    name, held = _arm(value)
    if name == "reference":
        yield at, held.lower()
    elif name == "rich_text":
        for path, target in rich_texts.references(rich_texts.parse(held) if isinstance(held, dict) else held):
            yield f"{at}.{path}", target.lower()
    elif name == "list":
        for number, each in enumerate(held):
            yield from found(each, f"{at}[{number}]")
    elif name == "group":
        for field, each in held.items():
            yield from found(each, f"{at}.{field}")


def refers(kind: Kind) -> bool:
    """Whether a value of this kind may refer to an item."""
    match kind.WhichOneof("kind"):
        case "list":
            return refers(kind.list.item)
        case "group":
            return any(refers(each.kind) for each in kind.group.fields)
        case name:
            return name in ("reference", "rich_text")


def of(held: Mapping[str, Any]) -> set[Reference]:
    """All that fields refer to, as a draft keeps them or as what is published does."""
    return {
        (path, locale, target)
        for field, values in held.items()
        for locale, value in (values if isinstance(values, dict) else values.localized.values).items()
        for path, target in found(value, field)
    }


def named(kind: ContentType, path: str) -> str:
    """A path with the names that fields have today; an id that is no field's stays."""
    inner: Iterable[Field] = kind.fields
    parts = []
    for part in path.split("."):
        field_id, bracket, numbers = part.partition("[")
        field = next((each for each in inner if each.id == field_id), Field(name=field_id))
        parts.append(field.name + bracket + numbers)
        of_field = field.kind
        while of_field.WhichOneof("kind") == "list":
            of_field = of_field.list.item
        inner = of_field.group.fields
    return ".".join(parts)


async def put(conn: Connection, table: Table, changes: Iterable[Change]) -> None:
    """Make the index say what items refer to after changes of one side; without a statement where that is the same."""
    parameters: list[object] = []

    def given(value: object) -> str:
        parameters.append(value)
        return f"${len(parameters)}"

    if parts := indexing(table, changes, given):
        await conn.execute(f"WITH {', '.join(parts)} SELECT", *parameters)


def indexing(table: Table, changes: Iterable[Change], given: Callable[[object], str], *, source: str = "") -> list[str]:
    """The CTEs that do so, none where all is the same.

    Args:
        given: takes a parameter and says its number.
        source: a FROM item, with a comma, without whose row nothing changes.
    """
    gone: list[tuple[str, str, str, str]] = []
    new: list[tuple[str, str, str, str]] = []
    for item, before, after in changes:
        was, is_now = ({(item, *_indexed(each)) for each in one} for one in (before, after))
        gone += was - is_now
        new += is_now - was

    def unnest(rows: Sequence[tuple[str, str, str, str]]) -> str:
        columns = [given([row[column] for row in rows]) for column in range(4)]
        return "unnest({}::uuid[], {}::text[], {}::text[], {}::uuid[])".format(*columns)

    parts = []
    if gone:
        parts.append(
            f"""
            unlinked AS (
                DELETE FROM {table} AS held USING {source} {unnest(gone)} AS old (from_id, path, locale, to_id)
                WHERE (held.to_id, held.from_id, held.path, held.locale)
                    = (old.to_id, old.from_id, old.path, old.locale)
            )
            """
        )
    if new:
        parts.append(
            f"""
            linked AS (
                INSERT INTO {table} (from_id, path, locale, to_id)
                SELECT from_id, path, locale, to_id
                FROM {source} {unnest(new)} AS new (from_id, path, locale, to_id)
                ON CONFLICT DO NOTHING
            )
            """
        )
    return parts


def insert(first: int) -> tuple[str, str]:
    """For a new draft $1 the condition that its references lead to items, and the CTE that indexes them.

    Args:
        first: the number of the first of `insert_parameters`.
    """
    condition = f"""
        AND NOT EXISTS (
            SELECT FROM unnest(${first}::uuid[], ${first + 1}::text[]) AS wanted (id, types)
            LEFT JOIN contents AS target ON target.id = wanted.id AND target.delete_time IS NULL
            WHERE target.id IS NULL OR (wanted.types <> '' AND target.type <> ALL (string_to_array(wanted.types, ' ')))
        )
    """
    linked = f"""
        , referring AS (
            INSERT INTO draft_references (from_id, path, locale, to_id)
            SELECT $1::uuid, path, locale, to_id
            FROM checked, unnest(${first + 2}::text[], ${first + 3}::text[], ${first + 4}::uuid[])
                 AS new (path, locale, to_id)
        )
    """
    return condition, linked


def insert_parameters(held: Collection[Reference], found: Mapping[str, tuple[str, Sequence[str]]]) -> list[object]:
    """What `insert` fills in.

    Args:
        found: see `fields.Findings`.
    """
    rows = {_indexed(each) for each in held}
    ids = [target for target, _ in found.values()]
    types = [" ".join(allowed) for _, allowed in found.values()]
    return [ids, types, *([row[column] for row in rows] for column in range(3))]


async def seen(
    conn: Connection, targets: Collection[str], *, by: str | None = None
) -> tuple[dict[str, set[str]], bytes | None]:
    """In which locales readers see items, until the transaction ends, and what they see of the one that refers to them.

    Args:
        by: that item's id.
    """
    # A lock that stops whoever unpublishes an item, and nobody who publishes it.
    rows = await conn.fetch(
        "SELECT id, locales, CASE id WHEN $2 THEN content END AS content FROM publications WHERE id = ANY($1)"
        f" {'ORDER BY id FOR KEY SHARE' if targets else ''}",
        [*targets, *([by] if by else [])],
        by,
    )
    content = next((row["content"] for row in rows if str(row["id"]) == by), None)
    return {str(row["id"]): {*row["locales"]} for row in rows}, content


async def check(
    conn: Connection,
    row: Row,
    kind: ContentType,
    referred: Collection[Reference],
    *,
    locales: Collection[str],
    known: Mapping[str, Collection[str]],
) -> None:
    """Check that readers of an item, once these locales are published, can follow what it refers to.

    Args:
        known: as `seen` tells it.

    Raises:
        FailedPrecondition: naming each path that leads nowhere.
    """
    item = str(row["id"])
    asked = [each for each in referred if each[1] in ("", *locales)]
    if wrong := unsatisfied(asked, {**known, item: {*locales, *row["published"]}}):
        raise await unpublished(conn, kind, wrong)


def unsatisfied(referred: Collection[Reference], known: Mapping[str, Collection[str]]) -> list[Reference]:
    """Those to items that readers do not see: in the reference's locale or, where it has none, in any."""
    return sorted(
        each for each in referred if each[2] not in known or (each[1] != "" and each[1] not in known[each[2]])
    )


async def unpublished(conn: Connection, kind: ContentType, wrong: Collection[Reference]) -> FailedPrecondition:
    """What to say of references to what readers do not see."""
    ids = {target for _, _, target in wrong}
    there = await conn.fetch("SELECT id FROM contents WHERE id = ANY($1) AND delete_time IS NULL", list(ids))
    gone = ids - {str(row["id"]) for row in there}
    violations = {}
    for path, locale, target in wrong:
        at = "fields." + ".".join(filter(None, (named(kind, path), locale)))
        readers = f"not published in {locale}" if locale else "not published"
        violations[at] = f"refers to {target}, which {'was deleted' if target in gone else f'is {readers}'}"
    told = ", ".join(violations)
    if gone:
        return FailedPrecondition(
            "REFERENCE_DELETED",
            f"these refer to items that were deleted: {told}",
            f"تشير هذه الحقول إلى عناصر محذوفة: {told}",
            violations=violations,
        )
    return FailedPrecondition(
        "REFERENCE_UNPUBLISHED",
        f"these refer to items that are not published: {told}",
        f"تشير هذه الحقول إلى عناصر غير منشورة: {told}",
        violations=violations,
    )


async def check_unused(conn: Connection, content_id: str, locales: Collection[str] | None = None) -> None:
    """Check that no other published item refers to one that readers are to lose in some locales, or in all.

    Call it once the item's row in `publications` is locked or gone: nobody then adds a reference.

    Raises:
        FailedPrecondition: naming the first who do.
    """
    rows = await conn.fetch(
        f"""
        SELECT from_id, count(*) OVER () AS count FROM publication_references
        WHERE to_id = $1 AND from_id <> $1 AND ($2::text[] IS NULL OR locale = ANY($2))
        GROUP BY from_id ORDER BY from_id LIMIT {NAMED}
        """,
        content_id,
        None if locales is None else list(locales),
    )
    if rows:
        count, ids = rows[0]["count"], [str(row["from_id"]) for row in rows]
        raise FailedPrecondition(
            "CONTENT_REFERENCED",
            f"published items refer to it, {count} in all, such as {ids[0]}; force does it anyway",
            f"تشير إليه عناصر منشورة عددها {count}، منها {ids[0]}؛ يمكن فرض ذلك بالحقل force",
            violations={f"contents.{each}": "refers to it" for each in ids},
            metadata={"count": str(count)},
        )


async def backfill(pool: Pool) -> None:
    """Index what was stored before there was an index: so many items a transaction, from where the last one ended."""
    done = False
    while not done:
        try:
            async with transaction(pool) as conn:
                after = await conn.fetchval("SELECT after_id FROM reference_backfill FOR UPDATE")
                done = after is None or await _backfill(conn, after)
        except Failure as error:  # the next round tries again
            _log.warning("backfill_interrupted", error=error.reason)
            await asyncio.sleep(1)


async def _backfill(conn: Connection, after: str) -> bool:
    """Index the items that follow; whether these were the last."""
    rows = await conn.fetch(
        "SELECT id, fields FROM contents WHERE id > $1 ORDER BY id LIMIT $2 FOR UPDATE", after, BACKFILL_ITEMS
    )
    shown = await conn.fetch("SELECT id, content FROM publications WHERE id = ANY($1)", [row["id"] for row in rows])
    await put(conn, "draft_references", [(str(row["id"]), (), of(row["fields"])) for row in rows])
    await put(
        conn,
        "publication_references",
        [(str(row["id"]), (), of(Content.FromString(row["content"]).fields)) for row in shown],
    )
    if len(rows) < BACKFILL_ITEMS:
        await conn.execute("DELETE FROM reference_backfill")
        return True
    await conn.execute("UPDATE reference_backfill SET after_id = $1", rows[-1]["id"])
    return False


def _arm(value: Json | Value) -> tuple[str, Any]:
    """What a value is, and what it holds: of a list its values, of a group these by the ids of fields."""
    if not isinstance(value, Value):
        return next(iter(value.items()), ("", None))
    name = str(value.WhichOneof("kind"))
    held = getattr(value, name, None)
    return name, held.values if isinstance(held, Value.List | Value.Group) else held


def _indexed(reference: Reference) -> Reference:
    """A reference as the index has it: a list that is put into another order changes nothing there."""
    path, locale, target = reference
    return re.sub(r"\[\d+\]", "", path), locale, target
