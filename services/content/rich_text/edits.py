"""Edits of one block of a rich text, found by its id however deep it stands."""

from collections.abc import MutableSequence

from libs.errors import InvalidArgument, NotFound
from services.content.rich_text import blocks
from thmnayah.content.v1.rich_text_pb2 import Block, RichText


def get(rich_text: RichText, block_id: str) -> Block:
    """Raises: NotFound when no block has the id."""
    place, number = _find(rich_text, block_id)
    return place[number]


def insert(rich_text: RichText, block: Block, *, after: str = "", before: str = "") -> None:
    """Put a block beside another, or, when none is named, at the end.

    Raises:
        NotFound: no block has the id named.
        InvalidArgument: the text would break a limit, or hold an id twice.
    """
    place: MutableSequence[Block] = rich_text.blocks
    number = len(place)
    if after or before:
        place, number = _find(rich_text, after or before)
        number += 1 if after else 0
    place.insert(number, block)
    _settle(rich_text)


def replace(rich_text: RichText, block_id: str, block: Block) -> None:
    """Put a block in the place of another; it takes over the id.

    Raises: as `insert`.
    """
    place, number = _find(rich_text, block_id)
    place[number].CopyFrom(block)
    place[number].id = block_id
    _settle(rich_text)


def move(rich_text: RichText, block_id: str, *, after: str = "", before: str = "") -> None:
    """Take a block, with all in it, beside another, or, when none is named, to the end.

    Raises:
        NotFound: no block has an id named.
        InvalidArgument: the other is the block itself or stands in it, or the text would break a limit.
    """
    moved = Block()
    moved.CopyFrom(get(rich_text, block_id))
    beside = after or before
    if beside in {block.id for _, _, block in blocks.walk([moved])}:
        raise InvalidArgument({"after" if after else "before": "is the block itself or stands in it"})
    if beside:
        get(rich_text, beside)
    place, number = _find(rich_text, block_id)
    del place[number]
    insert(rich_text, moved, after=after, before=before)
    _drop_empty(rich_text.blocks)


def remove(rich_text: RichText, block_id: str) -> None:
    """Take a block away, and the item, list or quote that then holds nothing.

    Raises: NotFound when no block has the id.
    """
    place, number = _find(rich_text, block_id)
    del place[number]
    _drop_empty(rich_text.blocks)


def _find(rich_text: RichText, block_id: str) -> tuple[MutableSequence[Block], int]:
    """Where a block stands: the blocks beside it, and its number among them."""
    pending: list[MutableSequence[Block]] = [rich_text.blocks]
    while pending:
        place = pending.pop()
        for number, block in enumerate(place):
            if block.id == block_id:
                return place, number
            pending += [inner for _, inner in blocks.children(block)]
    raise NotFound("BLOCK_NOT_FOUND", f"no block {block_id}", f"لا توجد كتلة {block_id}")


def _settle(rich_text: RichText) -> None:
    blocks.check(rich_text, "richText")
    blocks.normalize(rich_text)


def _drop_empty(some: MutableSequence[Block]) -> None:
    for number in reversed(range(len(some))):
        block = some[number]
        for _, inner in blocks.children(block):
            _drop_empty(inner)
        items = block.list.items
        for item in reversed(range(len(items))):
            if not items[item].blocks:
                del items[item]
        kind = block.WhichOneof("kind")
        if (kind == "list" and not items) or (kind == "quote" and not block.quote.blocks):
            del some[number]
