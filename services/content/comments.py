"""Comments of editors on items: threads, whom they mention, and whether they still need something."""

import re
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import replace

import uuid_utils

from libs import etags, filters, paging, text
from libs.db import Connection, Record, fetch_one
from libs.errors import Forbidden, InvalidArgument, NotFound
from libs.permissions import Scope
from services.content import contents, places
from services.content.places import Place
from services.content.stages import Row
from thmnayah.content.v1.comments_pb2 import Comment, ListCommentsResponse

MOST_MENTIONS = 50
_MENTION = re.compile(r"@\{([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\}", re.IGNORECASE)

# What a thread is about, as paths name it today; the field of a type that is gone by its id.
_FIELD = "coalesce('fields.' || (defined ->> 'name'), thread.field)"
_PATH = f"{_FIELD} || coalesce('.' || nullif(thread.locale, ''), '')"
# A comment on no locale of a localized text is about any of them.
_BLOCK_GONE = """
    NOT coalesce(jsonb_path_exists(
        CASE thread.locale WHEN '' THEN contents.fields -> substr(thread.field, 8)
                           ELSE contents.fields -> substr(thread.field, 8) -> thread.locale END,
        '$.**.id ? (@ == $id)', jsonb_build_object('id', thread.block_id)
    ), false)
"""
_PLACE_GONE = f"""
    thread.field LIKE 'fields.%' AND defined IS NULL
    OR thread.field LIKE 'fields.%' AND thread.locale <> '' AND (defined -> 'localized') IS DISTINCT FROM 'true'
    OR thread.locale <> '' AND NOT contents.title ? thread.locale
    OR thread.block_id <> '' AND {_BLOCK_GONE}
"""
_SELECT = f"""
    SELECT comments.id, comments.content_id, comments.thread_id, comments.text, comments.mentions, comments.revision,
           comments.created_by, comments.create_time, comments.edit_time, comments.delete_time, comments.version,
           thread.block_id, thread.quote, thread.quote_start, thread.resolved_by, thread.resolve_time,
           {_PATH} AS path, coalesce({_PLACE_GONE}, false) AS place_gone
    FROM comments
    JOIN comments AS thread ON thread.id = comments.thread_id
    JOIN contents ON contents.id = comments.content_id AND contents.delete_time IS NULL
    LEFT JOIN content_types ON content_types.id = contents.type
    LEFT JOIN LATERAL (
        SELECT each FROM jsonb_array_elements(content_types.definition -> 'fields') AS each
        WHERE 'fields.' || (each ->> 'id') = thread.field
    ) AS of_type (defined) ON true
"""

_FIELDS = {
    "state": filters.Field("(CASE WHEN thread.resolve_time IS NULL THEN 'OPEN' ELSE 'RESOLVED' END)"),
    "field": filters.Field(f"({_PATH})"),
    "block_id": filters.Field("thread.block_id"),
    "blockId": filters.Field("thread.block_id"),
    "thread_id": filters.Field("comments.thread_id::text"),
    "threadId": filters.Field("comments.thread_id::text"),
    "created_by": filters.Field("comments.created_by"),
    "createdBy": filters.Field("comments.created_by"),
    "mentions": filters.Field("comments.mentions", "list", has="{column} @> ARRAY[{value}::text]"),
}


# What conditions on drafts are about: the place that a thread is about.
_COLUMNS = replace(contents.COLUMNS, field=_FIELD, locale="thread.locale")


async def get(
    conn: Connection, content_id: str, comment_id: str, *, lock: bool = False, scope: Scope | None = None
) -> Comment:
    """One comment of an item.

    Args:
        scope: one about what it holds for; about anything, without one.
        lock: for a change of it or of its thread; nobody else changes either before the transaction ends.
    """
    if lock:
        await conn.execute(
            "SELECT FROM comments WHERE id = (SELECT thread_id FROM comments WHERE id = $1) FOR UPDATE", comment_id
        )
    parameters: list[object] = [content_id, comment_id]
    row = await conn.fetchrow(
        f"{_SELECT} WHERE comments.id = $2 AND comments.content_id = $1 {_within(scope, parameters)}", *parameters
    )
    if row is None:
        raise _not_found(comment_id)
    return _comment(row)


async def list_page(
    conn: Connection, *, content_id: str, filter: str, page_size: int, page_token: str, scope: Scope | None = None
) -> ListCommentsResponse:
    """A page of comments, of an item by thread or of all ("") from the newest on, and the token of the next one.

    Args:
        scope: those about what it holds for; all, without one.
    """
    question = ("comments", content_id, filter)
    parameters: list[object] = []
    conditions = [filters.compile_filter(filter, _FIELDS, parameters)]
    if content_id:
        parameters.append(content_id)
        conditions.append(f"comments.content_id = ${len(parameters)}")
    after = paging.keys(page_token, question, (str, str))
    if after is not None:
        parameters += _position(after)
        position = f"${len(parameters) - 1}::uuid, ${len(parameters)}::uuid"
        conditions.append(
            f"({'comments.thread_id' if content_id else 'comments.id'}, comments.id)"
            f" {'>' if content_id else '<'} ({position})"
        )
    size = paging.size(page_size)
    parameters.append(size + 1)
    limit = len(parameters)
    order = "comments.thread_id, comments.id" if content_id else "comments.id DESC"
    rows = await conn.fetch(
        f"{_SELECT} WHERE {' AND '.join(conditions)} {_within(scope, parameters)} ORDER BY {order} LIMIT ${limit}",
        *parameters,
    )
    if not rows and content_id and not page_token:
        await contents.read(conn, content_id)
    response = ListCommentsResponse(comments=map(_comment, rows[:size]))
    if len(rows) > size:
        last = rows[size - 1]
        keys = [last["thread_id" if content_id else "id"], last["id"]]
        response.next_page_token = paging.token(list(map(str, keys)), question)
    return response


def _within(scope: Scope | None, parameters: list[object]) -> str:
    return "" if scope is None else f"AND {scope.compile(_COLUMNS, parameters)}"


async def create(conn: Connection, comment: Comment, *, author: str) -> Comment:
    """Start a thread on an item, or reply to one; its text is in normal form."""
    mentions = _mentions(comment.text)
    item = await contents.read(conn, comment.content_id)
    if comment.revision > item["revision"]:
        raise InvalidArgument({"comment.revision": "is not there yet"})
    comment_id = str(uuid_utils.uuid7())
    if comment.thread_id:
        await _check_thread(conn, comment.content_id, comment.thread_id)
    place = _place(item, comment)
    await conn.execute(
        """
        INSERT INTO comments (id, content_id, thread_id, text, mentions, field, locale, block_id, quote, quote_start,
                              revision, created_by)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
        """,
        comment_id,
        comment.content_id,
        comment.thread_id or comment_id,
        comment.text,
        mentions,
        place.field,
        place.locale,
        comment.block_id,
        comment.quote,
        comment.quote_start,
        comment.revision or item["revision"],
        author,
    )
    created = await get(conn, comment.content_id, comment_id)
    if created.place_gone and not comment.thread_id:
        raise InvalidArgument({f"comment.{'blockId' if comment.block_id else 'field'}": "is not there in this item"})
    return created


async def update(conn: Connection, comment: Comment, *, paths: Sequence[str], etag: str, author: str) -> Comment | None:
    """Change the text of the author's own comment, now in normal form; None when it was that already."""
    if wrong := [path for path in paths if path not in ("text", "etag", "*")]:
        raise InvalidArgument({"updateMask": f"{wrong[0]} is not for callers to set"})
    current = await _own(conn, comment.content_id, comment.id, etag=etag, author=author, may_moderate=False)
    mentions = _mentions(comment.text)
    if comment.text == current.text:
        return None
    await conn.execute(
        "UPDATE comments SET text = $2, mentions = $3, edit_time = now(), version = version + 1 WHERE id = $1",
        comment.id,
        comment.text,
        mentions,
    )
    return await get(conn, comment.content_id, comment.id)


async def delete(
    conn: Connection, content_id: str, comment_id: str, *, etag: str, author: str, may_moderate: bool
) -> Comment:
    """Take a comment away, with its thread when nothing else is left of that; returns it without its text."""
    comment = await _own(conn, content_id, comment_id, etag=etag, author=author, may_moderate=may_moderate)
    row = await fetch_one(
        conn,
        """
        UPDATE comments SET text = '', mentions = '{}', delete_time = now(), version = version + 1 WHERE id = $1
        RETURNING delete_time, version
        """,
        comment_id,
    )
    # What was locked is the thread: no reply comes in between.
    await conn.execute("DELETE FROM comments WHERE id = $1 AND thread_id <> id", comment_id)
    await conn.execute(
        """
        DELETE FROM comments WHERE id = $1 AND delete_time IS NOT NULL
        AND NOT EXISTS (SELECT FROM comments AS reply WHERE reply.thread_id = $1 AND reply.id <> $1)
        """,
        comment.thread_id or comment_id,
    )
    comment.text = ""
    del comment.mentions[:]
    comment.version = row["version"]
    comment.delete_time.FromDatetime(row["delete_time"])
    return _tagged(comment)


async def resolve(
    conn: Connection, content_id: str, comment_id: str, *, etag: str, resolved_by: str | None
) -> tuple[Comment, bool]:
    """Resolve a thread, or reopen it when nobody resolves it; also whether it was not so already."""
    comment = await get(conn, content_id, comment_id, lock=True)
    if comment.thread_id:
        raise InvalidArgument({"id": "is a reply; name the first comment of its thread"})
    etags.check(etag, comment.version)
    if (comment.state == Comment.RESOLVED) == (resolved_by is not None):
        return comment, False
    await conn.execute(
        """
        UPDATE comments SET resolved_by = $2, resolve_time = CASE WHEN $2::text IS NOT NULL THEN now() END,
                            version = version + 1
        WHERE id = $1
        """,
        comment_id,
        resolved_by,
    )
    return await get(conn, content_id, comment_id), True


async def _own(
    conn: Connection, content_id: str, comment_id: str, *, etag: str, author: str, may_moderate: bool
) -> Comment:
    """A comment that is to be changed by its author, or by who may change all."""
    comment = await get(conn, content_id, comment_id, lock=True)
    if comment.HasField("delete_time"):
        raise _not_found(comment_id)
    if comment.created_by != author and not may_moderate:
        raise Forbidden("NOT_THE_AUTHOR", "somebody else said this", "كتب هذا التعليق شخص آخر")
    etags.check(etag, comment.version)
    return comment


async def _check_thread(conn: Connection, content_id: str, thread_id: str) -> None:
    """Let a thread not go away before a reply to it is there."""
    found = await conn.fetchval(
        "SELECT thread_id = id FROM comments WHERE id = $1 AND content_id = $2 FOR KEY SHARE", thread_id, content_id
    )
    if found is None:
        raise _not_found(thread_id, "comment.threadId")
    if not found:
        raise InvalidArgument({"comment.threadId": "is a reply; name the first comment of its thread"})


def _place(item: Row, comment: Comment) -> Place:
    """What a thread is to be about; whether the item has it now is not looked at.

    Raises:
        InvalidArgument: items of its type have no such field, or one without blocks.
    """
    if not comment.field:
        return Place("")
    place = places.find(contents.type_of(item), comment.field)
    if place is None:
        raise InvalidArgument({"comment.field": "is not a field of this item"})
    if comment.block_id and not (place.defined and place.defined.kind.HasField("rich_text")):
        raise InvalidArgument({"comment.blockId": "is not for this field, which is no rich text"})
    return place


def _mentions(said: str) -> list[str]:
    """The ids of the users that a text mentions.

    Raises:
        InvalidArgument: it says nothing, or mentions too many.
    """
    if text.is_blank(said):
        raise InvalidArgument({"comment.text": "must hold more than white space"})
    mentions = list(dict.fromkeys(each.lower() for each in _MENTION.findall(said)))
    if len(mentions) > MOST_MENTIONS:
        raise InvalidArgument({"comment.text": f"may mention {MOST_MENTIONS} users"})
    return mentions


def _position(after: Sequence[object]) -> list[uuid.UUID]:
    try:
        return [uuid.UUID(str(each)) for each in after]
    except ValueError:
        raise InvalidArgument({"pageToken": "is not a token of this API"}) from None


def _comment(row: Record) -> Comment:
    resolved = row["resolve_time"] is not None
    first = row["thread_id"] == row["id"]
    comment = Comment(
        id=str(row["id"]),
        content_id=str(row["content_id"]),
        thread_id="" if first else str(row["thread_id"]),
        text=row["text"],
        mentions=row["mentions"],
        field=row["path"],
        block_id=row["block_id"],
        quote=row["quote"],
        quote_start=row["quote_start"],
        revision=row["revision"],
        place_gone=row["place_gone"],
        state=Comment.RESOLVED if resolved else Comment.OPEN,
        resolved_by=row["resolved_by"] or "",
        created_by=row["created_by"],
        version=row["version"],
    )
    for name in ("resolve_time", "create_time", "edit_time", "delete_time"):
        if row[name] is not None:
            getattr(comment, name).FromDatetime(row[name])
    return _tagged(comment)


def _tagged(comment: Comment) -> Comment:
    """With an etag of all that is shown: what its thread and its item say of it changes without its version."""
    comment.ClearField("etag")
    shown = zlib.crc32(comment.SerializeToString(deterministic=True))
    comment.etag = f'"{comment.version}.{shown:08x}"'
    return comment


def _not_found(comment_id: str, field: str = "") -> NotFound:
    return NotFound(
        "COMMENT_NOT_FOUND",
        f"no comment {comment_id}",
        f"لا يوجد تعليق {comment_id}",
        violations={field: "names no comment"} if field else None,
    )
