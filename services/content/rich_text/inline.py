"""Marks as they open and close along the spans of a text, in the one order in which they nest."""

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from thmnayah.content.v1.rich_text_pb2 import Span

# From the outermost to the innermost.
STYLES = ("bold", "italic", "underline", "strike", "code")


class Mark(NamedTuple):
    """A style, or a target with where it leads."""

    name: str
    value: str = ""


class Step(NamedTuple):
    """What comes next: a mark that opens or closes, or text under the marks that are open."""

    kind: Literal["open", "close", "text"]
    mark: Mark
    text: str = ""


def marks(span: Span) -> list[Mark]:
    """The marks of a span, the outermost first."""
    target = span.WhichOneof("target")
    found = [Mark(target, getattr(span, target))] if target else []
    return found + [Mark(style) for style in STYLES if getattr(span, style)]


def steps(spans: Iterable[Span]) -> Iterator[Step]:
    """The spans as marks that open and close, properly nested."""
    opened: list[Mark] = []
    for span in spans:
        wanted = marks(span)
        kept = next((n for n, pair in enumerate(zip(opened, wanted, strict=False)) if pair[0] != pair[1]), None)
        kept = min(len(opened), len(wanted)) if kept is None else kept
        while len(opened) > kept:
            yield Step("close", opened.pop())
        for mark in wanted[kept:]:
            opened.append(mark)
            yield Step("open", mark)
        yield Step("text", opened[-1] if opened else Mark(""), span.text)
    while opened:
        yield Step("close", opened.pop())
