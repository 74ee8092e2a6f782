"""Events in: every event has its effect, in order, and one that cannot be used holds up no other."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import nats
import pytest
from nats.aio.client import Client as NatsClient

from deploy.local.mesh import Mesh
from libs import db, events
from libs.errors import Unavailable
from tests.conftest import eventually
from thmnayah.auth.v1.auth_pb2 import User, UserCreated


@pytest.fixture
async def pool(mesh: Mesh, word: str) -> AsyncIterator[db.Pool]:
    """Connections to an empty table of effects and one of dead letters."""
    pool = await db.connect(f"{mesh.database_url('search')}?search_path={word}", service=word, size=4)
    await pool.execute(f"CREATE SCHEMA {word}")
    await pool.execute(events.CREATE_TABLE)
    await pool.execute("CREATE TABLE effects (name text NOT NULL, position bigint GENERATED ALWAYS AS IDENTITY)")
    yield pool
    await pool.execute(f"DROP SCHEMA {word} CASCADE")
    await pool.close()


@pytest.fixture
async def client(mesh: Mesh, word: str) -> AsyncIterator[NatsClient]:
    """A connection, and a stream named after the test's word."""
    client = await events.connect(mesh.nats_url(), service="test")
    await events.ensure_stream(client, word)
    yield client
    await client.jetstream().delete_stream(word)
    await client.close()


@dataclass
class Reader:
    """A consumer of the stream that writes the names it is told."""

    pool: db.Pool
    nats_url: str
    stream: str
    batches: list[list[str]] = field(default_factory=list)
    spoilt: str = ""
    """The handler fails when it is given this name."""

    async def handle(self, conn: db.Connection, batch: Sequence[events.Event]) -> None:
        names = [each.message.user.display_name for each in batch]  # type: ignore[attr-defined]  # only such are sent
        self.batches.append(names)
        await conn.executemany("INSERT INTO effects (name) VALUES ($1)", [(name,) for name in names])
        if self.spoilt and self.spoilt in names:
            raise ValueError(self.spoilt)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Consume, as a process of its own would, while the block runs."""
        client = await events.connect(self.nats_url, service="test")
        task = asyncio.create_task(
            events.consume(
                self.pool,
                client,
                stream=self.stream,
                consumer="test",
                subjects=[f"{self.stream}.created"],
                handler=self.handle,
            )
        )
        try:
            yield
        finally:
            task.cancel()
            (ended,) = await asyncio.gather(task, return_exceptions=True)
            await client.close()
        assert isinstance(ended, asyncio.CancelledError), f"it stopped by itself: {ended!r}"

    async def effects(self) -> list[str]:
        return [row["name"] for row in await self.pool.fetch("SELECT name FROM effects ORDER BY position")]

    async def until(self, names: Sequence[str], seconds: float = 10) -> None:
        await eventually(self.effects, lambda found: found == list(names), seconds=seconds)


@pytest.fixture
async def reader(mesh: Mesh, pool: db.Pool, client: NatsClient, word: str) -> Reader:  # noqa: ARG001  # the stream must be there
    return Reader(pool, mesh.nats_url(), word)


@pytest.fixture
async def consuming(reader: Reader) -> AsyncIterator[Reader]:
    """A reader at work."""
    async with reader.at_work():
        yield reader


Send = Callable[..., Awaitable[str]]


@pytest.fixture
def send(client: NatsClient, word: str) -> Send:
    """Sends an event to the stream; returns its id."""

    async def publish(name: str, *, payload: bytes | None = None, kind: str = "", subject: str = "created") -> str:
        event_id = str(uuid.uuid4())
        await client.jetstream().publish(
            f"{word}.{subject}",
            UserCreated(user=User(display_name=name)).SerializeToString() if payload is None else payload,
            headers={"ce-id": event_id, "ce-type": kind or UserCreated.DESCRIPTOR.full_name},
        )
        return event_id

    return publish


async def test_every_event_has_its_effect_in_order(consuming: Reader, send: Send) -> None:
    names = [str(number) for number in range(250)]
    for name in names:
        await send(name)

    await consuming.until(names)


async def test_events_wait_for_their_reader(reader: Reader, send: Send) -> None:
    names = [str(number) for number in range(events.BATCH * 2)]
    for name in names:
        await send(name)

    async with reader.at_work():
        await reader.until(names)

    assert max(len(batch) for batch in reader.batches) > 1


async def test_a_reader_goes_on_where_it_stopped(reader: Reader, send: Send) -> None:
    names: list[str] = []
    for turn in range(3):
        names.append(str(turn))
        async with reader.at_work():
            await send(names[-1])
            await reader.until(names)


async def test_what_another_subject_or_a_newer_version_sends_is_passed_over(consuming: Reader, send: Send) -> None:
    await send("other subject", subject="deleted")
    await send("newer", kind="thmnayah.auth.v1.UserPromoted")
    await send("mine")

    await consuming.until(["mine"])
    assert await consuming.pool.fetchval("SELECT count(*) FROM dead_letters") == 0


@pytest.mark.parametrize("spoilt", ["the payload", "the handler"])
async def test_an_event_that_fails_holds_up_no_other_and_leaves_no_half(
    consuming: Reader, send: Send, spoilt: str
) -> None:
    if spoilt == "the handler":
        consuming.spoilt = "spoilt"
    await send("before")
    await send("spoilt", payload=b"\xff\xff" if spoilt == "the payload" else None)
    await send("after")
    await send("later")

    await consuming.until(["before", "after", "later"], seconds=5)


@pytest.mark.parametrize("spoilt", ["the payload", "the handler"])
async def test_an_event_that_failed_eight_times_is_laid_aside(
    reader: Reader, client: NatsClient, send: Send, word: str, spoilt: str
) -> None:
    payload = (
        b"\xff\xff" if spoilt == "the payload" else UserCreated(user=User(display_name="spoilt")).SerializeToString()
    )
    reader.spoilt = "spoilt"
    event_id = await send("spoilt", payload=payload)
    async with reader.at_work():
        await send("first")
        await reader.until(["first"])

    # Stand in for further attempts, which are minutes apart.
    subscription = await client.jetstream().pull_subscribe_bind(consumer="test", stream=word)
    tries = 0
    while tries < events.TRIES - 1:
        (message,) = await subscription.fetch(1, timeout=10)
        tries = message.metadata.num_delivered
        await message.nak()
    await subscription.unsubscribe()
    assert await reader.pool.fetchval("SELECT count(*) FROM dead_letters") == 0
    async with reader.at_work():
        await eventually(lambda: reader.pool.fetchval("SELECT count(*) FROM dead_letters"))
        await send("last")
        await reader.until(["first", "last"])

    row = await reader.pool.fetchrow("SELECT event_id, subject, type, payload, error FROM dead_letters")
    assert row is not None
    assert (row["event_id"], row["subject"]) == (event_id, f"{word}.created")
    assert (row["type"], row["payload"]) == (UserCreated.DESCRIPTOR.full_name, payload)
    assert row["error"]
    info = await client.jetstream().consumer_info(word, "test")
    assert (info.num_ack_pending, info.num_pending) == (0, 0)


async def test_while_the_database_is_away_nothing_is_lost_and_no_try_is_counted(
    consuming: Reader, mesh: Mesh, send: Send, word: str
) -> None:
    await send("before")
    await consuming.until(["before"])
    other = await db.connect(f"{mesh.database_url('search')}?search_path={word}", service="test", size=1)
    try:
        # An event comes each time that every connection of the reader was just cut.
        for number in range(5):
            cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1"
            await other.fetchval(cut, f"thmnayah-{word}")
            await send(str(number))

        found = "SELECT array_agg(DISTINCT name) FROM effects"
        wanted = {"before", "0", "1", "2", "3", "4"}
        await eventually(lambda: other.fetchval(found), lambda names: set(names) == wanted)
        assert await other.fetchval("SELECT count(*) FROM dead_letters") == 0
    finally:
        await other.close()


async def test_what_a_reader_took_and_did_not_finish_is_soon_given_to_the_next(
    reader: Reader, client: NatsClient, send: Send, word: str
) -> None:
    """As after kill -9: search must have everything within 10 s of its restart."""
    async with reader.at_work():
        await send("first")
        await reader.until(["first"])
    await send("taken")
    subscription = await client.jetstream().pull_subscribe_bind(consumer="test", stream=word)
    assert len(await subscription.fetch(1, timeout=10)) == 1
    await subscription.unsubscribe()

    async with reader.at_work():
        await reader.until(["first", "taken"], seconds=8)


async def test_a_consumer_that_was_deleted_is_made_again(
    consuming: Reader, client: NatsClient, send: Send, word: str
) -> None:
    await send("first")
    await consuming.until(["first"])

    await client.jetstream().delete_consumer(word, "test")
    await send("second")

    # A new consumer starts from the first event, which is why handlers bear a repetition.
    found = await eventually(consuming.effects, lambda names: "second" in names)
    assert set(found) == {"first", "second"}


async def test_a_stream_keeps_what_it_acknowledged(client: NatsClient, word: str) -> None:
    await events.ensure_stream(client, word)

    config = (await client.jetstream().stream_info(word)).config
    assert config.subjects == [f"{word}.>"]
    assert config.storage == "file"
    assert config.retention == "limits"
    assert config.max_age == 7 * 24 * 3600
    assert config.duplicate_window == 120
    assert config.allow_atomic


async def test_a_connection_says_when_nats_is_away(mesh: Mesh) -> None:
    client = await nats.connect(mesh.nats_url())
    await events.ping(client)
    await client.close()

    with pytest.raises(Unavailable):
        await events.ping(client)
