"""Changes of what many items are filed under: their tags and categories, drafts and what is published alike."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from libs import outbox
from libs.db import Connection
from services.content import contents, fields, stages
from services.content.stages import Row
from thmnayah.content.v1.content_pb2 import Content, ContentPublished, ContentUpdated

# Items of one transaction: with the longest texts there are, some 100 MB.
CHUNK = 100
# Items of one call.
LIMIT = 2000

Condition = Literal["category = ANY($1)", "tags && $1"]


@dataclass(frozen=True)
class Refiled:
    """What a chunk changed."""

    items: int
    """How many; less than CHUNK when no more are left."""
    published: Sequence[str]
    """The ids of those that readers see otherwise now."""


async def refile(
    conn: Connection, condition: Condition, values: Sequence[str], edit: Callable[[Content], None], *, author: str
) -> Refiled:
    """Edit the next CHUNK items that a condition on the values holds for, with their revisions and events.

    Those in the trash and archived ones too, which stay where they are: what they are filed under is
    shared, and they would come back with what nobody else has any more.

    Args:
        edit: changes `category` or `tags` so that the condition holds no more, and nothing else.
        author: for the history.
    """
    rows = await conn.fetch(
        f"""
        {contents.SELECT}
        WHERE id IN (
            SELECT id FROM contents WHERE {condition} AND delete_time IS NULL
            UNION
            SELECT id FROM contents WHERE {condition} AND expire_time IS NOT NULL
            UNION
            SELECT id FROM publications WHERE {condition}
        )
        ORDER BY id
        LIMIT {CHUNK}
        FOR UPDATE
        """,
        list(values),
    )
    stored = await conn.fetch("SELECT id, content FROM publications WHERE id = ANY($1)", [row["id"] for row in rows])
    publications = {row["id"]: row["content"] for row in stored}
    touched: list[Row] = []
    drafts: list[Row] = []
    shown: list[tuple[Content, bytes]] = []
    events: list[tuple[ContentUpdated | ContentPublished, str]] = []
    for row in map(dict, rows):
        after = _refiled(row, edit)
        publication = None
        if row["id"] in publications:
            publication = _republished(Content.FromString(publications[row["id"]]), after, edit)
        if publication is not None:
            after["published"] = _published(row, after["version"])
        touched.append(after)
        if after["revision"] == after["version"]:
            drafts.append(after)
        # What is in the trash is gone for everyone: it is announced as it is then when it comes back.
        if after["revision"] == after["version"] and row["delete_time"] is None:
            events.append((ContentUpdated(content=contents.draft(after)), str(row["id"])))
        if publication is not None:
            shown.append((publication, publication.SerializeToString(deterministic=True)))
            told = fields.show(publication, contents.type_of(row))
            events.append((ContentPublished(content=told), told.id))
    await _update_drafts(conn, touched)
    await _add_revisions(conn, drafts, author=author)
    await _update_publications(conn, shown)
    await outbox.add_all(conn, events)
    return Refiled(len(rows), [publication.id for publication, _ in shown])


def _refiled(row: Row, edit: Callable[[Content], None]) -> dict[str, Any]:
    """The row after the edit, as its next version, also when readers alone see something else then."""
    draft = Content(category=row["category"] or "", tags=row["tags"])
    edit(draft)
    filed: dict[str, Any] = {"category": draft.category or None, "tags": list(draft.tags)}
    changed = [column for column, value in filed.items() if value != row[column]]
    after = {**row, **filed, "version": row["version"] + 1}
    return {**after, **contents.entailed(row, after, changed)} if changed else after


def _republished(shown: Content, after: Row, edit: Callable[[Content], None]) -> Content | None:
    """What readers see after the edit, its fields as they are stored; None when it changes nothing for them."""
    before = shown.category, list(shown.tags)
    edit(shown)
    if before == (shown.category, list(shown.tags)):
        return None
    shown.version, shown.etag = after["version"], f'"{after["version"]}-published"'
    shown.update_time.CopyFrom(stages.timestamp(after["moment"]))
    return shown


def _published(row: Row, version: int) -> dict[str, Any]:
    """Since when and from which version each locale is published; where readers saw the draft, they still do."""
    return {
        locale: each if stages.modified(row, locale) else {**each, "version": version}
        for locale, each in row["published"].items()
    }


async def _update_drafts(conn: Connection, rows: Sequence[Row]) -> None:
    # Tags are JSON, since an array of arrays must have equal lengths.
    columns = ("id", "category", "changes", "reviews", "published", "version", "revision", "update_time")
    await conn.execute(
        """
        UPDATE contents
        SET category = new.category, changes = new.changes, reviews = new.reviews, published = new.published,
            version = new.version, revision = new.revision, update_time = new.update_time,
            tags = ARRAY(SELECT jsonb_array_elements_text(new.tags::jsonb))
        FROM unnest($1::uuid[], $2::text[], $3::jsonb[], $4::jsonb[], $5::jsonb[], $6::int[], $7::int[],
                    $8::timestamptz[], $9::text[])
             AS new (id, category, changes, reviews, published, version, revision, update_time, tags)
        WHERE contents.id = new.id
        """,
        *([row[column] for row in rows] for column in columns),
        [json.dumps(row["tags"]) for row in rows],
    )


async def _add_revisions(conn: Connection, rows: Sequence[Row], *, author: str) -> None:
    await conn.execute(
        """
        INSERT INTO revisions (content_id, number, author, note, autosave, create_time, content)
        SELECT content_id, number, $4, '', false, now(), content
        FROM unnest($1::uuid[], $2::int[], $3::bytea[]) AS new (content_id, number, content)
        """,
        [row["id"] for row in rows],
        [row["revision"] for row in rows],
        [contents.snapshot(row) for row in rows],
        author,
    )


async def _update_publications(conn: Connection, shown: Sequence[tuple[Content, bytes]]) -> None:
    await conn.execute(
        """
        UPDATE publications
        SET category = new.category, tags = ARRAY(SELECT jsonb_array_elements_text(new.tags::jsonb)),
            version = new.version, update_time = now(), content = new.content
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::int[], $5::bytea[])
             AS new (id, category, tags, version, content)
        WHERE publications.id = new.id
        """,
        [content.id for content, _ in shown],
        [content.category or None for content, _ in shown],
        [json.dumps(list(content.tags)) for content, _ in shown],
        [content.version for content, _ in shown],
        [stored for _, stored in shown],
    )
