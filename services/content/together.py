"""Publishing an item with all it refers to, in one transaction: every one of them, or none."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from libs import etags, outbox
from libs.db import Connection
from libs.errors import Conflict, FailedPrecondition
from libs.permissions import PUBLISH, READ_DRAFTS
from services.content import access, contents, fields, publishing, references
from services.content.references import SATISFIED, Reference
from services.content.stages import Row
from thmnayah.content.v1.content_pb2 import Content, ContentPublished

MAX_ITEMS = 100


@dataclass(frozen=True)
class _Item:
    """An item that is being published, before and after."""

    row: Row
    locales: Sequence[str]
    columns: Mapping[str, Any]
    shown: Content
    before: set[Reference]
    after: set[Reference]


async def publish(
    conn: Connection, content_id: str, *, locales: Sequence[str], etag: str
) -> tuple[Content, Collection[str]]:
    """Show readers the drafts of an item and of the unpublished ones it refers to, and so on.

    The others are shown in those of the item's locales that they have, or in all of theirs when that is none.

    Returns:
        The item as editors see it, and the ids of all that readers see otherwise now.

    Raises:
        FailedPrecondition: one of them cannot be published, naming it, or they are more than MAX_ITEMS.
    """
    ids = await _closure(conn, content_id, locales)
    rows = {
        str(row["id"]): dict(row)
        for row in await conn.fetch(
            f"{contents.SELECT} WHERE id = ANY($1) AND delete_time IS NULL ORDER BY id FOR UPDATE", list(ids)
        )
    }
    if content_id not in rows:
        raise contents.not_found(content_id)
    etags.check(etag, rows[content_id]["version"])
    if not await _closure(conn, content_id, locales) <= ids:  # locking more now could wait for who waits for us
        raise Conflict(
            "CONCURRENT_CHANGE", "another change came in between; try again", "حدث تغيير متزامن؛ حاول مرة أخرى"
        )
    for each in sorted(rows):
        await access.check(conn, each, READ_DRAFTS)
    items = await _items(conn, rows, locales, of=content_id)
    for item in items:
        await access.check(conn, str(item.row["id"]), PUBLISH, item.locales)
    await _check(conn, items, of=content_id)
    await _store(conn, items)
    done = {str(item.row["id"]): item for item in items}
    after = {**rows[content_id], **(_after(done[content_id]) if content_id in done else {})}
    return contents.draft(after), done.keys()


async def _closure(conn: Connection, content_id: str, locales: Sequence[str]) -> set[str]:
    """The item, the unpublished ones that its draft refers to in these locales, those that theirs do, and so on."""
    rows = await conn.fetch(
        f"""
        WITH RECURSIVE reached (id) AS (
            SELECT $1::uuid
            UNION
            SELECT r.to_id FROM reached JOIN draft_references r ON r.from_id = reached.id
            WHERE ($2::text[] = '{{}}' OR r.locale = '' OR r.locale = ANY($2)) AND NOT {SATISFIED}
        )
        SELECT id FROM reached LIMIT {MAX_ITEMS + 1}
        """,
        content_id,
        list(locales),
    )
    if len(rows) > MAX_ITEMS:
        raise FailedPrecondition(
            "TOO_MANY_REFERENCES",
            f"more than {MAX_ITEMS} items would be published; publish some of them first",
            f"سيُنشر أكثر من {MAX_ITEMS} عنصر؛ انشر بعضها أولًا",
        )
    return {str(row["id"]) for row in rows}


async def _items(conn: Connection, rows: Mapping[str, Row], locales: Sequence[str], *, of: str) -> list[_Item]:
    """Those that readers would see otherwise, each in its own of the locales that the first is in."""
    stored = await conn.fetch("SELECT id, content FROM publications WHERE id = ANY($1)", list(rows))
    publications = {str(each["id"]): each["content"] for each in stored}
    items = []
    asked = locales
    for each in (of, *(rows.keys() - {of})):
        row = rows[each]
        own = [locale for locale in asked if locale in row["title"] and locale not in row["archived"]]
        try:
            shown, wanted, chosen = publishing.sides(row, publications.get(each), locales if each == of else own)
        except FailedPrecondition as failure:
            raise _about(failure, each, of=of) from None
        if each == of:
            asked = chosen
        if not publishing.is_new(row, shown, wanted, chosen):
            continue
        links = references.of(shown.fields), references.of(wanted.fields)
        columns = publishing.describe(row, wanted, publishing.columns(row, chosen))
        items.append(_Item(row, chosen, columns, wanted, *links))
    return items


async def _check(conn: Connection, items: Sequence[_Item], *, of: str) -> None:
    """As `references.check` does, all at once."""
    asked = {str(item.row["id"]): {each for each in item.after if each[1] in ("", *item.locales)} for item in items}
    also = {str(item.row["id"]): [*item.columns["published"]] for item in items}
    referred = set().union(*asked.values())
    known, _ = await references.seen(conn, {target for _, _, target in referred})
    wrong = {*references.unsatisfied(referred, {**known, **also})}
    for item in items:
        if wrong & asked[str(item.row["id"])]:
            failure = await references.unpublished(
                conn, contents.type_of(item.row), sorted(wrong & asked[str(item.row["id"])])
            )
            raise _about(failure, str(item.row["id"]), of=of)


def _about(failure: FailedPrecondition, content_id: str, *, of: str) -> FailedPrecondition:
    """A refusal, saying which item it is about where that is not the one that was asked for."""
    if content_id == of:
        return failure
    return FailedPrecondition(
        failure.reason,
        f"content {content_id}: {failure.english}",
        f"المحتوى {content_id}: {failure.arabic}",
        violations={f"contents.{content_id}.{path}": said for path, said in failure.violations.items()},
        metadata={**failure.metadata, "content_id": content_id},
    )


def _after(item: _Item) -> dict[str, Any]:
    return {**item.row, **item.columns, "version": item.row["version"] + 1}


_SHOWN = """
    SELECT id, contents.type, contents.category, contents.tags, contents.external_id, contents.version + 1,
           contents.create_time, now(), new.publish_time,
           ARRAY(SELECT locale FROM jsonb_object_keys(new.published) AS locale ORDER BY locale), new.content
    FROM unnest($1::uuid[], $2::timestamptz[], $3::jsonb[], $4::bytea[])
         AS new (id, publish_time, published, content)
    JOIN contents USING (id)
"""


async def _store(conn: Connection, items: Sequence[_Item]) -> None:
    """As publishing one item does, with one statement for each table."""
    await conn.execute(
        contents.SHOW.format(rows=_SHOWN),
        [item.row["id"] for item in items],
        [item.columns["publish_time"] for item in items],
        [item.columns["published"] for item in items],
        [item.shown.SerializeToString(deterministic=True) for item in items],
    )
    await conn.execute(
        """
        UPDATE contents
        SET published = new.published, reviews = new.reviews, waiting = new.waiting,
            publish_time = new.publish_time, version = version + 1
        FROM unnest($1::uuid[], $2::jsonb[], $3::jsonb[], $4::jsonb[], $5::timestamptz[])
             AS new (id, published, reviews, waiting, publish_time)
        WHERE contents.id = new.id
        """,
        [item.row["id"] for item in items],
        *([_after(item)[column] for item in items] for column in ("published", "reviews", "waiting", "publish_time")),
    )
    await references.put(
        conn, "publication_references", [(str(item.row["id"]), item.before, item.after) for item in items]
    )
    told = [(ContentPublished(content=fields.show(item.shown, contents.type_of(item.row))), item) for item in items]
    await outbox.add_all(conn, [(event, str(item.row["id"])) for event, item in told])
