"""The index: putting in what readers see, and finding it again by BM25."""

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC

from libs import filters, paging
from libs.db import Connection, Record
from libs.events import Event
from services.search import analysis
from thmnayah.content.v1.content_pb2 import Content

# The BM25 of Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009, with its usual constants.
K1 = 1.2
B = 0.75

TEXTS = ("title", "description", "body")

# One process at a time writes: terms are shared by documents, so writers would lock each other out.
_WRITER_LOCK = 7_460_400

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


async def put(conn: Connection, events: Sequence[Event]) -> None:
    """Bring the index to what the events say readers see; an event older than that changes nothing."""
    newest: dict[str, Content] = {}
    for event in events:
        content: Content = event.message.content  # type: ignore[attr-defined]  # every event of content has one
        if content.id not in newest or newest[content.id].version < content.version:
            newest[content.id] = content
    await conn.execute("SELECT pg_advisory_xact_lock($1)", _WRITER_LOCK)
    stored = await conn.fetch(
        "SELECT id, content_id::text, version, term_ids, lengths FROM documents WHERE content_id = ANY($1)",
        list(newest),
    )
    for row in stored:
        if row["version"] >= newest[row["content_id"]].version:
            del newest[row["content_id"]]
    if newest:
        await _replace(conn, [row for row in stored if row["content_id"] in newest], list(newest.values()))


async def _replace(conn: Connection, old: Sequence[Record], new: Sequence[Content]) -> None:
    """Take the old rows' terms out of the index and put the new contents' in, in a statement a table."""
    counts = [{locale: _term_counts(content, locale) for locale in content.locales} for content in new]
    term_ids = await _term_ids(conn, {(term, locale) for each in counts for locale in each for term in each[locale]})
    frequencies = [
        {term_ids[term, locale]: count for locale in each for term, count in each[locale].items()} for each in counts
    ]
    lengths = [{locale: each[locale].total() for locale in each} for each in counts]

    await conn.execute(
        "DELETE FROM postings USING unnest($1::int[], $2::int[]) AS old (term_id, document_id)"
        " WHERE postings.term_id = old.term_id AND postings.document_id = old.document_id",
        [term_id for row in old for term_id in row["term_ids"]],
        [row["id"] for row in old for _ in row["term_ids"]],
    )
    rows = await conn.fetch(
        """
        INSERT INTO documents (content_id, version, type, category, tags, publish_time, content, term_ids, lengths)
        SELECT content_id, version, type, category,
               ARRAY(SELECT jsonb_array_elements_text(tags::jsonb)), publish_time, content,
               ARRAY(SELECT jsonb_array_elements_text(term_ids::jsonb)::int), lengths::jsonb
        FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::bytea[],
                    $8::text[], $9::text[])
             AS new (content_id, version, type, category, tags, publish_time, content, term_ids, lengths)
        ON CONFLICT (content_id) DO UPDATE
        SET version = excluded.version, type = excluded.type, category = excluded.category, tags = excluded.tags,
            publish_time = excluded.publish_time, content = excluded.content, term_ids = excluded.term_ids,
            lengths = excluded.lengths
        RETURNING id, content_id::text
        """,
        [content.id for content in new],
        [content.version for content in new],
        [content.type or None for content in new],
        [content.category or None for content in new],
        [json.dumps(list(content.tags)) for content in new],
        [content.publish_time.ToDatetime(UTC) if content.HasField("publish_time") else None for content in new],
        [content.SerializeToString() if content.locales else None for content in new],
        # Lists of lists go as text: an array of arrays must have equal lengths.
        [json.dumps(list(each)) for each in frequencies],
        [json.dumps(each) for each in lengths],
    )
    document_ids = {row["content_id"]: row["id"] for row in rows}
    locale_of = {term_id: locale for (_, locale), term_id in term_ids.items()}
    await conn.copy_records_to_table(
        "postings",
        columns=("term_id", "document_id", "frequency", "length"),
        records=[
            (term_id, document_ids[content.id], frequency, length[locale_of[term_id]])
            for content, each, length in zip(new, frequencies, lengths, strict=True)
            for term_id, frequency in each.items()
        ],
    )

    documents = Counter(term_id for each in frequencies for term_id in each)
    documents.subtract(term_id for row in old for term_id in row["term_ids"])
    changed = {term_id: change for term_id, change in documents.items() if change}
    await conn.execute(
        "UPDATE terms SET documents = documents + change FROM unnest($1::int[], $2::int[]) AS changed (id, change)"
        " WHERE terms.id = changed.id",
        list(changed),
        list(changed.values()),
    )
    texts, total = Counter[str](), Counter[str]()
    for sign, each in [(1, length) for length in lengths] + [(-1, row["lengths"]) for row in old]:
        for locale, length in each.items():
            texts[locale] += sign
            total[locale] += sign * length
    await conn.execute(
        "INSERT INTO locales (code, documents, length)"
        " SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[])"
        " ON CONFLICT (code) DO UPDATE"
        " SET documents = locales.documents + excluded.documents, length = locales.length + excluded.length",
        list(texts),
        list(texts.values()),
        [total[locale] for locale in texts],
    )


def _term_counts(content: Content, locale: str) -> Counter[str]:
    return Counter(term for field in TEXTS for term, _, _ in analysis.terms(getattr(content, field).get(locale, "")))


async def _term_ids(conn: Connection, pairs: Collection[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """The ids of (term, locale) pairs; those that have none get one."""
    terms, locales = [term for term, _ in pairs], [locale for _, locale in pairs]
    find = (
        "SELECT id, term, locale FROM terms"
        " JOIN unnest($1::text[], $2::text[]) AS wanted (term, locale) USING (term, locale)"
    )
    found = {(row["term"], row["locale"]): row["id"] for row in await conn.fetch(find, terms, locales)}
    new = sorted(set(pairs) - found.keys())
    rows = await conn.fetch(
        "INSERT INTO terms (term, locale) SELECT * FROM unnest($1::text[], $2::text[]) RETURNING id, term, locale",
        [term for term, _ in new],
        [locale for _, locale in new],
    )
    return found | {(row["term"], row["locale"]): row["id"] for row in rows}


async def search(
    conn: Connection, *, query: str, locale: str, filter: str, page_size: int, page_token: str
) -> tuple[list[Hit], int, str]:
    """A page of what matches any term of the query, best first; how many there are; the next page's token."""
    question = ("search", query, locale, filter)
    terms = sorted({term for term, _, _ in analysis.terms(query)})
    parameters: list[object] = [terms, locale or None]
    condition = filters.compile_filter(filter, _FIELDS, parameters)
    after = paging.keys(page_token, question, (float, int))
    size = paging.size(page_size)
    beyond = ""
    if after is not None:
        parameters += after
        score, document = f"${len(parameters) - 1}::float8", f"${len(parameters)}::int"
        beyond = f"WHERE score < {score} OR (score = {score} AND id > {document})"
    parameters.append(size + 1)
    if not terms:
        return [], 0, ""
    rows = await conn.fetch(
        f"""
        WITH query AS MATERIALIZED (
            SELECT t.id, t.locale, l.length / l.documents::float8 AS average_length,
                   ln(1 + (l.documents - t.documents + 0.5) / (t.documents + 0.5)) * ({K1} + 1) AS weight
            FROM terms t JOIN locales l ON l.code = t.locale
            WHERE t.term = ANY($1) AND t.documents > 0 AND ($2::text IS NULL OR t.locale = $2)
        ), texts AS (
            SELECT p.document_id AS id, query.locale,
                   sum(weight * frequency / (frequency + {K1} * ({1 - B} + {B} * p.length / average_length))) AS score
            FROM query JOIN postings p ON p.term_id = query.id
            GROUP BY p.document_id, query.locale
        ), matches AS (
            SELECT id, max(score) AS score
            FROM texts {"" if condition == "TRUE" else f"JOIN documents USING (id) WHERE {condition}"}
            GROUP BY id
        ), page AS (
            SELECT id, score, total FROM (SELECT id, score, count(*) OVER () AS total FROM matches) AS all_matches
            {beyond}
            ORDER BY score DESC, id
            LIMIT ${len(parameters)}
        )
        SELECT page.id, page.score, page.total, documents.content
        FROM page JOIN documents USING (id)
        ORDER BY page.score DESC, page.id
        """,
        *parameters,
    )
    page = rows[:size]
    token = paging.token([page[-1]["score"], page[-1]["id"]], question) if len(rows) > size else ""
    hits = [Hit(Content.FromString(row["content"]), row["score"]) for row in page]
    return hits, rows[0]["total"] if rows else 0, token
