"""What the processes of a mesh on this machine use, summed for each part of it. Read from Linux's /proc."""

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")  # a second
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

# Programs that are not ours, by their file.
_PROGRAMS = {"postgres": "postgresql", "valkey-server": "valkey", "nats-server": "nats"}


class _Process(NamedTuple):
    pid: int
    parent: int
    words: list[str]
    seconds: float


def launcher_of(data_dir: Path) -> int | None:
    """The process id of the launcher of the mesh on a data folder; None when none runs on this machine."""
    config = str(data_dir.resolve() / "run" / "envoy.json")
    return next((process.parent for process in _all() if config in process.words), None)


def memory(launcher: int) -> dict[str, int]:
    """Bytes of memory of each part; what processes share is divided among them (PSS, where it can be read)."""
    used: defaultdict[str, int] = defaultdict(int)
    for process, part in _parts(launcher):
        used[part] += _memory(process.pid)
    return dict(used)


class Stopwatch:
    """Counts, from when it is made, for how many seconds each part keeps a core busy."""

    def __init__(self, launcher: int | None) -> None:
        """Args:
        launcher: without one nothing is counted.
        """
        self._launcher = launcher
        self._machine = _machine_seconds()
        self._before = {process.pid: process.seconds for process, _ in self._processes()}

    def read(self) -> tuple[dict[str, float], float]:
        """The seconds of each part until now, and those of the whole machine, whoever kept it busy."""
        used: defaultdict[str, float] = defaultdict(float)
        for process, part in self._processes():
            used[part] += process.seconds - self._before.get(process.pid, 0)
        return dict(used), _machine_seconds() - self._machine

    def _processes(self) -> Iterator[tuple[_Process, str]]:
        return _parts(self._launcher) if self._launcher else iter(())


def _machine_seconds() -> float:
    """Seconds that all cores together have been busy since the machine started."""
    user, nice, system, _idle, _waiting, *interrupts = map(
        int, Path("/proc/stat").read_text().split("\n")[0].split()[1:8]
    )
    return (user + nice + system + sum(interrupts)) / _TICKS


def _parts(launcher: int) -> Iterator[tuple[_Process, str]]:
    """The processes of the mesh, each with the part it belongs to."""
    children = defaultdict(list)
    for process in _all():
        children[process.parent].append(process)
        if process.pid == launcher:
            yield process, "launcher"
    below = children[launcher]
    while below:
        process = below.pop()
        below += children[process.pid]
        # Some write what they do behind their name: "postgres: checkpointer".
        program = re.split("[ :]", process.words[0])[0].rpartition("/")[2]
        service = process.words[2].removeprefix("services.") if process.words[1:2] == ["-m"] else ""
        yield process, service or _PROGRAMS.get(program, program)


def _all() -> Iterator[_Process]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_text("utf-8", "replace").rstrip("\0").split("\0")
            # What follows the name, which stands in brackets and may hold anything.
            stat = (folder / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        yield _Process(int(folder.name), int(stat[1]), words, (int(stat[11]) + int(stat[12])) / _TICKS)


def _memory(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    except (OSError, StopIteration):
        try:
            return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
        except OSError:  # it ended meanwhile
            return 0
