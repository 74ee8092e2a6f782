"""Who refers to an item."""

import uuid
from collections.abc import Mapping

from libs import paging
from libs.db import Connection, Record
from libs.errors import InvalidArgument
from libs.permissions import Scope
from services.content import access, contents, references, stages, types
from thmnayah.content.v1.content_pb2 import DRAFT, PUBLISHED, Content
from thmnayah.content.v1.references_pb2 import ListReferencesResponse, Reference

# One side of the references to $1 that follow a place, by the key of the index, a page of them. What they
# are called on that side comes with them, and of what is published the whole of it, which has the titles.
_PAGE = """
    (SELECT r.from_id, r.path, r.locale, {published} AS published, of_item.type, {title}, {content}
     FROM {index} r JOIN {items} of_item ON of_item.id = r.from_id {there}
     WHERE r.to_id = $1 {{within}} AND (r.from_id, r.path, r.locale, {published}) > ($2, $3, $4, $5::boolean)
     ORDER BY r.from_id, r.path, r.locale LIMIT $6)
"""
_PUBLISHED = _PAGE.format(
    published="true",
    title="NULL::jsonb AS title",
    content="of_item.content",
    index="publication_references",
    items="publications",
    there="",
).format(within="")
_DRAFT = _PAGE.format(
    published="false",
    title="of_item.title",
    content="NULL::bytea AS content",
    index="draft_references",
    items="contents",
    there="AND of_item.delete_time IS NULL",
)
_BOTH = f"SELECT * FROM ({_DRAFT} UNION ALL {_PUBLISHED}) AS found ORDER BY from_id, path, locale, published LIMIT $6"
# What conditions on drafts are about: the field that refers, as grants name it.
_COLUMNS = stages.columns(
    "of_item",
    field="""coalesce((
        SELECT 'fields.' || (field ->> 'name')
        FROM content_types, jsonb_array_elements(definition -> 'fields') AS field
        WHERE content_types.id = of_item.type AND field ->> 'id' = split_part(r.path, '.', 1)
    ), r.path)""",
    locale="r.locale",
)

_FIRST = ("00000000-0000-0000-0000-000000000000", "", "", "")


async def list_page(
    conn: Connection, content_id: str, *, drafts: bool, page_size: int, page_token: str, scope: Scope | None = None
) -> ListReferencesResponse:
    """A page of the references to an item, and the token of the next one.

    Args:
        drafts: those of drafts too, and those to what readers do not see.
        scope: of drafts, those that it holds for; all, without one.
    """
    question = ("references", content_id, drafts)
    seen = await conn.fetchval("SELECT locales FROM publications WHERE id = $1", content_id)
    there = seen is not None
    if drafts:
        there = await conn.fetchval("SELECT true FROM contents WHERE id = $1 AND delete_time IS NULL", content_id)
    elif not there:
        raise contents.not_found(content_id)
    size = paging.size(page_size)
    parameters: list[object] = [content_id, *_after(page_token, question), size + 1]
    statement = _PUBLISHED
    if drafts:
        within = "" if scope is None else f"AND {scope.compile(_COLUMNS, parameters)}"
        statement = _BOTH.format(within=within)
    rows = await conn.fetch(statement, *parameters)
    if not rows and not there and not page_token and not await _deleted(conn, content_id):
        raise contents.not_found(content_id)
    titles = await _narrowed(conn, scope, {str(row["from_id"]) for row in rows if not row["published"]})
    kinds = await types.find_all(conn, {row["type"] for row in rows})
    response = ListReferencesResponse()
    for row in rows[:size]:
        lost = seen is None or (row["locale"] != "" and row["locale"] not in seen)
        response.references.append(
            Reference(
                content_id=str(row["from_id"]),
                type=row["type"],
                title=_title(row) if row["published"] else titles.get(str(row["from_id"]), _title(row)),
                field=references.named(kinds[row["type"]], row["path"]) if row["type"] in kinds else row["path"],
                locale=row["locale"],
                side=PUBLISHED if row["published"] else DRAFT,
                broken=lost if row["published"] else not there,
            )
        )
    if len(rows) > size:
        last = rows[size - 1]
        side = "published" if last["published"] else "draft"
        response.next_page_token = paging.token([str(last["from_id"]), last["path"], last["locale"], side], question)
    return response


def _after(page_token: str, question: tuple[object, ...]) -> tuple[uuid.UUID, object, object, bool]:
    content_id, path, locale, side = paging.keys(page_token, question, (str, str, str, str)) or _FIRST
    try:
        return uuid.UUID(str(content_id)), path, locale, side == "published"
    except ValueError:
        raise InvalidArgument({"pageToken": "is not a token of this API"}) from None


async def _deleted(conn: Connection, content_id: str) -> bool:
    return bool(await conn.fetchval("SELECT true FROM contents WHERE id = $1 AND expire_time > now()", content_id))


def _title(row: Record) -> Mapping[str, str]:
    title: Mapping[str, str] = Content.FromString(row["content"]).title if row["published"] else row["title"]
    return title


async def _narrowed(conn: Connection, scope: Scope | None, ids: set[str]) -> Mapping[str, Mapping[str, str]]:
    """The titles of drafts as far as a scope lets them be read; none when there is no scope."""
    if scope is None:
        return {}
    found = await contents.find_all(conn, ids, (), drafts=True, scope=scope)
    for item in found:
        access.narrow_by(scope, item)
    return {item.id: item.title for item in found}
