"""Reading the index: what matches a query, ranked by BM25."""

import math
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from libs import filters, paging
from libs.db import Connection, Record, fetch_one
from libs.memory import Memory
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
    """As readers see it, without its body."""
    body: Mapping[str, str]
    score: float
    locale: str
    """Of the text that matches best."""
    places: Sequence[int]
    """Where terms of the query stand first in that text's body, in code points."""


_Ints = npt.NDArray[np.int32]
_Floats = npt.NDArray[np.float64]
_Strings = npt.NDArray[np.str_]


@dataclass
class _Postings:
    """Where a term stands: columns of a row for each document, by its id."""

    version: int
    locale: str
    documents: _Ints
    frequencies: npt.NDArray[np.float32]
    lengths: npt.NDArray[np.float32]
    places: _Ints
    _average: float = 0.0
    _saturated: npt.NDArray[np.floating] | None = None

    @property
    def size_bytes(self) -> int:
        return 1000 + 5 * self.documents.nbytes

    def place(self, document: int) -> int:
        """Where the term stands first in a document's body; -1 when it does not."""
        at = int(self.documents.searchsorted(document))
        return int(self.places[at]) if at < len(self.documents) and self.documents[at] == document else -1

    def saturated(self, average: float) -> npt.NDArray[np.floating]:
        """BM25's part of each document, its frequency saturated, where texts have so many terms on average."""
        if self._saturated is None or self._average != average:
            norm = K1 * (1 - B + B * self.lengths / average)
            self._average, self._saturated = average, (K1 + 1) * self.frequencies / (self.frequencies + norm)
        return self._saturated


@dataclass
class _Document:
    version: int
    content: bytes
    """A Content as readers see it, without its body: parsed it would take several times the memory."""
    body: Mapping[str, str]
    checked: int
    """The version of the index that this was true of."""

    @property
    def size_bytes(self) -> int:
        return 1000 + len(self.content) + sum(map(sys.getsizeof, self.body.values()))


@dataclass
class _Term:
    """What the index knows of a term: for each locale a row of its id, version and statistics."""

    rows: Sequence[Record]
    checked: int

    @property
    def size_bytes(self) -> int:
        return 500 * (1 + len(self.rows))


_Held = TypeVar("_Held", _Postings, _Document, _Term)


class Index:
    """Reads the index. It remembers the terms, postings and documents of earlier queries; what the index
    changed since is read again where its own version changed. So an answer is never older than the
    database, and no process is told of changes.
    """

    def __init__(self, *, size_bytes: int) -> None:
        """Args:
        size_bytes: how much of the index this process keeps.
        """
        self._held = Memory[tuple[type, int | str], _Postings | _Document | _Term](size_bytes)

    async def version(self, conn: Connection) -> int:
        """Counts the changes of the index: while it is the same, every answer is."""
        row = await fetch_one(conn, "SELECT version FROM state")
        return int(row["version"])

    async def search(
        self, conn: Connection, *, version: int, query: str, locale: str, filter: str, page_size: int, page_token: str
    ) -> tuple[list[Hit], int, str]:
        """A page of what matches any term of the query, best first; how many there are; the next page's token.

        Args:
            version: of the index, read before.
        """
        question = ("search", query, locale, filter)
        after = paging.keys(page_token, question, (float, int))
        size = paging.size(page_size)
        parameters: list[object] = []
        condition = filters.compile_filter(filter, _FIELDS, parameters)
        rows = await self._terms(conn, {term for term, _, _ in analysis.terms(query)}, version)
        postings = await self._postings(conn, [row for row in rows if locale in ("", row["locale"])])
        ids, scores, locales = _score(postings)
        if condition != "TRUE":
            ids, scores, locales = await _keep(conn, condition, parameters, ids, scores, locales)
        total = len(ids)
        if after is not None:
            score, last = float(after[0]), int(after[1])
            rest = (scores < score) | ((scores == score) & (ids > last))
            ids, scores, locales = ids[rest], scores[rest], locales[rest]
        best = _best(ids, scores, size + 1)
        page = best[:size]
        documents = await self._documents(conn, ids[page].tolist(), version)
        hits = []
        for number, score, named in zip(ids[page].tolist(), scores[page].tolist(), locales[page].tolist(), strict=True):
            if (document := documents.get(number)) is not None:
                of_locale = (each.place(number) for _, each in postings if each.locale == named)
                places = [place for place in of_locale if place >= 0]
                hits.append(Hit(Content.FromString(document.content), document.body, score, named, places))
        token = ""
        if len(best) > size:
            token = paging.token([float(scores[page[-1]]), int(ids[page[-1]])], question)
        return hits, total, token

    async def _terms(self, conn: Connection, terms: Collection[str], version: int) -> list[Record]:
        """For each term and each locale that it stands in, a row of its statistics, by locale and id."""
        held = {term: each for term in terms if (each := self._recall(_Term, term)) and each.checked >= version}
        if unsure := [term for term in terms if term not in held]:
            found: dict[str, list[Record]] = {term: [] for term in unsure}
            for row in await conn.fetch(
                """
                SELECT t.id, t.term, t.locale, t.version, l.length::float8 / l.documents AS length,
                       max(t.documents) OVER (PARTITION BY t.term) AS documents,
                       (SELECT max(documents) FROM locales) AS texts
                FROM terms t JOIN locales l ON l.code = t.locale
                WHERE t.term = ANY($1) AND t.documents > 0
                """,
                unsure,
            ):
                found[row["term"]].append(row)
            for term, rows in found.items():
                held[term] = self._remember(term, _Term(rows, version))
        return sorted((row for each in held.values() for row in each.rows), key=itemgetter("locale", "id"))

    async def _postings(self, conn: Connection, terms: Sequence[Record]) -> list[tuple[Record, _Postings]]:
        """Each term with its postings, those of terms that stand nowhere left out."""
        held = {row["id"]: self._recall(_Postings, row["id"]) for row in terms}
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
            term = wanted.pop(row["term_id"])
            # Read after its version: it may be newer than that, and is then read once more.
            held[term["id"]] = self._remember(
                term["id"],
                _Postings(
                    term["version"],
                    term["locale"],
                    np.array(row["documents"], np.int32),
                    np.array(row["frequencies"], np.float32),
                    np.array(row["lengths"], np.float32),
                    np.array(row["places"], np.int32),
                ),
            )
        return [(row, each) for row in terms if row["id"] not in wanted and (each := held[row["id"]]) is not None]

    async def _documents(self, conn: Connection, ids: Sequence[int], version: int) -> dict[int, _Document]:
        """Documents by their ids, as of a version of the index; one that was taken out since may be missing."""
        held = {number: each for number in ids if (each := self._recall(_Document, number)) is not None}
        found = {number: each for number, each in held.items() if each.checked >= version}
        unsure = [number for number in ids if number not in found]
        if not unsure:
            return found
        rows = await conn.fetch(
            """
            SELECT id, version, CASE WHEN version IS DISTINCT FROM held THEN content END AS content
            FROM documents JOIN unnest($1::int[], $2::int[]) AS wanted (id, held) USING (id)
            WHERE content IS NOT NULL
            """,
            unsure,
            [held[number].version if number in held else None for number in unsure],
        )
        for row in rows:
            if row["content"] is None:
                found[row["id"]] = held[row["id"]]
                found[row["id"]].checked = version
                continue
            content = Content.FromString(row["content"])
            body = dict(content.body)
            content.ClearField("body")
            document = _Document(row["version"], content.SerializeToString(), body, version)
            found[row["id"]] = self._remember(row["id"], document)
        return found

    def _recall(self, kind: type[_Held], key: int | str) -> _Held | None:
        held = self._held.get((kind, key))
        return held if isinstance(held, kind) else None

    def _remember(self, key: int | str, value: _Held) -> _Held:
        self._held.put((type(value), key), value, value.size_bytes)
        return value


def _score(postings: Sequence[tuple[Record, _Postings]]) -> tuple[_Ints, _Floats, _Strings]:
    """The ids of all documents that hold a term, their BM25 scores, and the locale of the text that scored."""
    if not postings:
        return np.empty(0, np.int32), np.empty(0), np.empty(0, np.str_)
    count = 1 + max(int(each.documents[-1]) for _, each in postings)
    names: list[str] = []
    of_locales: list[npt.NDArray[Any]] = []
    for name, of_locale in groupby(postings, key=lambda pair: pair[1].locale):
        ids: list[_Ints] = []
        scores: list[npt.NDArray[np.floating]] = []
        for row, each in of_locale:
            # As where most texts are: in a locale that has few, a word would seem common, or rare, for that alone.
            weight = math.log(1 + (row["texts"] - row["documents"] + 0.5) / (row["documents"] + 0.5))
            ids.append(each.documents)
            scores.append(weight * each.saturated(row["length"]))
        names.append(name)
        of_locales.append(np.bincount(np.concatenate(ids), np.concatenate(scores), count))
    # Of a document that matches in several locales, the text with the best score counts.
    table = np.stack(of_locales)
    top = table.max(axis=0)
    found = np.flatnonzero(top)
    locales = np.array(names)[table[:, found].argmax(axis=0)]
    return found.astype(np.int32), top[found], locales


def _best(ids: _Ints, scores: _Floats, count: int) -> npt.NDArray[np.intp]:
    """Where the best scores are, best first; equal ones by id, so that pages follow each other."""
    among = np.arange(len(ids))
    if len(ids) > count:
        among = np.flatnonzero(scores >= np.partition(scores, -count)[-count])
    return among[np.lexsort((ids[among], -scores[among]))][:count]


async def _keep(
    conn: Connection, condition: str, parameters: list[object], ids: _Ints, scores: _Floats, locales: _Strings
) -> tuple[_Ints, _Floats, _Strings]:
    """Those of the documents that a filter lets through."""
    rows = await conn.fetch(
        f"SELECT id FROM documents WHERE ({condition}) AND id = ANY(${len(parameters) + 1})", *parameters, ids.tolist()
    )
    kept = np.isin(ids, np.array([row["id"] for row in rows], np.int32))
    return ids[kept], scores[kept], locales[kept]
