"""What became of each block from one version of a text to another."""

from services.content.rich_text import diffs, html
from tests.conftest import Metadata, RichTextStub
from thmnayah.content.v1.rich_text_pb2 import BlockDiff, DiffRichTextRequest, RichText

KEPT, INSERTED, DELETED = BlockDiff.Segment.KEPT, BlockDiff.Segment.INSERTED, BlockDiff.Segment.DELETED

BEFORE = (
    '<h1 data-block-id="h">Title</h1><p data-block-id="p">Words</p>'
    '<ul data-block-id="l"><li><p data-block-id="a">a</p></li><li><p data-block-id="b">b</p></li></ul>'
    '<blockquote data-block-id="q"><p data-block-id="c">c</p></blockquote>'
)
AFTER = (
    '<blockquote data-block-id="q"><p data-block-id="c">c</p></blockquote>'
    '<h2 data-block-id="h">Title</h2><p data-block-id="p">More words</p>'
    '<ul data-block-id="l"><li><p data-block-id="b">b</p></li></ul><p data-block-id="n">new</p>'
)


async def test_each_block_that_differs_is_told_once(rich_text: RichTextStub, reader: Metadata) -> None:
    async def compare(before: str, after: str) -> list[BlockDiff]:
        request = DiffRichTextRequest(before=html.from_html(before), after=html.from_html(after))
        return list((await rich_text.DiffRichText(request, metadata=reader, timeout=10)).blocks)

    found = {each.id: each for each in await compare(BEFORE, AFTER)}

    assert {block_id: each.change for block_id, each in found.items()} == {
        "q": BlockDiff.MOVED,
        "h": BlockDiff.CHANGED,
        "p": BlockDiff.CHANGED,
        "n": BlockDiff.ADDED,
        "a": BlockDiff.REMOVED,
    }
    assert [each.fate for each in found["h"].segments] == [KEPT]
    assert not found["h"].moved
    assert await compare(BEFORE, BEFORE) == []


def test_words_are_compared_and_not_letters() -> None:
    found = diffs.segments("كان بيتُ الحكمة، في بغداد.", "كان بيتُ الحكماء، في بغداد!")

    assert [(each.fate, each.text) for each in found] == [
        (KEPT, "كان بيتُ "),
        (DELETED, "الحكمة"),
        (INSERTED, "الحكماء"),
        (KEPT, "، في بغداد"),
        (DELETED, "."),
        (INSERTED, "!"),
    ]


def test_a_text_that_became_another_is_one_replacement() -> None:
    before = " ".join(f"a{number}" for number in range(3000))
    after = " ".join(f"b{number}" for number in range(3000))

    assert [each.fate for each in diffs.segments(before, after)] == [DELETED, INSERTED]


def test_a_text_too_long_to_align_is_compared_from_its_ends() -> None:
    words = " ".join(f"w{number * number % 151}" for number in range(20_000))

    found = diffs.segments(f"same {words} end", f"same x {words[3:]} y end")

    assert [each.fate for each in found] == [KEPT, DELETED, INSERTED, KEPT]
    assert "".join(each.text for each in found if each.fate != INSERTED) == f"same {words} end"
    assert "".join(each.text for each in found if each.fate != DELETED) == f"same x {words[3:]} y end"


def test_nothing_and_nothing_are_the_same() -> None:
    assert diffs.compare(RichText(), RichText()) == []
