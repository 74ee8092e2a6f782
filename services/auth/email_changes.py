"""Addresses that people are to have: asked for by a person, and proved by a code that is mailed there."""

import secrets

from libs import text
from libs.db import Connection
from services.auth import users
from services.auth.digests import digest


async def ask(conn: Connection, user_id: str, email: str) -> None:
    """Note which address a person wants, in the place of another they wanted; no code is good for it yet."""
    # The code of a mail that is there already stays good: a second one is not sent within a minute.
    await conn.execute(
        """
        INSERT INTO email_changes AS wanted (user_id, email, email_key, expire_time)
        VALUES ($1, $2, $3, now() + interval '1 day')
        ON CONFLICT (user_id) DO UPDATE
        SET email = excluded.email, email_key = excluded.email_key, hash = NULL, expire_time = excluded.expire_time
        WHERE wanted.email_key <> excluded.email_key OR wanted.expire_time < now()
        """,
        user_id,
        text.nfc(email),
        users.key(email),
    )


async def issue(conn: Connection, email_key: str) -> str:
    """A code for an address, good for 10 minutes, in the place of the one before; "" when nobody wants it.

    It is the same for all who want the address: whoever reads it there can only use it in a session of their own.
    """
    code = secrets.token_urlsafe(32)
    wanted = await conn.fetch(
        """
        UPDATE email_changes SET hash = $2, expire_time = now() + interval '10 minutes'
        WHERE email_key = $1 AND expire_time > now() RETURNING user_id
        """,
        email_key,
        digest(code),
    )
    return code if wanted else ""


async def take(conn: Connection, user_id: str, code: str) -> str:
    """Use a person's code up; returns the address that it proves, or "" when it is not good."""
    email = await conn.fetchval(
        "DELETE FROM email_changes WHERE user_id = $1 AND hash = $2 AND expire_time > now() RETURNING email",
        user_id,
        digest(code),
    )
    return str(email or "")


async def forget_expired(conn: Connection) -> None:
    """Delete what is too old."""
    await conn.execute("DELETE FROM email_changes WHERE expire_time < now()")
