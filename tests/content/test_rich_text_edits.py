"""Edits of one block, and what became of each from one version to another."""

import pytest

from libs.errors import InvalidArgument, NotFound
from services.content.rich_text import blocks, diffs, edits, html
from thmnayah.content.v1.rich_text_pb2 import Block, BlockDiff, RichText, Span

KEPT, INSERTED, DELETED = BlockDiff.Segment.KEPT, BlockDiff.Segment.INSERTED, BlockDiff.Segment.DELETED


def _text() -> RichText:
    return html.from_html(
        '<h1 data-block-id="h">Title</h1><p data-block-id="p">Words</p>'
        '<ul data-block-id="l"><li><p data-block-id="a">a</p></li><li><p data-block-id="b">b</p></li></ul>'
        '<blockquote data-block-id="q"><p data-block-id="c">c</p></blockquote>'
    )


def _ids(text: RichText) -> list[str]:
    return [block.id for _, _, block in blocks.walk(text.blocks)]


def _paragraph(words: str, block_id: str = "") -> Block:
    return Block(id=block_id, paragraph=Block.Paragraph(spans=[Span(text=words)]))


def test_a_block_is_found_however_deep() -> None:
    assert edits.get(_text(), "c").paragraph.spans[0].text == "c"
    with pytest.raises(NotFound):
        edits.get(_text(), "nowhere")


def test_a_block_is_put_beside_another_or_at_the_end() -> None:
    text = _text()

    edits.insert(text, _paragraph("x", "x"), after="a")
    edits.insert(text, _paragraph("y", "y"), before="h")
    edits.insert(text, _paragraph("z"))

    assert _ids(text)[:-1] == ["y", "h", "p", "l", "a", "x", "b", "q", "c"]
    assert text.blocks[-1].id
    with pytest.raises(InvalidArgument):
        edits.insert(text, _paragraph("again", "x"))


def test_a_block_that_is_replaced_keeps_its_id() -> None:
    text = _text()

    edits.replace(text, "b", _paragraph("جديد", "other"))

    assert _ids(text) == _ids(_text())
    assert edits.get(text, "b").dir == Block.RTL


@pytest.mark.parametrize(
    ("block_id", "beside", "order"),
    [
        ("h", {"after": "p"}, ["p", "h", "l", "a", "b", "q", "c"]),
        ("l", {"before": "h"}, ["l", "a", "b", "h", "p", "q", "c"]),
        ("a", {"after": "c"}, ["h", "p", "l", "b", "q", "c", "a"]),
        ("c", {"before": "p"}, ["h", "c", "p", "l", "a", "b"]),
        ("c", {}, ["h", "p", "l", "a", "b", "c"]),
        ("p", {"after": "a"}, ["h", "l", "a", "p", "b", "q", "c"]),
    ],
)
def test_a_block_moves_with_all_in_it(block_id: str, beside: dict[str, str], order: list[str]) -> None:
    text = _text()

    edits.move(text, block_id, **beside)

    assert _ids(text) == order


def test_a_block_does_not_move_into_itself() -> None:
    with pytest.raises(InvalidArgument):
        edits.move(_text(), "l", after="a")
    with pytest.raises(InvalidArgument):
        edits.move(_text(), "h", before="h")


def test_what_holds_nothing_goes_with_its_last_block() -> None:
    text = _text()

    for block_id in ("a", "b", "c"):
        edits.remove(text, block_id)

    assert _ids(text) == ["h", "p"]


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


def test_each_block_that_differs_is_told_once() -> None:
    before, after = _text(), _text()
    edits.replace(after, "p", _paragraph("More words"))
    edits.remove(after, "a")
    edits.insert(after, _paragraph("new", "n"))
    edits.move(after, "q", before="h")
    after.blocks[1].heading.level = 2

    found = {each.id: each for each in diffs.compare(before, after)}

    assert {block_id: each.change for block_id, each in found.items()} == {
        "q": BlockDiff.MOVED,
        "h": BlockDiff.CHANGED,
        "p": BlockDiff.CHANGED,
        "n": BlockDiff.ADDED,
        "a": BlockDiff.REMOVED,
    }
    assert [each.fate for each in found["h"].segments] == [KEPT]
    assert not found["h"].moved
    assert diffs.compare(before, _text()) == []


def test_a_text_that_became_another_is_one_replacement() -> None:
    before = " ".join(f"a{number}" for number in range(3000))
    after = " ".join(f"b{number}" for number in range(3000))

    assert [each.fate for each in diffs.segments(before, after)] == [DELETED, INSERTED]
