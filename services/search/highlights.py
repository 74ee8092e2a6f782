"""Which words of a document matched, shown in their context."""

import html
from collections.abc import Collection

from services.search import analysis
from services.search.documents import TEXTS
from thmnayah.content.v1.content_pb2 import Content
from thmnayah.search.v1.search_pb2 import Highlight

LENGTH = 240  # of a piece, in code points
MOST = 3

_Match = tuple[str, int, int]


def find(content: Content, terms: Collection[str], locale: str) -> list[Highlight]:
    """The best pieces of the text that holds most of the terms, at most MOST.

    Args:
        locale: look at this locale's text only; "" chooses by the terms found.
    """
    best: list[tuple[str, str, list[_Match]]] = []
    covered = 0
    for each in [locale] if locale else sorted(content.locales):
        matches = [
            (field, text, _matches(text, terms)) for field in TEXTS if (text := getattr(content, field).get(each))
        ]
        found = len({term for _, _, hits in matches for term, _, _ in hits})
        if found > covered:
            best, covered, chosen = matches, found, each
    pieces = [Highlight(field=field, locale=chosen, text=_piece(text, hits)) for field, text, hits in best if hits]
    return pieces[:MOST]


def _matches(text: str, terms: Collection[str]) -> list[_Match]:
    return [match for match in analysis.terms(text) if match[0] in terms]


def _piece(text: str, matches: list[_Match]) -> str:
    """The stretch of the text with the most different terms, as HTML with the matches marked."""
    start, end = 0, len(text)
    if len(text) > LENGTH:
        first = max(
            range(len(matches)),
            key=lambda at: len({term for term, _, stop in matches[at:] if stop <= matches[at][1] + LENGTH * 3 // 4}),
        )
        start = max(0, min(matches[first][1] - LENGTH // 4, len(text) - LENGTH))
        end = min(len(text), start + LENGTH)
        # Whole words: not in the middle of the first and the last.
        start = 0 if start == 0 else text.find(" ", start, matches[first][1]) + 1 or matches[first][1]
        end = end if end == len(text) else max(text.rfind(" ", start, end), matches[first][2])
    parts = ["…"] if start else []
    at = start
    for _, begin, stop in matches:
        if begin >= start and stop <= end:
            parts += [
                html.escape(text[at:begin], quote=False),
                "<mark>",
                html.escape(text[begin:stop], quote=False),
                "</mark>",
            ]
            at = stop
    parts.append(html.escape(text[at:end], quote=False))
    return "".join(parts) + ("…" if end < len(text) else "")
