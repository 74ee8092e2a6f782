"""What the items of an answer refer to, put beside them: a statement for each depth, whatever their number."""

import zlib
from collections.abc import Iterable, Mapping, Sequence

from libs.db import Connection
from libs.errors import InvalidArgument
from libs.permissions import Scope
from services.content import access, contents, fields, references, types
from thmnayah.content.v1.content_pb2 import Content, ListContentsResponse
from thmnayah.content.v1.types_pb2 import ContentType

MAX_ITEMS = 500


async def show(
    conn: Connection,
    page: ListContentsResponse,
    expand: Sequence[str],
    chain: Sequence[str],
    *,
    drafts: bool,
    scope: Scope | None = None,
) -> ListContentsResponse:
    """A page of items as they are stored once it is as callers see it, with what it refers to in some fields.

    For the arguments see `find`.
    """
    kinds: Mapping[str, ContentType] = {}
    if expand:
        kinds = await types.find_all(conn)
        page.expanded.extend(await find(conn, page.contents, expand, kinds, chain, drafts=drafts, scope=scope))
    elif held := {item.type for item in page.contents if item.fields}:
        kinds = await types.find_all(conn, held)
    for item in (*page.contents, *page.expanded):
        fields.show(item, kinds.get(item.type, ContentType()))
        access.narrow_by(scope, item)
        if chain:
            contents.resolve(item, chain)
    return page


def join(page: ListContentsResponse) -> ListContentsResponse:
    """A page of one item, or none, with what is expanded on the item, which is then part of its etag."""
    for item in page.contents:
        item.expanded.extend(page.expanded)
        shown = " ".join(each.etag for each in page.expanded)
        item.etag = f'{item.etag[:-1]}.{zlib.crc32(shown.encode()):08x}"'
    page.ClearField("expanded")
    return page


async def find(
    conn: Connection,
    items: Sequence[Content],
    expand: Sequence[str],
    kinds: Mapping[str, ContentType],
    chain: Sequence[str],
    *,
    drafts: bool,
    scope: Scope | None,
) -> list[Content]:
    """What items refer to in some fields, each once, fields as they are stored (see `fields.show`).

    Args:
        items: as they are stored.
        expand: names of fields, `season`, or `season.programme` for what those refer to in turn.
        kinds: all types.
        chain: only what is in one of these locales, unless there are none.
        drafts: what editors see.
        scope: of drafts, what the caller may read; all, without one.

    Raises:
        InvalidArgument: no type has such a field, or they are more than MAX_ITEMS.
    """
    _check(expand, kinds.values())
    found: dict[str, Content] = {}
    paths = [path.split(".") for path in expand]
    reached = {path: list(items) for path in expand}  # where each path stands
    for depth in range(max(map(len, paths))):
        wanted = {
            ".".join(path): _targets(reached[".".join(path)], path[depth], kinds, chain, scope)
            for path in paths
            if len(path) > depth
        }
        missing = set().union(*wanted.values()) - found.keys()
        if len(found) + len(missing) > MAX_ITEMS:
            raise InvalidArgument({"expand": f"finds more than {MAX_ITEMS} items; ask for fewer at a time"})
        found |= {each.id: each for each in await contents.find_all(conn, missing, chain, drafts=drafts, scope=scope)}
        reached = {path: [found[each] for each in ids if each in found] for path, ids in wanted.items()}
    return list(found.values())


def _check(expand: Sequence[str], kinds: Iterable[ContentType]) -> None:
    known = {field.name for kind in kinds for field in kind.fields if references.refers(field.kind)}
    wrong = {
        f"expand[{number}]": f"has {name}, which no type has as a field with references"
        for number, path in enumerate(expand)
        for name in path.split(".")
        if name not in known
    }
    if wrong:
        raise InvalidArgument(wrong)


def _targets(
    items: Iterable[Content], name: str, kinds: Mapping[str, ContentType], chain: Sequence[str], scope: Scope | None
) -> set[str]:
    """The ids that items refer to in the field of a name, as a reader in these locales sees it."""
    targets = set()
    for item in items:
        if item.type not in kinds or not item.fields:
            continue
        seen = Content(title=item.title, fields=item.fields)
        fields.show(seen, kinds[item.type])
        if scope is not None:
            access.narrow(seen, scope.held(access.resource(item)))
        if chain:
            fields.resolve(seen, chain)
        if name in seen.fields:
            value = seen.fields[name]
            held = value.localized.values.values() if value.HasField("localized") else [value]
            targets |= {target for one in held for _, target in references.found(one, name)}
    return targets
