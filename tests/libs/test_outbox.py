"""The outbox: every event of a committed change is sent, once, in order, whatever happens on the way."""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import nats
import pytest
from nats.aio.client import Client as NatsClient
from nats.errors import Error as NatsError
from nats.js.api import ConsumerConfig, DeliverPolicy

from deploy.local.mesh import Mesh
from libs import db, outbox
from tests.conftest import eventually
from thmnayah.auth.v1.auth_pb2 import User, UserCreated


@pytest.fixture
async def pool(mesh: Mesh, word: str) -> AsyncIterator[db.Pool]:
    """Connections to an outbox that nobody else sends from."""
    pool = await db.connect(f"{mesh.database_url('search')}?search_path={word}", service="test")
    async with db.connection(pool) as conn:
        await conn.execute(f"CREATE SCHEMA {word}")
        await conn.execute(outbox.CREATE_TABLE)
    yield pool
    async with db.connection(pool) as conn:
        await conn.execute(f"DROP SCHEMA {word} CASCADE")
    await pool.close()


@pytest.fixture
async def client(mesh: Mesh) -> AsyncIterator[NatsClient]:
    client = await nats.connect(mesh.nats_url())
    yield client
    await client.close()


class Stream:
    """What a reader of the stream `user` gets from now on."""

    def __init__(self, subscription: "nats.js.client.JetStreamContext.PushSubscription", word: str) -> None:
        self._subscription = subscription
        self._word = word
        self.received: list[str] = []

    async def until(self, count: int) -> list[str]:
        """The names in the events of this test, once there are so many; and then what else comes at once."""
        with contextlib.suppress(TimeoutError):
            while True:
                message = await self._subscription.next_msg(timeout=10 if len(self.received) < count else 0.3)
                user = UserCreated.FromString(message.data).user
                if user.email == self._word:
                    self.received.append(user.display_name)
        return self.received


@pytest.fixture
async def stream(client: NatsClient, word: str) -> Stream:
    config = ConsumerConfig(deliver_policy=DeliverPolicy.NEW)
    return Stream(await client.jetstream().subscribe("user.>", ordered_consumer=True, config=config), word)


def event(word: str, name: str) -> UserCreated:
    return UserCreated(user=User(id=str(uuid.uuid4()), email=word, display_name=name))


async def add(conn: db.Connection, word: str, *names: str) -> None:
    for name in names:
        await outbox.add(conn, event(word, name), about=word)


async def send(pool: db.Pool, client: NatsClient) -> int:
    async with db.connection(pool) as conn:
        return await outbox.send_batch(conn, client, client.jetstream(timeout=2))


async def relay_for_ever(pool: db.Pool, client: NatsClient) -> None:
    await outbox.relay(pool, client, stream="user", replicas=1)


async def send_all(pool: db.Pool, client: NatsClient) -> None:
    """Send until nothing is left; a transaction elsewhere may keep rows from being settled for a while."""

    async def left() -> int:
        await send(pool, client)
        return int(await pool.fetchval("SELECT count(*) FROM outbox WHERE sent_time IS NULL"))

    await eventually(left, lambda count: count == 0)


async def test_an_event_is_sent_with_its_headers_and_once(
    pool: db.Pool, client: NatsClient, stream: Stream, word: str
) -> None:
    async with db.transaction(pool) as conn:
        await add(conn, word, "one")

    await send_all(pool, client)
    await send(pool, client)

    assert await stream.until(1) == ["one"]
    row = await pool.fetchrow("SELECT id, subject, headers, sent_time FROM outbox")
    assert row is not None
    message = await client.jetstream().get_last_msg("user", "user.created")
    assert message.headers is not None
    assert row["headers"].items() <= message.headers.items()
    assert message.headers["Nats-Msg-Id"] == str(row["id"]) == row["headers"]["ce-id"]
    assert row["headers"]["ce-type"] == "thmnayah.auth.v1.UserCreated"
    assert row["headers"]["ce-source"] == "/services/auth"
    assert row["headers"]["ce-subject"] == word
    assert datetime.now(UTC) >= datetime.fromisoformat(row["headers"]["ce-time"])


async def test_an_event_of_a_change_that_was_undone_is_not_sent(
    pool: db.Pool, client: NatsClient, stream: Stream, word: str
) -> None:
    with contextlib.suppress(RuntimeError):
        async with db.transaction(pool) as conn:
            await add(conn, word, "undone")
            raise RuntimeError
    async with db.transaction(pool) as conn:
        await add(conn, word, "done")

    await send_all(pool, client)

    assert await stream.until(1) == ["done"]


async def test_a_change_that_began_first_and_ended_last_is_not_skipped(
    pool: db.Pool, client: NatsClient, stream: Stream, word: str
) -> None:
    async with db.transaction(pool) as slow:
        await add(slow, word, "slow 1")
        async with db.transaction(pool) as quick:
            await add(quick, word, "quick")
        await send(pool, client)
        await add(slow, word, "slow 2")
        await send(pool, client)

    await send_all(pool, client)

    received = await stream.until(3)
    assert sorted(received) == ["quick", "slow 1", "slow 2"]
    assert received.index("slow 1") < received.index("slow 2")


async def test_changes_of_one_thing_are_sent_in_the_order_they_were_made(
    pool: db.Pool, client: NatsClient, stream: Stream, word: str
) -> None:
    """Transactions that wait for one row get it in another order than they began in."""
    await pool.execute("CREATE TABLE things (version integer)")
    await pool.execute("INSERT INTO things VALUES (0)")

    async def change() -> None:
        async with db.transaction(pool) as conn:
            await conn.execute("SELECT pg_current_xact_id()")
            version = await conn.fetchval("UPDATE things SET version = version + 1 RETURNING version")
            await add(conn, word, f"{version:03}")

    for _ in range(5):
        await asyncio.gather(*(change() for _ in range(14)))
    await send_all(pool, client)

    assert await stream.until(70) == [f"{number:03}" for number in range(1, 71)]


async def test_more_than_a_batch_is_sent_in_order(pool: db.Pool, client: NatsClient, stream: Stream, word: str) -> None:
    names = [f"{number:03}" for number in range(2 * outbox.BATCH + 7)]
    async with db.transaction(pool) as conn:
        await add(conn, word, *names)

    await send_all(pool, client)

    assert await stream.until(len(names)) == names


async def test_what_was_sent_before_a_crash_is_not_there_twice(
    pool: db.Pool, client: NatsClient, stream: Stream, word: str
) -> None:
    async with db.transaction(pool) as conn:
        await add(conn, word, "one", "two", "three")
    await send_all(pool, client)

    # As a relay leaves it that died between sending and marking; and more came since.
    await pool.execute("UPDATE outbox SET sent_time = NULL")
    async with db.transaction(pool) as conn:
        await add(conn, word, "four", "five")
    await send_all(pool, client)

    assert await stream.until(5) == ["one", "two", "three", "four", "five"]


@pytest.mark.parametrize("count", [1, 5, outbox.BATCH])
async def test_a_batch_is_there_as_a_whole_or_not_at_all(
    pool: db.Pool, client: NatsClient, stream: Stream, word: str, count: int
) -> None:
    names = [f"{number:03}" for number in range(count)]
    async with db.transaction(pool) as conn:
        await add(conn, word, *names)
    # No stream takes this subject, so the batch cannot be completed.
    await pool.execute(
        "UPDATE outbox SET subject = 'nowhere.at.all' WHERE position = (SELECT max(position) FROM outbox)"
    )

    async def fails() -> bool:
        try:
            return await send(pool, client) < 0
        except (NatsError, TimeoutError):
            return True

    await eventually(fails)
    assert await stream.until(0) == []
    assert await pool.fetchval("SELECT count(*) FROM outbox WHERE sent_time IS NOT NULL") == 0

    await pool.execute("UPDATE outbox SET subject = 'user.created'")
    await send_all(pool, client)
    assert await stream.until(count) == names


async def test_of_two_relays_one_sends_and_the_other_takes_over(
    mesh: Mesh, pool: db.Pool, client: NatsClient, stream: Stream, word: str
) -> None:
    second_pool = await db.connect(f"{mesh.database_url('search')}?search_path={word}", service="test")
    relays = [asyncio.create_task(relay_for_ever(each, client)) for each in (pool, second_pool)]
    try:
        for number in range(20):
            async with db.transaction(pool) as conn:
                await add(conn, word, f"{number:03}")
        assert len(await stream.until(20)) == 20

        relays[0].cancel()
        async with db.transaction(pool) as conn:
            await add(conn, word, "020")
        await stream.until(21)
        relays[0] = asyncio.create_task(relay_for_ever(pool, client))
        relays[1].cancel()
        async with db.transaction(pool) as conn:
            await add(conn, word, "021")

        assert await stream.until(22) == [f"{number:03}" for number in range(22)]
    finally:
        for relay in relays:
            relay.cancel()
        await asyncio.gather(*relays, return_exceptions=True)
        await second_pool.close()


async def test_a_relay_whose_connection_is_cut_goes_on(
    mesh: Mesh, pool: db.Pool, client: NatsClient, stream: Stream, word: str
) -> None:
    relay_pool = await db.connect(f"{mesh.database_url('search')}?search_path={word}", service=word)
    relay = asyncio.create_task(relay_for_ever(relay_pool, client))
    try:
        for number in range(3):
            async with db.transaction(pool) as conn:
                await add(conn, word, str(number))
            await stream.until(number + 1)
            cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1"
            assert await pool.fetchval(cut, f"thmnayah-{word}") >= 1

        assert await stream.until(3) == ["0", "1", "2"]
    finally:
        relay.cancel()
        await asyncio.gather(relay, return_exceptions=True)
        await relay_pool.close()


async def test_headers_are_kept_as_they_were_stored(pool: db.Pool, word: str) -> None:
    async with db.transaction(pool) as conn:
        await add(conn, word, "ا")

    stored = await pool.fetchval("SELECT headers::text FROM outbox")

    assert all(isinstance(value, str) for value in json.loads(stored).values())
