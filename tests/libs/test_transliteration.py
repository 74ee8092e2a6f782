"""Titles in Latin letters."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libs import text, transliteration
from tests.libs.test_text import ANY, ARABIC, MANY


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("بيت الحكمة", "bit-al-hkma"),
        ("تاريخ الدرعية", "tarikh-al-draiya"),
        ("المملكة العربية السعودية", "al-mmlka-al-arbiya-al-saudiya"),
        ("الشمس والقمر", "al-shms-walqmr"),
        ("سارة الحربي", "sara-al-hrbi"),
        ("أحمد شوقي", "ahmd-shuqi"),
        ("محمّد بن سعيد", "muhammad-bin-said"),
        ("إيطاليا وليبيا", "italya-wlibya"),
        ("رؤية ٢٠٣٠", "ruya-2030"),
        ("مسؤول، رئيس، ماء، مئة", "msul-rais-ma-mia"),
        ("موسيقى آسيا", "musiqa-asya"),
        ("لا إله إلا الله", "la-ilh-ila-allah"),
        ("القرآن", "al-qran"),
        ("عادل في العين", "adl-fi-al-ain"),
        ("ساعة إبداع", "saa-ibda"),
        ("حوار اليوم", "hwar-al-yum"),
        ("ﷺ", "sla-allah-alih-wslm"),
        ("ء", "a"),
        ("پاکستان ۱۴۰۰", "pakstan-1400"),
        ("چای می‌خواهم", "chay-mikhwahm"),
        ("لڑکا اور گھوڑے", "lrka-awr-ghure"),
        ("Ünïcode Café", "unicode-cafe"),
        ("Straße № 5", "strasse-no-5"),
        ("Москва 北京", "moskva-beijing"),
        ("Episode 12: The End", "episode-12-the-end"),
    ],
)
def test_a_title_is_said_in_latin_letters(title: str, slug: str) -> None:
    assert transliteration.slug(title) == slug


@MANY
@given(ANY, st.integers(1, 200))
@example("ء ء", 3)
@example("𐤀", 120)
def test_it_is_letters_and_digits_joined_by_hyphens(title: str, max_length: int) -> None:
    slug = transliteration.slug(title, max_length=max_length)

    assert len(slug) <= max_length
    assert re.fullmatch("([a-z0-9]+(-[a-z0-9]+)*)?", slug)
    assert transliteration.slug(slug) == slug


@MANY
@given(ARABIC)
def test_no_arabic_title_is_left_without_one(title: str) -> None:
    # The tail of a letter (U+FE73) is a letter to Unicode alone.
    said = [char for char in text.slug(title) if char.isalnum() and char != "\ufe73"]

    assert transliteration.slug(title) or not said


@MANY
@given(ARABIC)
def test_tashkeel_makes_no_difference(title: str) -> None:
    bare = re.sub("[\u0640\u064b-\u0652\u200c\u200d]", "", title)

    assert transliteration.slug(bare) == transliteration.slug(title)
