"""Tags: on how many items each stands, and which are being replaced by others."""

from collections.abc import Callable, Sequence
from functools import lru_cache

from libs import paging, text
from libs.db import Connection
from libs.errors import AlreadyExists, InvalidArgument
from libs.permissions import Scope
from services.content import contents
from thmnayah.content.v1.content_pb2 import Content
from thmnayah.content.v1.taxonomy_pb2 import ListTagsResponse, Tag

_ORDERS = ("count", "name")
# Counts are compared as texts of one length, all of them after this.
_HIGHEST = 5_000_000_000

# Asked for with each page; a tag is short.
_form = lru_cache(maxsize=20_000)(text.normalize)


async def list_page(
    conn: Connection,
    *,
    drafts: bool,
    prefix: str,
    order_by: str,
    page_size: int,
    page_token: str,
    scope: Scope | None = None,
) -> ListTagsResponse:
    """A page of the tags that begin with a prefix, and the token of the next one.

    Args:
        scope: of drafts, those that it holds for; all, without one.
    """
    name, _, direction = (order_by.strip() or "count desc").partition(" ")
    if name not in _ORDERS or direction.strip() not in ("", "asc", "desc"):
        raise InvalidArgument({"orderBy": "must be count or name, then asc or desc"})
    descending = direction.strip() == "desc"
    question = ("tags", drafts, prefix, name, descending)
    after = paging.keys(page_token, question, (str, str))
    parameters: list[object] = []
    within = "" if scope is None else f"AND {scope.reading('tags').compile(contents.COLUMNS, parameters)}"
    counted = await conn.fetch(
        f"""
        SELECT tag, count(*) FROM {"contents" if drafts else "publications"}, unnest(tags) AS tag
        WHERE {"delete_time IS NULL" if drafts else "TRUE"} {within}
        GROUP BY tag
        """,
        *parameters,
    )
    wanted = _form(prefix)
    # Equal counts, whichever comes first, follow their names.
    sign, backwards = (-1 if descending else 1, False) if name == "count" else (1, descending)
    keyed = sorted(
        (
            (f"{_HIGHEST + sign * count}" if name == "count" else _form(tag), tag, count)
            for tag, count in counted
            if _form(tag).startswith(wanted)
        ),
        reverse=backwards,
    )
    if after is not None:
        last = (str(after[0]), str(after[1]))
        keyed = [each for each in keyed if (each[:2] < last if backwards else each[:2] > last)]
    size = paging.size(page_size)
    response = ListTagsResponse(tags=[Tag(name=tag, count=count) for _, tag, count in keyed[:size]])
    if len(keyed) > size:
        response.next_page_token = paging.token(keyed[size - 1][:2], question)
    return response


async def begin(conn: Connection, tags: Sequence[str], new_tag: str, *, may_exist: bool) -> None:
    """Note that tags are being replaced, those that an item has.

    Raises:
        AlreadyExists: an item has the new one though it may not exist, and this is not the rest of what was begun.
    """
    begun = await conn.fetchval(
        "SELECT EXISTS (SELECT FROM tag_replacements WHERE tag = ANY($1) AND new_tag = $2)", list(tags), new_tag
    )
    used = await _used(conn, [*tags, new_tag])
    if new_tag in used and used & set(tags) and not (may_exist or begun):
        raise AlreadyExists(
            "TAG_EXISTS",
            f"there are items with the tag {new_tag!r}; merge the two instead",
            f"الوسم {new_tag!r} مستخدم؛ ادمج الوسمين بدلًا من ذلك",
            violations={"newTag": "is in use"},
        )
    await conn.execute(
        "INSERT INTO tag_replacements (tag, new_tag) SELECT tag, $2 FROM unnest($1::text[]) AS tag"
        " ON CONFLICT DO NOTHING",
        [tag for tag in tags if tag in used],
        new_tag,
    )


async def finish(conn: Connection, tags: Sequence[str], new_tag: str) -> list[str]:
    """Note that no item has the tags any more; returns those that were replaced since it was begun."""
    rows = await conn.fetch(
        "DELETE FROM tag_replacements WHERE tag = ANY($1) AND new_tag = $2 RETURNING tag", list(tags), new_tag
    )
    return sorted(row["tag"] for row in rows)


def replacing(tags: Sequence[str], new_tag: str) -> Callable[[Content], None]:
    """Puts the new tag in the place of the first of the old ones that an item has."""

    def edit(content: Content) -> None:
        content.tags[:] = dict.fromkeys(new_tag if tag in tags else tag for tag in content.tags)

    return edit


async def _used(conn: Connection, tags: Sequence[str]) -> set[str]:
    rows = await conn.fetch(
        """
        SELECT tag FROM unnest($1::text[]) AS tag
        WHERE EXISTS (SELECT FROM contents WHERE tags @> ARRAY[tag] AND delete_time IS NULL)
           OR EXISTS (SELECT FROM publications WHERE tags @> ARRAY[tag])
        """,
        list(tags),
    )
    return {row["tag"] for row in rows}
