"""Which parts of two sequences are the same, in the same order: the ground of every diff."""

from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

# Pairs of equal words, of which aligning looks at each more than once: a second or so.
MOST_PAIRS = 100_000

Runs = Iterator[tuple[Sequence[str], Sequence[str]]]


def runs(before: Sequence[str], after: Sequence[str]) -> Runs:
    """Both sequences cut into runs that follow each other: equal ones, and ones that took another's place.

    Of long ones, words that stand nearly everywhere tell nothing and are left out of account; of what is
    still too much alike, all between the ends that agree is one run.
    """
    most = min(len(before), len(after))
    start = next((number for number in range(most) if before[number] != after[number]), most)
    end = next((number for number in range(most - start) if before[-1 - number] != after[-1 - number]), most - start)
    old, new = before[start : len(before) - end], after[start : len(after) - end]
    if start:
        yield before[:start], after[:start]
    popular = _pairs(old, new, most=len(new)) > MOST_PAIRS
    # Which words SequenceMatcher leaves out, and of how long a sequence.
    if popular and _pairs(old, new, most=len(new) // 100 + 1 if len(new) >= 200 else len(new)) > MOST_PAIRS:
        yield old, new
    else:
        matcher = SequenceMatcher(None, old, new, autojunk=popular)
        for _, old_start, old_end, new_start, new_end in matcher.get_opcodes():
            yield old[old_start:old_end], new[new_start:new_end]
    if end:
        yield before[len(before) - end :], after[len(after) - end :]


def _pairs(old: Sequence[str], new: Sequence[str], *, most: int) -> int:
    """How many pairs of equal words there are, of words that stand at most so often in the new sequence."""
    times = Counter(old)
    return sum(times[word] * count for word, count in Counter(new).items() if count <= most)
