"""The form text is stored in, the form it is compared in, its words, and slugs."""

import re
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from libs import text

ARABIC = st.text(
    st.characters(min_codepoint=0x0600, max_codepoint=0x06FF)
    | st.characters(min_codepoint=0xFB50, max_codepoint=0xFEFC, exclude_categories=["Cn"])
    | st.sampled_from(" \u0640\u064b\u0651\u200c\u200d\u200f\u202e،؟A1é")
)
MANY = settings(max_examples=200, deadline=None)
ANY = st.text() | ARABIC | st.text(st.characters(categories=["L", "M", "N"]))


@MANY
@given(ANY)
@example("ſ\u0323\u0307")
@example("\u0345ͅ")
@example("İI\u0307")
def test_normalizing_again_changes_nothing(given_text: str) -> None:
    once = text.normalize(given_text)

    assert text.normalize(once) == once


@MANY
@given(ANY)
def test_what_is_composed_differently_is_compared_as_equal(given_text: str) -> None:
    forms = {text.normalize(unicodedata.normalize(form, given_text)) for form in ("NFC", "NFD", "NFKC", "NFKD")}

    assert forms == {text.normalize(given_text)}


@MANY
@given(ARABIC)
def test_marks_that_may_be_left_out_make_no_difference(given_text: str) -> None:
    bare = re.sub("[\u0640\u064b-\u0652\u200c\u200d]", "", given_text)

    # On a letter that they compose with, hamza and madda are more than a mark; here only vowels go.
    assert text.normalize(bare) == text.normalize(given_text)


@pytest.mark.parametrize(
    ("written", "alike"),
    [
        ("الرِّيَاضُ", "الرياض"),
        ("أحمد", "احمد"),
        ("إسلام", "اسلام"),
        ("آخر", "اخر"),
        ("ٱلكتاب", "الكتاب"),
        ("مكتبة", "مكتبه"),
        ("مستشفى", "مستشفي"),
        ("رئيس", "رييس"),
        ("مسؤول", "مسوول"),
        ("کتاب", "كتاب"),
        ("گربه", "گربه"),
        ("شيء", "شي"),
        ("٢٠٢٤", "2024"),
        ("۲۰۲۴", "2024"),
        ("Café", "cafe"),
        ("STRASSE", "straße"),
        ("Ångström", "angstrom"),
        ("łódź", "lodz"),
        ("ﻻ", "لا"),
        ("ﷺ", "صلي الله عليه وسلم"),
        ("İstanbul", "istanbul"),
    ],
)
def test_what_is_read_alike_becomes_equal(written: str, alike: str) -> None:
    assert text.normalize(written) == text.normalize(alike)


@pytest.mark.parametrize(("one", "other"), [("حرب", "خرب"), ("ت", "ث"), ("ص", "ض"), ("ه", "ح"), ("ك", "گ"), ("a", "b")])
def test_letters_that_differ_stay_different(one: str, other: str) -> None:
    assert text.normalize(one) != text.normalize(other)


@MANY
@given(ANY)
def test_the_stored_form_is_composed_and_says_the_same(given_text: str) -> None:
    stored = text.nfc(given_text)

    assert unicodedata.is_normalized("NFC", stored)
    assert text.nfc(stored) == stored
    assert unicodedata.normalize("NFD", stored) == unicodedata.normalize("NFD", given_text)


@MANY
@given(ANY)
def test_words_are_where_they_are_said_to_be_in_order(given_text: str) -> None:
    end = 0
    for word, start, stop in text.words(given_text):
        assert given_text[start:stop] == word
        assert start >= end
        assert stop > start
        assert any(char.isalnum() for char in word)
        end = stop


@MANY
@given(ANY)
def test_no_letter_is_outside_a_word(given_text: str) -> None:
    inside = {at for _, start, stop in text.words(given_text) for at in range(start, stop)}

    assert all(at in inside for at, char in enumerate(given_text) if char.isalnum())


@MANY
@given(ANY, st.integers(1, 200))
@example("a _b_ c", 120)
@example("௰", 120)
@example("Ⅻ〇", 120)
@example("हिन्दी", 120)
@example("x\u0302", 120)
@example("ﷺ" * 40, 100)
def test_a_slug_is_letters_and_digits_joined_by_hyphens(title: str, max_length: int) -> None:
    slug = text.slug(title, max_length=max_length)

    assert len(slug) <= max_length
    assert not slug.startswith("-")
    assert not slug.endswith("-")
    assert "--" not in slug
    # As the contract has it: [\p{L}\p{M}\p{Nd}] joined by hyphens.
    assert {unicodedata.category(char) for char in slug.replace("-", "")} <= {
        *("Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd")
    }


@MANY
@given(ANY)
@example("a _b_ c")
@example("\u0345")
@example("ſ\u0323\u0307")
def test_the_slug_of_a_slug_is_itself(title: str) -> None:
    slug = text.slug(title)

    assert text.slug(slug) == slug
    assert text.nfc(slug) == slug


@MANY
@given(ANY)
def test_a_slug_is_empty_only_without_letters_and_digits(title: str) -> None:
    # Tatweel and the small waw and ya of the Quran are letters to Unicode and marks to a reader.
    said = [
        char for char in unicodedata.normalize("NFKC", title) if char.isalpha() and char not in "\u0640\u06e5\u06e6"
    ]

    if said:
        assert text.slug(title)


@MANY
@given(ANY)
def test_titles_that_look_alike_have_one_slug(title: str) -> None:
    assert text.slug(title) == text.slug(unicodedata.normalize("NFD", title)) == text.slug("\u200f" + title + "\u200b")
