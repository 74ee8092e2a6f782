"""Roles that an installation defines, beside those that are built in."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp

from libs import etags, masks, paging, permissions
from libs.db import Connection, Record, fetch_one
from libs.errors import AlreadyExists, FailedPrecondition, Forbidden, InvalidArgument, NotFound
from libs.identity import Identity
from libs.permissions import BUILT_IN, OLD_NAMES
from libs.roles import grant
from thmnayah.auth.v1.roles_pb2 import (
    Grant,
    ListRolesResponse,
    Resource,
    Role,
    RoleSnapshot,
    TestPermissionsResponse,
)

MOST_ROLES = 200
# So that a snapshot of them all is one message.
MOST_BYTES = 16 * 1024

_COLUMNS = "id, name, description, grants, version, create_time, update_time"
_CONDITIONS = ("types", "locales", "categories", "own", "states", "fields")


async def get(conn: Connection, role_id: str, *, lock: bool = False) -> Role:
    """Raises: NotFound."""
    name = OLD_NAMES.get(role_id, role_id)
    if name in BUILT_IN:
        return _built_in(name)
    row = await conn.fetchrow(f"SELECT {_COLUMNS} FROM roles WHERE id = $1 {'FOR UPDATE' if lock else ''}", role_id)
    if row is None:
        raise NotFound("ROLE_NOT_FOUND", f"no role {role_id}", f"لا يوجد دور {role_id}")
    return _role(row)


async def list_page(conn: Connection, *, page_size: int, page_token: str) -> ListRolesResponse:
    """A page of roles, those that are built in first, and the token of the next one."""
    question = ("roles",)
    after = paging.keys(page_token, question, (str, str))
    keyed = [(("0", role_id), _built_in(role_id)) for role_id in sorted(BUILT_IN)]
    rows = await conn.fetch(f"SELECT {_COLUMNS} FROM roles ORDER BY id")
    keyed += [(("1", row["id"]), _role(row)) for row in sorted(rows, key=lambda row: str(row["id"]))]
    keyed = [each for each in keyed if after is None or each[0] > tuple(after)]
    size = paging.size(page_size)
    response = ListRolesResponse(roles=[role for _, role in keyed[:size]])
    if len(keyed) > size:
        response.next_page_token = paging.token(keyed[size - 1][0], question)
    return response


async def create(conn: Connection, role: Role, *, by: Identity) -> Role:
    """Define a role.

    Args:
        by: who does; nobody grants more than they hold.
    """
    _check(role, by)
    await _count_change(conn)
    if await conn.fetchval("SELECT count(*) FROM roles") >= MOST_ROLES:
        raise FailedPrecondition(
            "TOO_MANY_ROLES", f"there are {MOST_ROLES} roles already", f"يوجد {MOST_ROLES} دور بالفعل"
        )
    row = None
    if OLD_NAMES.get(role.id, role.id) not in BUILT_IN:
        row = await conn.fetchrow(
            f"INSERT INTO roles (id, name, description, grants) VALUES ($1, $2, $3, $4)"
            f" ON CONFLICT (id) DO NOTHING RETURNING {_COLUMNS}",
            role.id,
            *_values(role),
        )
    if row is None:
        raise AlreadyExists(
            "ROLE_EXISTS",
            f"there is a role {role.id}",
            f"يوجد دور بالاسم {role.id}",
            violations={"role.id": "is taken"},
        )
    return _role(row)


async def update(conn: Connection, role: Role, *, paths: Sequence[str], by: Identity) -> Role | None:
    """Change a role at the paths given, or at every field that holds a value; None when it was like that already."""
    changed = masks.changed(role, paths, ("name", "description", "grants"))
    await _count_change(conn)
    current = await get(conn, role.id, lock=True)
    _check_changeable(current, role.etag)
    after = masks.merged(current, role, changed)
    if after == current:
        return None
    _check(after, by)
    row = await fetch_one(
        conn,
        f"""
        UPDATE roles SET name = $2, description = $3, grants = $4, version = version + 1, update_time = now()
        WHERE id = $1 RETURNING {_COLUMNS}
        """,
        role.id,
        *_values(after),
    )
    return _role(row)


async def delete(conn: Connection, role_id: str, *, etag: str, force: bool) -> Role:
    """Take a role away, from its users and groups too.

    Args:
        force: although there are some.
    """
    await _count_change(conn)
    role = await get(conn, role_id, lock=True)
    _check_changeable(role, etag)
    users = await conn.fetchval("SELECT count(*) FROM users WHERE $1 = ANY(roles || group_roles)", role_id)
    if users and not force:
        raise FailedPrecondition(
            "ROLE_IN_USE",
            f"{users} users have the role; force deletes it anyway",
            f"عدد المستخدمين الذين لديهم هذا الدور {users}؛ يمكن فرض الحذف بالحقل force",
            metadata={"count": str(users)},
        )
    await conn.execute(
        "UPDATE groups SET roles = array_remove(roles, $1), version = version + 1 WHERE $1 = ANY(roles)", role_id
    )
    await conn.execute(
        "UPDATE users SET roles = array_remove(roles, $1), group_roles = array_remove(group_roles, $1)"
        " WHERE $1 = ANY(roles || group_roles)",
        role_id,
    )
    await conn.execute("DELETE FROM roles WHERE id = $1", role_id)
    return role


async def snapshot(conn: Connection, version: int) -> RoleSnapshot:
    """Every role, unless this is the version already."""
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        current = await conn.fetchval("SELECT version FROM roles_version")
        rows = await conn.fetch(f"SELECT {_COLUMNS} FROM roles ORDER BY id") if current != version else []
    return RoleSnapshot(version=current, roles=[Role(id=row["id"], grants=_role(row).grants) for row in rows])


async def version_for(conn: Connection, roles: Iterable[str]) -> int:
    """Of which changes a token with these roles is to know; 0 when none of them can change."""
    if all(role in BUILT_IN for role in roles):
        return 0
    version: int = await conn.fetchval("SELECT version FROM roles_version")
    return version


async def _grants(conn: Connection, named: Iterable[str]) -> Mapping[str, tuple[permissions.Grant, ...]]:
    """What the built-in roles grant, and those of some others, by their names of today, that there are."""
    if BUILT_IN.keys() >= {*named}:
        return BUILT_IN
    rows = await conn.fetch(f"SELECT {_COLUMNS} FROM roles WHERE id = ANY($1)", list(named))
    return BUILT_IN | {row["id"]: tuple(map(grant, _role(row).grants)) for row in rows}


async def permissions_of(conn: Connection, roles: Sequence[str]) -> set[str]:
    """All that any of some roles grants, with conditions or without."""
    known = await _grants(conn, roles)
    return {each.permission for role in roles for each in known.get(role, ())}


async def existing(conn: Connection, named: Sequence[str]) -> list[str]:
    """Those of some roles that there are."""
    known = await _grants(conn, named)
    return [role for role in named if role in known]


async def assignable(conn: Connection, roles: Sequence[str], *, by: Identity | None, field: str = "roles") -> list[str]:
    """The roles to give to a user, by their names of today.

    Args:
        by: who gives them; None for whoever holds the database.
        field: where they stand in the request.

    Raises:
        InvalidArgument: there is no such role.
        Forbidden: it grants more than the giver holds.
    """
    named = list(dict.fromkeys(OLD_NAMES.get(role, role) for role in roles))
    known = await _grants(conn, named)
    unknown = {
        f"{field}[{number}]": f"is not a role; the roles are {', '.join(sorted(known))}"
        for number, role in enumerate(roles)
        if OLD_NAMES.get(role, role) not in known
    }
    if unknown:
        raise InvalidArgument(unknown)
    if by is not None:
        for number, role in enumerate(roles):
            _check_held(known[OLD_NAMES.get(role, role)], by, f"{field}[{number}]")
    return named


async def test(
    conn: Connection, of: Sequence[str], user_id: str, asked: Sequence[str], resource: Resource | None
) -> TestPermissionsResponse:
    """What a user with roles may do, each permission with what decides it."""
    wrong = {f"permissions[{n}]": "is not a permission" for n, each in enumerate(asked) if not _is_permission(each)}
    if wrong:
        raise InvalidArgument(wrong)
    names = [OLD_NAMES.get(role, role) for role in of]
    known = await _grants(conn, names)
    held = [(role, each) for role in names for each in known.get(role, ())]
    response = TestPermissionsResponse()
    for permission in asked:
        found = [(_unmet(each, resource, user_id), role, each) for role, each in held if each.permission == permission]
        decision = response.decisions.add(permission=permission)
        if found:
            # One that holds, or else the one whose first unmet condition comes last.
            unmet, role, each = max(found, key=lambda one: len(_CONDITIONS) if not one[0] else _ORDER[one[0]])
            decision.allowed, decision.role, decision.unmet = not unmet, role, unmet
            decision.grant.CopyFrom(_said(each))
    return response


_ORDER = {name: number for number, name in enumerate(("types", "categories", "own", "states", "locales", "fields"))}


def _unmet(held: permissions.Grant, resource: Resource | None, user_id: str) -> str:
    if resource is None:
        return ""
    # A field and a locale that are not named are all of them.
    item = permissions.Resource(
        type=resource.type,
        locales=frozenset([resource.locale] if resource.locale else held.locales),
        category_path=resource.category_path,
        created_by=user_id if resource.own else "",
        state=resource.state or "DRAFT",
    )
    if unmet := permissions.unmet(held, item, user_id):
        return unmet
    name = "external_id" if resource.field == "externalId" else resource.field
    if held.fields and name not in held.fields and not (name == "title" and held.permission == permissions.READ_DRAFTS):
        return "fields"
    return "locales" if held.locales and not resource.locale else ""


async def _count_change(conn: Connection) -> None:
    """Make this transaction's change of roles the next one: others wait for its end."""
    await conn.execute("UPDATE roles_version SET version = version + 1")


def _check_changeable(role: Role, etag: str) -> None:
    if role.built_in:
        raise FailedPrecondition("ROLE_BUILT_IN", "a built-in role stays as it is", "لا يمكن تغيير دور مدمج")
    etags.check(etag, role.version, what=("role", "الدور"))


def _check(role: Role, by: Identity) -> None:
    """Check what a role is to grant, and that whoever defines it holds it."""
    if role.ByteSize() > MOST_BYTES:
        raise InvalidArgument({"role.grants": f"is too much: a role has {MOST_BYTES // 1024} KiB at most"})
    wrong: dict[str, str] = {}
    for number, each in enumerate(role.grants):
        at = f"role.grants[{number}]"
        if not _is_permission(each.permission):
            wrong[f"{at}.permission"] = "is not a permission"
        conditions = {name for name in _CONDITIONS if getattr(each, name)}
        if each.permission not in permissions.OF_ITEMS and conditions:
            wrong[f"{at}.{min(conditions)}"] = "is no condition of a permission that is about no single item"
        elif each.permission not in permissions.OF_FIELDS and "fields" in conditions:
            wrong[f"{at}.fields"] = f"is no condition of {each.permission}"
    if wrong:
        raise InvalidArgument(wrong)
    for number, each in enumerate(role.grants):
        _check_held([grant(each)], by, f"role.grants[{number}]")


def _check_held(grants: Iterable[permissions.Grant], by: Identity, at: str) -> None:
    for each in grants:
        scope = by.scope(each.permission)
        if scope is not None and not any(held.includes(each) for held in scope.grants):
            raise Forbidden(
                "GRANT_NOT_HELD",
                f"nobody grants more than they hold: {each.permission}",
                f"لا يمنح أحد أكثر مما لديه: {each.permission}",
                violations={at: f"grants {each.permission} beyond what you hold"},
                metadata={"permission": each.permission},
            )


def _is_permission(name: str) -> bool:
    return name in permissions.PERMISSIONS


def _values(role: Role) -> list[Any]:
    return [dict(role.name), dict(role.description), [json_format.MessageToDict(each) for each in role.grants]]


def _built_in(role_id: str) -> Role:
    english, arabic = _NAMES[role_id]
    return Role(
        id=role_id,
        name={"ar": arabic, "en": english},
        grants=map(_said, BUILT_IN[role_id]),
        built_in=True,
        version=1,
        etag='"1"',
    )


_NAMES = {
    "reader": ("Reader", "قارئ"),
    "author": ("Author", "كاتب"),
    "reviewer": ("Reviewer", "مراجع"),
    "publisher": ("Publisher", "ناشر"),
    "editor": ("Editor", "محرر"),
    "administrator": ("Administrator", "مدير"),
}


def _said(held: permissions.Grant) -> Grant:
    lists = {name: sorted(getattr(held, name)) for name in _CONDITIONS if name != "own"}
    return Grant(permission=held.permission, own=held.own, **lists)


def _role(row: Record) -> Role:
    role = Role(
        id=row["id"],
        name=row["name"],
        description=row["description"],
        grants=[json_format.ParseDict(each, Grant()) for each in row["grants"]],
        version=row["version"],
        etag=f'"{row["version"]}"',
    )
    for name in ("create_time", "update_time"):
        moment = Timestamp()
        moment.FromDatetime(row[name])
        getattr(role, name).CopyFrom(moment)
    return role
