"""The command line, run as its users run it."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy.local.mesh import Mesh
from tests.conftest import ADMIN_EMAIL, ADMIN_PASSWORD
from thmnayah.client import Mesh as Client
from thmnayah.client import connect
from thmnayah.content.v1.content_pb2 import Content, ListContentsRequest

THMNAYAH = Path(sys.executable).with_name("thmnayah")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What it printed with --json."""
        return [json.loads(line) for line in self.out.splitlines()]


def _heed_interrupts() -> None:
    """What a shell runs in its background ignores Ctrl-C, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True)
class Cli:
    """Runs commands to one server, with what they remember in one folder."""

    server: str
    folder: Path

    async def start(self, *arguments: object, **environ: str) -> asyncio.subprocess.Process:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("THMNAYAH_")}
        ours = {
            "THMNAYAH_SERVER": self.server,
            "THMNAYAH_CONFIG_DIR": f"{self.folder}",
            "THMNAYAH_STATE_DIR": f"{self.folder}",
        }
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            THMNAYAH,
            *map(str, arguments),
            env=inherited | ours | environ,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            preexec_fn=_heed_interrupts,
        )

    async def __call__(self, *arguments: object, stdin: str = "", **environ: str) -> Ended:
        process = await self.start(*arguments, **environ)
        async with asyncio.timeout(60):
            out, err = await process.communicate(stdin.encode())
        return Ended(process.returncode or 0, out.decode(), err.decode())


@pytest.fixture
def stranger(mesh: Mesh, tmp_path: Path) -> Cli:
    """Commands of somebody who is not signed in."""
    return Cli(mesh.address, tmp_path)


@pytest.fixture(scope="session")
async def cli(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """Commands of an administrator."""
    cli = Cli(mesh.address, tmp_path_factory.mktemp("cli"))
    ended = await cli("login", ADMIN_EMAIL, stdin=f"{ADMIN_PASSWORD}\n")
    assert ended.status == 0, ended.err
    return cli


@pytest.fixture(scope="session")
async def client(mesh: Mesh) -> AsyncIterator[Client]:
    """The same administrator, to look at what commands have done."""
    async with connect(mesh.address, email=ADMIN_EMAIL, password=ADMIN_PASSWORD) as client:
        yield client


Found = Callable[[str], Awaitable[dict[str, Content]]]


@pytest.fixture(scope="session")
def found(client: Client) -> Found:
    """The items of a category, by their external ids."""

    async def find(category: str) -> dict[str, Content]:
        request = ListContentsRequest(filter=f"category = {category}")
        return {item.external_id: item async for item in client.list_contents(request)}

    return find
