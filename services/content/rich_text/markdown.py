"""Rich text from and to Markdown: CommonMark with tables, `~~strike~~` and `<u>underline</u>`.

What Markdown has no words for is written as an address: `asset:` and `content:` with an id. An address
in angle brackets that is a paragraph of its own is an embed. Ids, languages and directions have no place.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from markdown_it import MarkdownIt
from markdown_it.token import Token

from libs.errors import InvalidArgument
from services.content.rich_text import blocks, inline, links
from services.content.rich_text.builder import Builder
from services.content.rich_text.inline import Mark
from thmnayah.content.v1.rich_text_pb2 import Block, RichText, Span

# The parser drops what stands deeper: deep enough for the builder's own limit to be met first.
_PARSER_DEPTH = 2 * blocks.DEEPEST + 10
# Each costs the parser up to 0.1 ms.
_MOST_BRACKETS = 5000
# How often the parser may ask what begins here: about 35 µs each for a line, 15 µs within one.
_MOST_LINES = 20_000
_MOST_MARKS = 50_000

_LANGUAGE = re.compile(r"[A-Za-z0-9_+#.-]{1,40}")
_STYLES = {"strong": "bold", "em": "italic", "s": "strike"}
_BREAKS = {"softbreak": " ", "hardbreak": "\n"}
_DELIMITERS = {"bold": "**", "italic": "_", "strike": "~~"}


def from_markdown(markdown: str, *, locale: str = "") -> RichText:
    """Raises: InvalidArgument when it makes more than a text may hold."""
    if markdown.count("[") > _MOST_BRACKETS:
        raise InvalidArgument({"markdown": f"has too many brackets; the limit is {_MOST_BRACKETS}"})
    builder = Builder("markdown")
    tokens = iter(_parser().parse(markdown, Counter()))
    for token in tokens:
        _read_block(builder, token, tokens)
    rich_text = builder.finish()
    blocks.normalize(rich_text, locale=locale)
    blocks.check_parsed(rich_text, "markdown")
    return rich_text


@cache
def _parser() -> MarkdownIt:
    """A parser that leaves addresses as they are written: `links` is what judges them."""
    parser = MarkdownIt("commonmark", {"html": True, "maxNesting": _PARSER_DEPTH})
    parser.enable(["table", "strikethrough"]).disable("html_block")
    parser.normalizeLink = parser.normalizeLinkText = lambda url: url  # type: ignore[method-assign, assignment]
    parser.validateLink = lambda _: True  # type: ignore[method-assign, assignment]
    # Rules that find nothing and count: what is too long is not parsed to its end.
    parser.block.ruler.before(
        "table",
        "count",
        lambda state, *_: _count(state.env, "lines", _MOST_LINES),
        {"alt": ["paragraph", "reference", "blockquote", "list"]},
    )
    parser.inline.ruler.before("text", "count", lambda state, _: _count(state.env, "marks", _MOST_MARKS))
    return parser


def _count(counts: MutableMapping[str, int], name: str, most: int) -> bool:
    counts[name] += 1
    if counts[name] > most:
        raise InvalidArgument({"markdown": f"has too many {name} of markup; the limit is {most}"})
    return False


# Reading


def _read_block(builder: Builder, token: Token, following: Iterator[Token]) -> None:
    match token.type:
        case "heading_open":
            heading = builder.block().heading
            heading.level = int(token.tag[1])
            builder.write_to(heading.spans)
            _read_inline(builder, next(following), in_line=True)
        case "paragraph_open":
            _read_paragraph(builder, next(following))
        case "paragraph_close" | "heading_close" | "th_close" | "td_close":
            builder.end_text()
        case "fence" | "code_block":
            code = builder.block().code
            code.text = token.content.removesuffix("\n")
            language = token.info.split(maxsplit=1)[:1]
            code.language = language[0] if language and _LANGUAGE.fullmatch(language[0]) else ""
        case "hr":
            builder.block().divider.SetInParent()
        case "blockquote_open":
            builder.enter(builder.block().quote.blocks)
        case "bullet_list_open" | "ordered_list_open":
            _read_list(builder, token, following)
        case "blockquote_close" | "list_item_close":
            builder.leave()
        case "table_open":
            _read_table(builder, following)


def _read_list(builder: Builder, opening: Token, following: Iterator[Token]) -> None:
    made = builder.block()
    made.list.ordered = opening.type == "ordered_list_open"
    start = int(opening.attrs.get("start", 1))
    if start != 1:
        made.list.start = min(start, 999_999)
    for token in following:
        if token.type == opening.type.replace("open", "close"):
            return
        if token.type == "list_item_open":
            builder.enter(made.items.add().blocks)
        else:
            _read_block(builder, token, following)


def _read_table(builder: Builder, following: Iterator[Token]) -> None:
    """A table; a first row without words stands for none, since Markdown cannot leave it out."""
    table = builder.block().table
    for token in following:
        match token.type:
            case "table_close":
                break
            case "tr_open":
                row = table.rows.add()
            case "th_open" | "td_open":
                builder.write_to(row.cells.add().spans)
            case "inline":
                _read_inline(builder, token, in_line=True)
            case "th_close" | "td_close":
                builder.end_text()
    table.header_row = any(span.text for cell in table.rows[0].cells for span in cell.spans)
    if not table.header_row and len(table.rows) > 1:
        del table.rows[0]


def _read_paragraph(builder: Builder, token: Token) -> None:
    parts = token.children or []
    if (
        len(parts) == 3
        and parts[0].info == "auto"
        and (url := links.clean(_attribute(parts[0], "href"))).startswith("https:")
    ):
        builder.block().embed.url = url
    else:
        _read_inline(builder, token, in_line=False)


def _read_inline(builder: Builder, token: Token, *, in_line: bool) -> None:
    """Write the words of an inline token; its images become blocks, or links where only words may stand."""
    targets: list[str] = []
    for part in token.children or []:
        match part.type:
            case "text" | "text_special" | "softbreak" | "hardbreak":
                builder.write(_BREAKS.get(part.type, part.content))
            case "code_inline":
                builder.mark(Mark("code"))
                builder.write(part.content)
                builder.unmark("code")
            case "html_inline":
                _read_tag(builder, part.content)
            case "image":
                _read_image(builder, part, in_line=in_line)
            case "link_open":
                target = _target(_attribute(part, "href"))
                targets.append(target.name)
                builder.mark(target)
            case "link_close":
                builder.unmark(targets.pop())
            case _ if part.nesting == 1:
                builder.mark(Mark(_STYLES[part.tag]))
            case _:
                builder.unmark(_STYLES[part.tag])
    builder.unmark("underline")


def _read_tag(builder: Builder, tag: str) -> None:
    """Raw HTML: underline and line breaks; a comment is left out, and any other tag is a text."""
    match re.sub(r"\s|/(?=>)", "", tag).lower():
        case "<u>":
            builder.unmark("underline")  # it does not nest
            builder.mark(Mark("underline"))
        case "</u>":
            builder.unmark("underline")
        case "<br>":
            builder.write("\n")
        case name if not name.startswith("<!--"):
            builder.write(tag)


def _read_image(builder: Builder, token: Token, *, in_line: bool) -> None:
    alt = _one_line("".join(_BREAKS.get(child.type, child.content) for child in token.children or []))
    target = _target(_attribute(token, "src"), schemes=("content", "asset"))
    if in_line or target.name == "" or target.value.startswith("mailto:"):
        linked = target if target.name in ("href", "content_id") else Mark("")
        builder.mark(linked)
        builder.write(alt or linked.value)
        builder.unmark(linked.name)
    elif target.name == "content_id":
        builder.block().reference.content_id = target.value
        builder.end_text()
    else:
        image = builder.block().image
        setattr(image, {"href": "url"}.get(target.name, target.name), target.value)
        image.alt = alt
        image.caption = _one_line(_attribute(token, "title"))


def _target(address: str, schemes: Sequence[str] = ("content",)) -> Mark:
    """Where an address leads; a mark without a name for one that may not stand in a text."""
    scheme, _, rest = address.partition(":")
    if scheme in schemes and blocks.is_uuid(rest):
        return Mark(f"{scheme}_id", rest)
    url = links.clean(address)
    return Mark("href", url) if url else Mark("")


def _attribute(token: Token, name: str) -> str:
    return str(token.attrGet(name) or "")


def _one_line(words: str) -> str:
    return " ".join(words.splitlines())


# Writing


def to_markdown(rich_text: RichText) -> str:
    return "\n\n".join(_written(rich_text.blocks))


def _written(some: Iterable[Block]) -> Iterator[str]:
    """Each block that Markdown has something to say of."""
    before: Block | None = None
    alternate = False
    for block in some:
        # Two lists in a row would be one, if their markers were the same.
        alternate = (
            not alternate
            and before is not None
            and before.WhichOneof("kind") == block.WhichOneof("kind") == "list"
            and before.list.ordered == block.list.ordered
        )
        if written := _write_block(block, alternate=alternate):
            yield written
            before = block


def _write_block(block: Block, *, alternate: bool) -> str:
    kind = block.WhichOneof("kind")
    if kind == "list":
        return _write_list(block, alternate=alternate)
    return _WRITERS[kind](block) if kind else ""


def _write_heading(block: Block) -> str:
    return ("#" * block.heading.level + " " + _write_spans(block.heading.spans, in_line=True)).rstrip()


def _write_quote(block: Block) -> str:
    return _prefixed("\n\n".join(_written(block.quote.blocks)), "> ", "> ")


def _write_fence(block: Block) -> str:
    fence = _longer_than_within("`", block.code.text, at_least=3)
    return f"{fence}{block.code.language}\n{block.code.text}\n{fence}"


def _write_list(block: Block, *, alternate: bool) -> str:
    number = block.list.start if block.list.HasField("start") else 1
    items: list[str] = []
    loose = any(len(item.blocks) > 1 for item in block.items)
    for item in block.items:
        marker = f"{number}{')' if alternate else '.'} " if block.list.ordered else "* " if alternate else "- "
        if words := "\n\n".join(_written(item.blocks)):
            items.append(_prefixed(words, marker, " " * len(marker)))
            number += 1
    return ("\n\n" if loose else "\n").join(items)


def _prefixed(words: str, first: str, others: str) -> str:
    lines = words.split("\n") if words else []
    return "\n".join(
        (others if number else first) + line if line else others.rstrip() for number, line in enumerate(lines)
    )


def _write_image(block: Block) -> str:
    image = block.image
    address = _write_address(image.url) if image.url else f"asset:{image.asset_id}"
    caption = re.sub(r'(["\\&])', r"\\\1", image.caption)
    title = f' "{caption}"' if caption else ""
    return f"![{''.join(map(_escaped, image.alt))}]({address}{title})"


def _write_table(block: Block) -> str:
    rows = [[_write_cell(cell) for cell in row.cells] for row in block.table.rows]
    if not rows:
        return ""
    width = len(rows[0])
    head = [] if block.table.header_row else [[""] * width]
    head, body = ([*head, *rows][:1], [*head, *rows][1:])
    return "\n".join("| " + " | ".join(row) + " |" for row in [*head, ["---"] * width, *body])


def _write_cell(cell: Block.Table.Cell) -> str:
    return _write_spans(cell.spans, in_line=True).replace("|", "\\|")


_WRITERS: dict[str, Callable[[Block], str]] = {
    "paragraph": lambda block: _write_spans(block.paragraph.spans),
    "heading": _write_heading,
    "quote": _write_quote,
    "image": _write_image,
    "embed": lambda block: f"<{block.embed.url}>",
    "code": _write_fence,
    "reference": lambda block: f"![](content:{block.reference.content_id})",
    "table": _write_table,
    "divider": lambda _: "___",
}


@dataclass
class _Piece:
    """A piece of a line: a mark that opens or closes, a character of the text, or what stands as it is."""

    kind: Literal["open", "close", "text", "raw"]
    source: str
    char: str = ""

    def refer(self) -> None:
        """Write the character as a reference, which Markdown takes for punctuation and for nothing else."""
        self.source = f"&#{ord(self.char)};"

    @property
    def is_reference(self) -> bool:
        return self.source.startswith("&#")


def _write_spans(spans: Iterable[Span], *, in_line: bool = False) -> str:
    pieces = [piece for step in inline.steps(spans) for piece in _pieces(step, in_line=in_line)]
    _escape_lines(pieces)
    _flank(pieces)
    return "".join(piece.source for piece in pieces)


def _pieces(step: inline.Step, *, in_line: bool) -> Iterator[_Piece]:
    name, value = step.mark
    match step.kind, name:
        case "text", "code":
            yield _Piece("raw", _write_code(step.text))
        case "text", _:
            yield from _characters(step.text, in_line=in_line)
        case kind, "underline":
            yield _Piece("raw", "<u>" if kind == "open" else "</u>")
        case "open", "href" | "content_id":
            yield _Piece("raw", "[")
        case "close", "href":
            yield _Piece("raw", f"]({_write_address(value)})")
        case "close", "content_id":
            yield _Piece("raw", f"](content:{value})")
        case kind, _ if name in _DELIMITERS:
            yield _Piece(kind, _DELIMITERS[name])


def _characters(words: str, *, in_line: bool) -> Iterator[_Piece]:
    for char, following in zip(words, words[1:] + "[", strict=True):
        if char == "\n" and in_line:
            yield _Piece("raw", "<br>")
        else:
            yield _Piece("text", "\\#" if char == "#" and in_line else _escaped(char, following), char)


def _escaped(char: str, following: str = "[") -> str:
    """A character that means itself wherever it stands within a line, before another."""
    special = (
        char in "\\`*_[]<~"
        or (char == "!" and following == "[")
        or (char == "&" and (following.isalnum() or following in "#["))
    )
    return "\\" + char if special else char


def _write_code(words: str) -> str:
    fence = _longer_than_within("`", words)
    ends = words[:1] + words[-1:]
    pad = " " if "`" in ends or (ends == "  " and words.strip(" ")) else ""
    return f"{fence}{pad}{words}{pad}{fence}"


def _write_address(url: str) -> str:
    url = url.replace("&", "&amp;") if re.search("&#?[A-Za-z0-9]+;", url) else url
    return f"<{url}>" if re.search("[()]", url) else url


def _longer_than_within(char: str, words: str, *, at_least: int = 1) -> str:
    """A run of a character that is longer than each within a text."""
    return char * max(at_least, *(len(run) + 1 for run in re.findall(f"{char}+", words)), at_least)


_LINE_START = re.compile(r"[#>+\-=:|]|\d{1,9}(?=[.)])")


def _escape_lines(pieces: Sequence[_Piece]) -> None:
    """Keep the ends of lines from being trimmed, and their starts from being taken for a block's."""
    for number, piece in enumerate(pieces):
        if piece.kind != "text":
            continue
        starts = number == 0 or pieces[number - 1].char == "\n"
        ends = number == len(pieces) - 1 or pieces[number + 1].char == "\n"
        if piece.char == "\n":
            if starts or ends:
                piece.refer()
            else:
                piece.source = "\\\n"
        elif piece.char.isspace() and (starts or ends):
            piece.refer()
        elif starts:
            _escape_start(pieces[number : number + 11])


def _escape_start(pieces: Sequence[_Piece]) -> None:
    line = "".join(piece.char or " " for piece in pieces)
    if match := _LINE_START.match(line):
        mark = pieces[match.end() if match[0].isdecimal() else 0]
        mark.source = "\\" + mark.char


def _flank(pieces: Sequence[_Piece]) -> None:
    """Let every delimiter open or close, whatever it stands beside (CommonMark 6.2).

    A character reference on its inner side keeps a space there from counting, and one on its outer side
    a letter. Each may be the neighbour of another delimiter, so it goes on until nothing changes.
    """
    changed = True
    while changed:
        changed = False
        for number, piece in enumerate(pieces):
            if piece.kind not in ("open", "close"):
                continue
            before = pieces[number - 1] if number else None
            after = pieces[number + 1] if number + 1 < len(pieces) else None
            inner, outer = (after, before) if piece.kind == "open" else (before, after)
            if inner is not None and inner.char.isspace() and not inner.is_reference:
                inner.refer()
                changed = True
            joined = outer is not None and outer.kind == "text" and _is_letter(outer)
            if joined and outer is not None and (piece.source == "_" or inner is None or not _is_letter(inner)):
                outer.refer()
                changed = True


def _is_letter(piece: _Piece) -> bool:
    """Whether Markdown counts a piece as neither space nor punctuation."""
    if piece.kind != "text" or len(piece.source) > 1:
        return False
    return not piece.char.isspace() and unicodedata.category(piece.char)[0] not in "PS"
