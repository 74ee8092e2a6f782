"""Accounts as administrators and their owners change them: how they come, what they are, and how they go."""

from collections.abc import Sequence
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import asyncpg
import uuid_utils

from libs import etags, filters, masks, paging, text
from libs.db import Connection, fetch_one
from libs.errors import FailedPrecondition, InvalidArgument
from libs.identity import caller
from libs.permissions import ADMINISTRATOR
from services.auth import mails, password_codes, roles, sessions, throttle, users
from thmnayah.auth.v1.auth_pb2 import User
from thmnayah.auth.v1.users_pb2 import ListUsersResponse

OWN = ("display_name", "locale", "time_zone")
"""What people may change of their own accounts."""
ANY = (*OWN, "roles")
"""What administrators may change."""

_FIELDS = {
    # An address is found however its letters are written.
    "email": filters.Field("ARRAY[email_key]", "list", has="lower({value}) = ANY({column})"),
    "state": filters.Field("state"),
    "roles": filters.Field("(roles || group_roles)", "list"),
    "create_time": filters.Field("create_time", "time"),
    "createTime": filters.Field("create_time", "time"),
}


async def add(
    conn: Connection, *, email: str, display_name: str, roles: Sequence[str], locale: str, state: str
) -> User | None:
    """Store an account that has no password yet; None when its address is taken."""
    row = await conn.fetchrow(
        f"""
        INSERT INTO users (id, email, email_key, display_name, roles, locale, state)
        VALUES ($1, $2, $3, $4, $5, coalesce(nullif($6, ''), 'ar'), $7)
        ON CONFLICT (email_key) DO NOTHING
        RETURNING {users.COLUMNS}
        """,
        str(uuid_utils.uuid7()),
        text.nfc(email),
        users.key(email),
        text.nfc(display_name),
        list(roles),
        locale,
        state,
    )
    return None if row is None else users.message(row)


async def get(conn: Connection, user_id: str) -> User:
    """An account, also a deleted one. Raises: NotFound."""
    row = await conn.fetchrow(f"SELECT {users.COLUMNS} FROM users WHERE id = $1", user_id)
    if row is None:
        raise users.not_found(user_id)
    return users.message(row)


async def list_page(conn: Connection, *, filter: str, page_size: int, page_token: str) -> ListUsersResponse:
    """A page of accounts, the newest first, and the token of the next one."""
    question = ("users", filter)
    parameters: list[object] = []
    condition = filters.compile_filter(filter, _FIELDS, parameters)
    after = paging.keys(page_token, question, (str,))
    size = paging.size(page_size)
    parameters += [after and after[0], size + 1]
    rows = await conn.fetch(
        f"""
        SELECT {users.COLUMNS} FROM users
        WHERE state <> 'DELETED' AND NOT service_account AND ({condition})
          AND (${len(parameters) - 1}::uuid IS NULL OR id < ${len(parameters) - 1})
        ORDER BY id DESC LIMIT ${len(parameters)}
        """,
        *parameters,
    )
    response = ListUsersResponse(users=map(users.message, rows[:size]))
    if len(rows) > size:
        response.next_page_token = paging.token([str(rows[size - 1]["id"])], question)
    return response


async def update(
    conn: Connection, user: User, *, paths: Sequence[str], allowed: Sequence[str], etag: str
) -> User | None:
    """Change an account at the paths given, or, without any, at every one allowed that holds a value.

    Other roles end its sessions.

    Args:
        user: with the id of the account.
        etag: the version the change is based on; "" for any.

    Returns:
        The account as it is now; None when it was that already.

    Raises:
        NotFound: there is none, or it is deleted.
        InvalidArgument: a path is not allowed, or a value not known.
        Conflict: it is at another version.
        FailedPrecondition: nobody else could administer the installation.
    """
    changed = masks.changed(user, paths, allowed)
    if "time_zone" in changed:
        check_time_zone(user.time_zone)
    if "roles" in changed:
        if not user.roles:
            raise InvalidArgument({"user.roles": "must hold at least one"})
        user.roles[:] = await roles.assignable(conn, user.roles, by=caller.get(), field="user.roles")
        if ADMINISTRATOR not in user.roles:
            await _keep_an_administrator(conn, user.id)
    before = await _locked(conn, user.id)
    etags.check(etag, *etags.versions(before.etag), what=("account", "الحساب"))
    after = masks.merged(before, user, changed)
    after.display_name = text.nfc(after.display_name)
    after.locale = after.locale or "ar"
    if after == before:
        return None
    if after.roles != before.roles:
        await sessions.end_of_changed(conn, [user.id])
    row = await fetch_one(
        conn,
        f"""
        UPDATE users SET display_name = $2, locale = $3, time_zone = $4, roles = $5, version = version + 1
        WHERE id = $1 RETURNING {users.COLUMNS}
        """,
        user.id,
        after.display_name,
        after.locale,
        after.time_zone,
        list(after.roles),
    )
    return users.message(row)


async def set_roles(conn: Connection, user_id: str, named: Sequence[str]) -> User | None:
    """Give an account other roles, which ends its sessions; None when it has these already.

    Raises:
        FailedPrecondition: nobody else could administer the installation.
    """
    if set((await get(conn, user_id)).roles) == set(named):
        return None
    if ADMINISTRATOR not in named:
        await _keep_an_administrator(conn, user_id)
    await _locked(conn, user_id)
    await sessions.end_of_changed(conn, [user_id])
    row = await fetch_one(
        conn,
        f"UPDATE users SET roles = $2, version = version + 1 WHERE id = $1 RETURNING {users.COLUMNS}",
        user_id,
        list(named),
    )
    return users.message(row)


async def accept(conn: Connection, email: str) -> User | None:
    """Open the account that was invited by an address, whose owner was proved otherwise; None when there is none."""
    row = await conn.fetchrow(
        f"""
        UPDATE users SET state = 'ACTIVE', version = version + 1
        WHERE email_key = $1 AND state = 'INVITED' RETURNING {users.COLUMNS}
        """,
        users.key(email),
    )
    if row is None:
        return None
    await password_codes.forget(conn, str(row["id"]))
    return users.message(row)


async def disable(conn: Connection, user_id: str) -> User | None:
    """Close an account and end its sessions; None when it was closed already. Raises: as `delete`."""
    await _keep_an_administrator(conn, user_id)
    closed = (await _locked(conn, user_id)).state == User.DISABLED
    await _forget_deactivation(conn, user_id)
    if closed:
        return None
    await _shut(conn, user_id)
    return await _set_state(conn, user_id, "'DISABLED'")


async def enable(conn: Connection, user_id: str) -> User | None:
    """Open a closed account; None when it was not closed. Raises: NotFound."""
    if (await _locked(conn, user_id)).state != User.DISABLED:
        return None
    await _forget_deactivation(conn, user_id)
    return await _set_state(
        conn,
        user_id,
        "CASE WHEN password_hash IS NULL AND NOT EXISTS (SELECT FROM identities WHERE user_id = users.id)"
        " THEN 'INVITED' ELSE 'ACTIVE' END",
    )


async def delete(conn: Connection, user_id: str) -> User:
    """Erase an account, all but its id and its times.

    Raises:
        NotFound: there is none, or it is deleted already.
        FailedPrecondition: nobody else could administer the installation.
    """
    await _keep_an_administrator(conn, user_id)
    email_key = users.key((await _locked(conn, user_id)).email)
    await _shut(conn, user_id)
    await conn.execute("DELETE FROM mails WHERE email_key = $1", email_key)
    await conn.execute(
        "DELETE FROM mails USING email_changes AS wanted"
        " WHERE mails.email_key = wanted.email_key AND kind = 'EMAIL_CHANGE' AND wanted.user_id = $1",
        user_id,
    )
    for table in (
        *("api_keys", "totp_factors", "passkeys", "recovery_codes", "identities", "email_changes"),
        *("provisioned_users", "group_members"),
    ):
        await conn.execute(f"DELETE FROM {table} WHERE user_id = $1", user_id)
    await throttle.forget(conn, throttle.key("address", email_key))
    await throttle.forget(conn, throttle.key("user", user_id))
    return await _set_state(
        conn,
        user_id,
        "'DELETED', email = '', email_key = NULL, display_name = '', roles = '{}', group_roles = '{}',"
        " password_hash = NULL, locale = '', time_zone = ''",
    )


async def set_email(conn: Connection, user_id: str, email: str) -> tuple[User, User]:
    """Give an account another address, whose owner is known otherwise.

    Codes that were mailed to the old one are worth nothing any more, and it is told.

    Returns:
        The account before and after.

    Raises:
        NotFound: there is none, or it is deleted.
        InvalidArgument: it has the address.
        AlreadyExists: another account has it.
    """
    before = await _locked(conn, user_id)
    check_other(before, email)
    # Who registered it never showed that it is theirs.
    await conn.execute("DELETE FROM users WHERE email_key = $1 AND state = 'UNVERIFIED'", users.key(email))
    try:
        row = await fetch_one(
            conn,
            f"""
            UPDATE users SET email = $2, email_key = $3, version = version + 1 WHERE id = $1
            RETURNING {users.COLUMNS}
            """,
            user_id,
            text.nfc(email),
            users.key(email),
        )
    except asyncpg.UniqueViolationError:
        raise users.taken() from None
    await password_codes.forget(conn, user_id)
    await mails.add(conn, "EMAIL_CHANGED", before.email, locale=before.locale)
    return before, users.message(row)


async def set_password(conn: Connection, user_id: str, password_hash: str) -> tuple[User, bool]:
    """Give an account a password, which makes one that waited for its first ready.

    Returns:
        The account, and whether it is seen for the first time by others: one that somebody registered.
    """
    row = await conn.fetchrow(
        f"""
        UPDATE users SET password_hash = $2, state = 'ACTIVE', version = version + 1
        FROM (SELECT id AS user_id, state AS state_before FROM users WHERE id = $1 FOR NO KEY UPDATE) AS before
        WHERE id = user_id AND state_before IN ('ACTIVE', 'INVITED', 'UNVERIFIED')
        RETURNING {users.COLUMNS}, state_before
        """,
        user_id,
        password_hash,
    )
    if row is None:
        raise users.not_found(user_id)
    await throttle.forget(conn, throttle.key("address", users.key(row["email"])))
    await throttle.forget(conn, throttle.key("user", user_id))
    return users.message(row), row["state_before"] == "UNVERIFIED"


async def password_hash(conn: Connection, user_id: str) -> str:
    """The hash of an open account's password. Raises: NotFound when there is none."""
    stored = await conn.fetchval("SELECT password_hash FROM users WHERE id = $1 AND state = 'ACTIVE'", user_id)
    if stored is None:
        raise users.not_found(user_id)
    return str(stored)


async def forget_unverified(conn: Connection) -> None:
    """Delete what somebody registered and nobody proved in a week."""
    await conn.execute("DELETE FROM users WHERE state = 'UNVERIFIED' AND create_time < now() - interval '7 days'")


async def _locked(conn: Connection, user_id: str) -> User:
    row = await conn.fetchrow(
        f"SELECT {users.COLUMNS} FROM users"
        " WHERE id = $1 AND state <> 'DELETED' AND NOT service_account FOR NO KEY UPDATE",
        user_id,
    )
    if row is None:
        raise users.not_found(user_id)
    return users.message(row)


async def _set_state(conn: Connection, user_id: str, state: str) -> User:
    row = await fetch_one(
        conn,
        f"UPDATE users SET version = version + 1, state = {state} WHERE id = $1 RETURNING {users.COLUMNS}",
        user_id,
    )
    return users.message(row)


async def _forget_deactivation(conn: Connection, user_id: str) -> None:
    """Let a provisioner open no account that somebody else closed, though it closed it once itself."""
    await conn.execute("UPDATE provisioned_users SET deactivated = false WHERE user_id = $1", user_id)


async def _shut(conn: Connection, user_id: str) -> None:
    await sessions.end_of_changed(conn, [user_id])
    await password_codes.forget(conn, user_id)


async def _keep_an_administrator(conn: Connection, user_id: str) -> None:
    """Raises: FailedPrecondition when the user is the only administrator.

    Locks all of them: of two who go at once, the second finds that it is the last.
    """
    rows = await conn.fetch(
        "SELECT id FROM users WHERE $1 = ANY(roles) AND state = 'ACTIVE' ORDER BY id FOR NO KEY UPDATE", ADMINISTRATOR
    )
    if [str(row["id"]) for row in rows] == [user_id.lower()]:
        raise FailedPrecondition(
            "LAST_ADMINISTRATOR",
            "nobody else could administer the installation; make another administrator first",
            "لا يوجد مدير آخر للمنصة؛ عيّن مديرًا آخر أولًا",
        )


def check_other(user: User, email: str) -> None:
    """Raises: InvalidArgument when the account has the address."""
    if users.key(email) == users.key(user.email):
        raise InvalidArgument({"email": "is the address of the account already"})


def check_time_zone(name: str, *, field: str = "user.timeZone") -> None:
    """Raises: InvalidArgument when there is none of this name."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # what is a folder, or no name at all
        raise InvalidArgument({field: "is not an IANA time zone, such as Asia/Riyadh"}) from None
