"""Rich text from and to Markdown and HTML: nothing dangerous gets through, and what gets through comes back."""

import contextlib
import re
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.errors import InvalidArgument
from services.content.rich_text import blocks, html, markdown
from thmnayah.content.v1.rich_text_pb2 import Block, RichText, Span

ID = "0190b0a0-0000-7000-8000-000000000000"

MARKDOWN = f"""\
# بيت **الحكمة**

كان في [بغداد](https://example.com/a_(b)) و`code` <u>تحته</u> ~~خط~~\\
وسطر آخر

- a
- b

  3. x
  4. y

* another list

> quote
>
> > deeper

![alt *text*](https://example.com/x.png "cap \\"tion\\"")

![asset](asset:{ID})

<https://www.youtube.com/watch?v=1>

```python
print("```")
```

| a | b |
| --- | --- |
| 1 | 2\\|3 |

___

![](content:{ID})

See [that](content:{ID}).
"""

# Scripts, handlers, schemes, foreign content, and markup that turns into another when it is parsed twice.
ATTACKS = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=https://evil.example/x.js></SCRIPT>",
    "<img src=x onerror=alert(1)>",
    '<img src="https://a.example/x.png" onerror="alert(1)">',
    "<img src=`javascript:alert(1)`>",
    '<a href="javascript:alert(1)">x</a>',
    '<a href="JaVaScRiPt:alert(1)">x</a>',
    '<a href="java\tscript:alert(1)">x</a>',
    '<a href="&#106;avascript:alert(1)">x</a>',
    '<a href=" &#14; javascript:alert(1)">x</a>',
    '<a href="data:text/html,<script>alert(1)</script>">x</a>',
    '<a href="vbscript:msgbox(1)">x</a>',
    "<a href='https://a.example/\"onmouseover=\"alert(1)'>x</a>",
    "<a href=\"https://a.example/'onmouseover='alert(1)\">x</a>",
    '<iframe src="javascript:alert(1)"></iframe>',
    '<iframe srcdoc="<script>alert(1)</script>"></iframe>',
    '<iframe src="http://a.example/"></iframe>',
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><a xlink:href='javascript:alert(1)'><text>x</text></a></svg>",
    '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=alert(1)&gt;">',
    '<noscript><p title="</noscript><img src=x onerror=alert(1)>">',
    '<form><math><mtext></form><form><mglyph><svg><mtext><style><path id="</style><img onerror=alert(1) src>">',
    '<style>@import "https://evil.example/x.css";</style>',
    '<p style="background:url(javascript:alert(1))">x</p>',
    '<div data-block-id="&quot; onclick=&quot;alert(1)">x</div>',
    "<p data-block-id='\"><script>alert(1)</script>'>x</p>",
    "<p lang='\"><script>alert(1)</script>' dir='\"onclick=alert(1)'>x</p>",
    "<template><script>alert(1)</script></template>",
    "<textarea></textarea><script>alert(1)</script>",
    "<title></title><img src=x onerror=alert(1)>",
    "<!--><script>alert(1)</script>-->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<object data=javascript:alert(1)><embed src=javascript:alert(1)>",
    "<base href=https://evil.example/><meta http-equiv=refresh content='0;url=javascript:alert(1)'>",
    "<pre><code class='language-\"><script>alert(1)</script>'>x</code></pre>",
    '<figure data-embed="javascript:alert(1)"></figure>',
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "[x](javascript:alert(1))",
    "[x](<java\nscript:alert(1)>)",
    "![x](data:image/svg+xml;base64,PHN2Zz4=)",
    "<javascript:alert(1)>",
    '![x](https://a.example/" "onerror=alert(1)")',
    '```"><script>alert(1)</script>\nx\n```',
    "[x]: javascript:alert(1)\n\n[x]",
]

ALLOWED = re.compile(
    r"</?(p|h[1-6]|ul|ol|li|blockquote|figure|figcaption|pre|table|thead|tbody|tr|th|td|div|strong|em|u|s|code|a|img|br|hr)"
    r'( (data-block-id|data-content-id|data-asset-id|data-provider|lang|dir|start|class|alt|rel)="[^"<>]*"'
    r'| (href|src|data-embed)="(https?://|mailto:)[^"<>\s]*")*>'
)


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("read", [html.from_html, markdown.from_markdown])
def test_nothing_dangerous_gets_through(attack: str, read: Callable[[str], RichText]) -> None:
    written = html.to_html(read(attack))

    assert "<" not in ALLOWED.sub("", written), written
    once = html.to_html(html.from_html(written))
    assert html.to_html(html.from_html(once)) == once


def test_every_kind_of_block_comes_back_from_markdown() -> None:
    text = markdown.from_markdown(MARKDOWN)

    assert [block.WhichOneof("kind") for block in text.blocks] == [
        "heading", "paragraph", "list", "list", "quote", "image", "image", "embed", "code", "table", "divider",
        "reference", "paragraph",
    ]  # fmt: skip
    written = markdown.to_markdown(text)
    assert _without_ids(markdown.from_markdown(written)) == _without_ids(text)
    assert markdown.to_markdown(markdown.from_markdown(written)) == written


def test_every_block_comes_back_from_html_with_its_id() -> None:
    text = markdown.from_markdown(MARKDOWN, locale="ar")

    assert html.from_html(html.to_html(text)) == text


def test_directions_follow_the_first_letter_and_then_the_language() -> None:
    text = markdown.from_markdown("مرحبا world\n\nhello عالم\n\n2025\n\n```\nمرحبا\n```", locale="ar")

    assert [block.dir for block in text.blocks] == [Block.RTL, Block.LTR, Block.RTL, Block.LTR]
    assert markdown.from_markdown("2025").blocks[0].dir == Block.LTR


@pytest.mark.parametrize("words", ["قال\u200f: مرحبا\u200e!", "\u2067عربي\u2069 en", "كَتَبَ", "لا\u200cإله", "a\u00a0b"])
def test_arabic_with_its_marks_comes_back(words: str) -> None:
    text = RichText(blocks=[Block(id="a", paragraph=Block.Paragraph(spans=[Span(text=words)]))])
    blocks.normalize(text)

    assert html.from_html(html.to_html(text)) == text
    assert _without_ids(markdown.from_markdown(markdown.to_markdown(text))) == _without_ids(text)


@pytest.mark.parametrize(
    ("pasted", "plain"),
    [
        ("<p>a<p>b", "a\nb"),
        ("<ul><li>a<ul><li>b</ul><ul><li>c</ul></ul>", "a\nb\nc"),
        ("<ul><li>a</li><ul><li>b</li></ul></ul>", "a\nb"),
        ("<h1><div>a</div><p>b</p></h1>", "a b"),
        ("<table><tr><td><p>a</p><p>b</p></td></tr><tr><td>c<td>d</table>", "a b\t\nc\td"),
        ("loose <b>words</b><div>and more</div>", "loose words\nand more"),
        ("<table><caption>t</caption></table>", "t"),
        ("<blockquote></blockquote><ul></ul><ul><li></li></ul><p> </p>", ""),
        ("<li>a</li>b", "a\nb"),
        ("a <br> b", "a\nb"),
    ],
)
def test_html_as_others_write_it_keeps_its_words(pasted: str, plain: str) -> None:
    text = html.from_html(pasted)

    assert blocks.plain_text(text) == plain
    assert html.from_html(html.to_html(text)) == text


def test_an_id_that_stands_twice_is_kept_once() -> None:
    text = html.from_html('<p data-block-id="a">x</p><p data-block-id="a">y</p>')

    assert text.blocks[0].id == "a"
    assert text.blocks[1].id not in ("", "a")


@pytest.mark.parametrize(
    ("read", "source", "limit"),
    [
        (markdown.from_markdown, "> " * 21 + "x", "20"),
        (html.from_html, "<blockquote>" * 21 + "x", "20"),
        (html.from_html, "<div>" * 501, "500"),
        (markdown.from_markdown, "[" * 5001, "5000"),
        (markdown.from_markdown, "a\n\n" * 1001, "1000"),
        (html.from_html, "<p>a" * 20_000, "5000"),
        (html.from_html, "".join(f"<b id={each}></x>" for each in range(501)), "500"),
        (html.from_html, "<p><font size=1>" * 400 + "<p>a" * 20_000, "500"),
        (html.from_html, "<br>" * 50_001, "50000"),
        (markdown.from_markdown, "a\n" * 20_001, "20000"),
        (markdown.from_markdown, "*_" * 60_000, "50000"),
    ],
)
def test_what_breaks_a_limit_is_refused_by_its_name(read: Callable[[str], RichText], source: str, limit: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        read(source)

    (field, description), *_ = refused.value.violations.items()
    assert field in ("markdown", "html")
    assert limit in description


@pytest.mark.parametrize(
    ("read", "unit", "around"),
    [
        # Elements that HTML opens again and again, whose ends name nothing, or that stand in one another unseen.
        (html.from_html, "<p>a", "".join(f"<p><font size={size}>" for size in range(499))),
        (html.from_html, "<div></x>", ""),
        (html.from_html, "<dd><li>", ""),
        (html.from_html, "<b>a</b>", ""),
        (html.from_html, "<p>", ""),
        (markdown.from_markdown, "|a|\n|-|\n", ""),
        (markdown.from_markdown, "- a\n", ""),
        (markdown.from_markdown, "a\n", ""),
        (markdown.from_markdown, "*_", ""),
        (markdown.from_markdown, "~~", ""),
        (markdown.from_markdown, "[a", ""),
        (markdown.from_markdown, "`a", ""),
        (markdown.from_markdown, "<a", ""),
    ],
)
def test_hostile_text_costs_no_more_than_its_length(read: Callable[[str], RichText], unit: str, around: str) -> None:
    def cost(length: int) -> float:
        source = around + unit * ((length - len(around)) // len(unit))
        started = time.process_time()
        with contextlib.suppress(InvalidArgument):
            read(source)
        return time.process_time() - started

    cost(1000)
    # Four times the length; its square would be sixteen times as much.
    assert min(cost(120_000), cost(120_000)) < 9 * cost(30_000) + 0.2


def test_paragraphs_that_nobody_ended_are_not_deep() -> None:
    sloppy = "<table>" + "<tr><td><p>a<td><p>b</td>" * 400 + "</table>" + "<div><p>c</div>" * 600 + "<li><p>d" * 90

    assert len(blocks.plain_text(html.from_html(sloppy)).splitlines()) == 400 + 600 + 90


def test_nineteen_quotes_around_a_paragraph_are_as_deep_as_may_be() -> None:
    text = markdown.from_markdown("> " * 19 + "x")

    assert max(depth for _, depth, _ in blocks.walk(text.blocks)) == 20
    assert html.from_html(html.to_html(text)) == text


CHARACTERS = st.characters(exclude_categories=("Cc", "Cs", "Cn", "Co"))
WORDS = st.text(st.one_of(st.sampled_from(list(" \n*_`~[]()<>!#&;|\\+-=.1:\"'abغمب،")), CHARACTERS), max_size=12)
TARGETS: st.SearchStrategy[dict[str, str]] = st.one_of(
    st.just({}), st.just({"href": "https://example.com/?a=1&copy;=(2)"}), st.just({"content_id": ID})
)
FLAGS = st.fixed_dictionaries({name: st.booleans() for name in ("bold", "italic", "underline", "strike", "code")})
SPANS = st.lists(st.builds(lambda text, flags, to: Span(text=text, **flags, **to), WORDS, FLAGS, TARGETS), max_size=5)
LEAVES = st.one_of(
    st.builds(lambda spans: Block(paragraph=Block.Paragraph(spans=spans)), SPANS),
    st.builds(lambda level, spans: Block(heading=Block.Heading(level=level, spans=spans)), st.integers(1, 6), SPANS),
    st.builds(lambda text: Block(code=Block.Code(text=text, language="c++")), WORDS),
    st.builds(
        lambda alt, caption: Block(image=Block.Image(url="https://a.example/(x)", alt=alt, caption=caption)),
        WORDS.map(lambda words: " ".join(words.split())),
        WORDS.map(lambda words: " ".join(words.split())),
    ),
    st.just(Block(divider=Block.Divider())),
    st.builds(
        lambda header, cells: Block(
            table=Block.Table(
                header_row=header,
                rows=[Block.Table.Row(cells=[Block.Table.Cell(spans=cell) for cell in cells])] * 2,
            )
        ),
        st.booleans(),
        st.lists(SPANS, min_size=1, max_size=3),
    ),
)
BLOCKS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda some: Block(quote=Block.Quote(blocks=some)), st.lists(inner, min_size=1, max_size=3)),
        st.builds(
            lambda ordered, items: Block(
                list=Block.List(ordered=ordered), items=[Block.Item(blocks=item) for item in items]
            ),
            st.booleans(),
            st.lists(st.lists(inner, min_size=1, max_size=2), min_size=1, max_size=3),
        ),
    ),
    max_leaves=8,
)
TEXTS = st.builds(lambda some: RichText(blocks=some), st.lists(BLOCKS, max_size=5))


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_any_text_written_as_markdown_reads_the_same_the_second_time(text: RichText) -> None:
    blocks.normalize(text)
    once = markdown.from_markdown(markdown.to_markdown(text))
    written = markdown.to_markdown(once)
    twice = markdown.from_markdown(written)

    assert markdown.to_markdown(twice) == written
    assert blocks.plain_text(twice) == blocks.plain_text(once)


@settings(max_examples=300, deadline=None)
@given(SPANS)
def test_a_paragraph_comes_back_from_markdown_as_it_was(spans: list[Span]) -> None:
    text = RichText(blocks=[Block(paragraph=Block.Paragraph(spans=[Span(text="س"), *spans, Span(text="ع")]))])
    blocks.normalize(text)

    assert _without_ids(markdown.from_markdown(markdown.to_markdown(text))) == _without_ids(text)


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_any_text_written_as_html_reads_the_same_the_second_time(text: RichText) -> None:
    blocks.normalize(text)
    once = html.from_html(html.to_html(text))

    assert html.from_html(html.to_html(once)) == once
    kept = {block.id for _, _, block in blocks.walk(once.blocks)}
    assert kept <= {block.id for _, _, block in blocks.walk(text.blocks)}


@settings(max_examples=200, deadline=None)
@given(st.text(st.one_of(st.sampled_from(list(" \n*_`~[]()<>!#&;|\\+-=.1:\"'abغ،")), CHARACTERS), max_size=60))
def test_any_markdown_is_stable_from_the_second_pass(source: str) -> None:
    written = markdown.to_markdown(markdown.from_markdown(source))

    assert markdown.to_markdown(markdown.from_markdown(written)) == written


def _without_ids(text: RichText) -> RichText:
    bare = RichText()
    bare.CopyFrom(text)
    for _, _, block in blocks.walk(bare.blocks):
        block.id = ""
    return bare
