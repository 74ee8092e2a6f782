"""Items of content: the draft that editors work on, and what is published of it."""

import uuid
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import asyncpg
import uuid_utils
from google.protobuf.message import Message

from libs import etags, filters, outbox, paging, text
from libs.db import Connection
from libs.errors import AlreadyExists, InvalidArgument, NotFound
from libs.permissions import Scope
from services.content import (
    categories,
    fields,
    locales,
    references,
    slugs,
    stages,
    translations,
    types,
    unique_values,
)
from services.content.alone import Alone
from services.content.references import Reference
from services.content.stages import Row, timestamp
from thmnayah.content.v1.content_pb2 import (
    Content,
    ContentCreated,
    ContentDeleted,
    ContentUndeleted,
    ContentUpdated,
    ListContentsResponse,
)
from thmnayah.content.v1.revisions_pb2 import Revision
from thmnayah.content.v1.types_pb2 import ContentType

# Text that is kept for each locale, and the columns of `contents` that hold it.
LOCALISED = ("slug", "title", "description", "body")
UNLOCALISED = ("category", "tags", "external_id")

_COLUMNS = (
    "id, type, slug, title, description, body, category, tags, external_id, fields, published, reviews, archived,"
    " changes, sources, stale, revision, schedules, version, create_time, update_time, publish_time, created_by,"
    " delete_time, expire_time, waiting"
)
# Rows as `draft` takes them, with the transaction's time as `moment`.
_OF_ROW = f"""
    {_COLUMNS}, now() AS moment,
    (SELECT definition::text FROM content_types WHERE content_types.id = contents.type) AS definition
"""
SELECT = f"SELECT {_OF_ROW} FROM contents"
# For a change without a lock: all of one moment.
_SELECT_ALONE = f"""
    SELECT {_OF_ROW},
           (SELECT version FROM content_types WHERE content_types.id = contents.type) AS type_version,
           CASE WHEN $2 THEN (SELECT content FROM publications WHERE publications.id = contents.id) END AS shown
    FROM contents WHERE id = $1 AND delete_time IS NULL
"""
TRASH_DAYS = 30
PURGE_ROWS = 1000
# In the history, a program's save takes the place of the one before when that is no older.
AUTOSAVE_SECONDS = 600

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
_BROKEN = filters.Field(references.BROKEN, "list")
_DRAFT_FIELDS = {
    **_FIELDS,
    "stale": filters.Field("stale", "list"),
    "broken_references": _BROKEN,
    "brokenReferences": _BROKEN,
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


async def create(conn: Connection, content: Content, kind: ContentType, *, created_by: str) -> Content:
    """Store a new draft, whose texts are in normal form, with its slugs, revision and event, in one statement.

    The same statement makes its category where there is none.

    Args:
        kind: its type; one that changed meanwhile is read again.
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
    categories.check_id(content.category)
    held, findings = fields.put(kind, {}, content.fields, content.fields, locales=content.title)
    values["fields"] = fields.defaults(kind, held, locales=content.title)
    choices = slugs.choices(content_id, content.type, kind, values["slug"], values["title"])
    moment = datetime.now(UTC)
    row: dict[str, Any] = {
        "id": content_id,
        "type": content.type,
        "created_by": created_by,
        **values,
        "version": 1,
        "revision": 1,
        "create_time": moment,
        "update_time": moment,
        "published": {},
        "reviews": {},
        "archived": [],
        "sources": {},
        "stale": [],
        "schedules": [],
        "publish_time": None,
        "delete_time": None,
        "expire_time": None,
        "waiting": None,
    }
    referred = references.of(values["fields"])
    roots = categories.roots(content.category, moment)
    root = next(roots, None)
    while True:
        row["slug"] = {locale: of_locale[0] for locale, of_locale in choices.items()}
        row["changes"] = dict.fromkeys(_held_paths(row), 1)
        created = fields.show_held(_told(row), kind, row["fields"])
        try:
            outcome = await conn.execute(
                _creation(filed=root is not None, referring=bool(referred)),
                *(row[name] for name in ("id", "type", "created_by", *LOCALISED, *UNLOCALISED, "fields")),
                *(row[name] for name in ("version", "create_time", "changes")),
                list(choices),
                list(row["slug"].values()),
                snapshot(row),
                *outbox.row(ContentCreated(content=created), about=content_id),
                kind.update_time.ToDatetime(UTC) if kind.id else None,
                unique_values.fields(kind),
                *categories.root_parameters(root),
                *(references.insert_parameters(referred, findings.references) if referred else ()),
            )
        except asyncpg.UniqueViolationError as error:
            if error.constraint_name == "slugs_pkey":
                await slugs.pass_over(conn, content.type, choices)
                continue
            if error.constraint_name == "category_slugs_pkey":
                root = next(roots)
                continue
            taken = await unique_values.taken(conn, kind, values["fields"])
            raise taken or _external_id_taken(content.external_id) from None
        if outcome == "INSERT 0 1":
            return created
        await _check_references(conn, findings)
        return await create(conn, content, await types.find(conn, content.type), created_by=created_by)


# Of a type that is not as it was when the values were checked, or with references that lead nowhere, it makes nothing.
_CREATE_IN = f"""
    WITH checked AS (
        SELECT WHERE (SELECT update_time FROM content_types WHERE id = $2) IS NOT DISTINCT FROM $22::timestamptz
        {{satisfied}}
    ), {{category}} claimed AS (
        INSERT INTO slugs (type, locale, slug, content_id)
        SELECT $2, locale, slug, $1 FROM checked, unnest($15::text[], $16::text[]) AS wanted (locale, slug)
    ), claimed_values AS (
        INSERT INTO unique_values (type, field, locale, digest, content_id)
        SELECT claimed.* FROM checked, ({unique_values.SELECT_GIVEN.format(ids="$23", held="$11")}) AS claimed
    ), revision AS (
        INSERT INTO revisions (content_id, number, author, note, autosave, create_time, content)
        SELECT $1::uuid, 1, $3::text, '', false, $13::timestamptz, $17::bytea FROM checked
    ), event AS (
        INSERT INTO outbox (id, subject, headers, payload)
        SELECT $18::uuid, $19::text, $20::jsonb, $21::bytea FROM checked
    ) {{references}}
    INSERT INTO contents (id, type, created_by, slug, title, description, body, category, tags,
                          external_id, fields, version, create_time, update_time, changes)
    SELECT $1::uuid, $2::text, $3::text, $4::jsonb, $5::jsonb, $6::jsonb, $7::jsonb, $8::text, $9::text[],
           $10::text, $11::jsonb, $12::integer, $13::timestamptz, $13::timestamptz, $14::jsonb
    FROM checked
"""


@cache
def _creation(*, filed: bool, referring: bool) -> str:
    """The statement that makes an item; with a category it takes that's parameters, then those of its references."""
    category = categories.make_root(24, source="FROM checked") if filed else ""
    satisfied, linked = references.insert(24 + categories.ROOT_PARAMETERS * filed) if referring else ("", "")
    return _CREATE_IN.format(category=category, satisfied=satisfied, references=linked)


async def get_draft(conn: Connection, content_id: str) -> Content:
    """An item as editors see it."""
    return draft(await read(conn, content_id))


async def find_published(conn: Connection, ids: Sequence[str]) -> list[bytes | None]:
    """Items as readers see them, their fields as they are stored (see `fields.show`); None for one they do not see."""
    rows = await conn.fetch(_FIND_PUBLISHED, list(ids))
    return [row["content"] for row in rows]


# The order is that of the ids, each of which is looked up.
_FIND_PUBLISHED = """
    SELECT content FROM unnest($1::uuid[]) WITH ORDINALITY AS wanted (id, number)
    LEFT JOIN publications USING (id) ORDER BY number
"""


async def find_all(
    conn: Connection, ids: Collection[str], chain: Sequence[str], *, drafts: bool, scope: Scope | None = None
) -> list[Content]:
    """Those that there are of some items, their fields as they are stored; for the rest see `list_page`."""
    if not ids:
        return []
    parameters: list[object] = [list(ids), list(chain)]
    columns, table, there, locales = (
        (_COLUMNS, "contents", "delete_time IS NULL", "title ?|")
        if drafts
        else ("content", "publications", "TRUE", "locales &&")
    )
    rows = await conn.fetch(
        f"SELECT {columns} FROM {table} WHERE id = ANY($1) AND {there}"
        f" AND ($2::text[] = '{{}}' OR {locales} $2::text[]) {_within(scope, chain, parameters)} ORDER BY id",
        *parameters,
    )
    return [_stored(dict(row)) if drafts else Content.FromString(row["content"]) for row in rows]


async def list_page(
    conn: Connection,
    *,
    drafts: bool,
    deleted: bool,
    filter: str,
    chain: Sequence[str],
    order_by: str,
    page_size: int,
    page_token: str,
    scope: Scope | None = None,
) -> ListContentsResponse:
    """A page of items, their fields as they are stored (see `fields.show`), and the token of the next one.

    Args:
        scope: of drafts, those that it holds for; all, without one.
        deleted: those in the trash; drafts alone can be.
        chain: the items are in one of these locales, unless there are none.
    """
    column, descending = _order(order_by)
    question = ("contents", drafts, deleted, filter, tuple(chain), column, descending)
    parameters: list[object] = []
    known = _known(scope) if drafts else _FIELDS
    conditions = [filters.compile_filter(filter, known, parameters)]
    if drafts:
        conditions.append("expire_time > now()" if deleted else "delete_time IS NULL")
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
    limit = len(parameters)
    direction = "DESC" if descending else "ASC"
    rows = await conn.fetch(
        f"""
        SELECT {_COLUMNS if drafts else "id, content, " + column}
        FROM {"contents" if drafts else "publications"}
        WHERE {" AND ".join(conditions)} {_within(scope, chain, parameters)}
        ORDER BY {column} {direction}, id {direction}
        LIMIT ${limit}
        """,
        *parameters,
    )
    response = ListContentsResponse()
    for row in rows[:size]:
        if drafts:
            response.contents.append(_stored(dict(row)))
        else:
            response.contents.add().MergeFromString(row["content"])  # in its place, without a copy
    if len(rows) > size:
        last = rows[size - 1]
        response.next_page_token = paging.token([last[column].isoformat(), str(last["id"])], question)
    return response


# What conditions on drafts are about.
COLUMNS = stages.columns("contents")


def _within(scope: Scope | None, chain: Sequence[str], parameters: list[object]) -> str:
    """The condition, after others, that drafts in one of these locales are in a scope."""
    columns = replace(COLUMNS, has_locale="contents.title ?| {}") if chain else COLUMNS
    return "" if scope is None else f"AND {scope.compile(columns, parameters, among=chain)}"


def _known(scope: Scope | None) -> Mapping[str, filters.Field]:
    """What a filter of drafts may ask for: nothing that may not be read of some of them."""
    if scope is None or not any(grant.fields or grant.locales for grant in scope.grants):
        return _DRAFT_FIELDS
    shown = {
        name
        for name, needed in _NEEDED.items()
        if all(needed in grant.fields or not grant.fields for grant in scope.grants)
    }
    hidden = _NEEDED.keys() - shown | {"stale", "broken_references", "brokenReferences"}
    return {name: each for name, each in _DRAFT_FIELDS.items() if name not in hidden}


# What a caller must be able to read to ask for some fields.
_NEEDED = {
    "category": "category",
    "category_path": "category",
    "categoryPath": "category",
    "tags": "tags",
    "external_id": "external_id",
    "externalId": "external_id",
}


def resolve(content: Content, chain: Sequence[str]) -> None:
    """Leave of each text and localized field, under the first locale of the chain, what the first has that has any.

    Raises:
        NotFound: the item is in none of them.
    """
    for field in LOCALISED:
        texts = getattr(content, field)
        for locale in chain:
            if found := texts.get(locale):
                texts.clear()
                content.resolved_locales[field], texts[chain[0]] = locale, found
                break
        else:
            texts.clear()
    if not content.title:
        raise not_found(content.id)
    for name, locale in fields.resolve(content, chain).items():
        content.resolved_locales[f"fields.{name}"] = locale
    # The fallback of a locale may change while the item stays as it is.
    content.etag = f'{content.etag[:-1]}.{zlib.crc32(" ".join(chain).encode()):08x}"'


async def update(
    conn: Connection,
    row: Row,
    content: Content,
    *,
    paths: Sequence[str],
    etag: str,
    merge: bool,
    author: str,
    note: str = "",
    autosave: bool = False,
    restores: int = 0,
) -> Content | None:
    """Change the draft of a row at the paths given, or, without any, at every field that holds a value.

    Args:
        row: locked, or read alone.
        etag: the version that the change is based on.
        merge: an older one will do when what changed since is none of what this changes.
        note, autosave: for the history.
        restores: the number of the revision that the content is; 0 when it is none.

    Returns:
        The draft after the change; None when it was like that already.
    """
    await _check_locales(conn, content)
    content_id = str(row["id"])
    if not merge:
        etags.check(etag, row["version"])
    kind = type_of(row)
    before = _values(row)
    after = await _edited(conn, kind, before, content, paths)
    touched = _changed_paths(before, after)
    if merge:
        etags.check(etag, row["version"], since=max((row["changes"].get(path, 0) for path in touched), default=0))
    _check_titles(after, given=after["slug"].keys() - before["slug"].keys())
    _check_not_archived(row, touched)
    if after["slug"] != before["slug"] or after["title"].keys() != before["title"].keys():
        choices = slugs.choices(content_id, row["type"], kind, after["slug"], after["title"], held=before["slug"])
        after["slug"] = await slugs.claim(conn, content_id, row["type"], choices)
        touched = _changed_paths(before, after)
    if not touched:
        return None
    if after["fields"] != before["fields"]:
        await unique_values.claim(conn, content_id, kind, after["fields"])
        change = (content_id, references.of(before["fields"]), references.of(after["fields"]))
        await references.put(conn, "draft_references", [change])
    if after["category"] != before["category"]:
        categories.check_id(after["category"] or "")
        await categories.ensure(conn, after["category"] or "")
    columns = {column: after[column] for column in after if after[column] != before[column]}
    seen = restores or (etags.named(etag, row["version"]) if merge else row["version"])
    restored = fields.stored_paths(kind, content.translations) if restores else None
    columns |= entailed(row, after, touched, seen=seen, restored=restored)
    try:
        return await store(
            conn,
            row,
            columns,
            events=[lambda changed: ContentUpdated(content=changed)],
            revision=Revision(number=columns["revision"], author=author, note=note, autosave=autosave),
        )
    except asyncpg.UniqueViolationError:
        raise _external_id_taken(after["external_id"]) from None


def entailed(
    row: Row,
    values: Row,
    touched: Sequence[str],
    *,
    seen: int = 0,
    restored: Mapping[str, Content.Translation] | None = None,
) -> dict[str, Any]:
    """The columns that a change of a draft's values at these paths writes beside them.

    Args:
        seen, restored: see `translations.after_edit`; a change of no text may leave them out.
    """
    version = row["version"] + 1
    changes = {**row["changes"], **dict.fromkeys(touched, version)}
    sources = translations.after_edit(row, values, touched, seen=seen, restored=restored)
    return {
        "changes": changes,
        **({"sources": sources} if sources != row["sources"] else {}),
        "stale": translations.stale({**values, "changes": changes, "sources": sources}, type_of(row)),
        "reviews": _still_under_review(row["reviews"], touched),
        "revision": version,
        "update_time": row["moment"],
    }


async def _edited(
    conn: Connection, kind: ContentType, before: Row, content: Content, paths: Sequence[str]
) -> dict[str, Any]:
    """The values once those of the content are set at the paths."""
    after = {name: value.copy() if isinstance(value, dict | list) else value for name, value in before.items()}
    of_fields: list[str] = []
    for path in paths_to_set(content, paths):
        if path == "fields":  # as a whole: what is not given is cleared
            of_fields += dict.fromkeys([*(each.name for each in kind.fields), *content.fields])
        elif path.startswith("fields."):
            of_fields.append(path.removeprefix("fields."))
        else:
            _set(after, path, content)
    if of_fields:
        after["fields"], findings = fields.put(
            kind, before["fields"], content.fields, of_fields, locales=after["title"]
        )
        await _check_references(conn, findings)
    return after


async def store(
    conn: Connection,
    row: Row,
    columns: Mapping[str, Any],
    *,
    events: Sequence[Callable[[Content], Message]] = (),
    revision: Revision | None = None,
    shown: Content | None = None,
    links: tuple[Collection[Reference], Collection[Reference]] = ((), ()),
    referred: Collection[tuple[str, str]] = (),
) -> Content:
    """Write columns of a row as its next version, with its events and its revision, in one statement.

    Args:
        row: locked, or read alone.
        events: each is made of the draft after the change.
        revision: its number, author, note and whether a program saved; None when no text changes.
        shown: what readers see from now on, its fields as they are stored; without locales, nothing.
        links: what readers saw it refer to, and what they see it refer to from now on.
        referred: ids, each with a locale or "", of items that readers must see there. Only without a lock.

    Returns:
        The draft after the change.
    """
    after = {**row, **columns, "version": row["version"] + 1}
    changed = draft(after)
    parameters: list[object] = [row["id"], row["version"], *columns.values()]

    def given(*values: object) -> str:
        """The numbers of parameters that are added."""
        first = len(parameters) + 1
        parameters.extend(values)
        return ", ".join(f"${number}" for number in range(first, len(parameters) + 1))

    assignments = "".join(f"{column} = ${number}, " for number, column in enumerate(columns, start=3))
    conditions = "id = $1 AND version = $2"
    parts = []
    if isinstance(conn, Alone):
        of_type = "(SELECT version FROM content_types WHERE content_types.id = contents.type)"
        conditions += f" AND {of_type} IS NOT DISTINCT FROM {given(row['type_version'])}::integer"
        if referred:
            ids, locales = zip(*referred, strict=True)
            parts.append(_REFERRED.format(given(list({*ids}))))
            conditions += _ALL_REFERRED.format(given(list(ids)), given(list(locales)))
    parts.append(f"changed AS (UPDATE contents SET {assignments}version = version + 1 WHERE {conditions} RETURNING id)")
    if revision is not None:
        values = given(revision.number, revision.author, revision.note, revision.autosave, row["moment"])
        parts.append(
            "revision AS (INSERT INTO revisions (content_id, number, author, note, autosave, create_time, content)"
            f" SELECT id, {values}, {given(snapshot(after))} FROM changed)"
        )
        if revision.autosave:
            last, author = given(row["revision"]), given(revision.author)
            since = given(row["moment"] - timedelta(seconds=AUTOSAVE_SECONDS))
            parts.append(
                "replaced AS (DELETE FROM revisions USING changed WHERE content_id = changed.id AND autosave"
                f" AND number = {last} AND author = {author} AND create_time > {since})"
            )
    if shown is not None and not shown.locales:
        parts.append("hidden AS (DELETE FROM publications USING changed WHERE publications.id = changed.id)")
    elif shown is not None:
        values = given(
            row["type"],
            shown.category or None,
            list(shown.tags),
            shown.external_id or None,
            after["version"],
            row["create_time"],
            row["moment"],
            after["publish_time"],
            sorted(shown.locales),
            shown.SerializeToString(deterministic=True),
        )
        parts.append(f"shown AS ({SHOW.format(rows=f'SELECT id, {values} FROM changed')})")
        change = (str(row["id"]), *links)
        parts += references.indexing("publication_references", [change], given, source="changed,")
    if events:
        rows = " UNION ALL ".join(
            f"SELECT {given(*outbox.row(event(changed), about=changed.id))} FROM changed" for event in events
        )
        parts.append(f"event AS (INSERT INTO outbox (id, subject, headers, payload) {rows})")
    statement = f"WITH {', '.join(parts)} SELECT count(*) FROM changed"
    if isinstance(conn, Alone):
        await conn.write(statement, *parameters)
    else:
        await conn.fetchval(statement, *parameters)
    return changed


# What readers see of items stays so until the statement's end.
_REFERRED = "referred AS (SELECT id, locales FROM publications WHERE id = ANY({}::uuid[]) ORDER BY id FOR KEY SHARE)"
_ALL_REFERRED = """
    AND NOT EXISTS (
        SELECT FROM unnest({}::uuid[], {}::text[]) AS wanted (id, locale)
        WHERE NOT EXISTS (
            SELECT FROM referred
            WHERE referred.id = wanted.id AND (wanted.locale = '' OR wanted.locale = ANY(referred.locales))
        )
    )
"""
# What readers see of items, first or again, from rows with these columns.
SHOW = """
    INSERT INTO publications
        (id, type, category, tags, external_id, version, create_time, update_time, publish_time, locales, content)
    {rows}
    ON CONFLICT (id) DO UPDATE
    SET category = excluded.category, tags = excluded.tags, external_id = excluded.external_id,
        version = excluded.version, update_time = excluded.update_time,
        publish_time = excluded.publish_time, locales = excluded.locales, content = excluded.content
"""


async def delete(conn: Connection, content_id: str, *, etag: str, force: bool) -> Content:
    """Take an item from everyone, into the trash; its external id and its slugs are free again.

    Args:
        force: also when published items refer to it.
    """
    row = await read(conn, content_id, lock=True)
    etags.check(etag, row["version"])
    await conn.execute("DELETE FROM publications WHERE id = $1", content_id)
    if not force:
        await references.check_unused(conn, content_id)
    await slugs.free(conn, content_id)
    await unique_values.release(conn, content_id)
    columns = {
        "delete_time": row["moment"],
        "expire_time": row["moment"] + timedelta(days=TRASH_DAYS),
        "published": {},
        "publish_time": None,
        "reviews": {},
        "archived": [],
        "schedules": [],
        "next_schedule": None,
        "waiting": None,
    }
    return await store(conn, row, columns, events=[_gone])


def _gone(content: Content) -> ContentDeleted:
    kept = Content(id=content.id, type=content.type, version=content.version, delete_time=content.delete_time)
    return ContentDeleted(content=kept)


async def undelete(conn: Connection, content_id: str) -> Content:
    """Take an item out of the trash."""
    row = await read(conn, content_id, lock=True, deleted=True)
    columns: dict[str, Any] = {"delete_time": None, "expire_time": None}
    choices = {
        locale: [row["slug"][locale], *others]
        for locale, others in slugs.choices(content_id, row["type"], type_of(row), {}, row["title"]).items()
    }
    columns["slug"] = await slugs.claim(conn, content_id, row["type"], choices)
    await unique_values.claim(conn, content_id, type_of(row), row["fields"])
    await categories.ensure(conn, row["category"] or "")  # it may have been deleted meanwhile
    try:
        return await store(conn, row, columns, events=[lambda content: ContentUndeleted(content=content)])
    except asyncpg.UniqueViolationError:
        raise _external_id_taken(row["external_id"]) from None


async def purge(conn: Connection, *, revision_days: int) -> int:
    """Remove for good what was in the trash to its end, and revisions that are older than so many days.

    Args:
        revision_days: 0 keeps them all; an item's newest is always kept.

    Returns:
        How many rows went; at most PURGE_ROWS of each kind, so that no statement runs long.
    """
    gone: int = await conn.fetchval(
        "WITH gone AS (DELETE FROM contents WHERE id IN"
        " (SELECT id FROM contents WHERE expire_time <= now() LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING 1)"
        " SELECT count(*) FROM gone",
        PURGE_ROWS,
    )
    if revision_days:
        gone += await conn.fetchval(
            "WITH gone AS (DELETE FROM revisions USING (SELECT r.content_id, r.number FROM revisions r"
            " JOIN contents c ON c.id = r.content_id AND r.number < c.revision"
            " WHERE r.create_time < now() - make_interval(days => $2) LIMIT $1) AS old"
            " WHERE revisions.content_id = old.content_id AND revisions.number = old.number RETURNING 1)"
            " SELECT count(*) FROM gone",
            PURGE_ROWS,
            revision_days,
        )
    return gone


async def read(conn: Connection, content_id: str, *, lock: bool = False, deleted: bool = False) -> Row:
    """The row of an item, with the transaction's time as `moment`.

    Args:
        lock: for a change; nobody else changes it before the transaction ends.
        deleted: one in the trash instead.

    Raises:
        NotFound: there is none.
    """
    row = await conn.fetchrow(
        f"""
        {SELECT}
        WHERE id = $1 AND {"expire_time > now()" if deleted else "delete_time IS NULL"}
        {"FOR UPDATE" if lock else ""}
        """,
        content_id,
    )
    if row is None:
        raise not_found(content_id)
    return dict(row)


async def read_alone(conn: Connection, content_id: str, *, shown: bool = False) -> Row:
    """The same for a change without a lock, see `alone`.

    Args:
        shown: also what readers see of it, as `shown`.
    """
    row = await conn.fetchrow(_SELECT_ALONE, content_id, shown)
    if row is None:
        raise not_found(content_id)
    return dict(row)


def type_of(row: Row) -> ContentType:
    """The type of an item that was read, an empty one when nobody defined it: do not change it."""
    return ContentType() if row["definition"] is None else types.parse(row["definition"])


def draft(row: Row) -> Content:
    """An item that was read as editors see it."""
    return fields.show_held(_told(row), type_of(row), row["fields"])


def _stored(row: Row) -> Content:
    """The draft, its fields as they are stored."""
    content = _told(row)
    content.MergeFrom(Content(fields=fields.as_stored(row["fields"])))
    return content


def _told(row: Row) -> Content:
    """The draft without its fields."""
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
        create_time=timestamp(row["create_time"]),
        update_time=timestamp(row["update_time"]),
        created_by=row["created_by"],
    )
    for name in ("publish_time", "delete_time", "expire_time"):
        if row[name] is not None:
            getattr(content, name).CopyFrom(timestamp(row[name]))
    stages.describe(content, row)
    translations.describe(content, row)
    return content


def snapshot(row: Row) -> bytes:
    """What the history keeps of a draft: what its authors made of it, and nothing of where it stands."""
    kept = Content(
        type=row["type"],
        **{field: row[field] for field in LOCALISED},
        category=row["category"] or "",
        tags=row["tags"],
        external_id=row["external_id"] or "",
        fields=fields.as_stored(row["fields"]),
    )
    translations.describe(kept, row)
    return kept.SerializeToString(deterministic=True)


def _values(row: Row) -> dict[str, Any]:
    return {
        **{field: dict(row[field]) for field in LOCALISED},
        "category": row["category"],
        "tags": list(row["tags"]),
        "external_id": row["external_id"],
        "fields": row["fields"],
    }


def _held_paths(values: Row) -> list[str]:
    """The paths that hold a value: `title.ar`, `tags`, and of a field its id and its locale, `fields.f1.ar`."""
    held = [f"{field}.{locale}" for field in LOCALISED for locale in values[field]]
    held += [f"fields.{each}.{locale}" for each, of_field in values["fields"].items() for locale in of_field]
    return held + [field for field in UNLOCALISED if values[field]]


def _changed_paths(before: Row, after: Row) -> list[str]:
    """The paths whose values differ."""
    paths = [
        f"{field}.{locale}"
        for field in LOCALISED
        for locale in sorted(before[field].keys() | after[field].keys())
        if before[field].get(locale) != after[field].get(locale)
    ]
    paths += [
        f"fields.{each}.{locale}"
        for each in sorted(before["fields"].keys() | after["fields"].keys())
        for locale in sorted({**before["fields"].get(each, {}), **after["fields"].get(each, {})})
        if before["fields"].get(each, {}).get(locale) != after["fields"].get(each, {}).get(locale)
    ]
    return paths + [field for field in UNLOCALISED if before[field] != after[field]]


def _locales_of(paths: Iterable[str]) -> set[str]:
    """The locales that changes at these paths are about; "" for all of them."""
    return {stages.locale_of(path) for path in paths}


def _still_under_review(reviews: Mapping[str, Any], touched: Iterable[str]) -> dict[str, Any]:
    """The reviews that changes at these paths leave valid: those of other locales."""
    locales = _locales_of(touched)
    return {} if "" in locales else {locale: each for locale, each in reviews.items() if locale not in locales}


def _check_not_archived(row: Row, touched: Iterable[str]) -> None:
    """What all locales share may change while one of them is not put away."""
    locales, archived = _locales_of(touched), set(row["archived"])
    if "" in locales and archived >= row["title"].keys():
        locales |= archived
    if locales & archived:
        raise stages.archived(sorted(locales & archived))


def paths_to_set(content: Content, paths: Sequence[str]) -> Iterable[str]:
    """The paths that an update sets: those of the mask, or those that hold a value."""
    if "*" in paths:
        return (*LOCALISED, *UNLOCALISED, "fields")
    if paths:
        return paths
    held = [f"{field}.{locale}" for field in LOCALISED for locale in getattr(content, field)]
    held += [field for field in UNLOCALISED if getattr(content, field)]
    held += [f"fields.{path}" for path in fields.given_paths(content.fields)]
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


async def _check_references(conn: Connection, findings: fields.Findings) -> None:
    """Raises: InvalidArgument for a value that refers to no item, or to one of a type that it may not."""
    if not findings.references:
        return
    ids = {content_id for content_id, _ in findings.references.values()}
    rows = await conn.fetch("SELECT id, type FROM contents WHERE id = ANY($1) AND delete_time IS NULL", list(ids))
    found = {str(row["id"]): row["type"] for row in rows}
    wrong = {}
    for path, (content_id, allowed) in findings.references.items():
        if content_id.lower() not in found:
            wrong[path] = "refers to no item"
        elif allowed and found[content_id.lower()] not in allowed:
            wrong[path] = f"must refer to {' or '.join(allowed)}"
    if wrong:
        raise InvalidArgument(wrong)


async def _check_locales(conn: Connection, content: Content) -> None:
    used = fields.used_locales(content.fields)
    used |= {locale: field for field in reversed(LOCALISED) for locale in getattr(content, field)}
    await locales.check(conn, {locale: f"content.{field}.{locale}" for locale, field in used.items()})


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


def not_found(content_id: str) -> NotFound:
    """There is no such item, or none that the caller may see."""
    return NotFound("CONTENT_NOT_FOUND", f"no content {content_id}", f"لا يوجد محتوى {content_id}")


def _external_id_taken(external_id: str) -> AlreadyExists:
    return AlreadyExists(
        "EXTERNAL_ID_TAKEN",
        f"another item has the external id {external_id!r}",
        f"المعرّف الخارجي {external_id!r} مستخدم",
        violations={"content.externalId": "is taken"},
    )
