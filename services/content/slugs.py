"""Slugs: chosen, claimed by items, and remembered once readers knew an item by them.

`slugs` has what no other item may take: the draft's slugs, the published ones, and those that were
published. `old_slugs` has those that were or are published: they lead to their items. Another item takes
an old one where it is given it; it still leads to the item that had it while the other is not published.
"""

from collections.abc import Iterable, Mapping, Sequence

from libs import paging, text, transliteration
from libs.db import Connection, Record
from libs.errors import AlreadyExists, InvalidArgument, NotFound
from libs.permissions import Scope
from services.content import stages
from services.content.stages import Row
from thmnayah.content.v1.content_pb2 import Content
from thmnayah.content.v1.slugs_pb2 import ListOldSlugsResponse, OldSlug
from thmnayah.content.v1.types_pb2 import TRANSLITERATE, ContentType

# What conditions on drafts are about: slugs.
_COLUMNS = stages.columns("contents", field="'slug'", locale="known.locale")

Choices = dict[str, list[str]]
"""For each locale, the slugs to try, best first."""


def choices(
    content_id: str,
    type_id: str,
    kind: ContentType,
    given: Mapping[str, str],
    titles: Mapping[str, str],
    *,
    held: Mapping[str, str] | None = None,
) -> Choices:
    """The given slugs, or two from the title where none is given.

    Args:
        kind: says how they are written.
        held: slugs that the item has: given again, they stay as they are.

    Raises:
        InvalidArgument: a given one holds nothing that can be written so.
    """
    write = transliteration.slug if kind.slug_policy == TRANSLITERATE else text.slug
    found: Choices = {}
    for locale, title in titles.items():
        if slug := given.get(locale):
            found[locale] = [slug if held and held.get(locale) == slug else write(slug)]
            if not found[locale][0]:
                raise InvalidArgument({f"content.slug.{locale}": "holds neither a letter nor a digit"})
        else:
            # Never empty: a title of signs alone is addressed by its type.
            derived = write(title, max_length=100) or text.slug(type_id)
            found[locale] = [derived, f"{derived}-{content_id[-12:]}"]
    return found


async def pass_over(conn: Connection, type_id: str, wanted: Choices) -> None:
    """Go on from the first choices that other items have; the item is not stored yet.

    Raises:
        AlreadyExists: one was the last, and is in use.
    """
    taken = await conn.fetch(
        "SELECT locale FROM slugs JOIN unnest($2::text[], $3::text[]) AS wanted (locale, slug)"
        " USING (locale, slug) WHERE type = $1",
        type_id,
        list(wanted),
        [of_locale[0] for of_locale in wanted.values()],
    )
    await _go_on(conn, type_id, wanted, [row["locale"] for row in taken])


async def claim(conn: Connection, content_id: str, type_id: str, wanted: Choices) -> dict[str, str]:
    """Make the slugs of a locked item the first that it can have, and give up those of its draft before.

    Raises:
        AlreadyExists: another item has the last choice.
    """
    shown = await conn.fetchval("SELECT content FROM publications WHERE id = $1", content_id)
    if shown is not None:
        await remember(conn, content_id, type_id, Content.FromString(shown).slug)
    await _give_up(conn, content_id, kept=[(locale, of_locale[0]) for locale, of_locale in wanted.items()])
    claimed: dict[str, str] = {}
    while len(claimed) < len(wanted):
        tried = {locale: of_locale[0] for locale, of_locale in wanted.items() if locale not in claimed}
        rows = await conn.fetch(
            """
            INSERT INTO slugs (type, locale, slug, content_id)
            SELECT $1, locale, slug, $4::uuid FROM unnest($2::text[], $3::text[]) AS wanted (locale, slug)
            ORDER BY locale
            ON CONFLICT (type, locale, slug) DO UPDATE SET content_id = excluded.content_id
            WHERE slugs.content_id = excluded.content_id
            RETURNING locale, slug
            """,
            type_id,
            list(tried),
            list(tried.values()),
            content_id,
        )
        claimed |= {row["locale"]: row["slug"] for row in rows}
        await _go_on(conn, type_id, wanted, sorted(tried.keys() - claimed.keys()))
    return claimed


async def remember(conn: Connection, content_id: str, type_id: str, published: Mapping[str, str]) -> None:
    """Let slugs that readers know lead to an item, whatever becomes of them."""
    await conn.execute(
        """
        INSERT INTO old_slugs (type, locale, slug, content_id)
        SELECT $1, locale, slug, $4::uuid FROM unnest($2::text[], $3::text[]) AS known (locale, slug)
        ON CONFLICT (type, locale, slug, content_id) DO UPDATE SET had_time = excluded.had_time
        """,
        type_id,
        list(published),
        list(published.values()),
        content_id,
    )


async def free(conn: Connection, content_id: str) -> None:
    """Give up every slug of an item that is deleted."""
    await conn.execute("DELETE FROM old_slugs WHERE content_id = $1", content_id)
    await _give_up(conn, content_id, kept=[])


async def find(
    conn: Connection, type_id: str, slug: str, chain: Sequence[str], *, drafts: bool, scope: Scope | None = None
) -> Content:
    """The item that a slug leads to in a chain of locales: its id, and its slug of today under the first of them.

    Args:
        drafts: whether for editors, who see the slugs of drafts; readers see those that are published.
        scope: of drafts, those that it holds for; all, without one.

    Raises:
        NotFound: there is none that may be seen.
    """
    parameters: list[object] = [type_id, chain, slug]
    within = "" if scope is None else f"WHERE {scope.compile(_COLUMNS, parameters)}"
    rows = await conn.fetch(
        f"""
        SELECT locale, is_old, id, {"contents.slug" if drafts else "content"} AS held
        FROM (
            SELECT locale, content_id, false AS is_old, NULL AS had_time FROM slugs
            WHERE type = $1 AND locale = ANY($2) AND slug = $3
            UNION ALL
            SELECT locale, content_id, true, had_time FROM old_slugs
            WHERE type = $1 AND locale = ANY($2) AND slug = $3
        ) AS known JOIN {"contents" if drafts else "publications"} ON id = content_id
        {within}
        ORDER BY had_time DESC NULLS FIRST
        """,
        *parameters,
    )
    found = []
    for row in rows:
        held: Mapping[str, str] = row["held"] if drafts else Content.FromString(row["held"]).slug
        # A slug that is not published yet is no reader's business, though its item is published.
        known = drafts or row["is_old"] or held.get(row["locale"]) == slug
        if known and (today := next((held[locale] for locale in chain if locale in held), "")):
            found.append(((today != slug, chain.index(row["locale"])), str(row["id"]), today))
    if not found:
        raise NotFound(
            "CONTENT_NOT_FOUND",
            f"no {type_id} has the slug {slug!r} in {chain[0]}",
            f"لا يوجد محتوى من النوع {type_id} رابطه {slug!r} في {chain[0]}",
        )
    _, content_id, today = min(found, key=lambda each: each[0])
    return Content(id=content_id, slug={chain[0]: today})


async def list_old(
    conn: Connection, row: Row, *, page_size: int, page_token: str, locales: Sequence[str] | None = None
) -> ListOldSlugsResponse:
    """A page of the old slugs of an item that was read, and the token of the next one.

    Args:
        locales: those in them; all, without any.
    """
    question = ("old_slugs", str(row["id"]))
    after = paging.keys(page_token, question, (str, str))
    size = paging.size(page_size)
    used = await _used(conn, [row["id"]])
    rows = await conn.fetch(
        """
        SELECT locale, slug FROM old_slugs
        WHERE content_id = $1 AND (locale, slug) > ($2, $3)
          AND (locale, slug) NOT IN (SELECT * FROM unnest($4::text[], $5::text[]))
          AND ($7::text[] IS NULL OR locale = ANY($7))
        ORDER BY locale, slug LIMIT $6
        """,
        row["id"],
        *(after or ("", "")),
        [locale for _, locale, _ in used],
        [slug for _, _, slug in used],
        size + 1,
        locales,
    )
    response = ListOldSlugsResponse(
        old_slugs=[OldSlug(locale=each["locale"], slug=each["slug"]) for each in rows[:size]]
    )
    if len(rows) > size:
        response.next_page_token = paging.token([rows[size - 1]["locale"], rows[size - 1]["slug"]], question)
    return response


async def release(conn: Connection, row: Row, locale: str, slug: str) -> None:
    """Let an old slug of a locked item lead nowhere.

    Raises:
        NotFound: it has no such old slug.
    """
    known = None
    used = await _used(conn, [row["id"]])
    if (row["id"], locale, slug) not in used:
        known = await conn.fetchval(
            "DELETE FROM old_slugs WHERE type = $1 AND locale = $2 AND slug = $3 AND content_id = $4 RETURNING slug",
            row["type"],
            locale,
            slug,
            row["id"],
        )
    if known is None:
        raise NotFound(
            "SLUG_NOT_FOUND",
            f"{slug!r} is no old slug of content {row['id']} in {locale}",
            f"{slug!r} ليس رابطًا سابقًا للمحتوى {row['id']} في {locale}",
        )
    await _give_up(conn, row["id"], kept=[(locale, slug) for _, locale, slug in used])


async def _go_on(conn: Connection, type_id: str, wanted: Choices, taken: Iterable[str]) -> None:
    """Take out the first choice in the locales where it is taken; the last one is freed, if it is only old."""
    last = {}
    for locale in taken:
        if len(wanted[locale]) > 1:
            wanted[locale].pop(0)
        else:
            last[locale] = wanted[locale][0]
    if not last:
        return
    async with conn.transaction():
        freed = await conn.fetch(
            """
            DELETE FROM slugs USING unnest($2::text[], $3::text[]) AS wanted (locale, slug), old_slugs
            WHERE slugs.type = $1 AND slugs.locale = wanted.locale AND slugs.slug = wanted.slug
              AND old_slugs.type = slugs.type AND old_slugs.locale = slugs.locale AND old_slugs.slug = slugs.slug
              AND old_slugs.content_id = slugs.content_id
            RETURNING slugs.locale, slugs.slug, slugs.content_id
            """,
            type_id,
            list(last),
            list(last.values()),
        )
        # Asked once those rows are locked: whoever wants one back waits for the end of this transaction.
        used = await _used(conn, [row["content_id"] for row in freed])
        free = {row["locale"] for row in freed if (row["content_id"], row["locale"], row["slug"]) not in used}
        for locale, slug in last.items():
            if locale not in free:
                raise AlreadyExists(
                    "SLUG_TAKEN",
                    f"another {type_id} has the slug {slug!r} in {locale}",
                    f"الرابط {slug!r} مستخدم في {locale}",
                    violations={f"content.slug.{locale}": "is taken"},
                )


async def _used(conn: Connection, ids: Sequence[object]) -> set[tuple[object, str, str]]:
    """Of items, the ids with each locale and slug of their drafts and of what is published."""
    rows: list[Record] = await conn.fetch(
        "SELECT id, slug, content FROM contents LEFT JOIN publications USING (id) WHERE id = ANY($1)", ids
    )
    return {
        (row["id"], locale, slug)
        for row in rows
        for slugs in (row["slug"], Content.FromString(row["content"] or b"").slug)
        for locale, slug in slugs.items()
    }


async def _give_up(conn: Connection, content_id: str, *, kept: Sequence[tuple[str, str]]) -> None:
    """Give up an item's claims but those to keep and to its old slugs; to another's old slug, to that item."""
    await conn.execute(
        """
        WITH given_up AS (
            SELECT type, locale, slug, (
                SELECT old_slugs.content_id FROM old_slugs
                WHERE old_slugs.type = slugs.type AND old_slugs.locale = slugs.locale AND old_slugs.slug = slugs.slug
                ORDER BY old_slugs.content_id = $1 DESC, had_time DESC LIMIT 1
            ) AS owner
            FROM slugs
            WHERE content_id = $1 AND (locale, slug) NOT IN (SELECT * FROM unnest($2::text[], $3::text[]))
        ), given_back AS (
            UPDATE slugs SET content_id = owner FROM given_up
            WHERE slugs.type = given_up.type AND slugs.locale = given_up.locale AND slugs.slug = given_up.slug
              AND owner <> $1
        )
        DELETE FROM slugs USING given_up
        WHERE slugs.type = given_up.type AND slugs.locale = given_up.locale AND slugs.slug = given_up.slug
          AND owner IS NULL
        """,
        content_id,
        [locale for locale, _ in kept],
        [slug for _, slug in kept],
    )
