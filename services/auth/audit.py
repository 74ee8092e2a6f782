"""The record of what was done and refused: append-only, and linked into a chain of hashes.

A row is written in the transaction of the change and linked within a second after it: a hash that depends
on the row before could only be given to one transaction at a time.
"""

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import structlog
import uuid_utils

from libs import db, filters, paging, rpc, telemetry
from libs.db import Connection, Pool, Record
from libs.errors import Failure, InvalidArgument
from libs.events import Event
from libs.identity import caller
from thmnayah.auth.v1.audit_pb2 import AccessDenied, AuditEvent, ListAuditEventsResponse
from thmnayah.content.v1 import types_pb2

# Of other services' events, those that are put on record.
CONTENT_SUBJECTS = (
    *("content.published", "content.unpublished", "content.deleted", "content.undeleted"),
    *("contentType.created", "contentType.updated", "contentType.deleted"),
)

Outcome = Literal["OK", "DENIED", "FAILED"]

BATCH = 1000
POLL_SECONDS = 0.25
# What the first link is made on.
GENESIS = bytes(32)
# One replica links at a time.
_LOCK = 7_460_310

_COLUMNS = "id, event_time, actor, session, request_id, action, outcome, target, client_address, user_agent, details"
_FIELDS = {
    "actor": filters.Field("actor"),
    "action": filters.Field("action"),
    "target": filters.Field("target"),
    "outcome": filters.Field("outcome"),
    "session": filters.Field("session"),
    "request_id": filters.Field("request_id"),
    "requestId": filters.Field("request_id"),
    "event_time": filters.Field("event_time", "time"),
    "eventTime": filters.Field("event_time", "time"),
}

_log = structlog.get_logger(__name__)

_Row = tuple[str, datetime, str, str, str, str, str, str, str, str, dict[str, str]]


async def record(
    conn: Connection,
    action: str,
    *,
    outcome: Outcome = "OK",
    target: str = "",
    details: Mapping[str, str] | None = None,
    actor: str | None = None,
    session: str | None = None,
) -> None:
    """Put on record, in the transaction of `conn`, what the call being served does.

    Args:
        action: what is done, such as "user.disabled".
        target: what it is done to, such as "user/0190b0a0-…".
        details: never a secret, never a text of the content.
        actor: the user's id, where the call itself says who it is; otherwise the caller.
        session: likewise.
    """
    await _insert(conn, [_own_row(action, outcome, target, details or {}, actor, session)])


async def record_all(conn: Connection, action: str, targets: Mapping[str, Mapping[str, str]]) -> None:
    """The same for what the call does to several targets, each with its details."""
    await _insert(conn, [_own_row(action, "OK", target, details) for target, details in targets.items()])


def _own_row(
    action: str,
    outcome: Outcome,
    target: str,
    details: Mapping[str, str],
    actor: str | None = None,
    session: str | None = None,
) -> _Row:
    return _row(
        str(uuid_utils.uuid7()),
        datetime.now(UTC),
        caller.get().user_id if actor is None else actor,
        caller.get().session_id if session is None else session,
        telemetry.request_id.get(),
        action,
        outcome,
        target,
        rpc.client_address(),
        rpc.request_header("user-agent"),
        details,
    )


async def put(conn: Connection, events: Sequence[Event]) -> None:
    """Put other services' events on record; one that comes again changes nothing."""
    await _insert(conn, [_of_event(event) for event in events])


def _of_event(event: Event) -> _Row:
    message = event.message
    if isinstance(message, AccessDenied):
        return _row(
            event.id,
            message.first_time.ToDatetime(UTC),
            message.actor,
            message.session,
            message.request_id,
            "access.denied",
            "DENIED",
            f"rpc{message.method}",
            message.client_address,
            message.user_agent,
            {"reason": message.reason, "permission": message.permission, "count": str(message.count)},
        )
    kind, _, _ = event.subject.partition(".")
    of_type = isinstance(
        message, types_pb2.ContentTypeCreated | types_pb2.ContentTypeUpdated | types_pb2.ContentTypeDeleted
    )
    details = {} if of_type else {"type": message.content.type, "version": str(message.content.version)}  # type: ignore[attr-defined]  # what is left has a content
    return _row(
        event.id,
        datetime.fromisoformat(event.headers["ce-time"]),
        event.headers.get("ce-actor", ""),
        event.headers.get("ce-session", ""),
        event.headers.get("x-request-id", ""),
        event.subject,
        "OK",
        f"{kind}/{event.headers['ce-subject']}",
        "",
        "",
        details,
    )


def _row(
    id: str,
    time: datetime,
    actor: str,
    session: str,
    request_id: str,
    action: str,
    outcome: Outcome,
    target: str,
    client_address: str,
    user_agent: str,
    details: Mapping[str, str],
) -> _Row:
    """The values of a row, cut to what the contract bounds them to."""
    return (
        id,
        time.astimezone(UTC),
        actor[:128],
        session[:128],
        request_id[:128],
        action,
        outcome,
        target[:200],
        client_address[:64],
        user_agent[:300],
        {name: value[:300] for name, value in details.items()},
    )


async def _insert(conn: Connection, rows: Sequence[_Row]) -> None:
    await conn.execute(
        f"""
        WITH recorded AS (
            INSERT INTO audit_events ({_COLUMNS})
            SELECT {_COLUMNS}
            FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                        $8::text[], $9::text[], $10::text[], $11::jsonb[]) AS row ({_COLUMNS})
            ON CONFLICT (id) DO NOTHING
            RETURNING id
        )
        INSERT INTO audit_unlinked (event_id) SELECT id FROM recorded
        """,
        *([row[column] for row in rows] for column in range(11)),
    )


async def keep_linking(pool: Pool) -> None:
    """Link what was written, for ever."""
    while True:
        linked = 0
        try:
            async with db.transaction(pool) as conn:
                linked = await link(conn)
        except Failure as error:  # the next round tries again
            _log.warning("linking_interrupted", error=error.reason)
        if linked < BATCH:
            await asyncio.sleep(POLL_SECONDS)


async def link(conn: Connection) -> int:
    """Link the oldest events that are not, at most BATCH; returns how many. `conn` is in a transaction."""
    if not await conn.fetchval("SELECT pg_try_advisory_xact_lock($1)", _LOCK):
        return 0
    # After the lock: what its holder before us linked is seen.
    rows = await conn.fetch(
        f"SELECT {_COLUMNS} FROM audit_unlinked JOIN audit_events ON id = event_id ORDER BY number LIMIT $1", BATCH
    )
    if not rows:
        return 0
    last = await conn.fetchrow("SELECT position, hash FROM audit_links ORDER BY position DESC LIMIT 1")
    position, head = (last["position"], last["hash"]) if last else (0, GENESIS)
    links = []
    for number, row in enumerate(rows, start=position + 1):
        head = _hash(head, number, row)
        links.append((number, row["id"], head))
    await conn.execute(
        "INSERT INTO audit_links (position, event_id, hash)"
        " SELECT position, event_id, hash FROM unnest($1::bigint[], $2::uuid[], $3::bytea[])"
        " AS link (position, event_id, hash)",
        *([each[column] for each in links] for column in range(3)),
    )
    await conn.execute("DELETE FROM audit_unlinked WHERE event_id = ANY($1)", [row["id"] for row in rows])
    return len(rows)


def _hash(before: bytes, position: int, row: Record) -> bytes:
    """The hash of a link; docs/audit.md describes it for others to compute."""
    values = [position, str(row["id"]), row["event_time"].astimezone(UTC).isoformat(timespec="microseconds")]
    values += [row[name] for name in _COLUMNS.split(", ")[2:]]
    canonical = json.dumps(values, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(before + canonical.encode()).digest()


@dataclass(frozen=True)
class Head:
    """A link, by which the chain up to it is known."""

    position: int = 0
    hash: bytes = GENESIS

    def __str__(self) -> str:
        return f"{self.position}:{self.hash.hex()}" if self.position else ""

    @classmethod
    def parse(cls, text: str) -> "Head":
        """Raises: ValueError when it is not `position:hash`; "" is the head of an empty chain."""
        if not text:
            return cls()
        position, _, digest = text.partition(":")
        return cls(int(position), bytes.fromhex(digest))


async def verify(conn: Connection, after: Head, *, noted: Head, limit: int) -> tuple[Head, str, bool]:
    """Check the chain after a link, at most so many links of it.

    Args:
        noted: what the head was once; it must still be in the chain.

    Returns:
        The last link that holds, what is wrong after it ("" when nothing is), and whether there is more.
    """
    for head in (after, noted):
        if not head.position:
            continue
        found = await conn.fetchval("SELECT hash FROM audit_links WHERE position = $1", head.position)
        if found != head.hash:
            return Head(), f"link {head.position} is {'another' if found else 'gone'}", False
    rows = await conn.fetch(
        f"""
        SELECT position, event_id, hash, {_COLUMNS}
        FROM audit_links LEFT JOIN audit_events ON id = event_id
        WHERE position > $1 ORDER BY position LIMIT $2
        """,
        after.position,
        limit,
    )
    for row in rows:
        position = after.position + 1
        if row["position"] != position:
            return after, f"link {position} is gone", False
        if row["id"] is None:
            return after, f"link {position}: its event {row['event_id']} is gone", False
        digest = _hash(after.hash, position, row)
        if digest != row["hash"]:
            return after, f"link {position}: the event {row['event_id']} or its hash was changed", False
        after = Head(position, digest)
    if len(rows) == limit:
        return after, "", True
    # Every link has its event now, so that only these two can be missing.
    strays = await conn.fetchval(
        "SELECT (SELECT count(*) FROM audit_events) - (SELECT count(*) FROM audit_links)"
        " - (SELECT count(*) FROM audit_unlinked)"
    )
    return after, f"{strays} events are in no link and wait for none" if strays else "", False


async def list_events(conn: Connection, *, text: str, page_size: int, page_token: str) -> ListAuditEventsResponse:
    """A page of the record, newest first.

    Raises:
        InvalidArgument: the filter or the page token cannot be read.
    """
    parameters: list[object] = []
    conditions = [filters.compile_filter(text, _FIELDS, parameters)]
    after = paging.keys(page_token, [text], (str, str))
    if after is not None:
        try:
            parameters += [datetime.fromisoformat(str(after[0])), str(uuid_utils.UUID(str(after[1])))]
        except ValueError:
            raise InvalidArgument({"pageToken": "is not a token of this API"}) from None
        conditions.append(f"(event_time, id) < (${len(parameters) - 1}, ${len(parameters)}::uuid)")
    size = paging.size(page_size)
    parameters.append(size + 1)
    rows = await conn.fetch(
        f"""
        SELECT position, hash, {_COLUMNS}
        FROM audit_events LEFT JOIN audit_links ON event_id = id
        WHERE {" AND ".join(conditions)}
        ORDER BY event_time DESC, id DESC LIMIT ${len(parameters)}
        """,
        *parameters,
    )
    response = ListAuditEventsResponse(audit_events=map(_event, rows[:size]))
    if len(rows) > size:
        last = rows[size - 1]
        response.next_page_token = paging.token([last["event_time"].isoformat(), str(last["id"])], [text])
    return response


def _event(row: Record) -> AuditEvent:
    event = AuditEvent(
        id=str(row["id"]),
        actor=row["actor"],
        session=row["session"],
        request_id=row["request_id"],
        action=row["action"],
        outcome=row["outcome"],
        target=row["target"],
        client_address=row["client_address"],
        user_agent=row["user_agent"],
        details=row["details"],
        position=row["position"] or 0,
        hash=(row["hash"] or b"").hex(),
    )
    event.event_time.FromDatetime(row["event_time"])
    return event
