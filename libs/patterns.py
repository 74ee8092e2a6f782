"""Patterns as the contracts write them, in RE2: safe to run on anybody's text, and said in ECMA-262 for JSON Schema."""

import re
from functools import lru_cache

import re2

# Escapes that RE2 and ECMA-262 read alike.
_ESCAPES = {"p{", "P{", *"xdDwWbBnrtfv", *"^$\\.*+?()[]{}|/"}


def ecma_pattern(pattern: str) -> str:
    """A pattern as JSON Schema wants it: ECMA-262, with the flag `u`.

    Raises:
        ValueError: it uses what ECMA-262 lacks or reads differently.
    """

    def translate(match: re.Match[str]) -> str:
        code_point, escaped = match.groups()
        if code_point:
            number = int(code_point, 16)
            return f"\\u{number:04X}" if number <= 0xFFFF else f"\\u{{{number:X}}}"
        if escaped in _ESCAPES:
            return match.group()
        raise ValueError(f"pattern {pattern!r}: {match.group()} has no equal in ECMA-262")

    return re.sub(r"\\x\{([0-9A-Fa-f]+)\}|\\([pP]\{|.)|\(\?(?!:)|\[:\^?\w+:\]", translate, pattern)


def matches(pattern: str, text: str) -> bool:
    """Whether the whole text matches, in time that grows with its length alone.

    Raises:
        ValueError: it is no pattern of RE2.
    """
    return _compiled(pattern).fullmatch(text) is not None


@lru_cache(maxsize=1000)
def _compiled(pattern: str) -> re2._Regexp:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error:
        raise ValueError(f"{pattern!r} is not a pattern of RE2") from None
