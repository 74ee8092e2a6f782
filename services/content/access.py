"""What a caller whose permissions have conditions may see and change; whoever has none is not looked at here.

An item is read in the transaction that changes it, decided on as it stands there, and shown without the
texts and fields that the caller may not read.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from libs.db import Connection
from libs.errors import Forbidden, NotFound
from libs.identity import caller, denied
from libs.permissions import COMMENT, CREATE, READ_DRAFTS, Grant, Resource, Scope, may_read, may_write
from services.content import contents
from services.content.contents import LOCALISED, UNLOCALISED
from thmnayah.content.v1.content_pb2 import Content
from thmnayah.content.v1.types_pb2 import ContentType

Grants = tuple[Grant, ...]
"""Those that hold for an item."""


def limited(*permissions: str) -> bool:
    """Whether the caller has conditions on reading drafts, or on one of these."""
    who = caller.get()
    return any(who.scope(each) is not None for each in (READ_DRAFTS, *permissions))


async def scope(conn: Connection, permission: str = READ_DRAFTS) -> Scope | None:
    """What limits a permission of the caller, its categories with all below them; None when nothing does."""
    found = caller.get().scope(permission)
    if found is None or not (named := found.categories()):
        return found
    rows = await conn.fetch("SELECT id, path FROM categories WHERE path && $1", list(named))
    return found.below({each: {row["id"] for row in rows if each in row["path"]} for each in named})


def resource(content: Content) -> Resource:
    """An item as editors see it, for a decision."""
    return Resource(
        type=content.type,
        locales=frozenset(content.locales),
        category_path=[content.category] if content.category else [],
        created_by=content.created_by,
        state=Content.State.Name(content.state),
    )


async def check(
    conn: Connection,
    content_id: str,
    permission: str,
    locales: Sequence[str] = (),
    *,
    deleted: bool = False,
    writes: tuple[Content, Sequence[str]] | None = None,
) -> Grants | None:
    """Check that the caller may do something with an item, which is locked; what they may read of it.

    Args:
        locales: those that it is done in; all that the item is in, without any.
        deleted: one in the trash.
        writes: for a change of its draft, the values and the paths of an update mask.

    Returns:
        None when nothing limits them.

    Raises:
        NotFound: there is no such item, or none that the caller sees.
        Forbidden: the caller sees it but may not do that.
    """
    if not limited(permission):
        return None
    row = await contents.read(conn, content_id, lock=True, deleted=deleted)
    item = contents.draft(row)
    seeing = await sight(conn, item)
    if not seeing:
        if row["published"]:  # everybody sees that there is one
            raise denied(READ_DRAFTS)
        raise contents.not_found(content_id)
    if permission == READ_DRAFTS or (acting := await scope(conn, permission)) is None:
        return seeing
    held = acting.held(resource(item))
    if writes is not None:
        paths = contents.paths_to_set(*writes)
        _check_writes(held, acting, permission, item, writes[0], paths, contents.type_of(row))
    else:
        # A comment on an item as a whole is about no locale of it.
        wanted = locales or (() if permission == COMMENT else item.locales)
        if not all(may_write(held, "", each, ()) for each in wanted) or not held:
            raise denied(permission)
    return seeing


async def check_new(conn: Connection, content: Content, kind: ContentType, created_by: str) -> Grants | None:
    """The same for an item that is to be made."""
    if not limited(permission := CREATE) or not content.title:
        return None
    new = Content(type=content.type, category=content.category, created_by=created_by, state=Content.DRAFT)
    for locale in content.title:
        new.locales[locale].state = Content.DRAFT
    if (acting := await scope(conn, permission)) is not None:
        held = acting.held(resource(new))
        if not held:
            raise denied(permission)
        _check_writes(held, acting, permission, new, content, contents.paths_to_set(content, ()), kind)
    return await sight(conn, new)


async def sight(conn: Connection, item: Content) -> Grants:
    """The grants by which the caller sees an item; one that limits nothing, where nothing does."""
    reading = await scope(conn)
    return (Grant(READ_DRAFTS),) if reading is None else reading.held(resource(item))


async def sees(conn: Connection, content_id: str) -> Grants | None:
    """The same for an item by its id, without a lock; None when nothing limits the caller.

    Raises:
        NotFound: there is none, or none that the caller sees.
    """
    reading = await scope(conn)
    if reading is None:
        return None
    held = reading.held(resource(contents.draft(await contents.read(conn, content_id))))
    if not held:
        raise contents.not_found(content_id)
    return held


async def visible(conn: Connection, content_id: str) -> bool:
    """Whether the caller sees an item, in the trash or not, as editors do."""
    try:
        row = await contents.read(conn, content_id)
    except NotFound:
        try:
            row = await contents.read(conn, content_id, deleted=True)
        except NotFound:
            return False
    return bool(await sight(conn, contents.draft(row)))


def _check_writes(
    held: Grants,
    acting: Scope,
    permission: str,
    item: Content,
    content: Content,
    paths: Iterable[str],
    kind: ContentType,
) -> None:
    """Raises: Forbidden naming the first path, asked for whether it would change or not, that may not be written."""
    if not held:
        raise denied(permission)
    shared = {*item.locales, *content.title}
    for path in paths:
        name, _, locale = path.partition(".")
        names = [name]
        if name == "fields":
            name, _, locale = locale.partition(".")
            names = [f"fields.{name}"] if name else [f"fields.{each.name}" for each in kind.fields]
        elif name == "externalId":
            names = ["external_id"]
        for each in names:
            grants = held
            if each == "category":  # it may not be filed where the caller could not change it any more
                moved = replace(resource(item), category_path=[content.category])
                grants = tuple(grant for grant in acting.held(moved) if grant in held)
            if each != "etag" and not may_write(grants, each, locale, shared):
                raise Forbidden(
                    "PERMISSION_DENIED",
                    f"the permission {permission} does not hold for {path}",
                    f"لا تشمل الصلاحية {permission} الحقل {path}",
                    violations={f"content.{path}": "is not for you to write"},
                    metadata={"permission": permission},
                )


def narrow(content: Content, grants: Grants | None) -> Content:
    """An item, its fields by their names, without what the grants do not let be read; all of it when there are none.

    Args:
        grants: those that hold for the item.
    """
    if grants is None or any(not grant.fields and not grant.locales for grant in grants):
        return content
    for field in LOCALISED:
        texts = getattr(content, field)
        for locale in [each for each in texts if not may_read(grants, field, each)]:
            del texts[locale]
    for field in UNLOCALISED:
        if not may_read(grants, field, ""):
            content.ClearField(field)  # type: ignore[arg-type]  # one of its names
    _hide_fields(content, grants)
    _hide_locales(content, grants)
    return content


def _hide_fields(content: Content, grants: Grants) -> None:
    for name in list(content.fields):
        value = content.fields[name]
        if value.WhichOneof("kind") == "localized":
            for locale in [each for each in value.localized.values if not may_read(grants, f"fields.{name}", each)]:
                del value.localized.values[locale]
            if value.localized.values:
                continue
        elif may_read(grants, f"fields.{name}", ""):
            continue
        del content.fields[name]


def _hide_locales(content: Content, grants: Grants) -> None:
    """Take out what is told of locales, and of texts in them, that may not be read."""
    for locale in [each for each in content.locales if not may_read(grants, "", each)]:
        del content.locales[locale]
    for path, made in list(content.translations.items()):
        field, _, locale = path.rpartition(".")
        if not may_read(grants, field, locale) or not may_read(grants, field, made.source_locale):
            del content.translations[path]
    for number in reversed(range(len(content.schedules))):
        about = content.schedules[number].locales
        if about and not any(may_read(grants, "", locale) for locale in about):
            del content.schedules[number]
    for about in [each.locales for each in content.schedules] + [content.waiting.locales] * content.HasField("waiting"):
        about[:] = [locale for locale in about if may_read(grants, "", locale)]


def narrow_by(scope: Scope | None, item: Content) -> None:
    """The same by the grants of a scope that hold for the item."""
    if scope is not None:
        narrow(item, scope.held(resource(item)))
