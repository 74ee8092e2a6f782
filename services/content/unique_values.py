"""Values that no two items of a type may hold: each is claimed by the item that holds it."""

from collections.abc import Sequence
from typing import Any

from libs.db import Connection
from libs.errors import AlreadyExists
from services.content.fields import Held
from thmnayah.content.v1.types_pb2 import ContentType

# A value as it is claimed: of any length, and equal where its JSON is.
_DIGEST = "sha256(convert_to(held.value::text, 'UTF8'))"

# For an item that is not stored yet: $1 its id, $2 its type, `{ids}` and `{held}` the parameters that
# have the ids of unique fields and what the item holds.
SELECT_GIVEN = f"""
    SELECT $2, field, held.key, {_DIGEST}, $1
    FROM unnest({{ids}}::text[]) AS field, jsonb_each({{held}}::jsonb -> field) AS held
"""


def fields(kind: ContentType) -> list[str]:
    """The ids of the fields whose values are claimed."""
    return [each.id for each in kind.fields if each.unique]


async def claim(conn: Connection, content_id: str, kind: ContentType, held: Held) -> None:
    """Claim what an item holds, and give back what it held.

    Raises:
        AlreadyExists: another item has a value.
    """
    ids = fields(kind)
    if not ids:
        return
    await conn.execute("DELETE FROM unique_values WHERE content_id = $1", content_id)
    claimed = await conn.fetch(
        f"""
        INSERT INTO unique_values (type, field, locale, digest, content_id)
        {SELECT_GIVEN.format(ids="$3", held="$4")}
        ORDER BY field, held.key
        ON CONFLICT DO NOTHING
        RETURNING field, locale
        """,
        content_id,
        kind.id,
        ids,
        held,
    )
    wanted = {(each, locale) for each in ids for locale in held.get(each, {})}
    if taken := wanted - {(row["field"], row["locale"]) for row in claimed}:
        raise _taken(kind, taken)


async def taken(conn: Connection, kind: ContentType, held: Held) -> AlreadyExists | None:
    """What to say of the values that other items have; None when they have none."""
    rows = await conn.fetch(
        f"""
        SELECT unique_values.field, unique_values.locale
        FROM unnest($2::text[]) AS wanted (field), jsonb_each($3::jsonb -> wanted.field) AS held, unique_values
        WHERE unique_values.type = $1 AND unique_values.field = wanted.field
          AND unique_values.locale = held.key AND unique_values.digest = {_DIGEST}
        """,
        kind.id,
        fields(kind),
        held,
    )
    return _taken(kind, {(row["field"], row["locale"]) for row in rows}) if rows else None


async def claim_all(conn: Connection, type_id: str, ids: Sequence[str]) -> None:
    """Claim what all items of a type hold in some fields, and nothing else; of equal values, the oldest item's."""
    await conn.execute("DELETE FROM unique_values WHERE type = $1 AND NOT field = ANY($2)", type_id, ids)
    await conn.execute(
        f"""
        INSERT INTO unique_values (type, field, locale, digest, content_id)
        SELECT contents.type, field, held.key, {_DIGEST}, contents.id
        FROM contents, unnest($2::text[]) AS field, jsonb_each(contents.fields -> field) AS held
        WHERE contents.type = $1 AND contents.delete_time IS NULL
        ORDER BY contents.id
        ON CONFLICT DO NOTHING
        """,
        type_id,
        ids,
    )


async def release(conn: Connection, content_id: str) -> None:
    """Give back what an item claimed."""
    await conn.execute("DELETE FROM unique_values WHERE content_id = $1", content_id)


def _taken(kind: ContentType, places: set[tuple[Any, Any]]) -> AlreadyExists:
    names = {each.id: each.name for each in kind.fields}
    paths = sorted(".".join(filter(None, (names[field], locale))) for field, locale in places)
    return AlreadyExists(
        "FIELD_VALUE_TAKEN",
        f"another {kind.id} has the same {', '.join(paths)}",
        f"توجد القيمة نفسها في عنصر آخر: {', '.join(paths)}",
        violations={f"content.fields.{path}": "is taken" for path in paths},
    )
