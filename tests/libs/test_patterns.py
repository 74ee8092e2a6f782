"""Patterns: said in ECMA-262 with the same meaning, and run without a risk."""

import time

import pytest

from libs.patterns import ecma_pattern, matches


@pytest.mark.parametrize(
    ("re2", "ecma"),
    [
        (r"^[\x{202A}-\x{202E}]$", r"^[\u202A-\u202E]$"),
        (r"\x{1F600}", r"\u{1F600}"),
        (r"\\x{41}", r"\\x{41}"),
        (r"^(?:\p{L}|\.)\x00$", r"^(?:\p{L}|\.)\x00$"),
    ],
)
def test_patterns_are_translated(re2: str, ecma: str) -> None:
    assert ecma_pattern(re2) == ecma


@pytest.mark.parametrize("re2", [r"(?i)a", r"(?P<n>a)", r"\pL", r"\s", r"\Aa\z", r"\Qa", r"[[:alpha:]]"])
def test_a_pattern_without_an_equal_is_refused(re2: str) -> None:
    with pytest.raises(ValueError, match="has no equal in ECMA-262"):
        ecma_pattern(re2)


def test_the_whole_text_is_matched() -> None:
    assert matches(r"\d{3}", "123")
    assert not matches(r"\d{3}", "1234")


def test_no_pattern_takes_long() -> None:
    started = time.perf_counter()

    assert not matches("(a+)+b", "a" * 50_000)

    assert time.perf_counter() - started < 1


def test_what_is_no_pattern_is_refused() -> None:
    with pytest.raises(ValueError, match="is not a pattern of RE2"):
        matches("(", "")
