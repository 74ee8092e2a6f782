"""Collects blocks from openings, texts and closings, in the order in which parsers meet them."""

from collections.abc import Callable, MutableSequence
from typing import TypeVar

from libs.errors import InvalidArgument
from services.content.rich_text.blocks import DEEPEST, MOST_BLOCKS, Spans, children, lines, walk
from services.content.rich_text.inline import Mark
from thmnayah.content.v1.rich_text_pb2 import Block, RichText, Span

# Empty blocks are dropped in the end; whoever sends more than this is not waited for.
MOST_PARSED = 2 * MOST_BLOCKS

T = TypeVar("T")


class Builder:
    """A text that grows. Words that come outside any block make a paragraph of their own."""

    def __init__(self, field: str) -> None:
        """Args:
        field: of the request, for the error when blocks stand too deep.
        """
        self._field = field
        self._text = RichText()
        self._places: list[MutableSequence[Block]] = [self._text.blocks]
        self._spans: Spans | None = None
        self._marks: list[Mark] = []
        self._count = 0

    @property
    def at_space(self) -> bool:
        """Whether a space here would be none: at the start of a line, or after another."""
        return not self._spans or self._spans[-1].text.endswith((" ", "\n"))

    @property
    def last(self) -> Block | None:
        """The newest block of the present place."""
        return self._places[-1][-1] if self._places[-1] else None

    def block(self, like: Block | None = None) -> Block:
        """A new block in the present place, with the id, the language and the direction of another."""
        self.end_text()
        self._count += 1
        if self._count > MOST_PARSED:
            raise InvalidArgument({self._field: f"has too many blocks; the limit is {MOST_BLOCKS}"})
        self._places[-1].append(like or Block())
        return self._places[-1][-1]

    def enter(self, blocks: MutableSequence[Block]) -> None:
        """Put what comes into a block, until `leave`."""
        self.end_text()
        if len(self._places) >= DEEPEST:
            raise InvalidArgument({self._field: f"has more than {DEEPEST} blocks in one another, which is the limit"})
        self._places.append(blocks)

    def leave(self) -> None:
        self.end_text()
        self._places.pop()

    def write_to(self, spans: Spans) -> None:
        """Put the words that come into a line of text, until `end_text`."""
        self._spans = spans

    def end_text(self) -> None:
        self._spans = None

    def write(self, words: str) -> None:
        """Add words with the marks that are open."""
        if not words:
            return
        if self._spans is None:
            self._spans = self.block().paragraph.spans
        span = Span(text=words)
        for name, value in self._marks:
            if name:
                setattr(span, name, value or True)
        self._spans.append(span)

    def break_line(self) -> None:
        """Begin a new line of the same text; spaces before it go."""
        if self._spans:
            self._spans[-1].text = self._spans[-1].text.rstrip(" ")
        self.write("\n")

    def mark(self, mark: Mark) -> None:
        """Open a mark; one without a name stands for what a text cannot hold."""
        self._marks.append(mark)

    def unmark(self, name: str) -> None:
        """Close the innermost mark of a name; one that was never opened changes nothing."""
        for number in reversed(range(len(self._marks))):
            if self._marks[number].name == name:
                del self._marks[number]
                return

    def finish(self) -> RichText:
        """The text, without blocks that hold nothing and without an id that stands twice."""
        _prune(self._text.blocks)
        taken: set[str] = set()
        for _, _, block in walk(self._text.blocks):
            if block.id in taken:
                block.id = ""
            taken.add(block.id)
        return self._text


def _prune(some: MutableSequence[Block]) -> None:
    """Trim lines of text, drop what then holds nothing, and fill rows of a table that are too short."""
    for number in reversed(range(len(some))):
        block = some[number]
        for spans in lines(block):
            _trim(spans)
        for _, inner in children(block):
            _prune(inner)
        if _is_empty(block):
            del some[number]


def _trim(spans: Spans) -> None:
    while spans and not (words := spans[0].text.lstrip(" \t\n")):
        del spans[0]
    if spans:
        spans[0].text = words
    while spans and not (words := spans[-1].text.rstrip(" \t\n")):
        del spans[-1]
    if spans:
        spans[-1].text = words


def _is_empty(block: Block) -> bool:
    """Whether a block holds nothing; its items and rows without anything are dropped."""
    match block.WhichOneof("kind"):
        case "paragraph" | "heading":
            return not block.id and not any(lines(block))
        case "list":
            _drop(block.items, lambda item: not item.blocks)
            return not block.items
        case "quote":
            return not block.quote.blocks
        case "table":
            _drop(block.table.rows, lambda row: not row.cells)
            width = max((len(row.cells) for row in block.table.rows), default=0)
            for row in block.table.rows:
                row.cells.extend(Block.Table.Cell() for _ in range(width - len(row.cells)))
            return not block.table.rows
        case None:
            return True
    return False


def _drop(parts: MutableSequence[T], unwanted: Callable[[T], bool]) -> None:
    for number in reversed(range(len(parts))):
        if unwanted(parts[number]):
            del parts[number]
