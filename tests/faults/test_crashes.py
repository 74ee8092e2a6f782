"""Kill -9 of every process of the mesh under a load of writes: what was acknowledged is there afterwards.

THMNAYAH_FAULT_SEED repeats a run's choices; the seed of each run is printed.
"""

import asyncio
import contextlib
import os
import random
import secrets
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import asyncpg
import grpc
import httpx
import pytest

from deploy.local.mesh import Mesh
from tests.conftest import ADMIN_EMAIL, ADMIN_PASSWORD, bearer, eventually, mesh_settings
from tests.content.items import Caller, refusal
from thmnayah.auth.v1.auth_pb2 import LoginRequest
from thmnayah.auth.v1.auth_pb2_grpc import AuthServiceStub
from thmnayah.content.v1.content_pb2 import DRAFT, PUBLISHED, Content

pytestmark = pytest.mark.fault

SEED = int(os.environ.get("THMNAYAH_FAULT_SEED") or secrets.randbits(32))
BACKEND = "a PostgreSQL backend"
VICTIMS = (
    *("content", "search", "auth", "gateway", "nats", "valkey", "postgresql", "envoy", BACKEND),
    *("content and postgresql", "search and nats", "content and nats"),
)
WRITERS = 8
READERS = 2
CONVERGE_SECONDS = 10.0
BACK_SECONDS = 30.0

MAY_FAIL = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
MAY_ANSWER = {200, 404, 503, 504}

T = TypeVar("T")


@dataclass
class Item:
    """What a writer was told about one of its items last."""

    id: str
    title: str
    version: int
    shown: tuple[str, int] | None = None
    """The title that readers see, and the version that showed it."""


@dataclass
class Run:
    """One load of writes, and what was seen beside it."""

    editing: Caller
    rest: httpx.AsyncClient
    chance: random.Random
    name: str = field(default_factory=lambda: "run" + secrets.token_hex(4))
    items: dict[str, Item] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    acknowledged: int = 0
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def load(self) -> None:
        """Write and read until `stopping`; every write begun is brought to its end."""
        async with asyncio.TaskGroup() as group:
            for number in range(WRITERS):
                group.create_task(self._write(number))
            for _ in range(READERS):
                group.create_task(self._read())

    async def _write(self, writer: int) -> None:
        number = 0
        while not self.stopping.is_set():
            number += 1
            await self._live(f"{self.name}-{writer}-{number}")

    async def _live(self, external_id: str) -> None:
        """The life of an item, each step of it tried until it is acknowledged."""
        made = await self._create(external_id)
        item = self.items[made.id] = Item(made.id, made.title["en"], made.version)
        for turn in range(self.chance.randint(1, 3)):
            if turn:
                title = f"{self.name} title {turn}"
                updated = await self._try(lambda title=title: self.editing.update(item.id, title={"en": title}))  # type: ignore[misc]  # mypy does not infer lambdas with defaults
                item.title, item.version = updated.title["en"], updated.version
            published = await self._try(lambda: self.editing.publish(item.id))
            item.version = published.version
            item.shown = (item.title, item.version)
        end = self.chance.random()
        if end < 0.1:
            await self._delete(item)
        elif end < 0.2:
            hidden = await self._try(lambda: self.editing.unpublish(item.id))
            item.version, item.shown = hidden.version, None

    async def _create(self, external_id: str) -> Content:
        """Make the item, or find it by its external id when an attempt that nobody acknowledged had made it."""
        attempts = 0

        async def attempt() -> Content:
            nonlocal attempts
            attempts += 1
            if attempts > 1:
                found, _ = await self.editing.page(filter=f'externalId = "{external_id}"', view=DRAFT)
                if found:
                    return found[0]
            try:
                title = {"en": f"{self.name} title 0"}
                return await self.editing.create(title=title, category=self.name, external_id=external_id)
            except grpc.aio.AioRpcError as error:
                if attempts > 1 and refusal(error).reason == "EXTERNAL_ID_TAKEN":
                    return await attempt()  # the earlier attempt committed just now
                raise

        return await self._try(attempt)

    async def _delete(self, item: Item) -> None:
        attempts = 0

        async def attempt() -> None:
            nonlocal attempts
            attempts += 1
            try:
                await self.editing.delete(item.id)
            except grpc.aio.AioRpcError as error:
                if attempts == 1 or error.code() != grpc.StatusCode.NOT_FOUND:
                    raise

        await self._try(attempt)
        del self.items[item.id]

    async def _try(self, attempt: Callable[[], Awaitable[T]]) -> T:
        deadline = time.monotonic() + BACK_SECONDS
        while True:
            try:
                result = await attempt()
            except grpc.aio.AioRpcError as error:
                # An answer that had begun is cut off: gRPC calls that INTERNAL.
                cut_off = "RST_STREAM" in (error.details() or "")
                assert error.code() in MAY_FAIL or cut_off, f"{error.code()}: {error.details()}"
                assert time.monotonic() < deadline, f"nothing was served for {BACK_SECONDS} s"
                self.failures.append(error.code().name)
                await asyncio.sleep(0.1)
            else:
                self.acknowledged += 1
                return result

    async def _read(self) -> None:
        """Look at items and at search results: neither ever goes back to an older version."""
        versions: dict[str, dict[str, int]] = {"item": {}, "result": {}}
        while not self.stopping.is_set():
            known = list(self.items.values())
            content_id = self.chance.choice(known).id if known else ""
            paths = {
                "item": f"/v1/contents/{content_id}",
                "result": f"/v1/search?query={self.name}&pageSize=20",
            }
            for kind, path in paths.items():
                if not (content_id or kind == "result"):
                    continue
                try:
                    answer = await self.rest.get(path)
                except httpx.TransportError as error:
                    self.failures.append(type(error).__name__)
                    await asyncio.sleep(0.1)
                    continue
                assert answer.status_code in MAY_ANSWER, answer.text
                if answer.status_code != 200:
                    if answer.status_code != 404:
                        self.failures.append(str(answer.status_code))
                        await asyncio.sleep(0.1)
                    continue
                found = [answer.json()] if kind == "item" else [each["content"] for each in answer.json()["results"]]
                for content in found:
                    newest = versions[kind].get(content["id"], 0)
                    assert content["version"] >= newest, f"{kind} went back from {newest} to {content['version']}"
                    versions[kind][content["id"]] = content["version"]

    async def drafts(self) -> dict[str, tuple[str, int]]:
        """Title and version of every item of this run, as editors see it."""
        found = await self.editing.walk(filter=f'category = "{self.name}"', view=DRAFT, page_size=200)
        return {item.id: (item.title["en"], item.version) for item in found}

    async def published(self) -> dict[str, tuple[str, int]]:
        """The same, as readers see it."""
        found = await self.editing.walk(filter=f'category = "{self.name}"', view=PUBLISHED, page_size=200)
        return {item.id: (item.title["en"], item.version) for item in found}

    async def searched(self) -> dict[str, tuple[str, int]]:
        """The same, as search finds it."""
        found: dict[str, tuple[str, int]] = {}
        token = ""
        while True:
            question = {"query": self.name, "filter": f'category="{self.name}"', "pageSize": "200", "pageToken": token}
            try:
                answer = await self.rest.get("/v1/search", params=question)
            except httpx.TransportError:
                return {}
            if answer.status_code != 200:
                return {}
            for result in answer.json()["results"]:
                content = result["content"]
                found[content["id"]] = (content["title"]["en"], content["version"])
            token = answer.json().get("nextPageToken", "")
            if not token:
                return found


@dataclass
class Said:
    """What the supervisor says, with the time."""

    lines: list[tuple[float, str]] = field(default_factory=list)

    def __call__(self, text: str) -> None:
        print(text)
        self.lines.append((time.monotonic(), text))

    async def back(self, name: str, after: float) -> float:
        """When a part was back."""

        async def look() -> list[float]:
            return [moment for moment, text in self.lines if moment > after and text.startswith(f"{name} is back")]

        return (await eventually(look, seconds=BACK_SECONDS))[0]


@pytest.fixture(scope="module")
def said() -> Said:
    return Said()


@pytest.fixture(scope="module")
async def victim_mesh(tmp_path_factory: pytest.TempPathFactory, said: Said) -> AsyncIterator[Mesh]:
    """A mesh of this file's own, since it suffers."""
    folder: Path = tmp_path_factory.mktemp("victim")
    mesh = Mesh(mesh_settings(folder), said)
    try:
        await mesh.start()
        yield mesh
    finally:
        await mesh.stop()


@pytest.fixture
async def run(victim_mesh: Mesh, request: pytest.FixtureRequest) -> AsyncIterator[Run]:
    """A load to be started, signed in as an administrator."""
    print(f"THMNAYAH_FAULT_SEED={SEED}")
    options = [("grpc.max_reconnect_backoff_ms", 200), ("grpc.initial_reconnect_backoff_ms", 100)]
    async with (
        grpc.aio.insecure_channel(victim_mesh.address, options=options) as channel,
        httpx.AsyncClient(base_url=f"http://{victim_mesh.address}", timeout=10) as rest,
    ):
        login = LoginRequest(email=ADMIN_EMAIL, password=ADMIN_PASSWORD)
        tokens = await AuthServiceStub(channel).Login(login, timeout=10, wait_for_ready=True)
        caller = Caller(channel, bearer(tokens.access_token))
        yield Run(caller, rest, random.Random(f"{SEED} {request.node.name}"))


@pytest.mark.parametrize("victim", VICTIMS)
async def test_what_was_acknowledged_is_there_after_a_crash(
    victim_mesh: Mesh, said: Said, run: Run, victim: str
) -> None:
    load = asyncio.create_task(run.load())
    try:
        await asyncio.sleep(run.chance.uniform(1, 2))
        killed = time.monotonic()
        if victim == BACKEND:
            os.kill(await a_backend(victim_mesh, run.chance), signal.SIGKILL)
            before = run.acknowledged
            await eventually(lambda: answered(run, before), seconds=BACK_SECONDS)
            back = time.monotonic()
        else:
            names = victim.split(" and ")
            for name in names:
                os.kill(victim_mesh.supervisor.pids()[name], signal.SIGKILL)
            back = max([await said.back(name, killed) for name in names])
        await asyncio.sleep(1)
    finally:
        run.stopping.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(load), BACK_SECONDS)
    await load
    left = max(1.0, back + CONVERGE_SECONDS - time.monotonic())

    assert await run.drafts() == {item.id: (item.title, item.version) for item in run.items.values()}
    shown = {item.id: item.shown for item in run.items.values() if item.shown is not None}
    assert await run.published() == shown
    await eventually(lambda: difference(run, shown), until=lambda found: not found, seconds=left)
    print(
        f"{victim}: back after {back - killed:.1f} s; {run.acknowledged} writes acknowledged,"
        f" {len(run.failures)} attempts failed ({', '.join(sorted(set(run.failures)))});"
        f" search had all {len(shown)} items {time.monotonic() - back:.1f} s after the restart"
    )


async def answered(run: Run, before: int) -> bool:
    """Whether writes go on."""
    return run.acknowledged > before + WRITERS


async def difference(run: Run, shown: dict[str, tuple[str, int]]) -> str:
    """How search differs from what readers should find; "" when it does not."""
    found = await run.searched()
    missing = [content_id for content_id in shown if content_id not in found]
    extra = [content_id for content_id in found if content_id not in shown]
    older = [content_id for content_id, each in found.items() if shown.get(content_id, each) != each]
    if not (missing or extra or older):
        return ""
    return f"of {len(shown)} items {len(missing)} are missing, {len(older)} are old, and {len(extra)} too many"


async def a_backend(mesh: Mesh, chance: random.Random) -> int:
    """The process id of a connection of the content service to PostgreSQL."""
    conn = await asyncpg.connect(mesh.database_url("content"))
    try:
        rows = await conn.fetch("SELECT pid FROM pg_stat_activity WHERE application_name = 'thmnayah-content'")
    finally:
        await conn.close()
    return int(chance.choice(rows)["pid"])
