"""Sessions: a chain of refresh tokens, each good for one use, that ends as a whole."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import uuid_utils

from libs import outbox, paging
from libs.db import Connection, Record
from libs.errors import NotFound, Unauthenticated
from libs.identity import CLOCK_SKEW_SECONDS
from services.auth import audit, revocations
from services.auth.digests import digest
from thmnayah.auth.v1.sessions_pb2 import ListSessionsResponse, Revocation, Session, SessionReused

# Two tabs that refresh at once, or a client that lost the answer, get the same successor again.
GRACE = timedelta(seconds=10)
# A token is signed a little after the transaction whose clock its end is reckoned by.
MARGIN = timedelta(seconds=60 + CLOCK_SKEW_SECONDS)

_COLUMNS = "id, user_id, device_name, user_agent, create_time, last_used_time, expire_time"


@dataclass(frozen=True)
class Terms:
    """How long sessions last, and the secret of their chains."""

    access: timedelta
    """Life of an access token."""
    idle: timedelta
    """A session that is not used for so long has ended."""
    absolute: timedelta
    """A session has ended so long after its sign-in, however it is used."""
    secret_key: bytes = field(repr=False)
    """The installation's."""

    def digest(self, purpose: str, text: str) -> str:
        """43 characters that nobody can tell without the secret key: 256 bits in base64url."""
        key = hmac.digest(self.secret_key, purpose.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(hmac.digest(key, text.encode(), hashlib.sha256)).decode().rstrip("=")


@dataclass(frozen=True)
class Issued:
    """What the tokens of a session are made of."""

    session_id: str
    user_id: str
    epoch: int
    refresh_token: str = field(repr=False)


async def start(conn: Connection, user_id: str, terms: Terms, *, device_name: str = "", user_agent: str = "") -> Issued:
    """Begin a session of a user whose row is locked."""
    session_id, refresh_token = str(uuid_utils.uuid7()), secrets.token_urlsafe(32)
    epoch = await conn.fetchval(
        """
        WITH owner AS (
            SELECT id, epoch FROM users WHERE id = $2
        ), session AS (
            INSERT INTO sessions (id, user_id, device_name, user_agent, expire_time, final_time, token_expire_time)
            SELECT $1, id, $3, $4, now() + least($5::interval, $6), now() + $6::interval, now() + $7::interval
            FROM owner
            RETURNING id, expire_time
        ), token AS (
            INSERT INTO refresh_tokens (hash, session_id, expire_time) SELECT $8, id, expire_time FROM session
        )
        SELECT epoch FROM owner
        """,
        session_id,
        user_id,
        device_name,
        user_agent,
        terms.idle,
        terms.absolute,
        terms.access,
        digest(refresh_token),
    )
    return Issued(session_id, user_id, epoch, refresh_token)


async def rotate(conn: Connection, refresh_token: str, terms: Terms) -> Issued | None:
    """Use a refresh token.

    The successor is made of the token itself, so within GRACE it can be told again though only its
    hash is stored.

    Returns:
        None when the token was used before, in which case the session is ended, and that must be committed.

    Raises:
        Unauthenticated: the token is unknown or expired, or its session has ended.
    """
    successor = terms.digest("refresh token", refresh_token)
    row = await conn.fetchrow(
        """
        WITH family AS (
            SELECT s.id, s.user_id, least(now() + $3::interval, s.final_time) AS expire_time
            FROM refresh_tokens t JOIN sessions s ON s.id = t.session_id
            WHERE t.hash = $1 AND s.end_time IS NULL AND s.expire_time > now()
            FOR UPDATE OF s
        ), claimed AS (
            UPDATE refresh_tokens t SET used_time = now() FROM family
            WHERE t.hash = $1 AND t.used_time IS NULL AND t.expire_time > now()
            RETURNING family.id, family.expire_time
        ), used AS (
            UPDATE sessions s
            SET last_used_time = now(), expire_time = claimed.expire_time, token_expire_time = now() + $4::interval
            FROM claimed
            WHERE s.id = claimed.id
        ), successor AS (
            INSERT INTO refresh_tokens (hash, session_id, expire_time) SELECT $2, id, expire_time FROM claimed
        )
        SELECT family.id, family.user_id, users.epoch, EXISTS (SELECT FROM claimed) AS claimed
        FROM family JOIN users ON users.id = family.user_id
        """,
        digest(refresh_token),
        digest(successor),
        terms.idle,
        terms.access,
    )
    if row is None:
        raise invalid()
    issued = Issued(str(row["id"]), str(row["user_id"]), row["epoch"], successor)
    if row["claimed"]:
        return issued
    # Under the session's lock, so it is known who was first.
    used = await conn.fetchrow(
        """
        SELECT used_time > clock_timestamp() - $3::interval
               AND EXISTS (SELECT FROM refresh_tokens WHERE hash = $2) AS just_now
        FROM refresh_tokens
        WHERE hash = $1 AND used_time IS NOT NULL
        """,
        digest(refresh_token),
        digest(successor),
        GRACE,
    )
    if used is None:
        raise invalid()
    if used["just_now"]:
        await conn.execute(
            "UPDATE sessions SET token_expire_time = now() + $2::interval WHERE id = $1", row["id"], terms.access
        )
        return issued
    (session,) = await _end(conn, "id = $1", row["id"])
    await outbox.add(conn, SessionReused(session=session), about=session.id)
    target = f"session/{session.id}"
    await audit.record(conn, "session.reused", outcome="DENIED", target=target, details={"user": session.user_id})
    return None


async def of_token(conn: Connection, refresh_token: str) -> str:
    """The id of the session that a refresh token, used or not, belongs to; "" for an unknown one."""
    found = await conn.fetchval("SELECT session_id FROM refresh_tokens WHERE hash = $1", digest(refresh_token))
    return str(found or "")


async def end(conn: Connection, session_id: str) -> None:
    """End a session, if it has not ended."""
    await _end(conn, "id = $1", session_id)


async def end_one(conn: Connection, user_id: str, session_id: str) -> None:
    """End a session of a user. Raises: NotFound when there is none that has not ended."""
    if not await _end(conn, "id = $1 AND user_id = $2", session_id, user_id):
        raise NotFound(
            "SESSION_NOT_FOUND", f"no session {session_id} that has not ended", f"لا توجد جلسة قائمة {session_id}"
        )


async def end_all(conn: Connection, user_id: str, *, but: str | None = None) -> int:
    """End a user's sessions, all or all but one, and the sign-ins that are under way; returns how many ended.

    Whoever ends them because the user changed changes the user first, in the same transaction: a
    sign-in that runs meanwhile then waits, and sees the change.
    """
    # First what could still become a session: who is about to make one of it is waited for.
    await conn.execute("DELETE FROM mfa_challenges WHERE user_id = $1", user_id)
    return len(await _end(conn, "user_id = $1 AND id IS DISTINCT FROM $2::uuid", user_id, but))


async def end_of(conn: Connection, user_ids: Sequence[str]) -> None:
    """End all sessions of some users."""
    await conn.execute("DELETE FROM mfa_challenges WHERE user_id = ANY($1)", user_ids)
    await _end(conn, "user_id = ANY($1)", user_ids)


async def end_of_changed(conn: Connection, user_ids: Sequence[str]) -> None:
    """End all sessions of users who may do something else now, and have tokens of their API keys refused."""
    await revocations.outdate(conn, user_ids)
    await end_of(conn, user_ids)


async def list_page(conn: Connection, user_id: str, *, page_size: int, page_token: str) -> ListSessionsResponse:
    """A user's sessions that have not ended, the newest first."""
    question = ("sessions", user_id)
    after = paging.keys(page_token, question, (str,))
    size = paging.size(page_size)
    rows = await conn.fetch(
        f"""
        SELECT {_COLUMNS} FROM sessions
        WHERE user_id = $1 AND end_time IS NULL AND expire_time > now() AND ($2::text IS NULL OR id::text < $2)
        ORDER BY id::text DESC
        LIMIT $3
        """,
        user_id,
        None if after is None else after[0],
        size + 1,
    )
    response = ListSessionsResponse(sessions=map(_session, rows[:size]))
    if len(rows) > size:
        response.next_page_token = paging.token([str(rows[size - 1]["id"])], question)
    return response


async def forget_expired(conn: Connection) -> None:
    """Delete what nobody can use any more."""
    await conn.execute("DELETE FROM sessions WHERE expire_time < now() - interval '1 day'")


def invalid() -> Unauthenticated:
    return Unauthenticated("REFRESH_TOKEN_INVALID", "sign in again", "سجّل الدخول من جديد")


async def _end(conn: Connection, which: str, *parameters: object) -> Sequence[Session]:
    """End those of some sessions that have not ended, and have their access tokens refused.

    All who end several lock them in one order, or two at once would wait for each other.
    """
    rows = await conn.fetch(
        f"""
        WITH standing AS MATERIALIZED (
            SELECT id FROM sessions
            WHERE {which} AND end_time IS NULL AND greatest(expire_time, token_expire_time) > now()
            ORDER BY id
            FOR UPDATE
        )
        UPDATE sessions SET end_time = now()
        WHERE id IN (SELECT id FROM standing)
        RETURNING {_COLUMNS}, token_expire_time
        """,
        *parameters,
    )
    if rows:
        await revocations.add(
            conn,
            [Revocation(session_id=str(row["id"]), expire_time=row["token_expire_time"] + MARGIN) for row in rows],
        )
    return [_session(row) for row in rows]


def _session(row: Record) -> Session:
    return Session(
        id=str(row["id"]),
        user_id=str(row["user_id"]),
        device_name=row["device_name"],
        user_agent=row["user_agent"],
        create_time=row["create_time"],
        last_used_time=row["last_used_time"],
        expire_time=row["expire_time"],
    )
