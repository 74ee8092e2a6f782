"""Highlights: the words that were found, marked as they are written, in HTML that is safe to show."""

import html
import re

import pytest

from tests.content.items import Caller
from tests.search.conftest import Finder, published


async def highlights(finder: Finder, query: str, content_id: str, locale: str = "") -> list[tuple[str, str, str]]:
    """Field, locale and text of each piece, once the item is found."""
    await finder.until(query, [content_id], locale=locale)
    (result,) = (await finder.ask(query, locale=locale)).results
    return [(piece.field, piece.locale, piece.text) for piece in result.highlights]


@pytest.mark.parametrize(
    ("text", "query", "marked"),
    [
        ("في الرِّيَاضِ {}", "الرياض {}", "في <mark>الرِّيَاضِ</mark> <mark>{}</mark>"),
        ("Universities of {}!", "university {}", "<mark>Universities</mark> of <mark>{}</mark>!"),
        ("CAFÉ, {}", "cafe {}", "<mark>CAFÉ</mark>, <mark>{}</mark>"),
        ("عام ٢٠٢٤: {}", "2024 {}", "عام <mark>٢٠٢٤</mark>: <mark>{}</mark>"),
        ("الريـــاض {}", "الرياض {}", "<mark>الريـــاض</mark> <mark>{}</mark>"),
        ("Department of art {}", "art {}", "Department of <mark>art</mark> <mark>{}</mark>"),
        ("😀 𐤀 art 😀 {}", "art {}", "😀 𐤀 <mark>art</mark> 😀 <mark>{}</mark>"),
    ],
)
async def test_words_are_marked_as_they_are_written(
    editing: Caller, finder: Finder, word: str, text: str, query: str, marked: str
) -> None:
    item = await published(editing, title={"en": text.format(word)})

    assert await highlights(finder, word, item.id)
    (result,) = (await finder.ask(query.format(word), filter='type = "article"')).results[:1]

    assert result.content.id == item.id
    assert result.highlights[0].text == marked.format(word)


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert('{}')</script>",
        "<img src=x onerror=alert(1)> {} & &amp; <b>",
        "\"{}\" 'quoted' </mark><mark>",
        "&lt;{}&gt;",
    ],
)
async def test_the_text_is_escaped(editing: Caller, finder: Finder, word: str, text: str) -> None:
    item = await published(editing, title={"en": text.format(word)}, body={"en": text.format(word)})

    pieces = await highlights(finder, word, item.id)

    assert [field for field, _, _ in pieces] == ["title", "body"]
    for _, _, piece in pieces:
        assert piece.count("<mark>") == piece.count("</mark>") == 1
        assert f"<mark>{word}</mark>" in piece
        bare = piece.replace("<mark>", "").replace("</mark>", "")
        assert "<" not in bare
        assert html.unescape(bare) == text.format(word)


@pytest.mark.parametrize("before", [0, 1, 50, 2000])
@pytest.mark.parametrize("filler", ["كلمة ", "word ", "نصبلافراغ", "😀"])
async def test_a_long_text_is_shown_around_the_words(
    editing: Caller, finder: Finder, word: str, before: int, filler: str
) -> None:
    body = f"{filler * before} {word} {filler * 500}"
    item = await published(editing, title={"ar": "عنوان"}, body={"ar": body})

    ((field, locale, piece),) = await highlights(finder, word, item.id)

    assert (field, locale) == ("body", "ar")
    assert f"<mark>{word}</mark>" in piece
    shown = html.unescape(re.sub("</?mark>", "", piece))
    assert len(shown) <= 300
    assert shown.strip("…") in body
    assert shown.startswith("…") == (not body.startswith(shown.strip("…")))


async def test_pieces_come_from_the_locale_with_most_of_the_words(editing: Caller, finder: Finder, word: str) -> None:
    others = f"{word}b {word}c {word}d"  # so many that no average length of the other tests' texts matters
    item = await published(
        editing, title={"ar": f"{word} هنا", "en": f"{word} here"}, description={"ar": f"{others} أيضا"}
    )
    await finder.until(word, [item.id])

    (result,) = (await finder.ask(f"{word} {others}")).results

    assert [(piece.field, piece.locale) for piece in result.highlights] == [("title", "ar"), ("description", "ar")]
