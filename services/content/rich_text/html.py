"""Rich text from and to HTML. What comes in is parsed and sanitised by nh3; what goes out is escaped here.

nh3 reads HTML as a browser does and writes well-formed HTML of the elements listed here, so a plain reader of
tags is enough after it. Nothing of it is passed on: only blocks are made of it, and HTML is made of blocks.
"""

import re
from collections.abc import Callable, Iterable
from html import escape
from html.parser import HTMLParser
from typing import Any, ClassVar

import nh3

from libs.errors import InvalidArgument
from services.content.rich_text import blocks, inline, links
from services.content.rich_text.builder import Builder
from services.content.rich_text.inline import Mark
from thmnayah.content.v1.rich_text_pb2 import Block, RichText, Span

# What is written for each style; the first of several that are read.
_STYLES = {
    "strong": "bold", "b": "bold",
    "em": "italic", "i": "italic",
    "u": "underline", "ins": "underline",
    "s": "strike", "del": "strike", "strike": "strike",
    "code": "code", "kbd": "code", "samp": "code",
}  # fmt: skip
_STYLE_TAGS = {style: tag for tag, style in reversed(_STYLES.items())}
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
# Each begins a new block and says nothing else.
_PARTS = frozenset(
    "address article aside center dd details div dl dt footer form header main nav section summary".split()
)
_BLOCKS = _PARTS | _HEADINGS.keys() | frozenset("p ul ol li blockquote pre figure iframe table tr hr".split())
_WITHOUT_END = ("br", "hr", "img")
_OTHERS = frozenset("a br img span figcaption thead tbody tfoot td th".split())
_OF_EVERY_BLOCK = frozenset({"data-block-id", "dir", "lang"})
_ATTRIBUTES = {
    **{tag: set(_OF_EVERY_BLOCK) for tag in _BLOCKS},
    "a": {"href", "data-content-id"},
    "code": {"class"},
    "div": {*_OF_EVERY_BLOCK, "data-content-id"},
    "figure": {*_OF_EVERY_BLOCK, "data-embed", "data-provider"},
    "iframe": {"src"},
    "img": {*_OF_EVERY_BLOCK, "src", "alt", "title", "data-asset-id"},
    "ol": {*_OF_EVERY_BLOCK, "start"},
}

_ID = re.compile("[A-Za-z0-9_-]{1,64}")
_LANG = re.compile("[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?")
_LANGUAGE = re.compile(r"(?:^|\s)lang(?:uage)?-([A-Za-z0-9_+#.-]{1,40})(?=\s|$)")
_PROVIDER = re.compile("[a-z0-9.-]{1,100}")
_SPACE = re.compile("[ \t\n\r\f]+")

_TAG = re.compile("<(/?)([a-zA-Z][^\\s/>]*)")
_DEEPEST_ELEMENT = 500
# The elements that each tag stands in, added up: what the parser may have to open again, about 1 µs each.
_MOST_REOPENED = 1_000_000
# What is left of the text: each tag costs the reader some µs.
_MOST_TAGS = 50_000
_EMPTY = frozenset("area base br col embed hr img input link meta source track wbr".split())
# What HTML lets stand without an end: one of a set ends another of it, and paragraphs in between.
_ENDS = [
    {"p"},
    {"li", "p"},
    {"dd", "dt", "p"},
    {"option", "optgroup"},
    {"td", "th", "tr", "tbody", "thead", "tfoot", "p"},
]
_ENDED_BY = {name: others for others in _ENDS for name in others - {"p"} or others}

Attributes = dict[str, str]


def from_html(html: str, *, locale: str = "") -> RichText:
    """Raises: InvalidArgument when it makes more than a text may hold."""
    _check_depth(html)
    reader = _Reader()
    reader.feed(
        nh3.clean(
            html,
            tags={*_BLOCKS, *_STYLES, *_OTHERS},
            attributes=_ATTRIBUTES,
            clean_content_tags={
                "script",
                "style",
                "title",
                "template",
                "textarea",
                "select",
                "noscript",
                "svg",
                "math",
            },
            url_schemes={"http", "https", "mailto"},
            link_rel=None,
        )
    )
    reader.close()
    rich_text = reader.builder.finish()
    blocks.normalize(rich_text, locale=locale)
    blocks.check_parsed(rich_text, "html")
    return rich_text


def _check_depth(html: str) -> None:
    """Refuse what would cost a parser the square of its length: elements in one another without end."""
    opened: list[str] = []
    reopened = 0
    for end, given in _TAG.findall(html):
        name = given.lower()
        if name in _EMPTY:
            continue
        if end:
            # What stands in it ends too, but styles are opened again after it.
            if name in opened:
                place = len(opened) - 1 - opened[::-1].index(name)
                opened[place:] = [each for each in opened[place + 1 :] if each not in _ENDED_BY]
        else:
            _end_others(opened, name)
            opened.append(name)
        reopened += len(opened)
        if len(opened) > _DEEPEST_ELEMENT or reopened > _MOST_REOPENED:
            raise InvalidArgument({"html": f"has elements too deep in one another; the limit is {_DEEPEST_ELEMENT}"})


def _end_others(opened: list[str], name: str) -> None:
    """End what the start of an element ends: the innermost like it, unless it stands in something else."""
    others = _ENDED_BY.get(name, ())
    for number in reversed(range(len(opened))):
        if opened[number] not in others:
            return
        if opened[number] == name:
            del opened[number:]
            return


class _Reader(HTMLParser):
    """Makes blocks of what nh3 wrote."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.builder = Builder("html")
        self._tags = 0
        # What the end of each open element does.
        self._ends: list[Callable[[], None]] = []
        # The lists and tables that are open, and whether an item of the list is.
        self._lists: list[tuple[Block, bool]] = []
        self._tables: list[Block] = []
        # Above 0 where words may stand and no blocks: in headings, cells and captions.
        self._in_line = 0
        # Words that are kept as they are, of code or of a caption.
        self._verbatim: list[str] | None = None
        self._figure: Attributes = {}
        self._image: Block | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tags += 1
        if self._tags > _MOST_TAGS:
            raise InvalidArgument({"html": f"has too many elements; the limit is {_MOST_TAGS}"})
        given = {name: value or "" for name, value in attrs}
        end = self._start(tag, given) if self._verbatim is None or tag == "code" else None
        if tag not in _WITHOUT_END:
            self._ends.append(end or _nothing)

    def handle_endtag(self, tag: str) -> None:
        if tag not in _WITHOUT_END:
            self._ends.pop()()

    def handle_data(self, data: str) -> None:
        if self._verbatim is not None:
            self._verbatim.append(data)
            return
        words = _SPACE.sub(" ", data)
        if words.startswith(" ") and self.builder.at_space:
            words = words[1:]
        self.builder.write(words)

    def _start(self, tag: str, given: Attributes) -> Callable[[], None] | None:
        """Begin an element; returns what its end does."""
        if tag in _STYLES and self._verbatim is None:
            return self._marked(Mark(_STYLES[tag]))
        if tag in _BLOCKS and self._in_line:
            self.builder.write("" if self.builder.at_space else " ")
            return None
        if tag in _HEADINGS:
            return self._heading(_HEADINGS[tag], given)
        if tag in _PARTS and tag != "div":
            return self._part()
        start = self._starts.get(tag)
        return start(self, tag, given) if start else None

    def _marked(self, mark: Mark) -> Callable[[], None]:
        self.builder.mark(mark)
        return lambda: self.builder.unmark(mark.name)

    def _part(self) -> Callable[[], None]:
        """What stands here and after it are texts of their own."""
        self.builder.end_text()
        return self.builder.end_text

    def _div(self, _: str, given: Attributes) -> Callable[[], None]:
        if blocks.is_uuid(content_id := given.get("data-content-id", "")):
            self.builder.block(_attributes(given)).reference.content_id = content_id
        return self._part()

    def _p(self, _: str, given: Attributes) -> Callable[[], None]:
        paragraph = self.builder.block(_attributes(given)).paragraph
        paragraph.SetInParent()
        self.builder.write_to(paragraph.spans)
        return self.builder.end_text

    def _heading(self, level: int, given: Attributes) -> Callable[[], None]:
        heading = self.builder.block(_attributes(given)).heading
        heading.level = level
        return self._line(heading.spans)

    def _line(self, spans: blocks.Spans) -> Callable[[], None]:
        """Words alone, until the element ends."""
        self.builder.write_to(spans)
        self._in_line += 1

        def end() -> None:
            self._in_line -= 1
            self.builder.end_text()

        return end

    def _list(self, tag: str, given: Attributes) -> Callable[[], None]:
        if self._lists and not self._lists[-1][1] and self._lists[-1][0].items:
            # A list right inside another belongs to the item before it.
            self.builder.enter(self._lists[-1][0].items[-1].blocks)
            leave = self.builder.leave
        else:
            leave = _nothing
        block = self.builder.block(_attributes(given))
        block.list.ordered = tag == "ol"
        if block.list.ordered and re.fullmatch("[0-9]{1,6}", start := given.get("start", "")) and start != "1":
            block.list.start = int(start)
        self.builder.end_text()
        self._lists.append((block, False))

        def end() -> None:
            self._lists.pop()
            self.builder.end_text()
            leave()

        return end

    def _li(self, _: str, __: Attributes) -> Callable[[], None]:
        if not self._lists or self._lists[-1][1]:
            return self._part()
        block, _open = self._lists[-1]
        self._lists[-1] = (block, True)
        self.builder.enter(block.items.add().blocks)

        def end() -> None:
            self._lists[-1] = (block, False)
            self.builder.leave()

        return end

    def _blockquote(self, _: str, given: Attributes) -> Callable[[], None]:
        lists, self._lists = self._lists, []
        self.builder.enter(self.builder.block(_attributes(given)).quote.blocks)

        def end() -> None:
            self._lists = lists
            self.builder.leave()

        return end

    def _pre(self, _: str, given: Attributes) -> Callable[[], None]:
        code = self.builder.block(_attributes(given)).code
        code.SetInParent()
        self.builder.end_text()
        words: list[str] = []
        self._verbatim = words

        def end() -> None:
            code.text = "".join(words)
            self._verbatim = None

        return end

    def _code(self, _: str, given: Attributes) -> None:
        """Code in `pre`, which has its language here."""
        language = _LANGUAGE.search(given.get("class", ""))
        if language and self.builder.last is not None and self.builder.last.HasField("code"):
            self.builder.last.code.language = language[1]

    def _figure_start(self, _: str, given: Attributes) -> Callable[[], None]:
        self.builder.end_text()
        self._figure, self._image = given, None
        if (url := links.clean(given.get("data-embed", ""))).startswith("https:"):
            self._embed(url, given)
            self._verbatim = []  # what stands in it says the same

        def end() -> None:
            self._figure, self._image, self._verbatim = {}, None, None
            self.builder.end_text()

        return end

    def _figcaption(self, _: str, __: Attributes) -> Callable[[], None]:
        if self._image is None:
            return self._part()
        image = self._image
        words: list[str] = []
        self._verbatim = words

        def end() -> None:
            image.image.caption = _SPACE.sub(" ", "".join(words)).strip()
            self._verbatim = None

        return end

    def _iframe(self, _: str, given: Attributes) -> None:
        if (url := links.clean(given.get("src", ""))).startswith("https:"):
            self._embed(url, given)

    def _embed(self, url: str, given: Attributes) -> None:
        embed = self.builder.block(_attributes(given)).embed
        embed.url = url
        if _PROVIDER.fullmatch(provider := given.get("data-provider", "")):
            embed.provider = provider
        self.builder.end_text()

    def _img(self, _: str, given: Attributes) -> None:
        alt = " ".join(given.get("alt", "").split())
        url, asset_id = links.clean(given.get("src", "")), given.get("data-asset-id", "")
        is_asset = blocks.is_uuid(asset_id)
        if self._in_line or not (is_asset or url.startswith("http")):
            mark = Mark("href", url) if url else Mark("")
            self.builder.mark(mark)
            self.builder.write(alt or url)
            self.builder.unmark(mark.name)
            return
        self._image = block = self.builder.block(_attributes({**self._figure, **given}))
        if is_asset:
            block.image.asset_id = asset_id
        else:
            block.image.url = url
        block.image.alt = alt
        block.image.caption = " ".join(given.get("title", "").split())
        self.builder.end_text()

    def _link(self, _: str, given: Attributes) -> Callable[[], None]:
        if blocks.is_uuid(content_id := given.get("data-content-id", "")):
            return self._marked(Mark("content_id", content_id))
        url = links.clean(given.get("href", ""))
        return self._marked(Mark("href", url) if url else Mark(""))

    def _table(self, _: str, given: Attributes) -> Callable[[], None]:
        if self._in_line:
            return _nothing
        self._tables.append(self.builder.block(_attributes(given)))
        self.builder.end_text()

        def end() -> None:
            self._tables.pop()
            self.builder.end_text()

        return end

    def _tr(self, _: str, __: Attributes) -> None:
        if self._tables and not self._in_line:
            self._tables[-1].table.rows.add()

    def _cell(self, tag: str, _: Attributes) -> Callable[[], None]:
        if not self._tables or self._in_line or not self._tables[-1].table.rows:
            return self._part() if not self._in_line else _nothing
        table = self._tables[-1].table
        if tag == "th" and len(table.rows) == 1:
            table.header_row = True
        return self._line(table.rows[-1].cells.add().spans)

    def _br(self, _: str, __: Attributes) -> None:
        self.builder.break_line()

    def _hr(self, _: str, given: Attributes) -> None:
        self.builder.block(_attributes(given)).divider.SetInParent()
        self.builder.end_text()

    _starts: ClassVar[dict[str, Callable[[Any, str, Attributes], Callable[[], None] | None]]] = {
        "a": _link,
        "blockquote": _blockquote,
        "br": _br,
        "code": _code,
        "div": _div,
        "figcaption": _figcaption,
        "figure": _figure_start,
        "hr": _hr,
        "iframe": _iframe,
        "img": _img,
        "li": _li,
        "ol": _list,
        "p": _p,
        "pre": _pre,
        "table": _table,
        "td": _cell,
        "th": _cell,
        "tr": _tr,
        "ul": _list,
    }


def _nothing() -> None:
    pass


def _attributes(given: Attributes) -> Block:
    """A block with the id, the language and the direction of an element, where they are ones we know."""
    block_id, lang = given.get("data-block-id", ""), given.get("lang", "")
    return Block(
        id=block_id if _ID.fullmatch(block_id) else "",
        lang=lang if _LANG.fullmatch(lang) else "",
        dir={"ltr": Block.LTR, "rtl": Block.RTL}.get(given.get("dir", "").lower(), Block.DIRECTION_UNSPECIFIED),
    )


def to_html(rich_text: RichText) -> str:
    """HTML that is safe in a page: every text and every attribute is escaped, and no link runs anything."""
    return "".join(map(_write_block, rich_text.blocks))


def _write_block(block: Block) -> str:
    kind = block.WhichOneof("kind")
    return _WRITERS[kind](block, _common(block)) if kind else ""


def _common(block: Block) -> str:
    direction = {Block.LTR: "ltr", Block.RTL: "rtl"}.get(block.dir, "")
    return _given({"data-block-id": block.id, "lang": block.lang, "dir": direction})


def _given(attributes: Attributes) -> str:
    return "".join(f' {name}="{escape(value)}"' for name, value in attributes.items() if value)


def _write_heading(block: Block, common: str) -> str:
    tag = f"h{block.heading.level}"
    return f"<{tag}{common}>{_write_spans(block.heading.spans)}</{tag}>"


def _write_list(block: Block, common: str) -> str:
    tag = "ol" if block.list.ordered else "ul"
    start = f' start="{block.list.start}"' if block.list.ordered and block.list.HasField("start") else ""
    items = ("".join(map(_write_block, item.blocks)) for item in block.items)
    return f"<{tag}{common}{start}>{''.join(f'<li>{item}</li>' for item in items)}</{tag}>"


def _write_image(block: Block, common: str) -> str:
    image = block.image
    source = _given({"src": image.url, "data-asset-id": image.asset_id})
    caption = f"<figcaption>{escape(image.caption)}</figcaption>" if image.caption else ""
    return f'<figure{common}><img{source} alt="{escape(image.alt)}">{caption}</figure>'


def _write_embed(block: Block, common: str) -> str:
    url = escape(block.embed.url)
    provider = _given({"data-provider": block.embed.provider})
    return f'<figure{common} data-embed="{url}"{provider}><a href="{url}" rel="noopener" dir="ltr">{url}</a></figure>'


def _write_code(block: Block, common: str) -> str:
    language = f' class="language-{escape(block.code.language)}"' if block.code.language else ""
    return f"<pre{common}><code{language}>{escape(block.code.text)}</code></pre>"


def _write_table(block: Block, common: str) -> str:
    rows = [
        "".join(f"<{tag}>{_write_spans(cell.spans)}</{tag}>" for cell in row.cells)
        for number, row in enumerate(block.table.rows)
        for tag in ["th" if block.table.header_row and number == 0 else "td"]
    ]
    head = 1 if block.table.header_row else 0
    parts = (("thead", rows[:head]), ("tbody", rows[head:]))
    inner = "".join(f"<{name}>{''.join(f'<tr>{row}</tr>' for row in some)}</{name}>" for name, some in parts if some)
    return f"<table{common}>{inner}</table>"


_WRITERS: dict[str, Callable[[Block, str], str]] = {
    "paragraph": lambda block, common: f"<p{common}>{_write_spans(block.paragraph.spans)}</p>",
    "heading": _write_heading,
    "list": _write_list,
    "quote": lambda block, common: f"<blockquote{common}>{''.join(map(_write_block, block.quote.blocks))}</blockquote>",
    "image": _write_image,
    "embed": _write_embed,
    "code": _write_code,
    "reference": lambda block, common: f'<div{common} data-content-id="{escape(block.reference.content_id)}"></div>',
    "table": _write_table,
    "divider": lambda _, common: f"<hr{common}>",
}


def _write_spans(spans: Iterable[Span]) -> str:
    return "".join(map(_write_step, inline.steps(spans)))


def _write_step(step: inline.Step) -> str:
    """A tag, or words. What is for machines is isolated, so that it does not turn the words around it."""
    if step.kind == "text":
        return escape(step.text).replace("\n", "<br>")
    name, value = step.mark
    if name in ("href", "content_id"):
        opening = {"href": value, "rel": "noopener"} if name == "href" else {"data-content-id": value}
        return "</a>" if step.kind == "close" else f"<a{_given(opening)}>"
    tag = _STYLE_TAGS[name]
    if step.kind == "close":
        return f"</{tag}>"
    return '<code dir="ltr">' if tag == "code" else f"<{tag}>"
