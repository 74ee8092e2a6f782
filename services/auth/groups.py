"""Groups of provisioned people: an identity provider says who is in them, administrators what roles they give."""

import uuid
from collections.abc import Callable, Collection, Sequence

import asyncpg
import uuid_utils
from google.protobuf.timestamp_pb2 import Timestamp
from scim2_models import Group as ScimGroup
from scim2_models import GroupMember, Meta

from libs import etags, masks, outbox, paging
from libs.db import Connection, Record
from libs.errors import NotFound
from libs.identity import caller
from services.auth import audit, roles, scim, sessions, users
from thmnayah.auth.v1.groups_pb2 import Group, ListGroupsResponse
from thmnayah.auth.v1.users_pb2 import UserUpdated

MOST_MEMBERS = 10_000
# So that a token with a person's own roles and these is no longer than the contract allows.
MOST_ROLES_BY_GROUPS = 20

FILTERS: scim.Columns = {
    "id": ("id::text = {}", str.lower),
    "displayname": ("display_name_key = {}", users.key),
    "externalid": ("external_id = {}", str),
    **dict.fromkeys(
        ("members", "members.value"),
        ("EXISTS (SELECT FROM group_members m WHERE m.group_id = groups.id AND m.user_id::text = {})", str.lower),
    ),
}
_COLUMNS = "id, external_id, display_name, roles, version, create_time, update_time"
_COUNTED = f"{_COLUMNS}, (SELECT count(*) FROM group_members m WHERE m.group_id = groups.id) AS member_count"
# A group without its members, and their ids.
Found = tuple[ScimGroup, list[str]]
_WHAT = ("group", "المجموعة")


# For administrators


async def get(conn: Connection, group_id: str) -> Group:
    """Raises: NotFound."""
    row = await conn.fetchrow(f"SELECT {_COUNTED} FROM groups WHERE id = $1", group_id)
    if row is None:
        raise _not_found(group_id)
    return _group(row)


async def list_page(conn: Connection, *, page_size: int, page_token: str) -> ListGroupsResponse:
    """A page of groups, the newest first, and the token of the next one."""
    question = ("groups",)
    after = paging.keys(page_token, question, (str,))
    size = paging.size(page_size)
    rows = await conn.fetch(
        f"SELECT {_COUNTED} FROM groups WHERE $1::uuid IS NULL OR id < $1 ORDER BY id DESC LIMIT $2",
        after and after[0],
        size + 1,
    )
    response = ListGroupsResponse(groups=map(_group, rows[:size]))
    if len(rows) > size:
        response.next_page_token = paging.token([str(rows[size - 1]["id"])], question)
    return response


async def update(conn: Connection, group: Group, *, paths: Sequence[str], etag: str) -> Group:
    """Give a group other roles, which ends the sessions of its members.

    Raises:
        NotFound, Conflict, InvalidArgument, Forbidden: as UpdateGroup says.
    """
    changed = masks.changed(group, paths, ("roles",))
    named = await roles.assignable(conn, group.roles, by=caller.get(), field="group.roles")
    row = await _locked(conn, group.id)
    etags.check(etag, row["version"], what=_WHAT)
    if changed and set(named) != set(row["roles"]):
        await conn.execute("UPDATE groups SET roles = $2 WHERE id = $1", group.id, named)
        await _settle(conn, group.id, await _member_ids(conn, group.id))
        await _record(conn, "group.updated", group.id, {"roles": " ".join(named)})
    return await get(conn, group.id)


# For provisioners


async def list_resources(
    conn: Connection, filter: str, *, start: int, count: int, members: bool
) -> tuple[list[Found], int]:
    """Those that a filter finds, from the `start`th on, and how many there are of them.

    Raises:
        InvalidArgument: the filter cannot be read.
    """
    parameters: list[object] = []
    where = scim.condition(filter, ScimGroup, FILTERS, parameters)
    total = await conn.fetchval(f"SELECT count(*) FROM groups WHERE {where}", *parameters)
    rows = await conn.fetch(
        f"SELECT {_columns(members)} FROM groups WHERE {where} ORDER BY id OFFSET {start - 1} LIMIT {count}",
        *parameters,
    )
    return [_found(row) for row in rows], total


async def find(conn: Connection, group_id: str, *, members: bool = True) -> Found:
    """A group, with its members or without. Raises: NotFound."""
    row = await conn.fetchrow(f"SELECT {_columns(members)} FROM groups WHERE id = $1", group_id)
    if row is None:
        raise _not_found(group_id)
    return _found(row)


async def create(conn: Connection, given: ScimGroup) -> Found:
    """Store a group, which gives no roles. Raises: as `change`."""
    group_id, display_name = str(uuid_utils.uuid7()), _display_name(given)
    made = await conn.fetchval(
        """
        INSERT INTO groups (id, external_id, display_name, display_name_key) VALUES ($1, $2, $3, $4)
        ON CONFLICT (display_name_key) DO NOTHING RETURNING true
        """,
        group_id,
        _external_id(given),
        display_name,
        users.key(display_name),
    )
    if made is None:
        raise _taken()
    await _set_members(conn, group_id, before=set(), after=_members(given))
    await _record(conn, "group.created", group_id, {"members": str(len(_members(given)))})
    return await find(conn, group_id)


async def change(
    conn: Connection, group_id: str, changed: Callable[[ScimGroup], ScimGroup], *, members: set[str] | None, etag: str
) -> Found:
    """Make a group what the provisioner says.

    Args:
        changed: what the group is to be, of what it is.
        members: those of them that `changed` is told of, and speaks of; None for all.
        etag: the version the change is based on; "" for any.

    Raises:
        NotFound: there is none.
        Conflict: it is at another version.
        AlreadyExists: another has the name.
        InvalidArgument: a member is nobody who was provisioned; there are too many.
    """
    etags.check(etag, (await _locked(conn, group_id))["version"], what=_WHAT)
    before, ids = await find(conn, group_id)
    before.members = [
        GroupMember(value=each, type="User") for each in ids if members is None or each in members
    ] or None
    after = changed(before)
    display_name, external_id = _display_name(after), _external_id(after)
    was, will = _members(before), _members(after)
    if (display_name, external_id, will) != (before.display_name, before.external_id, was):
        await _rename(conn, group_id, display_name, external_id)
        await _set_members(conn, group_id, before=was, after=will)
        details = {"added": str(len(will - was)), "removed": str(len(was - will))}
        await _record(conn, "group.updated", group_id, details)
    return await find(conn, group_id)


async def _rename(conn: Connection, group_id: str, display_name: str, external_id: str | None) -> None:
    try:
        await conn.execute(
            "UPDATE groups SET display_name = $2, display_name_key = $3, external_id = $4 WHERE id = $1",
            group_id,
            display_name,
            users.key(display_name),
            external_id,
        )
    except asyncpg.UniqueViolationError:
        raise _taken() from None


async def delete(conn: Connection, group_id: str, *, etag: str) -> None:
    """Remove a group and what it gave. Raises: NotFound, Conflict."""
    row = await _locked(conn, group_id)
    etags.check(etag, row["version"], what=_WHAT)
    members = await _member_ids(conn, group_id)
    await _lock_people(conn, members)
    await conn.execute("DELETE FROM groups WHERE id = $1", group_id)
    await _settle(conn, group_id, members)
    await _record(conn, "group.deleted", group_id, {})


async def _set_members(conn: Connection, group_id: str, *, before: Collection[str], after: Collection[str]) -> None:
    added, removed = sorted({*after} - {*before}), sorted({*before} - {*after})
    there = await _lock_people(conn, [*added, *removed])
    if missing := [each for each in added if each not in there]:
        raise scim.invalid("members.value", f"{missing[0]} is nobody who was provisioned")
    await conn.execute("DELETE FROM group_members WHERE group_id = $1 AND user_id = ANY($2::uuid[])", group_id, removed)
    await conn.execute("INSERT INTO group_members (group_id, user_id) SELECT $1, unnest($2::uuid[])", group_id, added)
    if await conn.fetchval("SELECT count(*) FROM group_members WHERE group_id = $1", group_id) > MOST_MEMBERS:
        raise scim.invalid("members", f"are more than {MOST_MEMBERS}")
    await _settle(conn, group_id, [*added, *removed])


async def _lock_people(conn: Connection, user_ids: Sequence[str]) -> set[str]:
    """Lock people, in one order for all who do, and return those of them who were provisioned."""
    rows = await conn.fetch(
        """
        SELECT id FROM users WHERE id = ANY($1::uuid[]) AND id IN (SELECT user_id FROM provisioned_users)
        ORDER BY id FOR NO KEY UPDATE
        """,
        user_ids,
    )
    return {str(row["id"]) for row in rows}


async def _settle(conn: Connection, group_id: str, user_ids: Sequence[str]) -> None:
    """Count a change of a group, and give people the roles that they have by their groups now.

    The sessions of those whose roles that changes end.
    """
    await conn.execute("UPDATE groups SET version = version + 1, update_time = now() WHERE id = $1", group_id)
    await _lock_people(conn, user_ids)
    rows = await conn.fetch(
        """
        WITH found AS (
            SELECT id, group_roles AS before, ARRAY(
                SELECT DISTINCT role FROM group_members m JOIN groups g ON g.id = m.group_id, unnest(g.roles) AS role
                WHERE m.user_id = users.id ORDER BY role LIMIT $2
            ) AS after
            FROM users WHERE id = ANY($1::uuid[]) AND state <> 'DELETED'
        )
        UPDATE users SET group_roles = found.after, version = version + 1
        FROM found WHERE users.id = found.id
        RETURNING users.id, email, display_name, roles, group_roles, create_time, state, locale, time_zone, version,
                  found.before
        """,
        user_ids,
        MOST_ROLES_BY_GROUPS,
    )
    changed = [users.message(row) for row in rows if row["before"] != row["group_roles"]]
    if changed:
        await sessions.end_of_changed(conn, [user.id for user in changed])
        await outbox.add_all(conn, [(UserUpdated(user=user), user.id) for user in changed])
        details = {f"user/{user.id}": {"roles": " ".join(users.all_roles(user)), "group": group_id} for user in changed}
        await audit.record_all(conn, "user.updated", details)


async def _locked(conn: Connection, group_id: str) -> Record:
    row = await conn.fetchrow("SELECT version, roles FROM groups WHERE id = $1 FOR UPDATE", group_id)
    if row is None:
        raise _not_found(group_id)
    return row


async def _member_ids(conn: Connection, group_id: str) -> list[str]:
    rows = await conn.fetch("SELECT user_id FROM group_members WHERE group_id = $1", group_id)
    return [str(row["user_id"]) for row in rows]


async def _record(conn: Connection, action: str, group_id: str, details: dict[str, str]) -> None:
    await audit.record(conn, action, target=f"group/{group_id}", details=details)


def _display_name(given: ScimGroup) -> str:
    return _fitting("displayName", given.display_name or "")


def _external_id(given: ScimGroup) -> str | None:
    return given.external_id and _fitting("externalId", given.external_id)


def _fitting(field: str, value: str) -> str:
    try:
        return scim.fit(value, 200)
    except ValueError as error:
        raise scim.invalid(field, str(error)) from None


def _members(given: ScimGroup) -> set[str]:
    members: set[str] = set()
    for each in given.members or []:
        try:
            members.add(str(uuid.UUID(each.value or "")))
        except ValueError:
            raise scim.invalid("members.value", "is not the id of a user") from None
    return members


def _columns(members: bool) -> str:
    ids = "ARRAY(SELECT user_id FROM group_members m WHERE m.group_id = groups.id ORDER BY user_id)"
    return f"{_COLUMNS}, {ids if members else 'NULL'} AS member_ids"


def _found(row: Record) -> Found:
    group = ScimGroup(
        id=str(row["id"]),
        external_id=row["external_id"],
        display_name=row["display_name"],
        meta=Meta(
            resource_type="Group",
            created=row["create_time"],
            last_modified=row["update_time"],
            location=f"{scim.BASE}/Groups/{row['id']}",
            version=f'"{row["version"]}"',
        ),
    )
    return group, [str(each) for each in row["member_ids"] or ()]


def _group(row: Record) -> Group:
    group = Group(
        id=str(row["id"]),
        display_name=row["display_name"],
        roles=row["roles"],
        member_count=row["member_count"],
        etag=f'"{row["version"]}"',
    )
    for name in ("create_time", "update_time"):
        moment = Timestamp()
        moment.FromDatetime(row[name])
        getattr(group, name).CopyFrom(moment)
    return group


def _taken() -> Exception:
    return scim.taken("SCIM_GROUP_EXISTS", "displayName", "there is a group with this name", "توجد مجموعة بهذا الاسم")


def _not_found(group_id: str) -> NotFound:
    return NotFound("GROUP_NOT_FOUND", f"no group {group_id}", f"لا توجد مجموعة {group_id}")
