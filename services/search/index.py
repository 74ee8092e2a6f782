"""Reading the index: what matches a query, ranked by BM25."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from libs import filters, paging
from libs.db import Connection, Record
from services.search import analysis
from thmnayah.content.v1.content_pb2 import Content

# The BM25 of Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009, with its usual constants.
K1 = 1.2
B = 0.75

_FIELDS = {
    "type": filters.Field("type"),
    "category": filters.Field("category"),
    "tags": filters.Field("tags", "list"),
    "publish_time": filters.Field("publish_time", "time"),
    "publishTime": filters.Field("publish_time", "time"),
}


@dataclass(frozen=True)
class Hit:
    """A document that matches."""

    content: Content
    score: float
    locale: str
    """Of the text that matches best."""
    places: Sequence[int]
    """Where terms of the query stand first in that text's body, in code points."""


_Ints = npt.NDArray[np.int32]
_Floats = npt.NDArray[np.float64]
_Strings = npt.NDArray[np.str_]


@dataclass(frozen=True)
class _Postings:
    """Where a term stands: columns of a row for each document, by its id."""

    version: int
    locale: str
    documents: _Ints
    frequencies: npt.NDArray[np.float32]
    lengths: npt.NDArray[np.float32]
    places: _Ints

    @property
    def size_bytes(self) -> int:
        return 4 * self.documents.nbytes

    def place(self, document: int) -> int:
        """Where the term stands first in a document's body; -1 when it does not."""
        at = int(np.searchsorted(self.documents, document))
        return int(self.places[at]) if at < len(self.documents) and self.documents[at] == document else -1


class Index:
    """Reads the index. It remembers the postings of terms, and asks each time whether they still hold.

    A statement tells the version of each of the query's terms; those whose postings changed are read
    again. So an answer is never older than the database, and no process needs to be told of changes.
    """

    def __init__(self, *, size_bytes: int) -> None:
        """Args:
        size_bytes: how much of the postings this process keeps.
        """
        self._held: OrderedDict[int, _Postings] = OrderedDict()
        self._size_bytes = size_bytes
        self._held_bytes = 0

    async def search(
        self, conn: Connection, *, query: str, locale: str, filter: str, page_size: int, page_token: str
    ) -> tuple[list[Hit], int, str]:
        """A page of what matches any term of the query, best first; how many there are; the next page's token."""
        question = ("search", query, locale, filter)
        after = paging.keys(page_token, question, (float, int))
        size = paging.size(page_size)
        parameters: list[object] = []
        condition = filters.compile_filter(filter, _FIELDS, parameters)
        terms = sorted({term for term, _, _ in analysis.terms(query)})
        ids, scores, locales, postings = await self._score(conn, terms, locale)
        if condition != "TRUE":
            ids, scores, locales = await _keep(conn, condition, parameters, ids, scores, locales)
        order = np.lexsort((ids, -scores))  # equal scores by id, so that pages follow each other
        if after is not None:
            score, last = float(after[0]), int(after[1])
            order = order[(scores[order] < score) | ((scores[order] == score) & (ids[order] > last))]
        page = order[:size]
        rows = await conn.fetch(
            "SELECT id, content FROM documents WHERE id = ANY($1) AND content IS NOT NULL", ids[page].tolist()
        )
        contents = {row["id"]: row["content"] for row in rows}
        hits = [
            Hit(
                Content.FromString(contents[document]),
                score,
                named,
                [place for each in postings if each.locale == named and (place := each.place(document)) >= 0],
            )
            for document, score, named in zip(
                ids[page].tolist(), scores[page].tolist(), locales[page].tolist(), strict=True
            )
            if document in contents
        ]
        token = ""
        if len(order) > size:
            token = paging.token([float(scores[page[-1]]), int(ids[page[-1]])], question)
        return hits, len(ids), token

    async def _score(
        self, conn: Connection, terms: list[str], locale: str
    ) -> tuple[_Ints, _Floats, _Strings, list[_Postings]]:
        """The ids of all documents that hold a term, their BM25 scores, the locale of the text that scored,
        and the terms' postings.
        """
        rows = await conn.fetch(
            """
            SELECT t.id, t.locale, t.version, t.documents, l.documents AS texts, l.length
            FROM terms t JOIN locales l ON l.code = t.locale
            WHERE t.term = ANY($1) AND t.documents > 0 AND ($2::text IS NULL OR t.locale = $2)
            ORDER BY t.locale, t.id
            """,
            terms,
            locale or None,
        )
        postings = await self._postings_of(conn, rows)
        found: list[tuple[_Ints, _Floats]] = []
        names: list[str] = []
        for name, of_locale in groupby(postings, key=lambda pair: pair[1].locale):
            ids, scores = [], []
            for row, each in of_locale:
                weight = math.log(1 + (row["texts"] - row["documents"] + 0.5) / (row["documents"] + 0.5))
                norm = K1 * (1 - B + B * each.lengths * (row["texts"] / row["length"]))
                ids.append(each.documents)
                scores.append(weight * (K1 + 1) * each.frequencies / (each.frequencies + norm))
            documents, place = np.unique(np.concatenate(ids), return_inverse=True)
            found.append((documents, np.bincount(place, np.concatenate(scores)).astype(np.float64)))
            names.append(name)
        return *_best(found, names), [each for _, each in postings]

    async def _postings_of(self, conn: Connection, terms: Sequence[Record]) -> list[tuple[Record, _Postings]]:
        """Each term with its postings: those remembered, where they are of the version that its row tells."""
        held = {row["id"]: self._held.get(row["id"]) for row in terms}
        wanted = {
            row["id"]: row for row in terms if (each := held[row["id"]]) is None or each.version != row["version"]
        }
        rows = []
        if wanted:
            rows = await conn.fetch(
                """
                SELECT term_id, array_agg(document_id ORDER BY document_id) AS documents,
                       array_agg(frequency ORDER BY document_id) AS frequencies,
                       array_agg(length ORDER BY document_id) AS lengths,
                       array_agg(place ORDER BY document_id) AS places
                FROM postings WHERE term_id = ANY($1) GROUP BY term_id
                """,
                list(wanted),
            )
        for row in rows:
            term = wanted[row["term_id"]]
            # Read after its version: it may be newer than that, and is then read once more.
            held[term["id"]] = postings = _Postings(
                term["version"],
                term["locale"],
                np.array(row["documents"], np.int32),
                np.array(row["frequencies"], np.float32),
                np.array(row["lengths"], np.float32),
                np.array(row["places"], np.int32),
            )
            self._forget(term["id"])
            self._held[term["id"]] = postings
            self._held_bytes += postings.size_bytes
        for term_id in held.keys() & self._held.keys():
            self._held.move_to_end(term_id)
        while self._held_bytes > self._size_bytes:
            self._forget(next(iter(self._held)))
        return [(row, each) for row in terms if (each := held[row["id"]]) is not None]

    def _forget(self, term_id: int) -> None:
        postings = self._held.pop(term_id, None)
        if postings is not None:
            self._held_bytes -= postings.size_bytes


def _best(found: list[tuple[_Ints, _Floats]], names: list[str]) -> tuple[_Ints, _Floats, _Strings]:
    """Of a document that matches in several locales, the text with the best score."""
    if not found:
        return np.empty(0, np.int32), np.empty(0), np.empty(0, np.str_)
    ids = np.concatenate([documents for documents, _ in found])
    scores = np.concatenate([scores for _, scores in found])
    locales = np.repeat(names, [len(documents) for documents, _ in found])
    if len(found) == 1:
        return ids, scores, locales
    order = np.lexsort((-scores, ids))
    first = order[np.unique(ids[order], return_index=True)[1]]
    return ids[first], scores[first], locales[first]


async def _keep(
    conn: Connection, condition: str, parameters: list[object], ids: _Ints, scores: _Floats, locales: _Strings
) -> tuple[_Ints, _Floats, _Strings]:
    """Those of the documents that a filter lets through."""
    rows = await conn.fetch(
        f"SELECT id FROM documents WHERE ({condition}) AND id = ANY(${len(parameters) + 1})", *parameters, ids.tolist()
    )
    kept = np.isin(ids, np.array([row["id"] for row in rows], np.int32))
    return ids[kept], scores[kept], locales[kept]
