"""Changes of what many items are filed under: their tags and categories, drafts and what is published alike."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from libs import outbox
from libs.db import Connection
from services.content import contents
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
    conn: Connection, condition: Condition, values: Sequence[str], edit: Callable[[Content], None]
) -> Refiled:
    """Edit the next CHUNK items that a condition on the values holds for, with their events.

    Args:
        edit: changes `category` or `tags` so that the condition holds no more, and nothing else.
    """
    rows = await conn.fetch(
        f"""
        SELECT {contents.COLUMNS}, now() AS moment FROM contents
        WHERE id IN (
            SELECT id FROM contents WHERE {condition} AND delete_time IS NULL
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
    drafts: list[Content] = []
    shown: list[Content] = []
    touched: list[Content] = []
    events: list[tuple[ContentUpdated | ContentPublished, str]] = []
    for row in rows:
        draft = contents.draft(dict(row))
        version = draft.version + 1
        touched.append(draft)
        if _edited(draft, edit):
            draft.version, draft.etag = version, f'"{version}"'
            draft.update_time.FromDatetime(row["moment"])
            drafts.append(draft)
            events.append((ContentUpdated(content=draft), draft.id))
        if row["id"] in publications:
            content = Content.FromString(publications[row["id"]])
            if _edited(content, edit):
                content.version, content.etag = version, f'"{version}-published"'
                content.update_time.FromDatetime(row["moment"])
                shown.append(content)
                events.append((ContentPublished(content=content), content.id))
    edited = {draft.id for draft in drafts}
    await conn.execute(
        """
        UPDATE contents
        SET category = new.category, tags = ARRAY(SELECT jsonb_array_elements_text(new.tags::jsonb)),
            version = version + 1, update_time = CASE WHEN new.edited THEN now() ELSE update_time END
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::boolean[]) AS new (id, category, tags, edited)
        WHERE contents.id = new.id
        """,
        *_columns(touched),
        [draft.id in edited for draft in touched],
    )
    await conn.execute(
        """
        UPDATE publications
        SET category = new.category, tags = ARRAY(SELECT jsonb_array_elements_text(new.tags::jsonb)),
            version = new.version, update_time = now(), content = new.content
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::int[], $5::bytea[])
             AS new (id, category, tags, version, content)
        WHERE publications.id = new.id
        """,
        *_columns(shown),
        [content.version for content in shown],
        [content.SerializeToString(deterministic=True) for content in shown],
    )
    await outbox.add_all(conn, events)
    return Refiled(len(rows), [content.id for content in shown])


def _edited(content: Content, edit: Callable[[Content], None]) -> bool:
    before = content.category, list(content.tags)
    edit(content)
    return before != (content.category, list(content.tags))


def _columns(items: Sequence[Content]) -> tuple[list[str], list[str | None], list[str]]:
    """Ids, categories and tags; tags as JSON, since an array of arrays must have equal lengths."""
    return (
        [item.id for item in items],
        [item.category or None for item in items],
        [json.dumps(list(item.tags)) for item in items],
    )
