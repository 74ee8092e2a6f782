"""Events in: a batch and its effect in one transaction, acknowledged after the commit."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import nats.errors
import structlog
from google.protobuf import symbol_database
from google.protobuf.message import Message
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.client import JetStreamContext
from nats.js.errors import NotFoundError
from opentelemetry import trace
from prometheus_client import Counter, Gauge

from libs import contracts, db, telemetry
from libs.db import Connection, Pool
from libs.errors import Unavailable

KEPT_SECONDS = 7 * 24 * 3600  # every reader can be rebuilt from a week of events
DUPLICATE_SECONDS = 120
BATCH = 100
PENDING = 256
ACK_SECONDS = 5  # what a reader took and died with is handed out again then
TRIES = 8
FETCH_SECONDS = 1.0

# Each reading service's first migration makes its table of events it could not use.
CREATE_TABLE = """
CREATE TABLE dead_letters (
    event_id text PRIMARY KEY,
    subject text NOT NULL,
    type text NOT NULL,
    payload bytea NOT NULL,
    error text NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now()
);
"""

_handled = Counter("events_handled_total", "Events taken in", ["consumer", "outcome"])
_pending = Gauge("events_pending", "Events not yet delivered to the consumer", ["consumer"])
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Event:
    """One event as a handler sees it."""

    id: str
    subject: str
    message: Message
    headers: Mapping[str, str] = field(default_factory=dict)
    """As `outbox.row` made them."""


Handler = Callable[[Connection, Sequence[Event]], Awaitable[None]]


async def connect(url: str, *, service: str, client: NatsClient | None = None) -> NatsClient:
    """A connection that comes back by itself; this waits for the first one as long as it takes."""

    async def on_error(error: Exception) -> None:
        _log.warning("nats_error", error=type(error).__name__)

    client = client or NatsClient()
    await client.connect(
        url,
        name=f"thmnayah-{service}",
        max_reconnect_attempts=-1,
        reconnect_time_wait=1,
        connect_timeout=2,
        ping_interval=5,
        max_outstanding_pings=2,
        error_cb=on_error,
    )
    return client


async def stay_connected(client: NatsClient, url: str, *, service: str) -> None:
    """Keep a client connected for ever, so that a service can serve while NATS is away."""
    await connect(url, service=service, client=client)
    try:
        await asyncio.Event().wait()
    finally:
        await client.close()


async def connected(client: NatsClient) -> None:
    """Returns once the client is connected."""
    while not client.is_connected:  # noqa: ASYNC110 — the client has no event to wait for
        await asyncio.sleep(0.1)


def raise_if_cancelled(error: BaseException) -> None:
    """The client turns a cancellation into an error of its own when its connection closes meanwhile."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError from error


async def ping(client: NatsClient) -> None:
    """Raises: Unavailable when NATS is not connected."""
    if not client.is_connected:
        raise Unavailable(metadata={"dependency": "nats"})


# Streams whose name is not their service's.
_PUBLISHERS = {"user": "auth"}
# Prefixes of subjects that every service publishes; each has a stream of its own.
_SHARED = {"audit"}


async def ensure_stream(client: NatsClient, name: str, *, replicas: int = 1) -> None:
    """Make the stream of a publishing service, which keeps every event of its contracts, if it is not there.

    Its settings are those that keep what was acknowledged; changes to them are applied.
    """
    jetstream = client.jetstream()
    published = contracts.event_subjects(_PUBLISHERS.get(name, name))
    prefixes = {name, *(each.split(".")[0] for each in published)} - (_SHARED - {name})
    config = StreamConfig(
        name=name,
        subjects=sorted(f"{prefix}.>" for prefix in prefixes),
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.OLD,
        storage=StorageType.FILE,
        max_age=KEPT_SECONDS,
        duplicate_window=DUPLICATE_SECONDS,
        allow_atomic=True,
        allow_direct=True,
        num_replicas=replicas,
    )
    try:
        await jetstream.stream_info(name)
    except NotFoundError:
        await jetstream.add_stream(config)
    else:
        await jetstream.update_stream(config)


async def consume(
    pool: Pool,
    client: NatsClient,
    *,
    stream: str,
    consumer: str,
    subjects: Sequence[str],
    handler: Handler,
    pause_seconds: float = 0.0,
) -> None:
    """Hand every event of the subjects to `handler`, in order, for ever.

    The handler may see an event twice and late ones out of order, and must then leave the same
    result. When a batch fails, its events are tried one by one; one that fails TRIES times goes to
    the table `dead_letters` and holds up no other. While the database is away nothing is lost and
    no try is counted.

    Args:
        pause_seconds: for what may be that late; more of it then goes together.
    """
    subscription: JetStreamContext.PullSubscription | None = None
    while True:
        try:
            if subscription is None:
                await connected(client)
                subscription = await _subscribe(client, stream, consumer, subjects)
            await db.ping(pool)
            try:
                messages = await subscription.fetch(BATCH, timeout=FETCH_SECONDS)
            except (nats.errors.TimeoutError, TimeoutError):
                messages = []
            if messages:
                await _handle(pool, consumer, messages, handler)
                await asyncio.sleep(pause_seconds)
                continue
            # Idle, or cut off from a consumer that is gone: asking for it tells which.
            info = await subscription.consumer_info()
            _pending.labels(consumer).set(info.num_pending or 0)
        except (Unavailable, NatsError, TimeoutError, OSError) as error:
            raise_if_cancelled(error)
            _log.warning("consumer_interrupted", consumer=consumer, error=type(error).__name__)
            if subscription is not None:
                # An old request for messages would swallow what the next one asks for.
                with contextlib.suppress(NatsError, OSError):
                    await subscription.unsubscribe()
            subscription = None
            await asyncio.sleep(0.5)


async def _subscribe(
    client: NatsClient, stream: str, consumer: str, subjects: Sequence[str]
) -> JetStreamContext.PullSubscription:
    jetstream = client.jetstream()
    await jetstream.add_consumer(
        stream,
        ConsumerConfig(
            durable_name=consumer,
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_SECONDS,
            max_ack_pending=PENDING,
            max_deliver=-1,  # tries are counted here, where it is known whether the event was at fault
            filter_subjects=list(subjects),
        ),
    )
    return await jetstream.pull_subscribe_bind(consumer=consumer, stream=stream)


async def _handle(pool: Pool, consumer: str, messages: Sequence[Msg], handler: Handler) -> None:
    try:
        await _apply(pool, consumer, messages, handler)
    except Unavailable:
        for message in messages:
            await message.nak(delay=1)
        raise
    except Exception:  # noqa: BLE001 — whatever a handler raises, its event is tried again
        if len(messages) > 1:
            for message in messages:
                await _handle(pool, consumer, [message], handler)
            return
        await _give_up_or_retry(pool, consumer, messages[0])
    else:
        for message in messages:
            await message.ack()
        _handled.labels(consumer, "done").inc(len(messages))


async def _apply(pool: Pool, consumer: str, messages: Sequence[Msg], handler: Handler) -> None:
    events = [event for message in messages if (event := _decode(message)) is not None]
    first = messages[0].headers or {}
    links = [
        trace.Link(trace.get_current_span(telemetry.incoming_context(message.headers or {})).get_span_context())
        for message in messages[1:]
    ]
    with telemetry.tracer.start_as_current_span(
        f"{consumer} consume", context=telemetry.incoming_context(first), kind=trace.SpanKind.CONSUMER, links=links
    ):
        token = telemetry.request_id.set(first.get("x-request-id", ""))
        try:
            async with db.transaction(pool) as conn:
                await handler(conn, events)
        finally:
            telemetry.request_id.reset(token)


def _decode(message: Msg) -> Event | None:
    """None for a type this version does not know: a newer producer's."""
    headers = message.headers or {}
    try:
        kind = symbol_database.Default().GetSymbol(headers.get("ce-type", ""))
    except KeyError:
        _log.info("event_type_unknown", type=headers.get("ce-type"), subject=message.subject)
        return None
    return Event(headers.get("ce-id", ""), message.subject, kind.FromString(message.data), headers)


async def _give_up_or_retry(pool: Pool, consumer: str, message: Msg) -> None:
    headers = message.headers or {}
    delivered = message.metadata.num_delivered
    if delivered < TRIES:
        _log.warning("event_failed", consumer=consumer, event_id=headers.get("ce-id"), tries=delivered, exc_info=True)
        _handled.labels(consumer, "retried").inc()
        await message.nak(delay=min(2 ** (delivered - 1), 60))
        return
    _log.error("event_dead", consumer=consumer, event_id=headers.get("ce-id"), exc_info=True)
    async with db.transaction(pool) as conn:
        await conn.execute(
            "INSERT INTO dead_letters (event_id, subject, type, payload, error) VALUES ($1, $2, $3, $4, $5)"
            " ON CONFLICT (event_id) DO NOTHING",
            headers.get("ce-id") or str(message.metadata.sequence.stream),
            message.subject,
            headers.get("ce-type", ""),
            message.data,
            "failed 8 times; the log has the cause under this event id",
        )
    _handled.labels(consumer, "dead").inc()
    await message.term()
