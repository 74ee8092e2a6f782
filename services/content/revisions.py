"""The history of an item: what each save made of it, what changed in between, and the way back."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from google.protobuf import json_format

from libs import paging
from libs.db import Connection, Record
from libs.errors import NotFound
from services.content import alignment, contents, fields, types
from services.content.contents import LOCALISED, UNLOCALISED
from services.content.rich_text import diffs
from services.content.stages import timestamp
from thmnayah.content.v1.content_pb2 import Content
from thmnayah.content.v1.revisions_pb2 import ListRevisionsResponse, Revision, RevisionDiff
from thmnayah.content.v1.values_pb2 import Value

# A word with the white space after it, so that the segments together are the text.
_WORD = re.compile(r"\S+\s*|\s+")

_EQUAL, _ADDED, _REMOVED = RevisionDiff.Segment.EQUAL, RevisionDiff.Segment.ADDED, RevisionDiff.Segment.REMOVED


async def list_page(conn: Connection, content_id: str, *, page_size: int, page_token: str) -> ListRevisionsResponse:
    """A page of an item's history, newest first, and the token of the next one; without contents."""
    question = ("revisions", content_id)
    after = paging.keys(page_token, question, (int,))
    size = paging.size(page_size)
    rows = await conn.fetch(
        """
        SELECT number, author, note, autosave, create_time FROM revisions
        WHERE content_id = $1 AND ($2::int IS NULL OR number < $2)
        ORDER BY number DESC LIMIT $3
        """,
        content_id,
        after[0] if after else None,
        size + 1,
    )
    if not rows and not page_token:
        raise contents.not_found(content_id)
    response = ListRevisionsResponse(revisions=[_revision(row) for row in rows[:size]])
    if len(rows) > size:
        response.next_page_token = paging.token([rows[size - 1]["number"]], question)
    return response


async def get(conn: Connection, content_id: str, number: int) -> Revision:
    """An item as a save left it."""
    row = await conn.fetchrow("SELECT * FROM revisions WHERE content_id = $1 AND number = $2", content_id, number)
    if row is None:
        raise _not_found(content_id, number)
    (revision,) = await _whole(conn, [row])
    revision.content.id = content_id
    return revision


async def pair(conn: Connection, content_id: str, older: int, newer: int) -> tuple[Revision, Revision]:
    """Two revisions; a `newer` of 0 is the newest, an `older` of 0 the one before `newer`."""
    rows = await conn.fetch(
        """
        (SELECT * FROM revisions WHERE content_id = $1 AND ($3 = 0 OR number = $3) ORDER BY number DESC LIMIT 1)
        UNION ALL
        (SELECT * FROM revisions WHERE content_id = $1 AND number = $2)
        UNION ALL
        (SELECT * FROM revisions WHERE content_id = $1 AND $2 = 0 AND ($3 = 0 OR number < $3)
         ORDER BY number DESC OFFSET (CASE WHEN $3 = 0 THEN 1 ELSE 0 END) LIMIT 1)
        """,
        content_id,
        older,
        newer,
    )
    if not rows or (newer and rows[0]["number"] != newer):
        raise _not_found(content_id, newer)
    if older and len(rows) == 1:
        raise _not_found(content_id, older)
    found = await _whole(conn, rows)
    # The first revision came out of nothing.
    return (found[1] if len(found) > 1 else Revision()), found[0]


def diff(older: Revision, newer: Revision) -> RevisionDiff:
    """What changed from one revision to another, each field and locale, word by word."""
    answer = RevisionDiff(to=newer.number)
    setattr(answer, "from", older.number)  # a keyword of Python
    for field, locale, before, after in _pairs(older.content, newer.content):
        if before != after:
            apart = field == "tags"  # its entries are no text
            answer.changes.add(field=field, locale=locale, segments=_segments(before, after, apart=apart))
    for name in sorted({*older.content.fields, *newer.content.fields}):
        before_in, after_in = (_by_locale(each.content.fields.get(name)) for each in (older, newer))
        for locale in sorted({*before_in, *after_in}):
            _compare(answer, f"fields.{name}", locale, before_in.get(locale, Value()), after_in.get(locale, Value()))
    return answer


def _compare(answer: RevisionDiff, field: str, locale: str, before: Value, after: Value) -> None:
    """Add what became of a custom field in one locale, block by block where it holds nothing but rich text."""
    if before == after:
        return
    if {before.WhichOneof("kind"), after.WhichOneof("kind")} <= {"rich_text", None}:
        blocks = diffs.compare(before.rich_text, after.rich_text)
        answer.changes.add(field=field, locale=locale, blocks=blocks)
    else:
        segments = _segments(_WORD.findall(_text(before)), _WORD.findall(_text(after)), apart=False)
        answer.changes.add(field=field, locale=locale, segments=segments)


def _pairs(older: Content, newer: Content) -> Iterator[tuple[str, str, Sequence[str], Sequence[str]]]:
    """Each field and locale with the words, or the entries, of both."""
    for field in LOCALISED:
        before, after = getattr(older, field), getattr(newer, field)
        for locale in sorted({*before, *after}):
            yield field, locale, _WORD.findall(before.get(locale, "")), _WORD.findall(after.get(locale, ""))
    for field in UNLOCALISED:
        before, after = getattr(older, field), getattr(newer, field)
        if isinstance(before, str):
            yield field, "", _WORD.findall(before), _WORD.findall(after)
        else:
            yield field, "", list(before), list(after)


def _by_locale(value: Value | None) -> Mapping[str, Value]:
    """A field's value in each locale, "" where it has none."""
    if value is None:
        return {}
    return value.localized.values if value.WhichOneof("kind") == "localized" else {"": value}


def _text(value: Value) -> str:
    if value.WhichOneof("kind") == "text":
        return value.text
    (told,) = json_format.MessageToDict(value).values() or ("",)
    return told if isinstance(told, str) else json.dumps(told, ensure_ascii=False, sort_keys=True)


def _segments(before: Sequence[str], after: Sequence[str], *, apart: bool) -> list[RevisionDiff.Segment]:
    """The older and the newer words as one sequence; those side by side joined, unless they are to stay apart."""
    parts: list[tuple[RevisionDiff.Segment.Kind.ValueType, Sequence[str]]] = []
    for old, new in alignment.runs(before, after):
        parts += [(_EQUAL, old)] if old == new else [(_REMOVED, old), (_ADDED, new)]
    return [
        RevisionDiff.Segment(kind=kind, text=text)
        for kind, words in parts
        if words
        for text in (words if apart else ["".join(words)])
    ]


async def _whole(conn: Connection, rows: Sequence[Record]) -> list[Revision]:
    """Revisions of one item with their contents, the fields by their names of today."""
    found = [_revision(row) for row in rows]
    for revision, row in zip(found, rows, strict=True):
        revision.content.ParseFromString(row["content"])
    if any(revision.content.fields for revision in found):
        kind = await types.find(conn, found[0].content.type)
        for revision in found:
            fields.show(revision.content, kind)
    return found


def _revision(row: Record) -> Revision:
    return Revision(
        number=row["number"],
        author=row["author"],
        note=row["note"],
        autosave=row["autosave"],
        create_time=timestamp(row["create_time"]),
    )


def _not_found(content_id: str, number: int) -> NotFound:
    return NotFound(
        "REVISION_NOT_FOUND", f"no revision {number} of content {content_id}", f"لا توجد نسخة {number} من {content_id}"
    )
