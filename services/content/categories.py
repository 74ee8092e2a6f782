"""Categories: the tree that items are filed in."""

import re
import secrets
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

import asyncpg

from libs import etags, outbox, paging, text
from libs.db import Connection, Record, fetch_one
from libs.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from services.content import locales
from thmnayah.content.v1.taxonomy_pb2 import Category, CategoryCreated, ListCategoriesResponse

# Columns by name: a row of `categories`.
Row: TypeAlias = Mapping[str, Any] | Record

MOST_DEEP = 10
UNPLACED = 2**31 - 1

# One change of the tree at a time: each looks at more rows than it changes.
_TREE_LOCK = 7_460_300

_COLUMNS = "id, parent_id, path, position, name, slug, version, create_time, update_time"
_UNREACHABLE = re.compile(r"[/\\]|^\.{1,2}$")
_ARABIC = re.compile("[\u0600-\u06ff\u0750-\u077f\u08a0-\u08ff\ufb50-\ufdff\ufe70-\ufefc]")


# Saving an item makes the category it names.


def roots(category_id: str, moment: datetime) -> Iterator[Category]:
    """The category to make when an item names one that is not there, with each slug that may be free.

    None for an item without a category.
    """
    locale = "ar" if _ARABIC.search(category_id) else "en"
    for slug in _slugs(category_id, category_id) if category_id else ():
        root = Category(
            id=category_id,
            name={locale: category_id},
            slug={locale: slug},
            path={locale: slug},
            position=UNPLACED,
            version=1,
            etag='"1"',
        )
        root.create_time.FromDatetime(moment)
        root.update_time.FromDatetime(moment)
        yield root


# How many `root_parameters` there are where there is a category.
ROOT_PARAMETERS = 8


def check_id(category_id: str) -> None:
    """Raises: InvalidArgument for one that could not stand in an address: the edge takes no encoded slash."""
    if _UNREACHABLE.search(category_id):
        raise InvalidArgument({"content.category": "must not hold / or \\, and not be . or .."})


def make_root(first: int, *, source: str = "") -> str:
    """The CTEs that make a root category if it is not there, each with a comma behind it.

    Whoever deletes the category waits for the statement, and then finds the item that is filed in it.

    Args:
        first: the number of the first of `root_parameters`.
        source: a FROM clause without whose row nothing is made.
    """
    category_id, name, slug, moment, *event = (f"${number}" for number in range(first, first + ROOT_PARAMETERS))
    category_id, moment = f"{category_id}::text", f"{moment}::timestamptz"
    return f"""
        found_category AS (
            SELECT 1 FROM categories WHERE id = {category_id} FOR KEY SHARE
        ), made_category AS (
            INSERT INTO categories (id, path, name, slug, create_time, update_time)
            SELECT {category_id}, ARRAY[{category_id}], {name}::jsonb, {slug}::jsonb, {moment}, {moment}
            {source} WHERE NOT EXISTS (SELECT 1 FROM found_category)
            ON CONFLICT (id) DO NOTHING
            RETURNING id, slug
        ), claimed_category AS (
            INSERT INTO category_slugs (parent_id, locale, slug, category_id)
            SELECT '', key, value, id FROM made_category, jsonb_each_text(slug)
        ), announced_category AS (
            INSERT INTO outbox (id, subject, headers, payload)
            SELECT {event[0]}::uuid, {event[1]}, {event[2]}::jsonb, {event[3]}::bytea FROM made_category
        ),
    """


def root_parameters(root: Category | None) -> list[object]:
    """What `make_root` fills in; nothing where there is no category."""
    if root is None:
        return []
    event = outbox.row(CategoryCreated(category=root), about=root.id)
    return [root.id, dict(root.name), dict(root.slug), root.create_time.ToDatetime(UTC), *event]


async def ensure(conn: Connection, category_id: str) -> None:
    """Make a category at the root if there is none of this id; "" is none."""
    for root in roots(category_id, datetime.now(UTC)):
        try:
            async with conn.transaction():
                await conn.execute(f"WITH {make_root(1)} done AS (SELECT 1) SELECT 1 FROM done", *root_parameters(root))
        except asyncpg.UniqueViolationError:
            continue
        return


# Reading.


async def get(conn: Connection, category_id: str) -> Category:
    (category,) = await _complete(conn, [await _row(conn, category_id)])
    return category


async def list_page(
    conn: Connection, *, parent_id: str, all_below: bool, page_size: int, page_token: str
) -> ListCategoriesResponse:
    """A page of what is in a category, or of all below it, each followed by what is in it."""
    question = ("categories", parent_id, all_below)
    after = paging.keys(page_token, question, (str,))
    if after and not await conn.fetchval("SELECT true FROM categories WHERE id = $1", after[0]):
        raise InvalidArgument({"pageToken": "goes on from a category that is gone; ask for the first page again"})
    if parent_id:
        await _row(conn, parent_id)
    size = paging.size(page_size)
    # The place of a category begins with that of its parent; no id holds the character between them.
    rows = await conn.fetch(
        f"""
        WITH RECURSIVE tree AS (
            SELECT id, lpad(position::text, 10, '0') || id AS place FROM categories
            WHERE parent_id IS NOT DISTINCT FROM $1
            UNION ALL
            SELECT child.id, tree.place || E'\\x01' || lpad(child.position::text, 10, '0') || child.id
            FROM tree JOIN categories AS child ON child.parent_id = tree.id
            WHERE $2
        )
        SELECT {_COLUMNS}, place FROM tree JOIN categories USING (id)
        WHERE $3 = '' OR place COLLATE "C" > (SELECT place FROM tree WHERE id = $3)
        ORDER BY place COLLATE "C"
        LIMIT $4
        """,
        parent_id or None,
        all_below,
        str(after[0]) if after else "",
        size + 1,
    )
    response = ListCategoriesResponse(categories=await _complete(conn, rows[:size]))
    if len(rows) > size:
        response.next_page_token = paging.token([rows[size - 1]["id"]], question)
    return response


# Changing. Who changes the tree first says `lock`.


async def lock(conn: Connection) -> None:
    """Wait for the other changes of the tree, and hold back those that follow until the transaction ends."""
    await conn.execute("SELECT pg_advisory_xact_lock($1)", _TREE_LOCK)


async def create(conn: Connection, category: Category) -> Category:
    """Add a category behind its siblings."""
    await locales.check(conn, _used_locales(category))
    _check_names(category.name, given=category.slug)
    path = [*await _path(conn, category.parent_id, field="category.parentId"), ""]
    _check_depth(len(path), "category.parentId")
    if category.id:
        category_id = category.id
    else:
        best = category.name.get("en") or category.name.get("ar") or next(iter(category.name.values()))
        category_id = text.slug(best, max_length=63) or "category"
        if await conn.fetchval("SELECT true FROM categories WHERE id = $1", category_id):
            category_id += f"-{secrets.token_hex(4)}"
    path[-1] = category_id
    row = await conn.fetchrow(
        f"""
        INSERT INTO categories (id, parent_id, path, position, name, slug)
        SELECT $1, $2, $3, coalesce(max(position) + 1, 0), $4, '{{}}' FROM categories
        WHERE parent_id IS NOT DISTINCT FROM $2 AND position < {UNPLACED}
        ON CONFLICT (id) DO NOTHING
        RETURNING {_COLUMNS}
        """,
        category_id,
        category.parent_id or None,
        path,
        dict(category.name),
    )
    if row is None:
        raise AlreadyExists(
            "CATEGORY_EXISTS",
            f"there is a category {category_id!r} already",
            f"القسم {category_id!r} موجود",
            violations={"category.id": "is taken"},
        )
    slug = await _claim_slugs(conn, {**row, "slug": dict(category.slug)})
    await conn.execute("UPDATE categories SET slug = $2 WHERE id = $1", category_id, slug)
    (created,) = await _complete(conn, [{**row, "slug": slug}])
    return created


async def update(conn: Connection, category: Category, *, paths: Sequence[str], etag: str) -> Category | None:
    """Change the names and slugs at the paths given, or, without any, in every locale that holds one.

    Returns:
        The category after the change; None when it was like that already.
    """
    await locales.check(conn, _used_locales(category))
    row = await _row(conn, category.id)
    etags.check(etag, row["version"])
    values = {"name": dict(row["name"]), "slug": dict(row["slug"])}
    for path in _paths(category, paths):
        _set(values, path, category)
    _check_names(values["name"], given=values["slug"].keys() - row["slug"].keys())
    values["slug"] = await _claim_slugs(conn, {**row, **values})
    if values == {"name": row["name"], "slug": row["slug"]}:
        return None
    changed = await fetch_one(
        conn,
        f"""
        UPDATE categories SET name = $2, slug = $3, version = version + 1, update_time = now()
        WHERE id = $1
        RETURNING {_COLUMNS}
        """,
        category.id,
        values["name"],
        values["slug"],
    )
    (updated,) = await _complete(conn, [changed])
    return updated


async def move(conn: Connection, category_id: str, *, parent_id: str, position: int | None) -> list[Category]:
    """Put a category, with all below it, into a parent ("" is the root), before the sibling at a position.

    Returns:
        What has another parent or position now, this category first; nothing when it stood there already.
    """
    row = await _row(conn, category_id)
    moved = set()
    if parent_id != (row["parent_id"] or ""):
        await _graft(conn, [row], parent_id, field="parentId")
        moved.add(category_id)
    siblings = [sibling for sibling in await _children(conn, parent_id) if sibling != category_id]
    siblings.insert(len(siblings) if position is None else position, category_id)
    moved |= await _place(conn, siblings)
    changed = await _stepped(conn, moved)
    return sorted(changed, key=lambda category: (category.id != category_id, category.position))


async def reorder(conn: Connection, parent_id: str, ids: Sequence[str]) -> tuple[list[Category], list[Category]]:
    """Put some siblings in front of the others.

    Returns:
        Those, in their order, and all that have another position now.
    """
    children = await _children(conn, parent_id)
    wrong = {f"ids[{number}]": "is not in this category" for number, each in enumerate(ids) if each not in children}
    if wrong:
        raise InvalidArgument(wrong)
    moved = await _place(conn, [*ids, *(each for each in children if each not in set(ids))])
    changed = await _stepped(conn, moved)
    rows = await conn.fetch(f"SELECT {_COLUMNS} FROM categories WHERE id = ANY($1) ORDER BY position", list(ids))
    return await _complete(conn, rows), changed


async def check_emptying(conn: Connection, category_id: str, *, move_to: str, etag: str) -> None:
    """Check that what is in a category may go to another one, so that it can be deleted.

    Raises:
        FailedPrecondition: that is the category itself, or lies below it.
    """
    etags.check(etag, (await _row(conn, category_id))["version"])
    if category_id in await _path(conn, move_to, field="moveTo"):
        raise _cycle(category_id, move_to)


async def delete(conn: Connection, category_id: str, *, move_to: str, etag: str) -> tuple[Category, list[Category]]:
    """Remove a category that no item is filed in, and put those in it into `move_to`, behind what is there.

    Returns:
        The category as it was left, and those that have another parent now.

    Raises:
        FailedPrecondition: items or, without `move_to`, categories are in it.
    """
    row = await conn.fetchrow(f"SELECT {_COLUMNS} FROM categories WHERE id = $1 FOR UPDATE", category_id)
    if row is None:
        raise _not_found(category_id)
    etags.check(etag, row["version"])
    # Asked after the row is locked: whoever saved an item in this category is done by now.
    items = await conn.fetchval(
        "SELECT EXISTS (SELECT FROM contents WHERE category = $1 AND delete_time IS NULL)"
        " OR EXISTS (SELECT FROM publications WHERE category = $1)",
        category_id,
    )
    children = await conn.fetch(
        f"SELECT {_COLUMNS} FROM categories WHERE parent_id = $1 ORDER BY position, id", category_id
    )
    if items or (children and not move_to):
        raise FailedPrecondition(
            "CATEGORY_IN_USE",
            f"{'items' if items else 'categories'} are in the category {category_id!r}; say where to move them",
            f"القسم {category_id!r} ليس فارغًا؛ حدّد إلى أين يُنقل ما فيه",
            violations={"moveTo": "is required: the category is not empty"},
        )
    (gone,) = await _complete(conn, [row])
    await conn.execute("DELETE FROM category_slugs WHERE category_id = $1", category_id)
    moved: list[Category] = []
    if children:
        await _graft(conn, children, move_to, field="moveTo")
        siblings = await _children(conn, move_to)
        ids = [child["id"] for child in children]
        placed = await _place(conn, [*(each for each in siblings if each not in ids), *ids])
        moved = await _stepped(conn, {*ids, *placed})
    await conn.execute("DELETE FROM categories WHERE id = $1", category_id)
    gone.delete_time.GetCurrentTime()
    return gone, moved


async def _row(conn: Connection, category_id: str) -> Row:
    row = await conn.fetchrow(f"SELECT {_COLUMNS} FROM categories WHERE id = $1", category_id)
    if row is None:
        raise _not_found(category_id)
    return dict(row)


async def _path(conn: Connection, category_id: str, *, field: str) -> list[str]:
    """The ids from the root to a category; none for the root itself."""
    if not category_id:
        return []
    path: list[str] | None = await conn.fetchval("SELECT path FROM categories WHERE id = $1", category_id)
    if path is None:
        raise _not_found(category_id, field)
    return path


async def _children(conn: Connection, parent_id: str) -> list[str]:
    """The ids in a category, in their order."""
    rows = await conn.fetch(
        'SELECT id FROM categories WHERE parent_id IS NOT DISTINCT FROM $1 ORDER BY position, id COLLATE "C"',
        parent_id or None,
    )
    return [row["id"] for row in rows]


async def _graft(conn: Connection, rows: Sequence[Row], parent_id: str, *, field: str) -> None:
    """Put siblings, with all below them, into another parent."""
    path = await _path(conn, parent_id, field=field)
    for row in rows:
        if row["id"] in path:
            raise _cycle(row["id"], parent_id)
    ids = [row["id"] for row in rows]
    cut = len(rows[0]["path"]) - 1
    deepest = await conn.fetchval("SELECT max(cardinality(path)) FROM categories WHERE path && $1", ids)
    _check_depth(deepest - cut + len(path), field)
    taken = await conn.fetchrow(
        """
        SELECT locale, slug FROM category_slugs AS own
        JOIN category_slugs AS other USING (locale, slug)
        WHERE own.category_id = ANY($1) AND other.parent_id = $2
        """,
        ids,
        parent_id,
    )
    if taken is not None:
        raise _slug_taken(taken["locale"], taken["slug"], field)
    await conn.execute("UPDATE category_slugs SET parent_id = $2 WHERE category_id = ANY($1)", ids, parent_id)
    await conn.execute(
        """
        UPDATE categories
        SET path = $2::text[] || path[$3:], parent_id = CASE WHEN id = ANY($1) THEN $4::text ELSE parent_id END
        WHERE path && $1
        """,
        ids,
        path,
        cut + 1,
        parent_id or None,
    )


async def _place(conn: Connection, ids: Sequence[str]) -> set[str]:
    """Give siblings the order of their ids here; returns those whose position changed."""
    rows = await conn.fetch(
        """
        UPDATE categories SET position = number - 1
        FROM unnest($1::text[]) WITH ORDINALITY AS placed (id, number)
        WHERE categories.id = placed.id AND position <> number - 1
        RETURNING categories.id
        """,
        list(ids),
    )
    return {row["id"] for row in rows}


async def _stepped(conn: Connection, ids: set[str]) -> list[Category]:
    """Count a change of these categories; returns them as they are now, by position."""
    rows = await conn.fetch(
        f"UPDATE categories SET version = version + 1, update_time = now() WHERE id = ANY($1) RETURNING {_COLUMNS}",
        list(ids),
    )
    return await _complete(conn, sorted(rows, key=lambda row: int(row["position"])))


async def _complete(conn: Connection, rows: Sequence[Row]) -> list[Category]:
    """Rows as messages, with their paths."""
    found = await conn.fetch(
        "SELECT id, slug FROM categories WHERE id = ANY($1)", list({each for row in rows for each in row["path"]})
    )
    slugs = {row["id"]: row["slug"] for row in found} | {row["id"]: row["slug"] for row in rows}
    return [
        Category(
            id=row["id"],
            parent_id=row["parent_id"] or "",
            name=row["name"],
            slug=row["slug"],
            path={
                locale: "/".join(slugs[each].get(locale) or slugs[each][min(slugs[each])] for each in row["path"])
                for locale in row["slug"]
            },
            ancestor_ids=row["path"][:-1],
            position=row["position"],
            version=row["version"],
            etag=f'"{row["version"]}"',
            create_time=row["create_time"],
            update_time=row["update_time"],
        )
        for row in rows
    ]


def _paths(category: Category, paths: Sequence[str]) -> Sequence[str]:
    """The paths to set: those of the mask, or those that hold a value."""
    if "*" in paths:
        return ("name", "slug")
    held = [f"{field}.{locale}" for field in ("name", "slug") for locale in getattr(category, field)]
    if not paths and not held:
        raise InvalidArgument({"updateMask": "names no field, and the category holds none"})
    return paths or held


def _set(values: dict[str, dict[str, str]], path: str, category: Category) -> None:
    field, _, locale = path.partition(".")
    if field not in values:
        if path in ("id", "etag"):
            return
        if path in ("parent_id", "parentId", "position"):
            raise InvalidArgument({"updateMask": f"{path} is changed by moving the category"})
        raise InvalidArgument({"updateMask": f"{path} is not a field for callers to set"})
    given: Mapping[str, str] = getattr(category, field)
    if not locale:
        values[field] = dict(given)
    elif locale in given:
        values[field][locale] = given[locale]
    elif locale in values["name"] or locale in values[field]:
        values[field].pop(locale, None)
    else:
        raise InvalidArgument({"updateMask": f"{path} is in no locale of this category"})


def _used_locales(category: Category) -> dict[str, str]:
    return {locale: f"category.{field}.{locale}" for field in ("slug", "name") for locale in getattr(category, field)}


def _check_names(names: Mapping[str, str], *, given: Collection[str]) -> None:
    """Raises: InvalidArgument without a name, with a blank one, or for a slug that was given without one."""
    wrong = {
        f"category.name.{locale}": "must hold more than white space"
        for locale, name in names.items()
        if text.is_blank(name)
    }
    wrong |= {f"category.slug.{locale}": "needs a name in this locale" for locale in given if locale not in names}
    if not names:
        wrong = {"category.name": "is required in at least one locale"}
    if wrong:
        raise InvalidArgument(wrong)


def _check_depth(depth: int, field: str) -> None:
    if depth > MOST_DEEP:
        raise FailedPrecondition(
            "CATEGORY_TOO_DEEP",
            f"categories may be {MOST_DEEP} deep",
            f"أقصى عمق للأقسام {MOST_DEEP}",
            violations={field: f"would lead {depth} deep, and {MOST_DEEP} is the limit"},
            metadata={"limit": str(MOST_DEEP)},
        )


def _slugs(name: str, category_id: str) -> tuple[str, str]:
    """The slugs to try for a name: never empty, and the second one its own."""
    own = f"{zlib.crc32(category_id.encode()):08x}"
    derived = text.slug(name, max_length=100) or own
    return derived, f"{derived}-{own}"


async def _claim_slugs(conn: Connection, row: Row) -> dict[str, str]:
    """Make the slugs of a category those of the row, and ones from its names where it has none."""
    choices: dict[str, tuple[str, ...]] = {}
    for locale, name in row["name"].items():
        given = row["slug"].get(locale)
        choices[locale] = (text.slug(given),) if given else _slugs(name, row["id"])
        if not choices[locale][0]:
            raise InvalidArgument({f"category.slug.{locale}": "holds neither a letter nor a digit"})
    wanted = [(locale, slug) for locale, slugs in choices.items() for slug in slugs]
    parent_id = row["parent_id"] or ""
    rows = await conn.fetch(
        """
        SELECT locale, slug FROM category_slugs
        JOIN unnest($3::text[], $4::text[]) AS wanted (locale, slug) USING (locale, slug)
        WHERE parent_id = $1 AND category_id <> $2
        """,
        parent_id,
        row["id"],
        [locale for locale, _ in wanted],
        [slug for _, slug in wanted],
    )
    taken = {tuple(each) for each in rows}
    slugs: dict[str, str] = {}
    for locale, of_locale in choices.items():
        free = [slug for slug in of_locale if (locale, slug) not in taken]
        if not free:
            raise _slug_taken(locale, of_locale[0], f"category.slug.{locale}")
        slugs[locale] = free[0]
    await conn.execute("DELETE FROM category_slugs WHERE category_id = $1", row["id"])
    try:
        await conn.execute(
            "INSERT INTO category_slugs (parent_id, locale, slug, category_id)"
            " SELECT $1, locale, slug, $2 FROM unnest($3::text[], $4::text[]) AS wanted (locale, slug)",
            parent_id,
            row["id"],
            list(slugs),
            list(slugs.values()),
        )
    except asyncpg.UniqueViolationError:  # an item was saved just now whose category has it
        locale = next(iter(slugs))
        raise _slug_taken(locale, slugs[locale], f"category.slug.{locale}") from None
    return slugs


def _slug_taken(locale: str, slug: str, field: str) -> AlreadyExists:
    return AlreadyExists(
        "SLUG_TAKEN",
        f"a category beside it has the slug {slug!r} in {locale}",
        f"الرابط {slug!r} مستخدم في {locale}",
        violations={field: f"the slug {slug!r} is taken in {locale}"},
    )


def _cycle(category_id: str, target_id: str) -> FailedPrecondition:
    return FailedPrecondition(
        "CATEGORY_CYCLE",
        f"{target_id!r} is {category_id!r} or lies below it",
        f"القسم {target_id!r} هو {category_id!r} نفسه أو يقع تحته",
    )


def _not_found(category_id: str, field: str = "id") -> NotFound:
    return NotFound(
        "CATEGORY_NOT_FOUND",
        f"no category {category_id!r}",
        f"لا يوجد قسم {category_id!r}",
        violations={field: "names no category"},
    )
