"""Events out: stored with the change, sent after it.

`add` writes an event in the transaction that makes the change, so there is never one without the
other. `relay` sends what is committed, oldest first; NATS drops what it already has by the row's id.
"""

import asyncio
import json
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
import structlog
import uuid_utils
from google.protobuf.message import Message
from nats.aio.client import Client as NatsClient
from nats.errors import Error as NatsError
from nats.js.client import JetStreamContext
from nats.js.errors import APIError
from prometheus_client import Counter, Gauge

from libs import db, events, telemetry
from libs.db import Connection, Pool, Record
from libs.errors import Unavailable
from libs.identity import caller
from thmnayah.api.v1 import annotations_pb2

# Each service's first migration makes its outbox with this; it never changes, later ones alter it.
CREATE_TABLE = """
CREATE TABLE outbox (
    id uuid PRIMARY KEY,
    -- Given while the row of what the event is about is locked, so in the order of that item's versions.
    position bigint GENERATED ALWAYS AS IDENTITY,
    subject text NOT NULL,
    headers jsonb NOT NULL,
    payload bytea NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now(),
    sent_time timestamptz
);
CREATE INDEX outbox_unsent ON outbox (position) WHERE sent_time IS NULL;
CREATE INDEX outbox_sent ON outbox (sent_time) WHERE sent_time IS NOT NULL;
"""

BATCH = 100  # as many as JetStream writes to disk at once
POLL_SECONDS = 0.05
KEPT_DAYS = 8  # longer than the stream keeps them, so a lost stream can be filled again
ACK_SECONDS = 5.0

# One replica of a service sends at a time, which keeps the order.
_RELAY_LOCK = 7_460_200
_DUPLICATE_IN_BATCH = 10201

_sent = Counter("outbox_sent_total", "Events sent to JetStream")
_lag = Gauge("outbox_lag_seconds", "Age of the oldest event not yet sent")
_log = structlog.get_logger(__name__)


def row(event: Message, *, about: str) -> tuple[str, str, dict[str, str], bytes]:
    """The id, subject, headers and payload that `outbox` keeps of an event.

    Args:
        event: a message whose .proto names its subject.
        about: the id of what the event is about.
    """
    descriptor = event.DESCRIPTOR
    event_id = str(uuid_utils.uuid7())
    who = caller.get()
    headers = {
        "ce-specversion": "1.0",
        "ce-id": event_id,
        "ce-type": descriptor.full_name,
        "ce-source": "/services/" + descriptor.full_name.split(".")[1],
        "ce-subject": about,
        "ce-time": datetime.now(UTC).isoformat(),
        # Extensions: who did it and with which session; not there when the platform did.
        **({"ce-actor": who.user_id, "ce-session": who.session_id} if who.user_id else {}),
        "content-type": "application/protobuf",
        **telemetry.outgoing_headers(),
    }
    subject: str = descriptor.GetOptions().Extensions[annotations_pb2.event_subject]
    return event_id, subject, headers, event.SerializeToString()


async def add(conn: Connection, event: Message, *, about: str) -> None:
    """Store an event to be sent once the transaction of `conn` commits; see `row`."""
    await conn.execute(
        "INSERT INTO outbox (id, subject, headers, payload) VALUES ($1, $2, $3, $4)", *row(event, about=about)
    )


async def add_all(conn: Connection, events: Iterable[tuple[Message, str]]) -> None:
    """Store events, each with the id of what it is about, in this order and in one statement; see `add`."""
    rows = [row(event, about=about) for event, about in events]
    await conn.execute(
        """
        INSERT INTO outbox (id, subject, headers, payload)
        SELECT id, subject, headers, payload
        FROM unnest($1::uuid[], $2::text[], $3::jsonb[], $4::bytea[])
             WITH ORDINALITY AS event (id, subject, headers, payload, number)
        ORDER BY number
        """,
        *([each[column] for each in rows] for column in range(4)),
    )


async def relay(pool: Pool, nats: NatsClient, *, stream: str, replicas: int) -> None:
    """Send events for ever, while this process is the one that holds the lock.

    Args:
        stream: the publishing service's, which is made when it is not there.
        replicas: how many copies of it NATS keeps.
    """
    jetstream = nats.jetstream(timeout=ACK_SECONDS)
    while True:
        try:
            await events.connected(nats)
            async with db.connection(pool) as conn:
                if await conn.fetchval("SELECT pg_try_advisory_lock($1)", _RELAY_LOCK):
                    try:
                        await events.ensure_stream(nats, stream, replicas=replicas)
                        await _send_while_leading(conn, nats, jetstream)
                    finally:
                        if not conn.is_closed():  # a connection that is gone took its lock along
                            await conn.execute("SELECT pg_advisory_unlock($1)", _RELAY_LOCK)
        except (Unavailable, NatsError, TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            events.raise_if_cancelled(error)
            _log.warning("relay_interrupted", error=type(error).__name__)
        await asyncio.sleep(1)


async def _send_while_leading(conn: Connection, nats: NatsClient, jetstream: JetStreamContext) -> None:
    purge_after = 0.0
    loop = asyncio.get_running_loop()
    while True:
        sent = await send_batch(conn, nats, jetstream)
        if loop.time() > purge_after:
            await conn.execute("DELETE FROM outbox WHERE sent_time < now() - make_interval(days => $1)", KEPT_DAYS)
            purge_after = loop.time() + 3600
        if sent < BATCH:
            await asyncio.sleep(POLL_SECONDS)


async def send_batch(conn: Connection, nats: NatsClient, jetstream: JetStreamContext) -> int:
    """Send the oldest events, at most BATCH, and mark them; returns how many.

    Each row is marked for itself, so one that commits late is sent late and never skipped. Two changes
    of one item wait for each other, so the earlier one's event is there when the later one's is.
    """
    rows = await conn.fetch(
        """
        SELECT id, subject, headers, payload, extract(epoch FROM now() - create_time)::float8 AS age
        FROM outbox
        WHERE sent_time IS NULL
        ORDER BY position
        LIMIT $1
        """,
        BATCH,
    )
    _lag.set(rows[0]["age"] if rows else 0)
    if not rows:
        return 0
    try:
        await _publish_batch(nats, rows)
    except APIError as error:
        if error.err_code != _DUPLICATE_IN_BATCH:
            raise
        # A relay before us died between sending and marking. Alone, a duplicate is acknowledged as such.
        for row in rows:
            await jetstream.publish(row["subject"], row["payload"], headers=_headers(row))
    await conn.execute("UPDATE outbox SET sent_time = now() WHERE id = ANY($1)", [row["id"] for row in rows])
    _sent.inc(len(rows))
    return len(rows)


def _headers(row: Record) -> dict[str, str]:
    return {**row["headers"], "Nats-Msg-Id": str(row["id"])}


async def _publish_batch(nats: NatsClient, rows: Sequence[Record]) -> None:
    """Publish all or none, in one write to disk (JetStream's atomic batch, ADR-50)."""
    if len(rows) == 1:
        await nats.jetstream(timeout=ACK_SECONDS).publish(
            rows[0]["subject"], rows[0]["payload"], headers=_headers(rows[0])
        )
        return
    batch = uuid.uuid4().hex
    reply: Any = None
    for sequence, row in enumerate(rows, start=1):
        headers = {**_headers(row), "Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(sequence)}
        if sequence == len(rows):
            headers["Nats-Batch-Commit"] = "1"
        if sequence in (1, len(rows)):  # the first is answered when the batch is accepted, the last when stored
            reply = await nats.request(row["subject"], row["payload"], timeout=ACK_SECONDS, headers=headers)
            _raise_for_error(reply.data)
        else:
            await nats.publish(row["subject"], row["payload"], headers=headers)


def _raise_for_error(data: bytes) -> None:
    answer = json.loads(data) if data else {}
    if "error" in answer:
        raise APIError.from_error(answer["error"])
