"""Child processes that are kept running, each with its log file."""

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PR_SET_PDEATHSIG = 1
LOG_BYTES = 10 * 1024 * 1024
READY_SECONDS = 30.0
POLL_SECONDS = 0.05
STEADY_SECONDS = 30.0  # a part that ran this long did not fail at its start
# Between a crash and the next start: at first none to speak of, then longer, so that a part that
# cannot start does not keep the machine busy.
PAUSES = (0.1, 0.5, 1, 2, 5)


class NotStarted(Exception):
    """A part did not come up; the message says what to do."""


@dataclass
class Part:
    """A process of the mesh."""

    name: str
    argv: Sequence[str]
    ready: Callable[[], Awaitable[bool]]
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 10.0


class Supervisor:
    """Starts parts in stages, starts again what ends by itself, and stops the last stage first."""

    def __init__(self, log_dir: Path, say: Callable[[str], None]) -> None:
        self.log_dir = log_dir
        self._say = say
        self._stages: list[list[Part]] = []
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._watchers: list[asyncio.Task[None]] = []

    def pids(self) -> dict[str, int]:
        """The process id of each part now."""
        return {name: process.pid for name, process in self._processes.items()}

    async def start(self, *parts: Part) -> None:
        """Start parts side by side, as a stage; returns when all are ready.

        Raises:
            NotStarted: one ended, or was not ready in READY_SECONDS.
        """
        self._stages.append([])
        for part in parts:
            self._processes[part.name] = await self._spawn(part)
            self._stages[-1].append(part)
        await asyncio.gather(*(self._wait_ready(part) for part in parts))
        self._watchers += [asyncio.create_task(self._watch(part)) for part in parts]

    async def run(self, part: Part, given: str | Callable[[], Awaitable[str]] = "") -> str:
        """Run a command to its end and return what it wrote to standard output.

        `given` is its standard input, or what makes it while the command comes up.

        Raises:
            NotStarted: it failed.
        """
        process = await self._spawn(part, piped=True)
        try:
            output, _ = await process.communicate((given if isinstance(given, str) else await given()).encode())
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
        if process.returncode != 0:
            raise NotStarted(self._failure(part))
        return output.decode()

    async def stop(self) -> None:
        """Stop every part: the stages in reverse order, the parts of one side by side."""
        for watcher in self._watchers:
            watcher.cancel()
        while self._stages:
            await asyncio.gather(*(self._end(part) for part in self._stages.pop()))

    def last_log_lines(self, name: str, count: int = 8) -> str:
        """The end of a part's log, indented."""
        path = self.log_dir / f"{name}.log"
        lines = path.read_text("utf-8", "replace").splitlines()[-count:] if path.exists() else []
        return "\n".join("    " + line for line in lines)

    async def _spawn(self, part: Part, piped: bool = False) -> asyncio.subprocess.Process:
        path = self.log_dir / f"{part.name}.log"
        if path.exists() and path.stat().st_size > LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        with path.open("ab") as log:
            try:
                return await asyncio.create_subprocess_exec(
                    *part.argv,
                    stdin=asyncio.subprocess.PIPE if piped else asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE if piped else log,
                    stderr=log,
                    env={**os.environ, **part.environ},
                    user=part.user,
                    group=part.user,
                    extra_groups=[] if part.user else None,
                    # Ctrl-C in the terminal is for us alone: we stop the parts in their order.
                    start_new_session=True,
                    preexec_fn=_die_with_parent if sys.platform == "linux" else None,
                )
            except OSError as error:
                raise NotStarted(f"{part.name} cannot be started: {error.strerror} ({part.argv[0]})") from None

    async def _wait_ready(self, part: Part) -> None:
        deadline = time.monotonic() + READY_SECONDS
        process = self._processes[part.name]
        while True:
            if process.returncode is not None:
                raise NotStarted(self._failure(part))
            if await part.ready():
                return
            if time.monotonic() > deadline:
                raise NotStarted(f"{part.name} was not ready after {READY_SECONDS:.0f} s\n" + self._failure(part))
            await asyncio.sleep(POLL_SECONDS)

    async def _watch(self, part: Part) -> None:
        failures = 0
        while True:
            started = time.monotonic()
            status = await self._processes[part.name].wait()
            failures = 0 if time.monotonic() - started > STEADY_SECONDS else failures + 1
            how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
            self._say(f"{part.name} {how}; starting it again")
            await asyncio.sleep(PAUSES[min(failures, len(PAUSES) - 1)])
            began = time.monotonic()
            try:
                self._processes[part.name] = await self._spawn(part)
                await self._wait_ready(part)
            except NotStarted as error:
                self._say(str(error))
            else:
                self._say(f"{part.name} is back after {time.monotonic() - began:.1f} s")

    def _failure(self, part: Part) -> str:
        return (
            f"{part.name} did not start. The end of its log, {self.log_dir / (part.name + '.log')}:\n"
            + self.last_log_lines(part.name)
        )

    async def _end(self, part: Part) -> None:
        process = self._processes.pop(part.name)
        if process.returncode is not None:
            return
        process.send_signal(part.stop_signal)
        try:
            async with asyncio.timeout(part.stop_seconds):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _die_with_parent() -> None:
    """Runs in the child: should we be killed outright, no part is left behind."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
