"""Asks an HTTP/1.1 server as fast as it answers: a lean client of our own, or wrk where it is installed."""

import asyncio
import json
import math
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import uvloop

TOO_MANY_REQUESTS = 429
WRK = shutil.which("wrk")


@dataclass(frozen=True)
class Request:
    """What is sent, and how a right answer is known."""

    raw: bytes
    """Head and body, as they go over the wire."""
    expects: bytes
    """Stands in the body of every right answer."""


@dataclass
class Outcome:
    """What came of asking."""

    seconds: float = 0.0
    answers: int = 0
    """Right ones: status 2xx, and the body is what was asked for."""
    shed: int = 0
    """Refused with 429: by design, not by mistake."""
    errors: dict[str, int] = field(default_factory=dict)
    """How often each other thing happened."""
    times: list[float] = field(default_factory=list, repr=False)
    """In seconds, how long each right answer took; empty when wrk asked."""
    percentiles: dict[int, float] = field(default_factory=dict)
    """In seconds: p50, p95 and p99 of the right answers; of all answers when wrk asked."""
    processor_seconds: float = 0.0
    """How long asking kept a core busy."""

    @property
    def per_second(self) -> float:
        """Right answers a second."""
        return self.answers / self.seconds if self.seconds else 0.0


Answered = Callable[[Request, bytes, float], None]


def _ignore(_request: Request, _body: bytes, _seconds: float) -> None:
    pass


def request(verb: str, path: str, *, expects: str, body: object = None, token: str = "") -> Request:
    """A request of the REST API.

    Args:
        path: with its query, already escaped.
        body: sent as JSON unless it is None.
        token: an access token; anonymous when empty.
    """
    content = b"" if body is None else json.dumps(body, ensure_ascii=False).encode()
    head = [f"{verb} {path} HTTP/1.1", "host: benchmark"]
    head += [f"authorization: Bearer {token}"] if token else []
    head += ["content-type: application/json", f"content-length: {len(content)}"] if body is not None else []
    return Request("\r\n".join((*head, "", "")).encode() + content, expects.encode())


def ask(
    server: str,
    requests: Iterable[Request],
    *,
    connections: int,
    seconds: float = math.inf,
    per_second: float = math.inf,
    answered: Answered = _ignore,
) -> Outcome:
    """Send the requests in order, each connection one at a time, until they or the seconds end.

    Args:
        server: host:port.
        per_second: how many are due, for which there must be connections enough; their times count from when they
            are due. Without it each is sent as soon as a connection is free.
        answered: called with each right answer's request, body and time in seconds.

    Raises:
        OSError: the server cannot be reached.
    """
    run = _Run(iter(requests), seconds, per_second, answered)
    busy = time.process_time()
    uvloop.run(run.on(server, connections))
    run.outcome.processor_seconds = time.process_time() - busy
    return run.outcome


def ask_with_wrk(server: str, requests: Sequence[Request], *, connections: int, seconds: float) -> Outcome:
    """The same by wrk. It starts over when the requests end, so there should be enough of them."""
    with tempfile.TemporaryDirectory() as folder:
        script, data = Path(folder) / "script.lua", Path(folder) / "requests"
        script.write_text(_SCRIPT)
        with data.open("wb") as file:
            for number, each in enumerate(requests, start=1):
                # The edge sends the request id back, which tells the script what it is an answer to.
                raw = each.raw.replace(b"\r\n", b"\r\nx-request-id: %d\r\n" % number, 1)
                file.write(b"%d %d\n%b%b" % (len(raw), len(each.expects), raw, each.expects))
        busy = _children_seconds()
        done = subprocess.run(
            [
                str(WRK),
                *("-t1", f"-c{connections}", f"-d{math.ceil(seconds)}s", "--timeout", "10s"),
                *("-s", str(script), f"http://{server}", "--", str(data)),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
        busy = _children_seconds() - busy
    told = json.loads(done.stdout.splitlines()[-1])
    return Outcome(
        seconds=told["microseconds"] / 1e6,
        answers=told["good"],
        shed=told["shed"],
        errors={kind: count for kind, count in told["errors"].items() if count},
        percentiles={percent: told[f"p{percent}"] / 1e6 for percent in PERCENTS},
        processor_seconds=busy,
    )


def _children_seconds() -> float:
    used = os.times()
    return used.children_user + used.children_system


PERCENTS = (50, 95, 99)


def percentile(ordered: Sequence[float], percent: int) -> float:
    """The smallest value that so many percent of the values do not exceed; 0 when there are none."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else 0.0


class _Run:
    """What the connections of one run share."""

    def __init__(self, requests: Iterator[Request], seconds: float, per_second: float, answered: Answered) -> None:
        self.outcome = Outcome()
        self._apart = 1 / per_second
        self._due = 0.0
        self._requests = requests
        self._seconds = seconds
        self._answered = answered
        self._deadline = 0.0

    async def on(self, server: str, connections: int) -> None:
        host, _, port = server.rpartition(":")
        began = time.perf_counter()
        self._deadline = began + self._seconds
        self._due = began
        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(self._keep_connected(host, int(port)))
        self.outcome.seconds = time.perf_counter() - began
        self.outcome.times.sort()
        self.outcome.percentiles = {percent: percentile(self.outcome.times, percent) for percent in PERCENTS}

    async def _keep_connected(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        while (first := self.next()) is not None:
            closed = loop.create_future()
            await loop.create_connection(lambda: _Connection(self, first, closed), host, port)  # noqa: B023  # called at once
            await closed

    def next(self) -> Request | None:
        """What to ask next; None when it is time to stop."""
        return next(self._requests, None) if time.perf_counter() < self._deadline else None

    def due(self) -> float:
        """When to ask it, as time.perf_counter() tells it."""
        if not self._apart:
            return time.perf_counter()
        self._due += self._apart
        return self._due

    def take(self, request: Request, status: int, body: bytes, seconds: float) -> None:
        """Count an answer."""
        if 200 <= status < 300 and request.expects in body:
            self.outcome.answers += 1
            self.outcome.times.append(seconds)
            self._answered(request, body, seconds)
        elif status == TOO_MANY_REQUESTS:
            self.outcome.shed += 1
        else:
            self.error(f"{status} {body[:200].decode('utf-8', 'replace')}")

    def error(self, what: str) -> None:
        """Count something that should not happen."""
        self.outcome.errors[what] = self.outcome.errors.get(what, 0) + 1


class _Connection(asyncio.Protocol):
    """One connection, which asks again as soon as it was answered."""

    def __init__(self, run: _Run, first: Request, closed: asyncio.Future[None]) -> None:
        self._run = run
        self._request: Request | None = first
        self._closed = closed
        self._answer = bytearray()
        self._head_bytes = 0
        self._all_bytes = 0  # of the whole answer; 0 until its head is here
        self._asked = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not self._all_bytes:
            self._head_bytes = self._answer.find(b"\r\n\r\n") + 4
            if self._head_bytes < 4:
                return
            self._all_bytes = self._head_bytes + _content_length(self._answer[: self._head_bytes])
        # Without a length it is sent in chunks, as errors are: the last is empty.
        is_whole = len(self._answer) >= self._all_bytes and (
            self._all_bytes >= self._head_bytes or self._answer.endswith(b"\r\n0\r\n\r\n")
        )
        if not is_whole or self._request is None:
            return
        seconds = time.perf_counter() - self._asked
        self._run.take(self._request, int(self._answer[9:12]), bytes(self._answer[self._head_bytes :]), seconds)
        self._request = self._run.next()
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._request is not None:
            self._run.error(f"connection lost ({exc or 'closed by the server'})")
        self._closed.set_result(None)

    def _ask(self) -> None:
        if self._request is None:
            self._transport.close()
            return
        self._answer.clear()
        self._all_bytes = 0
        self._asked = self._run.due()
        if (early := self._asked - time.perf_counter()) > 0:
            asyncio.get_running_loop().call_later(early, self._transport.write, self._request.raw)
        else:
            self._transport.write(self._request.raw)


def _content_length(head: bytes | bytearray) -> int:
    """-1 when it is not told."""
    at = head.find(b"\r\ncontent-length: ")
    return int(head[at + 18 : head.index(b"\r\n", at + 18)]) if at >= 0 else -1


# One thread runs it; its globals are read again in done().
_SCRIPT = """
local requests, expects, at = {}, {}, 0

function setup(thread)
  runner = thread
end

function init(args)
  good, shed, wrong = 0, 0, ""
  local file = io.open(args[1], "rb")
  while true do
    local length, expected = file:read("*n", "*n")
    if not length then break end
    file:read(1)
    requests[#requests + 1] = file:read(length)
    expects[#expects + 1] = expected > 0 and file:read(expected) or ""
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function response(status, headers, body)
  local expected = expects[tonumber(headers["x-request-id"] or 0)]
  if status >= 200 and status < 300 and expected and body:find(expected, 1, true) then
    good = good + 1
  elseif status == 429 then
    shed = shed + 1
  else
    wrong = wrong .. status .. " "
  end
end

function done(summary, latency)
  local errors, counts = {}, {}
  for status in runner:get("wrong"):gmatch("%d+") do counts[status] = (counts[status] or 0) + 1 end
  for _, kind in ipairs({"connect", "read", "write", "timeout"}) do counts[kind] = summary.errors[kind] end
  for kind, count in pairs(counts) do errors[#errors + 1] = string.format('"%s":%d', kind, count) end
  print(string.format('\\n{"microseconds":%d,"good":%d,"shed":%d,"p50":%d,"p95":%d,"p99":%d,"errors":{%s}}',
    summary.duration, runner:get("good"), runner:get("shed"), latency:percentile(50), latency:percentile(95),
    latency:percentile(99), table.concat(errors, ",")))
end
"""
