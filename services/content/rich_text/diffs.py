"""What became of each block from one version of a rich text to another, down to its words."""

import bisect
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

from libs import text
from services.content.rich_text import blocks
from thmnayah.content.v1.rich_text_pb2 import Block, BlockDiff, RichText

MOST_SEGMENTS = 1000
# Pairs of equal words, of which aligning looks at each more than once: a second or so.
MOST_PAIRS = 100_000

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
    old, new = _words(before), _words(after)
    if _pairs(old, new) > MOST_PAIRS:
        return _between_ends(old, new)
    found: list[BlockDiff.Segment] = []
    for _, old_start, old_end, new_start, new_end in SequenceMatcher(None, old, new).get_opcodes():
        deleted, inserted = "".join(old[old_start:old_end]), "".join(new[new_start:new_end])
        if deleted == inserted:
            found.append(_Segment(fate=_Segment.KEPT, text=deleted))
        else:
            found += _replaced(deleted, inserted)
    return found if len(found) <= MOST_SEGMENTS else _replaced(before, after)


def _pairs(old: Sequence[str], new: Sequence[str]) -> int:
    """How many pairs of equal words there are; SequenceMatcher leaves out the most frequent ones of a long text."""
    times, most = Counter(old), len(new) // 100 + 1 if len(new) >= 200 else len(new)
    return sum(times[word] * count for word, count in Counter(new).items() if count <= most)


def _between_ends(old: Sequence[str], new: Sequence[str]) -> list[BlockDiff.Segment]:
    """One replacement, between the words that both texts begin and end with."""
    most = min(len(old), len(new))
    start = next((number for number in range(most) if old[number] != new[number]), most)
    end = next((number for number in range(most - start) if old[-1 - number] != new[-1 - number]), most - start)
    ends = ("".join(old[:start]), "".join(old[len(old) - end :]))
    first, last = ([_Segment(fate=_Segment.KEPT, text=words)] if words else [] for words in ends)
    return [*first, *_replaced("".join(old[start : len(old) - end]), "".join(new[start : len(new) - end])), *last]


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
