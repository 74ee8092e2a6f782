"""Accounts of programs: users without a password and an address, so that nobody signs in as one."""

import uuid_utils

from libs import paging, text
from libs.db import Connection, Record, fetch_one
from libs.errors import NotFound
from libs.identity import caller
from services.auth import api_keys, audit, revocations
from services.auth.roles import assignable
from thmnayah.auth.v1.api_keys_pb2 import ListServiceAccountsResponse, ServiceAccount

_COLUMNS = "id, display_name, roles, create_time, state"


async def create(conn: Connection, *, display_name: str, roles: list[str]) -> ServiceAccount:
    """Store a new account.

    Raises:
        InvalidArgument: a role is unknown.
        Forbidden: one grants more than the caller holds.
    """
    named = await assignable(conn, roles, by=caller.get())
    account_id = str(uuid_utils.uuid7())
    row = await fetch_one(
        conn,
        f"""
        INSERT INTO users (id, email, email_key, display_name, roles, password_hash, service_account)
        VALUES ($1::uuid, '', 'service-account:' || $1::text, $2, $3, '', true)
        RETURNING {_COLUMNS}
        """,
        account_id,
        text.nfc(display_name),
        named,
    )
    target = f"service_account/{account_id}"
    await audit.record(conn, "service_account.created", target=target, details={"roles": " ".join(named)})
    return _account(row)


async def list_accounts(conn: Connection, *, page_size: int, page_token: str) -> ListServiceAccountsResponse:
    """A page of accounts, newest first. Raises: InvalidArgument for a page token that cannot be read."""
    after = paging.keys(page_token, [], (str,))
    size = paging.size(page_size)
    rows = await conn.fetch(
        f"SELECT {_COLUMNS} FROM users WHERE service_account AND ($1::text IS NULL OR id::text < $1)"
        " ORDER BY id DESC LIMIT $2",
        None if after is None else str(after[0]),
        size + 1,
    )
    response = ListServiceAccountsResponse(service_accounts=map(_account, rows[:size]))
    if len(rows) > size:
        response.next_page_token = paging.token([str(rows[size - 1]["id"])], [])
    return response


async def disable(conn: Connection, account_id: str) -> ServiceAccount:
    """Have an account's keys refused, and the tokens they were exchanged for. Raises: NotFound."""
    account = await _set_state(conn, account_id, "DISABLED")
    await revocations.outdate(conn, [account_id])
    await audit.record(conn, "service_account.disabled", target=f"service_account/{account.id}")
    return account


async def enable(conn: Connection, account_id: str) -> ServiceAccount:
    """Have them taken again. Raises: NotFound."""
    account = await _set_state(conn, account_id, "ACTIVE")
    await audit.record(conn, "service_account.enabled", target=f"service_account/{account.id}")
    return account


async def _set_state(conn: Connection, account_id: str, state: str) -> ServiceAccount:
    row = await conn.fetchrow(
        f"UPDATE users SET state = $2 WHERE id = $1 AND service_account RETURNING {_COLUMNS}", account_id, state
    )
    if row is None:
        raise _not_found(account_id)
    return _account(row)


async def delete(conn: Connection, account_id: str) -> None:
    """Remove an account and its keys. Raises: NotFound."""
    keys = await conn.fetch("SELECT id FROM api_keys WHERE user_id = $1", account_id)
    found = await conn.fetchval("DELETE FROM users WHERE id = $1 AND service_account RETURNING true", account_id)
    if not found:
        raise _not_found(account_id)
    await api_keys.refuse_tokens(conn, [str(row["id"]) for row in keys])
    await audit.record(conn, "service_account.deleted", target=f"service_account/{account_id}")


def _not_found(account_id: str) -> NotFound:
    return NotFound("SERVICE_ACCOUNT_NOT_FOUND", f"no service account {account_id}", f"لا يوجد حساب خدمة {account_id}")


def _account(row: Record) -> ServiceAccount:
    account = ServiceAccount(
        id=str(row["id"]),
        display_name=row["display_name"],
        roles=row["roles"],
        disabled=row["state"] == "DISABLED",
    )
    account.create_time.FromDatetime(row["create_time"])
    return account
