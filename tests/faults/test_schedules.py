"""Three replicas of the content service on one database do what is scheduled once, also when they are killed.

THMNAYAH_FAULT_SEED repeats a run's choices; the seed of each run is printed.
"""

import asyncio
import contextlib
import os
import random
import secrets
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.mesh import Mesh
from deploy.local.processes import Part
from tests.conftest import ADMIN_EMAIL, ADMIN_PASSWORD, bearer, eventually, free_port, mesh_settings
from tests.content.items import Caller
from thmnayah.auth.v1.auth_pb2 import LoginRequest
from thmnayah.auth.v1.auth_pb2_grpc import AuthServiceStub
from thmnayah.content.v1.content_pb2 import DRAFT, Content, Schedule

pytestmark = pytest.mark.fault

SEED = int(os.environ.get("THMNAYAH_FAULT_SEED") or secrets.randbits(32))
ITEMS = 200
SECONDS = 8  # over which they come due
KILL_SECONDS = (1.0, 2.5)
LATE_SECONDS = 2.0  # at most, for 99 of 100, while nobody is killed
DONE_SECONDS = 60.0
REPLICAS = ("content", "content-2", "content-3")


@pytest.fixture(scope="module")
async def replicated(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    """A mesh with three content services, one of them behind the edge."""
    mesh = Mesh(mesh_settings(tmp_path_factory.mktemp("replicated")), print)
    try:
        await mesh.start()
        await mesh.supervisor.start(*(replica(mesh, name) for name in REPLICAS[1:]))
        yield mesh
    finally:
        await mesh.stop()


def replica(mesh: Mesh, name: str) -> Part:
    port = free_port()

    async def ready() -> bool:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            try:
                answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=1)
            except grpc.aio.AioRpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    environ = {
        "THMNAYAH_DATABASE_URL": mesh.database_url("content"),
        "THMNAYAH_NATS_URL": mesh.nats_url(),
        "THMNAYAH_REDIS_URL": mesh.redis_url(),
        "THMNAYAH_AUTH_ADDRESS": mesh.service_address("auth"),
        "THMNAYAH_PORT": str(port),
        "THMNAYAH_DRAIN_SECONDS": "0",
    }
    return Part(name, [sys.executable, "-m", "services.content"], ready, environ=environ)


@pytest.mark.parametrize("killed", [False, True], ids=["left alone", "killed at random"])
async def test_three_replicas_do_each_thing_once_and_in_time(replicated: Mesh, killed: bool) -> None:
    print(f"THMNAYAH_FAULT_SEED={SEED}")
    chance = random.Random(f"{SEED} {killed}")
    options = [("grpc.max_reconnect_backoff_ms", 200), ("grpc.initial_reconnect_backoff_ms", 100)]
    async with grpc.aio.insecure_channel(replicated.address, options=options) as channel:
        login = LoginRequest(email=ADMIN_EMAIL, password=ADMIN_PASSWORD)
        tokens = await AuthServiceStub(channel).Login(login, timeout=10, wait_for_ready=True)
        caller = Caller(channel, bearer(tokens.access_token))
        turns = asyncio.Semaphore(16)
        category = "run" + secrets.token_hex(4)
        planned: dict[tuple[str, str], datetime] = {}

        async def make() -> str:
            async with turns:
                return (await caller.create(title={"ar": "عنوان", "en": "Title"}, category=category)).id

        async def plan(content_id: str, hidden: bool) -> None:
            """Published at some second, and for some items hidden again after it."""
            moment = start + timedelta(seconds=chance.randrange(SECONDS))
            later = moment + timedelta(seconds=chance.randint(1, 3))
            async with turns:
                await caller.schedule(content_id, Schedule.PUBLISH, moment)
                planned[content_id, "content.published"] = moment
                if hidden:
                    await caller.schedule(content_id, Schedule.UNPUBLISH, later)
                    planned[content_id, "content.unpublished"] = later

        ids = await asyncio.gather(*(make() for _ in range(ITEMS)))
        hidden = set(chance.sample(ids, ITEMS // 4))
        start = (datetime.now(UTC) + timedelta(seconds=8)).replace(microsecond=0)
        await asyncio.gather(*(plan(content_id, content_id in hidden) for content_id in ids))
        assert datetime.now(UTC) < start, "the machine was too slow to set it all in time"

        kills = Counter[str]()
        if killed:
            await asyncio.sleep((start - datetime.now(UTC)).total_seconds())
            while datetime.now(UTC) < start + timedelta(seconds=SECONDS + 3):
                name = chance.choice(REPLICAS)
                with contextlib.suppress(ProcessLookupError):  # it is dead already
                    os.kill(replicated.supervisor.pids()[name], signal.SIGKILL)
                    kills[name] += 1
                await asyncio.sleep(chance.uniform(*KILL_SECONDS))

        async def items() -> list[Content]:
            try:
                return await caller.walk(filter=f'category = "{category}"', view=DRAFT, page_size=200)
            except grpc.aio.AioRpcError:
                return []

        found = await eventually(
            items,
            lambda found: len(found) == ITEMS and not any(item.schedules for item in found),
            seconds=DONE_SECONDS,
        )
    wanted = {content_id: Content.DRAFT if content_id in hidden else Content.PUBLISHED for content_id in ids}
    assert {item.id: item.state for item in found} == wanted
    told = await announced(replicated, ids)
    assert sorted((each, subject) for each, subject, _ in told) == sorted(planned)
    late = sorted((moment - planned[each, subject]).total_seconds() for each, subject, moment in told)
    p99 = late[len(late) * 99 // 100]
    print(f"{len(late)} schedules, {dict(kills) or 'no'} kills: late by {late[len(late) // 2]:.2f} s, p99 {p99:.2f} s")
    assert late[0] >= 0
    assert killed or p99 < LATE_SECONDS


async def announced(mesh: Mesh, ids: list[str]) -> list[tuple[str, str, datetime]]:
    """Of what was scheduled each event's item and subject, and when its transaction began."""
    conn = await asyncpg.connect(mesh.database_url("content"))
    try:
        rows = await conn.fetch(
            "SELECT headers->>'ce-subject' AS id, subject, create_time FROM outbox"
            " WHERE headers->>'ce-subject' = ANY($1)"
            " AND subject IN ('content.published', 'content.unpublished', 'content.schedule_failed')",
            ids,
        )
    finally:
        await conn.close()
    return [(row["id"], row["subject"], row["create_time"]) for row in rows]
