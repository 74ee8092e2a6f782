"""Items of content: the draft that editors work on, and what is published of it."""

import uuid
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

import asyncpg
import uuid_utils
from google.protobuf.timestamp_pb2 import Timestamp

from libs import filters, outbox, paging, text
from libs.db import Connection, fetch_one
from libs.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from services.content import categories, etags, locales
from thmnayah.content.v1.content_pb2 import Content, ContentCreated, ListContentsResponse

# Columns by name: a row of `contents`, perhaps with what a change made of it.
Row: TypeAlias = Mapping[str, Any]

# Text that is kept for each locale, and the columns of `contents` that hold it.
LOCALISED = ("slug", "title", "description", "body")
UNLOCALISED = ("category", "tags", "external_id")

COLUMNS = (
    "id, type, slug, title, description, body, category, tags, external_id, published, version,"
    " create_time, update_time, publish_time, created_by, delete_time"
)

_CATEGORY_PATH = filters.Field(
    "(SELECT path FROM categories WHERE id = category)",
    "list",
    has="category IN (SELECT id FROM categories WHERE path @> ARRAY[{value}::text])",
)
_FIELDS = {
    "type": filters.Field("type"),
    "category": filters.Field("category"),
    "category_path": _CATEGORY_PATH,
    "categoryPath": _CATEGORY_PATH,
    "tags": filters.Field("tags", "list"),
    "external_id": filters.Field("external_id"),
    "externalId": filters.Field("external_id"),
    "create_time": filters.Field("create_time", "time"),
    "createTime": filters.Field("create_time", "time"),
    "update_time": filters.Field("update_time", "time"),
    "updateTime": filters.Field("update_time", "time"),
    "publish_time": filters.Field("publish_time", "time"),
    "publishTime": filters.Field("publish_time", "time"),
}

_ORDERS = {
    "create_time": "create_time",
    "createTime": "create_time",
    "update_time": "update_time",
    "updateTime": "update_time",
    "publish_time": "publish_time",
    "publishTime": "publish_time",
}


def normalize(content: Content) -> bool:
    """Put every text into the form it is stored in, and tags that become equal into one.

    Returns:
        Whether anything changed, in which case it may be longer than the contract allows.
    """
    changed = False
    for field in LOCALISED:
        texts = getattr(content, field)
        for locale, value in list(texts.items()):
            if (formed := text.nfc(value)) != value:
                texts[locale] = formed
                changed = True
    for field in ("category", "external_id"):
        if (formed := text.nfc(value := getattr(content, field))) != value:
            setattr(content, field, formed)
            changed = True
    if (tags := list(dict.fromkeys(map(text.nfc, content.tags)))) != list(content.tags):
        content.tags[:] = tags
        changed = True
    return changed


async def create(conn: Connection, content: Content, *, created_by: str) -> Content:
    """Store a new draft, whose texts are in normal form, with its slugs and its event, in one statement.

    The same statement makes its category where there is none.
    """
    await _check_locales(conn, content)
    content_id = str(uuid_utils.uuid7())
    values: dict[str, Any] = {field: dict(getattr(content, field)) for field in LOCALISED}
    values |= {
        "category": content.category or None,
        "tags": list(content.tags),
        "external_id": content.external_id or None,
    }
    _check_titles(values, given=values["slug"])
    choices = _slug_choices(content_id, content.type, values["slug"], values["title"])
    moment = datetime.now(UTC)
    row = {"id": content_id, "type": content.type, "created_by": created_by, **values}
    row |= {"version": 1, "create_time": moment, "update_time": moment}
    row |= {"published": {}, "publish_time": None, "delete_time": None}
    roots = categories.roots(content.category, moment)
    root = next(roots, None)
    while True:
        row["slug"] = {locale: of_locale[0] for locale, of_locale in choices.items()}
        created = draft(row)
        try:
            await conn.execute(
                f"""
                WITH {"" if root is None else categories.make_root(19)}
                claimed AS (
                    INSERT INTO slugs (type, locale, slug, content_id)
                    SELECT $2, locale, slug, $1 FROM unnest($13::text[], $14::text[]) AS wanted (locale, slug)
                ), event AS (
                    INSERT INTO outbox (id, subject, headers, payload) VALUES ($15, $16, $17, $18)
                )
                INSERT INTO contents (id, type, created_by, slug, title, description, body, category, tags,
                                      external_id, version, create_time, update_time)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12)
                """,
                *list(row.values())[:12],
                list(choices),
                list(row["slug"].values()),
                *outbox.row(ContentCreated(content=created), about=content_id),
                *categories.root_parameters(root),
            )
        except asyncpg.UniqueViolationError as error:
            if error.constraint_name == "category_slugs_pkey":
                root = next(roots)
                continue
            if error.constraint_name != "slugs_pkey":
                raise _external_id_taken(content.external_id) from None
        else:
            return created
        await _pass_over(conn, content.type, choices)


async def get_draft(conn: Connection, content_id: str) -> Content:
    """An item as editors see it."""
    return draft(await _row(conn, content_id))


async def get_published(conn: Connection, content_id: str) -> Content:
    """An item as readers see it."""
    stored = await conn.fetchval("SELECT content FROM publications WHERE id = $1", content_id)
    if stored is None:
        raise _not_found(content_id)
    return Content.FromString(stored)


async def list_page(
    conn: Connection,
    *,
    drafts: bool,
    filter: str,
    chain: Sequence[str],
    order_by: str,
    page_size: int,
    page_token: str,
) -> ListContentsResponse:
    """A page of items, in one of the locales of the chain unless that is empty, and the token of the next."""
    column, descending = _order(order_by)
    question = ("contents", drafts, filter, tuple(chain), column, descending)
    parameters: list[object] = []
    conditions = [filters.compile_filter(filter, _FIELDS, parameters)]
    if drafts:
        conditions.append("delete_time IS NULL")
    if chain:
        parameters.append(list(chain))
        conditions.append(f"{'title ?|' if drafts else 'locales &&'} ${len(parameters)}::text[]")
    after = paging.keys(page_token, question, (str, str))
    if after is not None:
        parameters += _position(after)
        sign = "<" if descending else ">"
        conditions.append(f"({column}, id) {sign} (${len(parameters) - 1}, ${len(parameters)})")
    if column == "publish_time":
        conditions.append("publish_time IS NOT NULL")
    size = paging.size(page_size)
    parameters.append(size + 1)
    direction = "DESC" if descending else "ASC"
    rows = await conn.fetch(
        f"""
        SELECT {COLUMNS if drafts else "id, content, " + column}
        FROM {"contents" if drafts else "publications"}
        WHERE {" AND ".join(conditions)}
        ORDER BY {column} {direction}, id {direction}
        LIMIT ${len(parameters)}
        """,
        *parameters,
    )
    response = ListContentsResponse()
    for row in rows[:size]:
        if drafts:
            response.contents.append(draft(dict(row)))
        else:
            response.contents.add().MergeFromString(row["content"])  # in its place, without a copy
        if chain:
            resolve(response.contents[-1], chain)
    if len(rows) > size:
        last = rows[size - 1]
        response.next_page_token = paging.token([last[column].isoformat(), str(last["id"])], question)
    return response


def resolve(content: Content, chain: Sequence[str]) -> None:
    """Leave of each field, under the first locale of the chain, the text of the first that has one.

    Raises:
        NotFound: the item is in none of them.
    """
    for field in LOCALISED:
        texts = getattr(content, field)
        found = next(((locale, texts[locale]) for locale in chain if texts.get(locale)), None)
        texts.clear()
        if found is not None:
            content.resolved_locales[field], texts[chain[0]] = found
    if not content.title:
        raise _not_found(content.id)
    # The fallback of a locale may change while the item stays as it is.
    content.etag = f'{content.etag[:-1]}.{zlib.crc32(" ".join(chain).encode()):08x}"'


async def update(conn: Connection, content: Content, *, paths: Sequence[str], etag: str) -> Content | None:
    """Change the draft at the paths given, or, without any, at every field that holds a value.

    Returns:
        The draft after the change; None when it was like that already.
    """
    await _check_locales(conn, content)
    row = await _row(conn, content.id, lock=True)
    etags.check(etag, row["version"])
    before = _values(row)
    after = _values(row)
    for path in _paths(content, paths):
        _set(after, path, content)
    _check_titles(after, given=after["slug"].keys() - before["slug"].keys())
    if after["slug"] != before["slug"] or after["title"].keys() != before["title"].keys():
        after["slug"] = await _claim_slugs(conn, content.id, row["type"], after["slug"], after["title"])
    if after["category"] != before["category"]:
        await categories.ensure(conn, after["category"] or "")
    changed = [column for column in after if after[column] != before[column]]
    if not changed:
        return None
    assignments = ", ".join(f"{column} = ${number}" for number, column in enumerate(changed, start=2))
    try:
        stored = await fetch_one(
            conn,
            f"""
            UPDATE contents SET {assignments}, version = version + 1, update_time = now()
            WHERE id = $1
            RETURNING version, update_time
            """,
            content.id,
            *(after[column] for column in changed),
        )
    except asyncpg.UniqueViolationError:
        raise _external_id_taken(content.external_id) from None
    return draft({**row, **after, **stored})


async def publish(
    conn: Connection, content_id: str, *, locales: Sequence[str], etag: str
) -> tuple[Content, Content | None]:
    """Show the draft, as it is now, to readers in some locales, or in all that have a title.

    Returns:
        The item as editors see it, and as readers see it if that changed.
    """
    row = await _row(conn, content_id, lock=True)
    etags.check(etag, row["version"])
    values = _values(row)
    chosen = list(locales) or sorted(values["title"])
    missing = [locale for locale in chosen if not values["title"].get(locale)]
    if missing:
        named = ", ".join(missing)
        raise FailedPrecondition(
            "LOCALE_INCOMPLETE",
            f"cannot publish without a title in: {named}",
            f"لا يمكن النشر من دون عنوان في: {named}",
            violations={f"title.{locale}": "is required to publish this locale" for locale in missing},
        )
    stored = await conn.fetchval("SELECT content FROM publications WHERE id = $1", content_id)
    shown = Content() if stored is None else Content.FromString(stored)
    wanted = Content()
    wanted.CopyFrom(shown)
    for locale in chosen:
        for field in LOCALISED:
            _copy_locale(values[field], getattr(wanted, field), locale)
    wanted.category = values["category"] or ""
    wanted.external_id = values["external_id"] or ""
    wanted.tags[:] = values["tags"]
    if stored is not None and wanted == shown:
        return draft(row), None
    moment = row["moment"].isoformat()
    row = await _set_published(conn, row, {**dict.fromkeys(chosen, moment), **row["published"]})
    return draft(row), await _show(conn, row, wanted)


async def unpublish(
    conn: Connection, content_id: str, *, locales: Sequence[str], etag: str
) -> tuple[Content, Content | None]:
    """Take an item from readers in some locales, or in all.

    Returns:
        The item as editors see it, and what readers still see, without locales when that is nothing;
        None when nothing changed.
    """
    row = await _row(conn, content_id, lock=True)
    etags.check(etag, row["version"])
    gone = set(locales or row["published"]) & set(row["published"])
    if not gone:
        return draft(row), None
    kept = {locale: time for locale, time in row["published"].items() if locale not in gone}
    row = await _set_published(conn, row, kept)
    wanted = Content.FromString(await conn.fetchval("SELECT content FROM publications WHERE id = $1", content_id))
    for locale in gone:
        for field in LOCALISED:
            getattr(wanted, field).pop(locale, None)
    return draft(row), await _show(conn, row, wanted)


async def delete(conn: Connection, content_id: str, *, etag: str) -> Content:
    """Take an item from everyone; its external id and its slugs are free again."""
    row = await _row(conn, content_id, lock=True)
    etags.check(etag, row["version"])
    await conn.execute("DELETE FROM publications WHERE id = $1", content_id)
    await conn.execute("DELETE FROM slugs WHERE content_id = $1", content_id)
    gone = await fetch_one(
        conn,
        """
        UPDATE contents
        SET delete_time = now(), version = version + 1, published = '{}', publish_time = NULL
        WHERE id = $1
        RETURNING version, published, publish_time, delete_time
        """,
        content_id,
    )
    return draft({**row, **gone})


async def _row(conn: Connection, content_id: str, *, lock: bool = False) -> Row:
    row = await conn.fetchrow(
        f"SELECT {COLUMNS}, now() AS moment FROM contents"
        f" WHERE id = $1 AND delete_time IS NULL {'FOR UPDATE' if lock else ''}",
        content_id,
    )
    if row is None:
        raise _not_found(content_id)
    return dict(row)


async def _set_published(conn: Connection, row: Row, published: Mapping[str, str]) -> Row:
    """Store which locales are published since when; returns the new row."""
    stored = await fetch_one(
        conn,
        """
        UPDATE contents SET published = $2, publish_time = $3, version = version + 1
        WHERE id = $1
        RETURNING published, publish_time, version
        """,
        row["id"],
        published,
        min((datetime.fromisoformat(time) for time in published.values()), default=None),
    )
    return {**row, **stored}


async def _show(conn: Connection, row: Row, content: Content) -> Content:
    """Make `content`, the texts of the published locales, what readers see; returns it complete."""
    content.id = str(row["id"])
    content.type = row["type"]
    content.version = row["version"]
    content.etag = f'"{row["version"]}-published"'
    content.created_by = row["created_by"]
    content.create_time.CopyFrom(_timestamp(row["create_time"]))
    content.update_time.CopyFrom(_timestamp(row["moment"]))
    _set_state(content, row, content.title)
    if content.state != Content.PUBLISHED:
        await conn.execute("DELETE FROM publications WHERE id = $1", row["id"])
        return content
    await conn.execute(
        """
        INSERT INTO publications
            (id, type, category, tags, external_id, version, create_time, update_time, publish_time, locales, content)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        ON CONFLICT (id) DO UPDATE
        SET category = excluded.category, tags = excluded.tags, external_id = excluded.external_id,
            version = excluded.version, update_time = excluded.update_time,
            publish_time = excluded.publish_time, locales = excluded.locales, content = excluded.content
        """,
        row["id"],
        row["type"],
        content.category or None,
        list(content.tags),
        content.external_id or None,
        row["version"],
        row["create_time"],
        row["moment"],
        row["publish_time"],
        sorted(content.locales),
        content.SerializeToString(deterministic=True),
    )
    return content


def draft(row: Row) -> Content:
    """A row of COLUMNS as editors see it."""
    content = Content(
        id=str(row["id"]),
        type=row["type"],
        slug=row["slug"],
        title=row["title"],
        description=row["description"],
        body=row["body"],
        category=row["category"] or "",
        tags=row["tags"],
        external_id=row["external_id"] or "",
        version=row["version"],
        etag=f'"{row["version"]}"',
        create_time=_timestamp(row["create_time"]),
        update_time=_timestamp(row["update_time"]),
        created_by=row["created_by"],
    )
    if row["delete_time"] is not None:
        content.delete_time.CopyFrom(_timestamp(row["delete_time"]))
    # What readers see stays told, though its draft may be gone.
    _set_state(content, row, {*content.title, *row["published"]})
    return content


def _set_state(content: Content, row: Row, locales: Iterable[str]) -> None:
    """Set the state of the item and of these locales."""
    content.locales.clear()
    for locale in locales:
        status = content.locales[locale]
        published = row["published"].get(locale)
        status.state = Content.DRAFT if published is None else Content.PUBLISHED
        if published is not None:
            status.publish_time.CopyFrom(_timestamp(datetime.fromisoformat(published)))
    content.state = Content.PUBLISHED if row["published"] else Content.DRAFT
    content.ClearField("publish_time")
    if row["publish_time"] is not None:
        content.publish_time.CopyFrom(_timestamp(row["publish_time"]))


def _values(row: Row) -> dict[str, Any]:
    return {
        **{field: dict(row[field]) for field in LOCALISED},
        "category": row["category"],
        "tags": list(row["tags"]),
        "external_id": row["external_id"],
    }


def _paths(content: Content, paths: Sequence[str]) -> Iterable[str]:
    """The paths to set: those of the mask, or those that hold a value."""
    if "*" in paths:
        return (*LOCALISED, *UNLOCALISED)
    if paths:
        return paths
    held = [f"{field}.{locale}" for field in LOCALISED for locale in getattr(content, field)]
    held += [field for field in UNLOCALISED if getattr(content, field)]
    if not held:
        raise InvalidArgument({"updateMask": "names no field, and the content holds none"})
    return held


def _set(values: dict[str, Any], path: str, content: Content) -> None:
    name, separator, locale = path.partition(".")
    name = "external_id" if name == "externalId" else name
    if name in LOCALISED:
        given: Mapping[str, str] = getattr(content, name)
        if not separator:
            values[name] = dict(given)
        elif locale in given:
            values[name][locale] = given[locale]
        elif locale in values["title"] or locale in values[name]:
            values[name].pop(locale, None)
        else:
            raise InvalidArgument({"updateMask": f"{path} is in no locale of this content"})
    elif name in UNLOCALISED and not separator:
        values[name] = list(content.tags) if name == "tags" else getattr(content, name) or None
    elif name == "etag":
        return
    elif name in Content.DESCRIPTOR.fields_by_name and not separator:
        raise InvalidArgument({"updateMask": f"{path} is not for callers to set"})
    else:
        raise InvalidArgument({"updateMask": f"{path} is not a field of a content"})


def _check_titles(values: Mapping[str, Any], *, given: Collection[str]) -> None:
    """Raises: InvalidArgument without a title, with a blank one, or for an address that was given without one."""
    wrong = {
        f"content.title.{locale}": "must hold more than white space"
        for locale, title in values["title"].items()
        if text.is_blank(title)
    }
    wrong |= {
        f"content.slug.{locale}": "needs a title in this locale" for locale in given if locale not in values["title"]
    }
    if not values["title"]:
        wrong = {"content.title": "is required in at least one locale"}
    if wrong:
        raise InvalidArgument(wrong)


def _copy_locale(source: Mapping[str, str], target: Any, locale: str) -> None:
    if locale in source:
        target[locale] = source[locale]
    else:
        target.pop(locale, None)


def _slug_choices(
    content_id: str, kind: str, given: Mapping[str, str], titles: Mapping[str, str]
) -> dict[str, list[str]]:
    """For each locale, the slugs to try: the given one, or two from the title where none is given."""
    choices: dict[str, list[str]] = {}
    for locale in titles:
        if given.get(locale):
            choices[locale] = [text.slug(given[locale])]
            if not choices[locale][0]:
                raise InvalidArgument({f"content.slug.{locale}": "holds neither a letter nor a digit"})
        else:
            # Never empty: a title of signs alone is addressed by its type.
            derived = text.slug(titles[locale], max_length=100) or kind
            choices[locale] = [derived, f"{derived}-{content_id[-12:]}"]
    return choices


async def _pass_over(conn: Connection, kind: str, choices: Mapping[str, list[str]]) -> None:
    """Take the first choice out where another item has it.

    Raises:
        AlreadyExists: it was the last one.
    """
    taken = await conn.fetch(
        "SELECT locale, slug FROM slugs JOIN unnest($2::text[], $3::text[]) AS wanted (locale, slug)"
        " USING (locale, slug) WHERE type = $1",
        kind,
        list(choices),
        [of_locale[0] for of_locale in choices.values()],
    )
    for locale, _ in taken:
        _next_choice(kind, locale, choices[locale])


def _next_choice(kind: str, locale: str, choices: list[str]) -> None:
    slug = choices.pop(0)
    if not choices:
        raise AlreadyExists(
            "SLUG_TAKEN",
            f"another {kind} has the slug {slug!r} in {locale}",
            f"الرابط {slug!r} مستخدم في {locale}",
            violations={f"content.slug.{locale}": "is taken"},
        )


async def _claim_slugs(
    conn: Connection, content_id: str, kind: str, given: Mapping[str, str], titles: Mapping[str, str]
) -> dict[str, str]:
    """Make the slugs of an item the given ones, and ones from the titles where none is given."""
    choices = _slug_choices(content_id, kind, given, titles)
    await conn.execute(
        "DELETE FROM slugs WHERE content_id = $1"
        " AND (locale, slug) NOT IN (SELECT * FROM unnest($2::text[], $3::text[]))",
        content_id,
        list(choices),
        [of_locale[0] for of_locale in choices.values()],
    )
    claimed: dict[str, str] = {}
    while len(claimed) < len(choices):
        tried = {locale: of_locale[0] for locale, of_locale in choices.items() if locale not in claimed}
        rows = await conn.fetch(
            """
            INSERT INTO slugs (type, locale, slug, content_id)
            SELECT $1, locale, slug, $4::uuid FROM unnest($2::text[], $3::text[]) AS wanted (locale, slug)
            ON CONFLICT (type, locale, slug) DO UPDATE SET content_id = excluded.content_id
            WHERE slugs.content_id = excluded.content_id
            RETURNING locale, slug
            """,
            kind,
            list(tried),
            list(tried.values()),
            content_id,
        )
        claimed |= {row["locale"]: row["slug"] for row in rows}
        for locale in tried.keys() - claimed.keys():
            _next_choice(kind, locale, choices[locale])
    return claimed


async def _check_locales(conn: Connection, content: Content) -> None:
    await locales.check(
        conn,
        {locale: f"content.{field}.{locale}" for field in reversed(LOCALISED) for locale in getattr(content, field)},
    )


def _order(order_by: str) -> tuple[str, bool]:
    name, _, direction = (order_by.strip() or "create_time desc").partition(" ")
    if name not in _ORDERS or direction.strip() not in ("", "asc", "desc"):
        raise InvalidArgument({"orderBy": "must be create_time, update_time or publish_time, then asc or desc"})
    return _ORDERS[name], direction.strip() == "desc"


def _position(after: Sequence[object]) -> list[object]:
    try:
        return [datetime.fromisoformat(str(after[0])).astimezone(UTC), uuid.UUID(str(after[1]))]
    except (ValueError, OverflowError):
        raise InvalidArgument({"pageToken": "is not a token of this API"}) from None


def _timestamp(moment: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


def _not_found(content_id: str) -> NotFound:
    return NotFound("CONTENT_NOT_FOUND", f"no content {content_id}", f"لا يوجد محتوى {content_id}")


def _external_id_taken(external_id: str) -> AlreadyExists:
    return AlreadyExists(
        "EXTERNAL_ID_TAKEN",
        f"another item has the external id {external_id!r}",
        f"المعرّف الخارجي {external_id!r} مستخدم",
        violations={"content.externalId": "is taken"},
    )
