"""nats.conf lets each service do its own work, and nobody else's."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path

import nats.errors
import pytest
from google.protobuf.message import Message
from nats.aio.client import Client

from deploy.local.mesh import Mesh
from libs import db, events
from libs.db import Connection
from libs.events import Event
from tests.conftest import eventually, free_port
from thmnayah.api.v1 import annotations_pb2
from thmnayah.auth.v1.audit_pb2 import AccessDenied
from thmnayah.content.v1.content_pb2 import ContentPublished

CONFIG = Path(__file__).parents[2] / "deploy" / "nats.conf"
NATS_SERVER = Path(sys.executable).with_name("nats-server")
PASSWORDS = {"auth": "12345678", "content": "1e3", "search": "p-s_w"}


class Server:
    """A NATS that was started with the file."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def connect(self, service: str) -> Client:
        """As the service itself connects."""
        return await events.connect(f"nats://{service}:{PASSWORDS[service]}@127.0.0.1:{self.port}", service=service)


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    port = free_port()
    arguments = [
        "--port",
        str(port),
        "--http_port",
        str(free_port()),
        "--store_dir",
        str(tmp_path_factory.mktemp("nats")),
    ]
    # Quoted as in compose.yaml, or the first two were numbers.
    passwords = {f"{name.upper()}_NATS_PASSWORD": f'"{password}"' for name, password in PASSWORDS.items()}
    process = await asyncio.create_subprocess_exec(
        NATS_SERVER, "--config", CONFIG, *arguments, env=os.environ | passwords, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await eventually(lambda: _listens(port))
        yield Server(port)
    finally:
        process.terminate()
        await process.wait()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def test_publishers_keep_a_stream_of_their_own(server: Server) -> None:
    for service, stream in (("auth", "user"), ("content", "content")):
        client = await server.connect(service)
        await events.ensure_stream(client, stream)
        await events.ensure_stream(client, stream)  # the second time it is only brought up to date

        stored = await client.jetstream().publish(f"{stream}.created", b"", timeout=5)

        assert stored.stream == stream
        await client.close()


async def test_content_hears_its_own_events(server: Server) -> None:
    client = await server.connect("content")
    heard = await client.subscribe("content.published")

    await client.publish("content.published", b"")

    assert await heard.next_msg(timeout=30)
    await client.close()


@pytest.mark.parametrize("service", ["auth", "content", "search"])
async def test_every_service_hears_which_tokens_to_refuse(server: Server, service: str) -> None:
    publisher, client = await server.connect("auth"), await server.connect(service)
    heard = await client.subscribe("token.revoked")
    await client.flush()

    await publisher.publish("token.revoked", b"")

    assert await heard.next_msg(timeout=30)
    await publisher.close()
    await client.close()


@pytest.mark.parametrize(
    ("reader", "consumer", "owner", "stream", "publisher", "event"),
    [
        ("search", "search", "content", "content", "content", ContentPublished),
        ("auth", "audit", "content", "content", "content", ContentPublished),
        ("auth", "audit", "auth", "audit", "content", AccessDenied),
        ("auth", "audit", "auth", "audit", "search", AccessDenied),
    ],
)
async def test_what_is_published_reaches_whom_it_is_for(
    server: Server,
    mesh: Mesh,
    reader: str,
    consumer: str,
    owner: str,
    stream: str,
    publisher: str,
    event: type[Message],
) -> None:
    owning, publishing, reading = [await server.connect(name) for name in (owner, publisher, reader)]
    subject = event.DESCRIPTOR.GetOptions().Extensions[annotations_pb2.event_subject]
    pool = await db.connect(mesh.database_url("search"), service="search", size=1)
    seen: list[Event] = []

    async def handler(_conn: Connection, batch: Sequence[Event]) -> None:
        seen.extend(batch)

    consuming = asyncio.create_task(
        events.consume(pool, reading, stream=stream, consumer=consumer, subjects=[subject], handler=handler)
    )
    try:
        await events.ensure_stream(owning, stream)
        await publishing.jetstream().publish(
            subject, b"", timeout=5, headers={"ce-type": event.DESCRIPTOR.full_name, "ce-id": "1"}
        )

        async def acknowledged() -> bool:
            try:
                info = await reading.jetstream().consumer_info(stream, consumer)
            except nats.errors.Error:  # not there yet
                return False
            return bool(seen) and info.num_ack_pending == 0

        await eventually(acknowledged)
    finally:
        consuming.cancel()
        with suppress(asyncio.CancelledError):
            await consuming
        await pool.close()
        for client in (owning, publishing, reading):
            await client.close()


@pytest.mark.parametrize(
    ("service", "subject"),
    [
        ("auth", "content.published"),
        ("content", "user.created"),
        ("search", "content.published"),
        ("search", "user.created"),
        ("search", "token.revoked"),
        ("content", "token.revoked"),
        ("content", "session.reused"),
        ("content", "audit.exported"),
        ("content", "$JS.API.STREAM.PURGE.audit"),
        ("auth", "$JS.API.STREAM.PURGE.audit"),
        ("auth", "$JS.API.CONSUMER.MSG.NEXT.content.search"),
        ("auth", "$JS.API.STREAM.DELETE.user"),
        ("content", "$JS.API.STREAM.PURGE.content"),
        ("search", "$JS.API.STREAM.DELETE.content"),
        ("search", "$JS.API.CONSUMER.DELETE.content.search"),
    ],
)
async def test_nobody_does_what_is_not_theirs(server: Server, service: str, subject: str) -> None:
    client = await server.connect(service)
    # Without an answer: what is allowed is answered, be it only that nobody is there to do it.
    with pytest.raises(nats.errors.TimeoutError):
        await client.request(subject, b"", timeout=0.3)
    await client.close()


async def test_a_stranger_is_turned_away(server: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    greeting = await reader.readline()
    writer.close()

    assert json.loads(greeting.removeprefix(b"INFO "))["auth_required"] is True
