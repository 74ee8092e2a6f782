"""Sessions: a chain of refresh tokens, each good for one use, that ends as a whole."""

import hashlib
import secrets
from datetime import timedelta

import uuid_utils

from libs.db import Connection
from libs.errors import Unauthenticated


async def start(conn: Connection, user_id: str, *, life: timedelta) -> tuple[str, str]:
    """Begin a session; returns its id and its first refresh token."""
    session_id = str(uuid_utils.uuid7())
    await conn.execute(
        "INSERT INTO sessions (id, user_id, expire_time) VALUES ($1, $2, now() + $3)", session_id, user_id, life
    )
    return session_id, await _issue(conn, session_id, life)


async def rotate(conn: Connection, refresh_token: str, *, life: timedelta) -> tuple[str, str, str] | None:
    """Use a refresh token.

    Returns:
        The session's id, its user's id and the next refresh token; None when the token was used
        before, in which case the session is ended, and that must be committed.

    Raises:
        Unauthenticated: the token is unknown or expired, or its session has ended.
    """
    row = await conn.fetchrow(
        """
        SELECT s.id, s.user_id, s.end_time IS NULL AND t.expire_time > now() AS live, t.used_time
        FROM refresh_tokens t JOIN sessions s ON s.id = t.session_id
        WHERE t.hash = $1
        FOR UPDATE OF s
        """,
        _hash(refresh_token),
    )
    if row is None or not row["live"]:
        raise invalid()
    # Claimed under the session's lock: of two uses at once, the second finds it used.
    claimed = await conn.fetchval(
        "UPDATE refresh_tokens SET used_time = now() WHERE hash = $1 AND used_time IS NULL RETURNING true",
        _hash(refresh_token),
    )
    if not claimed:
        await _end(conn, row["id"])
        return None
    await conn.execute("UPDATE sessions SET expire_time = now() + $2 WHERE id = $1", row["id"], life)
    return str(row["id"]), str(row["user_id"]), await _issue(conn, row["id"], life)


async def end(conn: Connection, refresh_token: str) -> None:
    """End the session a refresh token belongs to, if there is one."""
    session_id = await conn.fetchval("SELECT session_id FROM refresh_tokens WHERE hash = $1", _hash(refresh_token))
    if session_id is not None:
        await _end(conn, session_id)


async def end_all(conn: Connection, user_id: str, *, besides: str = "") -> None:
    """End the sessions of a user, but for the one whose id is given."""
    await conn.execute(
        "UPDATE sessions SET end_time = now() WHERE user_id = $1 AND end_time IS NULL AND id::text <> $2",
        user_id,
        besides,
    )


async def forget_expired(conn: Connection) -> None:
    """Delete what nobody can use any more."""
    await conn.execute("DELETE FROM sessions WHERE expire_time < now() - interval '1 day'")


def invalid() -> Unauthenticated:
    return Unauthenticated("REFRESH_TOKEN_INVALID", "sign in again", "سجّل الدخول من جديد")


async def _end(conn: Connection, session_id: str) -> None:
    await conn.execute("UPDATE sessions SET end_time = coalesce(end_time, now()) WHERE id = $1", session_id)


async def _issue(conn: Connection, session_id: str, life: timedelta) -> str:
    refresh_token = secrets.token_urlsafe(32)
    await conn.execute(
        "INSERT INTO refresh_tokens (hash, session_id, expire_time) VALUES ($1, $2, now() + $3)",
        _hash(refresh_token),
        session_id,
        life,
    )
    return refresh_token


def _hash(refresh_token: str) -> bytes:
    return hashlib.sha256(refresh_token.encode()).digest()
