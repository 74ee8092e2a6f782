"""What became of each block from one version of a rich text to another, down to its words."""

import bisect
import itertools
import re
from collections.abc import Iterator, Sequence

from libs import text
from services.content import alignment
from services.content.rich_text import blocks
from thmnayah.content.v1.rich_text_pb2 import Block, BlockDiff, RichText

MOST_SEGMENTS = 1000

_Segment = BlockDiff.Segment


def compare(before: RichText, after: RichText) -> list[BlockDiff]:
    """The blocks that differ: those of the later text in its order, then those that are gone."""
    old = {block.id: block for _, _, block in blocks.walk(before.blocks)}
    new = {block.id: block for _, _, block in blocks.walk(after.blocks)}
    moved = moves(before, after)
    found = []
    for block_id, block in new.items():
        if block_id not in old:
            found.append(BlockDiff(id=block_id, change=BlockDiff.ADDED, segments=segments("", blocks.own_text(block))))
        elif _alone(old[block_id]) != _alone(block):
            words = segments(blocks.own_text(old[block_id]), blocks.own_text(block))
            found.append(BlockDiff(id=block_id, change=BlockDiff.CHANGED, moved=block_id in moved, segments=words))
        elif block_id in moved:
            found.append(BlockDiff(id=block_id, change=BlockDiff.MOVED, moved=True))
    for block_id, block in old.items():
        if block_id not in new:
            words = segments(blocks.own_text(block), "")
            found.append(BlockDiff(id=block_id, change=BlockDiff.REMOVED, segments=words))
    return found


def segments(before: str, after: str) -> list[BlockDiff.Segment]:
    """Two texts as runs of words that were kept, inserted or deleted.

    The runs that are not inserted make the first text, those that are not deleted the second.
    """
    found: list[BlockDiff.Segment] = []
    for old, new in alignment.runs(_words(before), _words(after)):
        found += (
            [_Segment(fate=_Segment.KEPT, text="".join(old))] if old == new else _replaced("".join(old), "".join(new))
        )
    return found if len(found) <= MOST_SEGMENTS else _replaced(before, after)


def _replaced(before: str, after: str) -> list[BlockDiff.Segment]:
    fates = ((_Segment.DELETED, before), (_Segment.INSERTED, after))
    return [_Segment(fate=fate, text=words) for fate, words in fates if words]


def _words(words: str) -> list[str]:
    """A text as words with their marks, runs of space, and single other characters."""
    found: list[str] = []
    end = 0
    for word, start, stop in text.words(words):
        found += re.findall(r"\s+|\S", words[end:start])
        found.append(word)
        end = stop
    return found + re.findall(r"\s+|\S", words[end:])


def _alone(block: Block) -> Block:
    """A block without the blocks in it."""
    alone = Block()
    alone.CopyFrom(block)
    del alone.items[:]
    if alone.HasField("quote"):
        del alone.quote.blocks[:]
    return alone


def moves(before: RichText, after: RichText) -> set[str]:
    """The blocks of both texts that stand in another block, or in another order among those beside them."""
    old = {block_id: (parent, number) for number, (block_id, parent) in enumerate(_parents(before.blocks))}
    moved = set()
    stayed: dict[str, list[str]] = {}
    for block_id, parent in _parents(after.blocks):
        if block_id in old:
            if old[block_id][0] == parent:
                stayed.setdefault(parent, []).append(block_id)
            else:
                moved.add(block_id)
    for siblings in stayed.values():
        in_order = _longest_rise([old[block_id][1] for block_id in siblings])
        moved |= {block_id for number, block_id in enumerate(siblings) if number not in in_order}
    return moved


def _parents(some: Sequence[Block], parent: str = "") -> Iterator[tuple[str, str]]:
    """Each block's id, with the id of the block it stands in."""
    for block in some:
        yield block.id, parent
        yield from itertools.chain.from_iterable(_parents(inner, block.id) for _, inner in blocks.children(block))


def _longest_rise(numbers: Sequence[int]) -> set[int]:
    """Where the members of a longest rising subsequence stand, by patience sorting."""
    tops: list[int] = []  # the last number of the best run of each length
    places: list[int] = []
    before: list[int] = []
    for place, number in enumerate(numbers):
        length = bisect.bisect_left(tops, number)
        before.append(places[length - 1] if length else -1)
        tops[length : length + 1] = [number]
        places[length : length + 1] = [place]
    found = set()
    place = places[-1] if places else -1
    while place >= 0:
        found.add(place)
        place = before[place]
    return found
