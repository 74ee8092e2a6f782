"""The launcher as whoever types `make run` meets it: a real process, its words, and what it leaves behind."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest

from deploy.local.mesh import Mesh
from tests.conftest import free_port

ROOT = Path(__file__).parents[2]
PARTS = {"postgresql", "valkey", "nats", "auth", "content", "search", "gateway", "envoy"}


class Launcher:
    """`python -m deploy.local` on a folder of its own."""

    def __init__(self, folder: Path, port: int, **environ: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("THMNAYAH_")}
        settings = {"THMNAYAH_DATA_DIR": str(folder), "THMNAYAH_HTTP_PORT": str(port), **environ}
        self.port = port
        self.process = subprocess.Popen(
            [sys.executable, "-m", "deploy.local"],
            cwd=ROOT,
            env=kept | settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said: list[str] = []
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                self.said.append(line.rstrip())

    def says(self, pattern: str, seconds: float = 40) -> str:
        """The first line that holds the pattern; the test fails when none does in time."""
        return until(lambda: next((line for line in list(self.said) if re.search(pattern, line)), ""), seconds, self)

    def parts(self) -> dict[str, psutil.Process]:
        """The process of each part that runs, by the part's name."""
        found = {}
        for child in self.children():
            command = " ".join(child.cmdline())
            service = re.search(r"-m services\.(\w+)$", command)
            program = Path(child.cmdline()[0]).name if child.cmdline() else ""
            names = {"postgres": "postgresql", "nats-server": "nats", "envoy": "envoy"}
            name = service[1] if service else next((names[each] for each in names if program.startswith(each)), "")
            found[name or "valkey"] = child
        return found

    def children(self) -> list[psutil.Process]:
        try:
            return list(psutil.Process(self.process.pid).children())
        except psutil.NoSuchProcess:
            return []

    def ended(self, seconds: float = 30) -> int:
        """The exit status, once the process ends by itself."""
        status = self.process.wait(seconds)
        self._listener.join(5)
        return status


def until(attempt: Callable[[], str], seconds: float, launcher: Launcher) -> str:
    deadline = time.monotonic() + seconds
    while not (result := attempt()):
        assert time.monotonic() < deadline, "\n".join(["it said:", *launcher.said])
        time.sleep(0.05)
    return result


def gone(processes: list[psutil.Process], seconds: float) -> bool:
    """Whether these processes, and what they started, all end in time."""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return not alive


def answers(launcher: Launcher) -> int:
    try:
        return httpx.get(f"http://127.0.0.1:{launcher.port}/readyz", timeout=5).status_code
    except httpx.TransportError:
        return 0


Launch = Callable[..., Launcher]


@pytest.fixture
def launch() -> Iterator[Launch]:
    """Starts launchers, and ends those that still run after the test."""
    launchers: list[Launcher] = []

    def start(folder: Path, port: int = 0, **environ: str) -> Launcher:
        launchers.append(Launcher(folder, port or free_port(), **environ))
        return launchers[-1]

    yield start
    for launcher in launchers:
        children = launcher.children()
        launcher.process.terminate()
        try:
            launcher.process.wait(30)
        except subprocess.TimeoutExpired:
            launcher.process.kill()
        for child in children:
            if child.is_running():
                child.kill()
        launcher.ended()


def test_a_mesh_starts_serves_survives_a_crash_stops_and_starts_again(
    launch: Launch, mesh: Mesh, tmp_path: Path
) -> None:
    """The whole life of a mesh, beside the one of the other tests."""
    folder = tmp_path / "data"
    first = launch(folder, THMNAYAH_ADMIN_EMAIL="first@example.com")
    first.says("Ctrl-C stops everything")
    assert answers(first) == 200
    (email,) = [line.split()[-1] for line in first.said if line.strip().startswith("e-mail ")]
    (password,) = [line.split()[-1] for line in first.said if line.strip().startswith("password ")]
    assert email == "first@example.com"
    for address in ("/v1", "/docs", "/readyz"):
        assert any(f"http://127.0.0.1:{first.port}{address}" in line for line in first.said)
    server = f"http://127.0.0.1:{first.port}"
    login = {"email": email, "password": password}
    token = httpx.post(f"{server}/v1/auth:login", json=login, timeout=10).json()["accessToken"]
    signed_in = {"authorization": f"Bearer {token}"}
    item = {"type": "article", "title": {"ar": "باق", "en": "Kept"}}
    made = httpx.post(f"{server}/v1/contents", json=item, headers=signed_in, timeout=10)
    assert made.status_code == 200

    # A secret of one's own stays one's own.
    for path in [folder / "secrets.json", *(folder / "run").glob("*.*")]:
        assert path.stat().st_mode & 0o077 == 0, path
    parts = first.parts()
    assert parts.keys() == PARTS
    for child in first.children():
        listening = [each.laddr.ip for each in child.net_connections("inet") if each.status == psutil.CONN_LISTEN]
        assert {ip.removeprefix("::ffff:") for ip in listening} <= {"127.0.0.1"}
        assert password not in " ".join(child.cmdline())

    # The mesh of the other tests is not disturbed.
    assert httpx.get(f"http://{mesh.address}/readyz", timeout=5).status_code == 200
    known = httpx.get(f"http://{mesh.address}/v1/contents/{made.json()['id']}", headers=signed_in, timeout=5)
    assert known.status_code == 401

    parts["content"].kill()
    first.says(r"content was killed by SIGKILL")
    first.says(r"content is back after")
    assert httpx.get(f"{server}/v1/contents/{made.json()['id']}", headers=signed_in, timeout=10).status_code == 200

    children = psutil.Process(first.process.pid).children(recursive=True)
    first.process.terminate()
    assert first.ended() == 0
    assert gone(children, 1)
    assert any("the data stay in" in line for line in first.said)

    second = launch(folder, first.port)
    second.says("ready after")
    second.says("Ctrl-C stops everything")
    assert password not in "\n".join(second.said)
    assert not any("Administrator" in line for line in second.said)
    kept = httpx.get(f"{server}/v1/contents/{made.json()['id']}", headers=signed_in, timeout=10)
    assert kept.json()["title"] == item["title"]
    assert httpx.post(f"{server}/v1/auth:login", json=login, timeout=10).status_code == 200

    # Two do not share a folder.
    third = launch(folder)
    assert third.ended() == 1
    assert any(str(folder) in line and "another mesh" in line for line in third.said)
    assert not any("Traceback" in line for line in third.said)
    assert answers(second) == 200

    # Killed outright, it leaves nothing behind either.
    children = psutil.Process(second.process.pid).children(recursive=True)
    second.process.kill()
    assert gone(children, 15)


@pytest.mark.parametrize(("seconds", "number"), [(0.3, signal.SIGTERM), (2.5, signal.SIGINT)])
def test_a_start_that_is_broken_off_leaves_nothing_behind(
    launch: Launch, tmp_path: Path, seconds: float, number: signal.Signals
) -> None:
    launcher = launch(tmp_path / "data")
    launcher.says("starting the mesh")
    time.sleep(seconds)
    children = psutil.Process(launcher.process.pid).children(recursive=True)

    launcher.process.send_signal(number)

    assert launcher.ended() == 0
    assert gone(children, 1)
    assert not any("Traceback" in line for line in launcher.said)


def test_a_port_in_use_is_one_clear_line(launch: Launch, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        launcher = launch(tmp_path / "data", port)

        assert launcher.ended() == 1

    (line,) = [line for line in launcher.said if str(port) in line]
    assert "THMNAYAH_HTTP_PORT" in line
    assert not any("Traceback" in line for line in launcher.said)


def spoil(folder: Path, how: str) -> None:
    """Break a data folder."""
    if how == "is a file":
        folder.write_text("")
        return
    folder.mkdir()
    if how == "secrets are no JSON":
        (folder / "secrets.json").write_text("{")
    elif how == "secrets are a list":
        (folder / "secrets.json").write_text("[]")
    elif how == "secrets are gone":
        (folder / "postgresql").mkdir()
        (folder / "postgresql" / "PG_VERSION").write_text("18\n")
    else:
        (folder / "secrets.json").write_text(json.dumps({"postgresql": "x"}))
        if how == "database is a file":
            (folder / "postgresql").write_text("")
        elif how == "database is of another release":
            (folder / "postgresql").mkdir()
            (folder / "postgresql" / "PG_VERSION").write_text("15\n")
        elif how == "database is half there":
            (folder / "postgresql" / "base").mkdir(parents=True)
        elif how == "log is a file":
            (folder / "log").write_text("")
        elif how == "configuration is a folder":
            (folder / "run" / "valkey.conf").mkdir(parents=True)
            shutil.chown(folder, os.geteuid())


@pytest.mark.parametrize(
    "how",
    ["is a file", "secrets are no JSON", "secrets are a list", "secrets are gone", "database is a file"]
    + ["database is of another release", "database is half there", "log is a file", "configuration is a folder"],
)
def test_a_broken_data_folder_is_a_clear_line(launch: Launch, tmp_path: Path, how: str) -> None:
    folder = tmp_path / "data"
    spoil(folder, how)

    launcher = launch(folder)

    assert launcher.ended() == 1
    assert not any("Traceback" in line for line in launcher.said), launcher.said
    assert any(str(folder) in line for line in launcher.said[1:-1])
    assert gone(launcher.children(), 1)


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"THMNAYAH_HTTP_PORT": "many"}, "THMNAYAH_HTTP_PORT"),
        ({"THMNAYAH_HTTP_PORT": "70000"}, "THMNAYAH_HTTP_PORT"),
        ({"THMNAYAH_ADMIN_PASSWORD": "weak"}, "THMNAYAH_ADMIN_PASSWORD"),
        ({"THMNAYAH_POSTGRES_URL": "postgresql://nobody@127.0.0.1:1/none"}, "THMNAYAH_POSTGRES_URL"),
    ],
)
def test_a_setting_that_is_wrong_is_named(launch: Launch, tmp_path: Path, environ: dict[str, str], named: str) -> None:
    launcher = launch(tmp_path / "data", **environ)

    assert launcher.ended() in (1, 2)
    assert any(named in line for line in launcher.said), launcher.said
    assert not any("Traceback" in line for line in launcher.said)
