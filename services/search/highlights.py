"""Which words of a document matched, shown in their context."""

import html
import re
from collections.abc import Collection, Sequence

from services.search import analysis
from services.search.index import Hit
from thmnayah.search.v1.search_pb2 import Highlight

LENGTH = 240  # of a piece, in code points
BEFORE = 60  # of these, before the first word that matched
_SPECIAL = re.compile("[&<>]")


def find(hit: Hit, terms: Collection[str]) -> list[Highlight]:
    """A piece of each field of the text that matched which holds any of the terms: title, description, body.

    However long the body is, only a piece of it is read: the hit tells where terms stand in it.
    """
    pieces = []
    for field in ("title", "description"):
        text = getattr(hit.content, field).get(hit.locale, "")
        matches = _matches(text, terms)
        if matches:
            pieces.append((field, _marked(text, matches, *_window(text, [start for start, _ in matches]))))
    body = hit.body.get(hit.locale, "")
    if hit.places and body:
        start, end = _window(body, sorted(hit.places))
        matches = [(start + first, start + last) for first, last in _matches(body[start:end], terms)]
        pieces.append(("body", _marked(body, matches, start, end)))
    return [Highlight(field=field, locale=hit.locale, text=text) for field, text in pieces]


def _matches(text: str, terms: Collection[str]) -> list[tuple[int, int]]:
    return [(start, end) for term, start, end in analysis.terms(text) if term in terms]


def _window(text: str, places: Sequence[int]) -> tuple[int, int]:
    """The stretch of whole words, LENGTH long, around the most of the places."""
    if len(text) <= LENGTH:
        return 0, len(text)
    reach = LENGTH - BEFORE
    first = max(places, key=lambda place: sum(place <= other < place + reach for other in places))
    start = max(0, min(first - BEFORE, len(text) - LENGTH))
    end = min(len(text), start + LENGTH)
    if start:
        start = text.find(" ", start, first) + 1 or first
    if end < len(text):
        cut = text.rfind(" ", first, end)
        end = cut if cut > 0 else end
    return start, end


def _marked(text: str, matches: Sequence[tuple[int, int]], start: int, end: int) -> str:
    """A stretch of the text as HTML, with the matches in it marked and dots where text was left out."""
    parts = ["…"] if start else []
    at = start
    for first, last in matches:
        if start <= first and last <= end:
            parts += [_escaped(text[at:first]), "<mark>", _escaped(text[first:last]), "</mark>"]
            at = last
    parts += [_escaped(text[at:end]), "…" if end < len(text) else ""]
    return "".join(parts)


def _escaped(text: str) -> str:
    return html.escape(text, quote=False) if _SPECIAL.search(text) else text
