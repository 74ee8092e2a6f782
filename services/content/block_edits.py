"""Changes of single blocks of the rich texts of drafts, which merge."""

from collections.abc import Iterable, Iterator, MutableSequence, Sequence

from libs import etags
from libs.db import Connection
from libs.errors import InvalidArgument, NotFound
from services.content import contents, fields
from services.content.rich_text import blocks, diffs
from services.content.stages import Row
from thmnayah.content.v1.blocks_pb2 import BlockEdit
from thmnayah.content.v1.content_pb2 import Content
from thmnayah.content.v1.rich_text_pb2 import Block, RichText
from thmnayah.content.v1.types_pb2 import Field


async def edit(
    conn: Connection,
    row: Row,
    *,
    field: str,
    locale: str,
    edits: Sequence[BlockEdit],
    etag: str,
    merge: bool,
    author: str,
    note: str,
    autosave: bool,
) -> Content | None:
    """Change blocks of a rich-text field of the draft of a locked row.

    Args:
        locale: "" for a field without locales.
        etag: the version that the edits are based on.
        merge: an older one will do when none of the blocks that the edits are about changed since.
        note, autosave: for the history.

    Returns:
        The draft after the change; None when it was like that already.
    """
    defined = _field(row, field, locale)
    text = _text(contents.draft(row), field, locale)
    if merge and not await _is_based_on(conn, row, defined, locale, text, edits, etag):
        raise etags.mismatch(row["version"])
    for each in edits:
        _apply(text.blocks, each)
    if any(each.WhichOneof("edit") in ("move", "delete") for each in edits):
        _drop_empty(text.blocks)
    content = Content()
    value = content.fields[field]
    (value.localized.values[locale] if locale else value).rich_text.CopyFrom(text)
    return await contents.update(
        conn,
        row,
        content,
        paths=[f"fields.{field}.{locale}" if locale else f"fields.{field}"],
        etag="" if merge else etag,
        merge=False,
        author=author,
        note=note,
        autosave=autosave,
    )


def _field(row: Row, name: str, locale: str) -> Field:
    """Raises: InvalidArgument when it is no rich text, or not in such a locale."""
    kind = contents.type_of(row)
    defined = next((each for each in kind.fields if each.name == name), None)
    if defined is None or not defined.kind.HasField("rich_text"):
        raise InvalidArgument({"field": f"is not a rich text of the type {row['type']}"})
    if defined.localized != bool(locale):
        raise InvalidArgument(
            {"locale": "is required for this field" if defined.localized else "is not for this field"}
        )
    return defined


def _text(content: Content, field: str, locale: str) -> RichText:
    """A copy of what a field holds as editors see it."""
    value = content.fields.get(field)
    if value is not None and locale:
        value = value.localized.values.get(locale)
    text = RichText()
    if value is not None:
        text.CopyFrom(value.rich_text)
    return text


async def _is_based_on(
    conn: Connection,
    row: Row,
    defined: Field,
    locale: str,
    text: RichText,
    edits: Sequence[BlockEdit],
    etag: str,
) -> bool:
    """Whether the blocks that edits are about are as they were in the version of an etag."""
    if etag in ("", "*"):
        return True
    version = max((each for each in etags.versions(etag) if each <= row["version"]), default=0)
    path = f"fields.{defined.id}."
    if version >= max((changed for each, changed in row["changes"].items() if each.startswith(path)), default=0):
        return version > 0
    kept = await conn.fetchval(_KEPT, row["id"], version)
    if kept is None:
        return False
    base = _text(fields.show(Content.FromString(kept), contents.type_of(row)), field=defined.name, locale=locale)
    before, after = ({block.id: block for _, _, block in blocks.walk(each.blocks)} for each in (base, text))
    moved = diffs.moves(base, text)
    for block_id, is_move in _named(edits):
        if before.get(block_id) != after.get(block_id) or (is_move and block_id in moved):
            return False
    return all((each in before) <= (each in after) for each in _anchors(edits))


# The item as it was in a version. The revision of one that a program saved is gone when the same author's program
# saved again: what was in it is not known then. Between other revisions no text changed.
_KEPT = """
    SELECT content FROM revisions
    WHERE content_id = $1 AND number <= $2
      AND (number = $2 OR NOT (
          SELECT autosave FROM revisions WHERE content_id = $1 AND number > $2 ORDER BY number LIMIT 1
      ))
    ORDER BY number DESC
    LIMIT 1
"""


def _named(edits: Iterable[BlockEdit]) -> Iterator[tuple[str, bool]]:
    """The blocks that edits change, and whether they move them."""
    for each in edits:
        match each.WhichOneof("edit"):
            case "update":
                yield each.update.id, False
            case "move":
                yield each.move.id, True
            case "delete":
                yield each.delete, False


def _anchors(edits: Iterable[BlockEdit]) -> Iterator[str]:
    """The blocks beside which edits put others."""
    for each in edits:
        for place in (each.insert.place, each.move.place):
            yield place.after or place.before


def _apply(text: MutableSequence[Block], edit: BlockEdit) -> None:
    match edit.WhichOneof("edit"):
        case "update":
            siblings, number = _place(text, edit.update.id)
            siblings[number].CopyFrom(edit.update)
        case "insert":
            _insert(text, edit.insert.block, edit.insert.place)
        case "move":
            siblings, number = _place(text, edit.move.id)
            _insert(text, siblings.pop(number), edit.move.place)
        case "delete":
            siblings, number = _place(text, edit.delete)
            del siblings[number]


def _insert(text: MutableSequence[Block], block: Block, place: BlockEdit.Place) -> None:
    if side := place.WhichOneof("beside"):
        siblings, number = _place(text, getattr(place, side))
        siblings.insert(number + (side == "after"), block)
    else:
        text.append(block)


def _place(text: MutableSequence[Block], block_id: str) -> tuple[MutableSequence[Block], int]:
    """Where a block stands: the list of blocks, and its number there."""
    found = _find(text, block_id)
    if found is None:
        raise NotFound("BLOCK_NOT_FOUND", f"no block {block_id} in the text", f"لا توجد كتلة {block_id} في النص")
    return found


def _find(some: MutableSequence[Block], block_id: str) -> tuple[MutableSequence[Block], int] | None:
    for number, block in enumerate(some):
        if block.id == block_id:
            return some, number
        for _, inner in blocks.children(block):
            if found := _find(inner, block_id):
                return found
    return None


def _drop_empty(some: MutableSequence[Block]) -> None:
    """Take out entries, lists and quotes whose last block went."""
    for number in reversed(range(len(some))):
        block = some[number]
        for _, inner in blocks.children(block):
            _drop_empty(inner)
        for entry in reversed(range(len(block.items))):
            if not block.items[entry].blocks:
                del block.items[entry]
        if (block.HasField("list") and not block.items) or (block.HasField("quote") and not block.quote.blocks):
            del some[number]
