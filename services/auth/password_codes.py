"""Codes that are mailed to set a password with: each good once and for a while, stored as hashes."""

import secrets
from datetime import timedelta

from libs.db import Connection
from libs.errors import Unauthenticated
from services.auth.digests import digest

# By the state of the account that a code is for.
LIVES = {"INVITED": timedelta(days=7), "UNVERIFIED": timedelta(days=1), "ACTIVE": timedelta(minutes=10)}


async def issue(conn: Connection, user_id: str, *, life: timedelta) -> str:
    """A new code; those before it stay good."""
    code = secrets.token_urlsafe(32)
    await conn.execute(
        "INSERT INTO password_codes (hash, user_id, expire_time) VALUES ($1, $2, now() + $3)",
        digest(code),
        user_id,
        life,
    )
    return code


async def owner(conn: Connection, code: str) -> str:
    """The id of the user whom a code is for. Raises: Unauthenticated when it is not good."""
    return await _found(conn, "SELECT user_id FROM password_codes WHERE hash = $1 AND expire_time > now()", code)


async def use(conn: Connection, code: str) -> str:
    """Use a code up, and with it the others of its user, whose id is returned.

    Raises:
        Unauthenticated: it is not good, or was used meanwhile.
    """
    statement = "DELETE FROM password_codes WHERE hash = $1 AND expire_time > now() RETURNING user_id"
    user_id = await _found(conn, statement, code)
    await forget(conn, user_id)
    return user_id


async def forget(conn: Connection, user_id: str) -> None:
    """Make the codes of a user worthless."""
    await conn.execute("DELETE FROM password_codes WHERE user_id = $1", user_id)


async def forget_expired(conn: Connection) -> None:
    """Delete the codes that are too old."""
    await conn.execute("DELETE FROM password_codes WHERE expire_time < now()")


async def _found(conn: Connection, statement: str, code: str) -> str:
    user_id = await conn.fetchval(statement, digest(code))
    if user_id is None:
        raise Unauthenticated(
            "CODE_INVALID", "the code is not valid or no longer so", "الرمز غير صالح أو انتهت صلاحيته"
        )
    return str(user_id)
