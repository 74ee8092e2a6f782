"""AIP-160 filters: read into a tree, then compiled to SQL with every value a parameter.

What is understood: `field = value` with `=`, `!=`, `<`, `<=`, `>`, `>=`; `field:value` for a list
that has the value, `field:*` for a field that is set; AND, OR, NOT, `-` and parentheses. As the AIP
has it, OR binds tighter than AND, and terms side by side are joined by AND.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from libs.errors import InvalidArgument
from libs.text import nfc

MAX_DEPTH = 10
MAX_TERMS = 50

_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
    r"""|(?P<sign><=|>=|!=|[=<>:()-])"""
    r"""|(?P<word>[^\s"'=<>!:()]+))"""
)
_COMPARE = {"=": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


@dataclass(frozen=True)
class Field:
    """A field that may stand in a filter, and the column it is kept in."""

    column: str
    kind: Literal["text", "list", "time"] = "text"
    has: str = "{value} = ANY({column})"
    """Of a list, when it has a value."""


class _Reader:
    def __init__(self, text: str, fields: Mapping[str, Field], parameters: list[object]) -> None:
        self.fields = fields
        self.parameters = parameters
        self.terms = 0
        self.tokens: list[tuple[str, str]] = []
        position = 0
        text = text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None or match.lastgroup is None:
                raise _bad(f"cannot be read from {text[position : position + 20]!r} on")
            self.tokens.append((match.lastgroup, match[match.lastgroup]))
            position = match.end()
        self.at = 0

    def peek(self) -> str:
        """The next token when it is a sign or a keyword, otherwise ""."""
        if self.at >= len(self.tokens):
            return ""
        kind, value = self.tokens[self.at]
        return value if kind == "sign" or value in ("AND", "OR", "NOT") else ""

    def expression(self, depth: int) -> str:
        if depth > MAX_DEPTH:
            raise _bad(f"may be nested {MAX_DEPTH} deep")
        parts = [self.factor(depth)]
        while self.at < len(self.tokens) and self.peek() != ")":
            if self.peek() == "AND":
                self.at += 1
            parts.append(self.factor(depth))
        return " AND ".join(parts)

    def factor(self, depth: int) -> str:
        parts = [self.term(depth)]
        while self.peek() == "OR":
            self.at += 1
            parts.append(self.term(depth))
        return f"({' OR '.join(parts)})" if len(parts) > 1 else parts[0]

    def term(self, depth: int) -> str:
        if self.peek() in ("NOT", "-"):
            self.at += 1
            # A row where the field is not set does not match, so it does match the negation.
            return f"({self.simple(depth)}) IS NOT TRUE"
        return self.simple(depth)

    def simple(self, depth: int) -> str:
        if self.peek() == "(":
            self.at += 1
            inside = self.expression(depth + 1)
            if self.peek() != ")":
                raise _bad("has a parenthesis that is not closed")
            self.at += 1
            return f"({inside})"
        return self.restriction()

    def restriction(self) -> str:
        self.terms += 1
        if self.terms > MAX_TERMS:
            raise _bad(f"may hold {MAX_TERMS} terms")
        name = self.take("word", "a field")
        field = self.fields.get(name)
        if field is None:
            raise _bad(f"does not know the field {name!r}; it knows {', '.join(sorted(self.fields))}")
        sign = self.take("sign", f"one of {' '.join(_COMPARE)} : after {name}")
        if self.at < len(self.tokens) and self.tokens[self.at] == ("word", "*") and sign == ":":
            self.at += 1
            return f"cardinality({field.column}) > 0" if field.kind == "list" else f"{field.column} IS NOT NULL"
        kind, value = self.tokens[self.at] if self.at < len(self.tokens) else ("", "")
        if kind not in ("word", "string") or self.peek():
            raise _bad(f"lacks a value after {name} {sign}")
        self.at += 1
        if kind == "string":
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        value = nfc(value)  # as texts are stored
        return self.comparison(name, field, sign, value)

    def take(self, kind: str, wanted: str) -> str:
        found, value = self.tokens[self.at] if self.at < len(self.tokens) else ("", "")
        if found != kind or (kind == "sign" and value not in _COMPARE and value != ":"):
            raise _bad(f"has {value!r} where {wanted} must stand" if value else f"ends where {wanted} must stand")
        self.at += 1
        return value

    def comparison(self, name: str, field: Field, sign: str, value: str) -> str:
        if field.kind == "list":
            if sign not in (":", "=", "!="):
                raise _bad(f"cannot order {name}, which is a list")
            self.parameters.append(value)
            has = field.has.format(value=f"${len(self.parameters)}", column=field.column)
            return f"NOT {has}" if sign == "!=" else has
        parameter: object = value
        if field.kind == "time":
            parameter = _time(name, value)
        elif sign not in ("=", "!=", ":"):
            raise _bad(f"cannot order {name}, which is text")
        self.parameters.append(parameter)
        return f"{field.column} {_COMPARE.get(sign, '=')} ${len(self.parameters)}"


def compile_filter(text: str, fields: Mapping[str, Field], parameters: list[object]) -> str:
    """The SQL condition that a filter stands for; its values are added to `parameters`.

    The SQL holds nothing of `text`: columns come from `fields`, values are `$n`.

    Raises:
        InvalidArgument: naming what cannot be read, or the field that is not known.
    """
    if "\0" in text:
        raise _bad("holds a NUL character")
    reader = _Reader(text, fields, parameters)
    if not reader.tokens:
        return "TRUE"
    condition = reader.expression(1)
    if reader.at < len(reader.tokens):
        raise _bad(f"has {reader.tokens[reader.at][1]!r} too much")
    return condition


def _time(name: str, value: str) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise _bad(f'needs an RFC 3339 time for {name}, such as "2026-01-31T09:00:00Z"')
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise _bad(f"needs a time between the years 1 and 9999 for {name}") from None


def _bad(description: str) -> InvalidArgument:
    return InvalidArgument({"filter": description})
