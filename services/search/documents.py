"""The documents of the index: putting in what readers see, and taking it out."""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC
from itertools import chain
from typing import TypeAlias

import numpy as np

from libs.db import Connection, Record
from libs.events import Event
from libs.memory import Memory
from services.search import analysis
from thmnayah.content.v1.content_pb2 import Content

TEXTS = ("title", "description", "body")

# One process at a time writes: terms are shared by documents, so writers would lock each other out.
_WRITER_LOCK = 7_460_400


# Of a document, by locale: the id, frequency and place of each term.
Postings: TypeAlias = Mapping[str, Sequence[Sequence[int]]]

# Some thirty thousand terms, which are most of what stands in texts.
_TERMS_BYTES = 6 * 1024 * 1024
_TERM_BYTES = 200  # about


class Writer:
    """Writes the index. It remembers the ids of terms, which never change."""

    def __init__(self) -> None:
        self._term_ids = Memory[tuple[str, str], int](_TERMS_BYTES)

    async def put(self, conn: Connection, events: Sequence[Event]) -> None:
        """Bring the index to what the events say readers see; an event older than that changes nothing."""
        newest: dict[str, Content] = {}
        for event in events:
            content: Content = event.message.content  # type: ignore[attr-defined]  # every event of content has one
            if content.id not in newest or newest[content.id].version < content.version:
                newest[content.id] = content
        await conn.execute("SELECT pg_advisory_xact_lock($1)", _WRITER_LOCK)
        stored = await conn.fetch(
            "SELECT id, content_id::text, version, content, term_ids, lengths, packed"
            " FROM documents WHERE content_id = ANY($1)",
            list(newest),
        )
        for row in stored:
            if row["version"] >= newest[row["content_id"]].version:
                del newest[row["content_id"]]
        if newest:
            old = {row["content_id"]: row for row in stored if row["content_id"] in newest}
            await self._replace(conn, old, list(newest.values()))

    async def _replace(self, conn: Connection, old: Mapping[str, Record], new: Sequence[Content]) -> None:
        """Take the old rows' terms out of the index and put the new contents' in, in a statement a table.

        What stays the same is left where it is: most of what is published again differs in a few words.
        """
        held = {each: _unpack(row["packed"], row["version"]) for each, row in old.items()}
        same = {
            each: _same_locales(row["content"], held[each], content)
            for content in new
            if (row := old.get(each := content.id))
        }
        texts = [
            {
                locale: _occurrences(content, locale)
                for locale in content.locales
                if locale not in same.get(content.id, ())
            }
            for content in new
        ]
        term_ids = await self._ids(conn, {(term, locale) for each in texts for locale in each for term in each[locale]})
        postings = [
            {locale: held[content.id][locale] for locale in same.get(content.id, ())}
            | {locale: [[term_ids[term, locale], *each[locale][term]] for term in each[locale]] for locale in each}
            for content, each in zip(new, texts, strict=True)
        ]
        lengths = [{locale: sum(count for _, count, _ in each[locale]) for locale in each} for each in postings]
        before: dict[str, Mapping[int, tuple[int, int, int] | None]] = {
            each: _rows(held[each], same[each]) if held[each] else dict.fromkeys(row["term_ids"])
            for each, row in old.items()
        }
        after = {content.id: _rows(each, same.get(content.id, ())) for content, each in zip(new, postings, strict=True)}

        # In the order of the index, whose pages are then each visited once.
        gone = sorted(
            (term_id, old[each]["id"])
            for each, rows in before.items()
            for term_id, row in rows.items()
            if row is None or row != after[each].get(term_id)
        )
        await conn.execute(
            "DELETE FROM postings USING unnest($1::int[], $2::int[]) AS old (term_id, document_id)"
            " WHERE postings.term_id = old.term_id AND postings.document_id = old.document_id",
            [term_id for term_id, _ in gone],
            [document_id for _, document_id in gone],
        )
        rows = await conn.fetch(
            """
            INSERT INTO documents
                (content_id, version, type, category, tags, publish_time, content, term_ids, lengths, packed)
            SELECT content_id, version, type, category,
                   ARRAY(SELECT jsonb_array_elements_text(tags::jsonb)), publish_time, content,
                   ARRAY(SELECT jsonb_array_elements_text(term_ids::jsonb)::int), lengths::jsonb, packed
            FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::bytea[],
                        $8::text[], $9::text[], $10::bytea[])
                 AS new (content_id, version, type, category, tags, publish_time, content, term_ids, lengths, packed)
            ON CONFLICT (content_id) DO UPDATE
            SET version = excluded.version, type = excluded.type, category = excluded.category, tags = excluded.tags,
                publish_time = excluded.publish_time, content = excluded.content, term_ids = excluded.term_ids,
                lengths = excluded.lengths, packed = excluded.packed
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
            [json.dumps([term_id for of_locale in each.values() for term_id, _, _ in of_locale]) for each in postings],
            [json.dumps(each) for each in lengths],
            [_pack(each, content.version) for each, content in zip(postings, new, strict=True)],
        )
        document_ids = {row["content_id"]: row["id"] for row in rows}
        put = sorted(
            (term_id, document_ids[each], frequency, length, place)
            for each, wanted in after.items()
            for term_id, (frequency, length, place) in wanted.items()
            if (frequency, length, place) != before.get(each, {}).get(term_id)
        )
        await conn.copy_records_to_table(
            "postings", columns=("term_id", "document_id", "frequency", "length", "place"), records=put
        )

        await conn.execute("UPDATE state SET version = version + 1")
        documents = Counter(term_id for term_id, *_ in put)
        documents.subtract(term_id for term_id, _ in gone)
        # Every term that was touched, though it may stand in as many documents as before.
        await conn.execute(
            "UPDATE terms SET documents = documents + change, version = version + 1"
            " FROM unnest($1::int[], $2::int[]) AS changed (id, change) WHERE terms.id = changed.id",
            list(documents),
            list(documents.values()),
        )
        count, total = Counter[str](), Counter[str]()
        for sign, each in [(1, length) for length in lengths] + [(-1, row["lengths"]) for row in old.values()]:
            for locale, length in each.items():
                count[locale] += sign
                total[locale] += sign * length
        await conn.execute(
            "INSERT INTO locales (code, documents, length)"
            " SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[])"
            " ON CONFLICT (code) DO UPDATE"
            " SET documents = locales.documents + excluded.documents, length = locales.length + excluded.length",
            list(count),
            list(count.values()),
            [total[locale] for locale in count],
        )

    async def _ids(self, conn: Connection, pairs: Collection[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """The ids of (term, locale) pairs; those that have none get one."""
        found = {pair: number for pair in pairs if (number := self._term_ids.get(pair)) is not None}
        unknown = [pair for pair in pairs if pair not in found]
        if not unknown:
            return found
        rows = await conn.fetch(
            "SELECT id, term, locale FROM terms"
            " JOIN unnest($1::text[], $2::text[]) AS wanted (term, locale) USING (term, locale)",
            [term for term, _ in unknown],
            [locale for _, locale in unknown],
        )
        for row in rows:
            pair = row["term"], row["locale"]
            found[pair] = row["id"]
            self._term_ids.put(pair, row["id"], _TERM_BYTES)
        new = sorted(set(unknown) - found.keys())
        # Not remembered yet: they are not there before the transaction ends.
        rows = await conn.fetch(
            "INSERT INTO terms (term, locale) SELECT * FROM unnest($1::text[], $2::text[]) RETURNING id, term, locale",
            [term for term, _ in new],
            [locale for _, locale in new],
        )
        return found | {(row["term"], row["locale"]): row["id"] for row in rows}


def _same_locales(stored: bytes | None, held: Postings, content: Content) -> set[str]:
    """The locales whose texts a stored document has as well, with their postings."""
    before = Content.FromString(stored or b"")
    return {
        locale
        for locale in held.keys() & content.locales.keys()
        if all(getattr(before, field).get(locale, "") == getattr(content, field).get(locale, "") for field in TEXTS)
    }


def _rows(postings: Postings, but: Collection[str]) -> dict[int, tuple[int, int, int]]:
    """What the index has of a document: for the id of each term its frequency, its text's length, and its place.

    Args:
        but: locales that are left out.
    """
    return {
        term_id: (frequency, length, place)
        for locale, of_locale in postings.items()
        if locale not in but
        for length in [_coarse(sum(count for _, count, _ in of_locale))]
        for term_id, frequency, place in of_locale
    }


def _pack(postings: Postings, version: int) -> bytes:
    """What a document's row holds of them: a line of JSON, of the version and the counts, and the numbers."""
    head = json.dumps([version, {locale: len(each) for locale, each in postings.items()}])
    return head.encode() + b"\n" + np.array([*chain(*postings.values())], "<i4").tobytes()


def _unpack(packed: bytes | None, version: int) -> Postings:
    """The postings of a row; none of those of another version, which a release that knows nothing of them leaves."""
    if packed is None:
        return {}
    head, _, numbers = packed.partition(b"\n")
    packed_version, counts = json.loads(head)
    if packed_version != version:
        return {}
    rows = iter(np.frombuffer(numbers, "<i4").reshape(-1, 3).tolist())
    return {locale: [next(rows) for _ in range(count)] for locale, count in counts.items()}


def _coarse(length: int) -> int:
    """A length with the four bits that say most, as Lucene keeps it: a word more leaves most postings as they are."""
    dropped = max(0, length.bit_length() - 4)
    return length >> dropped << dropped


def _occurrences(content: Content, locale: str) -> dict[str, tuple[int, int]]:
    """For each term of a text, how often it stands there, and where first in the body (-1: not there)."""
    found: dict[str, tuple[int, int]] = {}
    for field in TEXTS:
        for term, start, _ in analysis.terms(getattr(content, field).get(locale, "")):
            count, place = found.get(term, (0, -1))
            found[term] = (count + 1, start if field == "body" and place < 0 else place)
    return found
