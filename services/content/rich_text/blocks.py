"""The blocks of a rich text: walking them, their stored form, their limits and their words."""

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterator, MutableSequence
from operator import attrgetter

from libs import rpc, text
from libs.errors import InvalidArgument
from services.content.rich_text import links
from thmnayah.content.v1.rich_text_pb2 import Block, RichText, Span

# The edge reads JSON up to 100 levels deep: a list in a list is four of them, a localized field of an item nine.
DEEPEST = 20
MOST_BLOCKS = 5000
LONGEST_TEXT = 200_000
LONGEST_CAPTION = 1000

# Everything of a span but its words.
_LOOK = attrgetter("bold", "italic", "underline", "strike", "code", "href", "content_id")
_LINE_BREAK = re.compile("\r\n?|[\x85\u2028\u2029]")
# The spans of a text that is written at once: in a block, or in a cell.
Spans = MutableSequence[Span]


def children(block: Block) -> list[tuple[str, MutableSequence[Block]]]:
    """The lists of blocks that stand in a block, each with its path from there."""
    kind = block.WhichOneof("kind")
    if kind == "list":
        return [(f"items[{number}].blocks", item.blocks) for number, item in enumerate(block.items)]
    return [("quote.blocks", block.quote.blocks)] if kind == "quote" else []


def lines(block: Block) -> list[Spans]:
    """The spans of a block, for each of its lines of text: one, one for each cell, or none."""
    return [spans for _, spans in named_lines(block)]


def named_lines(block: Block) -> list[tuple[str, Spans]]:
    """The same, each with its path from the block."""
    match block.WhichOneof("kind"):
        case "paragraph":
            return [("paragraph.spans", block.paragraph.spans)]
        case "heading":
            return [("heading.spans", block.heading.spans)]
        case "table":
            return [
                (f"table.rows[{number}].cells[{column}].spans", cell.spans)
                for number, row in enumerate(block.table.rows)
                for column, cell in enumerate(row.cells)
            ]
    return []


def walk(blocks: MutableSequence[Block], path: str = "blocks", depth: int = 1) -> Iterator[tuple[str, int, Block]]:
    """Every block, in reading order, with its path and how deep it stands, from 1.

    Nothing deeper than one block below the limit is entered.
    """
    for number, block in enumerate(blocks):
        here = f"{path}[{number}]"
        yield here, depth, block
        if depth <= DEEPEST:
            for name, inner in children(block):
                yield from walk(inner, f"{here}.{name}", depth + 1)


def normalize(rich_text: RichText, *, locale: str = "") -> None:
    """Give the text its stored form: NFC, spans that differ, and an id, a direction and a provider for each block.

    Args:
        locale: the language of the text, for blocks without a letter that has a direction.
    """
    taken = {block.id for _, _, block in walk(rich_text.blocks)}
    alike: Counter[bytes] = Counter()
    for _, _, block in walk(rich_text.blocks):
        for spans in lines(block):
            _merge(spans)
        match block.WhichOneof("kind"):
            case "image":
                block.image.alt = text.nfc(block.image.alt)
                block.image.caption = text.nfc(block.image.caption)
            case "code":
                block.code.text = text.nfc(_unix(block.code.text))
            case "embed":
                block.embed.provider = block.embed.provider or links.host(block.embed.url)
        if not block.id:
            block.id = _new_id(block, taken, alike)
        if not block.dir:
            block.dir = _direction(block, block.lang or locale)


def _new_id(block: Block, taken: set[str], alike: Counter[bytes]) -> str:
    """An id that is not taken, and now is: of the same text the same, so that importing it again changes nothing."""
    held = block.SerializeToString(deterministic=True)
    made = ""
    while not made or made in taken:
        alike[held] += 1
        made = "b" + hashlib.blake2b(b"%d %s" % (alike[held], held), digest_size=6).hexdigest()
    taken.add(made)
    return made


def check(rich_text: RichText, field: str) -> None:
    """Check what no rule of the contract can say of one field.

    Args:
        field: where the text stands in the request.

    Raises:
        InvalidArgument: naming each block that breaks a limit, and the limit.
    """
    if found := violations(rich_text, field):
        raise InvalidArgument(found)


def violations(rich_text: RichText, field: str) -> dict[str, str]:
    """What breaks a limit that no rule of the contract can say, by its path below the field."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    count = total = 0
    for path, depth, block in walk(rich_text.blocks):
        here = f"{field}.{path}"
        count += 1
        texts = _texts(block)
        total += sum(map(len, texts))
        if depth > DEEPEST:
            return {here: f"stands deeper than {DEEPEST} blocks in one another, which is the limit"}
        if block.id and block.id in seen:
            found[f"{here}.id"] = "another block of the text has this id"
        seen.add(block.id)
        if len({len(row.cells) for row in block.table.rows}) > 1:
            found[f"{here}.table.rows"] = "must all have as many cells as the first"
        if bool(block.items) != block.HasField("list"):
            found[f"{here}.items"] = "are what a list holds, at least one, and no other block"
        if block.HasField("image") and max(map(len, texts)) > LONGEST_CAPTION:  # composing made it longer
            found[f"{here}.image"] = f"has an alt text or a caption over {LONGEST_CAPTION} characters"
    if count > MOST_BLOCKS:
        found[f"{field}.blocks"] = f"hold {count} blocks, those in others included; the limit is {MOST_BLOCKS}"
    if total > LONGEST_TEXT:
        found[field] = f"holds {total} code points of text; the limit is {LONGEST_TEXT}"
    return found


def length(rich_text: RichText) -> int:
    """How many code points of text it holds."""
    return sum(len(words) for _, _, block in walk(rich_text.blocks) for words in _texts(block))


def check_parsed(rich_text: RichText, field: str) -> None:
    """Check a text that was made of another form against every rule of the contract.

    Raises:
        InvalidArgument: for the field that held the other form, naming a block and what is wrong with it.
    """
    try:
        check(rich_text, "richText")
        rpc.validate(rich_text)
    except InvalidArgument as invalid:
        path, description = next(iter(invalid.violations.items()))
        raise InvalidArgument({field: f"{path.removeprefix('richText.')} {description}"}) from None


def plain_text(rich_text: RichText) -> str:
    """The words of a text, a line for each block or row, for search and for counting."""
    return "\n".join(filter(None, (own_text(block) for _, _, block in walk(rich_text.blocks))))


def own_text(block: Block) -> str:
    """The words of a block without those of the blocks in it; cells are parted by tabs."""
    if block.HasField("table"):
        return "\n".join("\t".join(map(_joined, (cell.spans for cell in row.cells))) for row in block.table.rows)
    return "\n".join(filter(None, _texts(block)))


def is_uuid(value: str) -> bool:
    return re.fullmatch("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", value) is not None


def _joined(spans: Spans) -> str:
    return "".join(span.text for span in spans)


def _texts(block: Block) -> list[str]:
    match block.WhichOneof("kind"):
        case "image":
            return [block.image.alt, block.image.caption]
        case "code":
            return [block.code.text]
    return [_joined(spans) for spans in lines(block)]


def _merge(spans: Spans) -> None:
    """Join neighbours that look alike, and drop those without text."""
    merged: list[Span] = []
    for _, alike in itertools.groupby((span for span in spans if span.text), key=_LOOK):
        span, *others = alike
        words = _unix("".join([span.text, *(each.text for each in others)]))
        formed = text.nfc(words.replace("\n", " ") if span.code else words)
        if formed != span.text:
            span.text = formed
        merged.append(span)
    if len(merged) < len(spans):
        del spans[:]
        spans.extend(merged)


def _unix(words: str) -> str:
    return _LINE_BREAK.sub("\n", words)


def _direction(block: Block, locale: str) -> "Block.Direction.ValueType":
    if block.WhichOneof("kind") in ("code", "embed"):
        return Block.LTR
    words = (own_text(inner) for _, _, inner in walk([block]))
    return Block.RTL if text.direction(words, locale) == "rtl" else Block.LTR
