"""What each translated text was made from, and which texts no longer say what another locale does.

An edit of a text that says the same as its counterparts is new: those are to follow it. A new
translation, and an edit of one that is stale, says what the newest counterpart does: `sources` keeps of
which locale and as of which version of the item, `{"title.ar": {"locale": "en", "version": 5}}`.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from libs.db import Connection
from services.content.stages import Row
from thmnayah.content.v1.content_pb2 import Content
from thmnayah.content.v1.types_pb2 import ContentType

TEXTS = ("title", "description", "body")

# By path, the locale and the version.
Sources: TypeAlias = Mapping[str, Mapping[str, Any]]


def after_edit(
    row: Row,
    values: Row,
    touched: Iterable[str],
    *,
    seen: int,
    restored: Mapping[str, Content.Translation] | None,
) -> dict[str, Any]:
    """The sources of a row's texts once its values are others at these paths.

    Args:
        seen: the version that the change is based on: of what is newer, it knows nothing.
        restored: when it is a revision that comes back, what its texts were made from.
    """
    before, after, edited = dict(_held(row)), dict(_held(values)), set(touched)
    sources = {path: made for path, made in row["sources"].items() if path not in edited}
    for path in edited:
        field, _, locale = path.rpartition(".")
        if locale not in after.get(field, ()):
            continue
        others = {each: _said(row, f"{field}.{each}") for each in after[field] if f"{field}.{each}" not in edited}
        source = max(others, key=lambda each: (others[each], each), default="")
        newest = others.get(source, 0)
        if restored is None:
            known = min(seen, _said(row, path) if locale in before.get(field, ()) else 0)
        else:
            made = restored.get(path)
            if made is not None and (made.stale or f"{field}.{made.source_locale}" not in edited):
                sources[path] = {"locale": made.source_locale, "version": made.source_version}
                continue
            # What it said the same as then comes with it, unless that was to follow it.
            known = seen if (other := restored.get(f"{field}.{source}")) is not None and other.stale else 0
        if newest > known:
            sources[path] = {"locale": source, "version": min(newest, seen)}
    return sources


async def refresh(conn: Connection, kind: ContentType, changed: Collection[str]) -> None:
    """Tell anew which texts are stale, where fields, by their ids, have locales now or have them no longer."""
    rows = await conn.fetch(
        """
        SELECT id, changes, sources, stale,
               ARRAY(SELECT jsonb_object_keys(title)) AS title,
               ARRAY(SELECT jsonb_object_keys(description)) AS description,
               ARRAY(SELECT jsonb_object_keys(body)) AS body,
               (SELECT jsonb_object_agg(field, (SELECT jsonb_object_agg(key, 0) FROM jsonb_object_keys(held) AS key))
                FROM jsonb_each(fields) AS of_type (field, held)) AS fields
        FROM contents WHERE type = $1 AND fields ?| $2
        """,
        kind.id,
        list(changed),
    )
    late = [(row["id"], now) for row in rows if (now := stale(dict(row), kind)) != row["stale"]]
    await conn.execute(
        """
        UPDATE contents SET stale = ARRAY(SELECT jsonb_array_elements_text(late.locales::jsonb))
        FROM unnest($1::uuid[], $2::text[]) AS late (id, locales) WHERE contents.id = late.id
        """,
        [content_id for content_id, _ in late],
        [json.dumps(locales) for _, locales in late],
    )


def confirmed(row: Row, chosen: Collection[str]) -> dict[str, Any]:
    """The sources once the stale ones of these texts, by their paths, are said to hold still."""
    found = {}
    for path, source, _, newest in behind(row):
        if path in chosen:
            found[path] = {"locale": source, "version": newest}
    return {**row["sources"], **found}


def behind(row: Row) -> Iterator[tuple[str, str, int, int]]:
    """The path of each stale text, the locale that is newest, as of which version it holds, and that one's."""
    for field, locales in _held(row):
        if len(locales) < 2:
            continue
        said = {locale: _said(row, f"{field}.{locale}") for locale in locales}
        source = max(said, key=lambda each: (said[each], f"{field}.{each}" not in row["sources"], each), default="")
        for locale, version in said.items():
            if version < said[source]:
                yield f"{field}.{locale}", source, version, said[source]


def stale(row: Row, kind: ContentType) -> list[str]:
    """The locales that hold a text, or a field's value, that a newer one of another locale is the source of."""
    shared = {f"fields.{each.id}" for each in kind.fields if not each.localized}
    paths = (path.rpartition(".") for path, *_ in behind(row))
    return sorted({locale for field, _, locale in paths if field not in shared})


def describe(content: Content, row: Row) -> None:
    """Tell what each translated text was made from, fields by their ids."""
    if not row["sources"] and not row["stale"]:
        return
    held = dict(_held(row))
    for path, made in row["sources"].items():
        field, _, locale = path.rpartition(".")
        if locale in held.get(field, ()) and made["locale"] in held[field]:
            content.translations[path].source_locale = made["locale"]
            content.translations[path].source_version = made["version"]
    for path, source, version, _ in behind(row):
        told = content.translations[path]
        told.source_locale, told.source_version, told.stale = source, version, True


def _said(row: Row, path: str) -> int:
    """The version of the item that a text says the same as."""
    made = row["sources"].get(path)
    version: int = made["version"] if made else row["changes"].get(path, 0)
    return version


def _held(values: Row) -> Iterator[tuple[str, Collection[str]]]:
    """Each text and field with the locales that it is held in."""
    for field in TEXTS:
        yield field, values[field]
    for each, of_field in values["fields"].items():
        yield f"fields.{each}", of_field.keys() - {""}
