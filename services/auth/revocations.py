"""Access tokens to refuse though their time is not over: of ended sessions, and of users who changed."""

import time
from collections.abc import Sequence
from datetime import UTC, timedelta

import uuid_utils
from google.protobuf.timestamp_pb2 import Timestamp

from libs import outbox
from libs.db import Connection, fetch_one
from libs.identity import LONGEST_SECONDS
from thmnayah.auth.v1.sessions_pb2 import ListRevocationsRequest, ListRevocationsResponse, Revocation, TokensRevoked

PAGE = 1000
# What a transaction wrote so long before it committed is told again; none lasts longer.
OVERLAP = timedelta(seconds=60)


async def add(conn: Connection, revocations: Sequence[Revocation]) -> None:
    """Refuse tokens everywhere once the transaction commits."""
    await conn.execute(
        """
        INSERT INTO revocations (id, session_id, user_id, epoch, expire_time)
        SELECT id, nullif(session_id, '')::uuid, nullif(user_id, '')::uuid, epoch, expire_time
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::int[], $5::timestamptz[])
             AS each (id, session_id, user_id, epoch, expire_time)
        """,
        [str(uuid_utils.uuid7()) for _ in revocations],
        [each.session_id for each in revocations],
        [each.user_id for each in revocations],
        [each.epoch for each in revocations],
        [each.expire_time.ToDatetime(tzinfo=UTC) for each in revocations],
    )
    await outbox.add_all(
        conn, [(TokensRevoked(revocation=each), each.session_id or each.user_id) for each in revocations]
    )


async def outdate(conn: Connection, user_ids: Sequence[str]) -> None:
    """Refuse the access tokens that users have, those of their API keys too: what they may do changed.

    Refresh tokens go on working; where they must not, `sessions.end_of`.
    """
    rows = await conn.fetch("UPDATE users SET epoch = epoch + 1 WHERE id = ANY($1) RETURNING id, epoch", user_ids)
    until = Timestamp(seconds=int(time.time()) + LONGEST_SECONDS)
    if rows:
        await add(conn, [Revocation(user_id=str(row["id"]), epoch=row["epoch"], expire_time=until) for row in rows])


async def list_since(conn: Connection, request: ListRevocationsRequest) -> ListRevocationsResponse:
    """A page of what was revoked since an instant, or of all that holds."""
    since = request.since_time.ToDatetime(tzinfo=UTC)
    now = (await fetch_one(conn, "SELECT clock_timestamp() AS now"))["now"]
    rows = await conn.fetch(
        """
        SELECT session_id, user_id, epoch, expire_time, create_time FROM revocations
        WHERE create_time >= $1 AND expire_time > now()
        ORDER BY create_time
        LIMIT $2
        """,
        since,
        PAGE,
    )
    more = len(rows) == PAGE
    return ListRevocationsResponse(
        revocations=[
            Revocation(
                session_id=str(row["session_id"] or ""),
                user_id=str(row["user_id"] or ""),
                epoch=row["epoch"],
                expire_time=row["expire_time"],
            )
            for row in rows
        ],
        next_since_time=rows[-1]["create_time"] if more else now - OVERLAP,
        more=more,
    )


async def forget_expired(conn: Connection) -> None:
    """Delete those whose tokens have ended by themselves."""
    await conn.execute("DELETE FROM revocations WHERE expire_time < now()")
