"""Measures requests to a running mesh next to a call that does nothing, and prints what came out.

A no-op RPC through the same edge (`GET /healthz`), the floor, is measured before and after each kind of
request, and every figure is given as a ratio to the mean of the two as well: machines differ, and a
shared one differs from minute to minute.
"""

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import load, processes
from benchmarks.load import Outcome, Request
from benchmarks.workload import Workload

# Different requests prepared for each second of a measurement; when they run out, they are asked again.
PREPARED_PER_SECOND = 1000
MEMORY_GOAL = 900  # of all processes, in megabytes

console = Console(width=None if os.isatty(1) else 140)

# What every benchmark of speed is told.
Server = Annotated[str, typer.Option(help="host:port of the gateway.")]
Email = Annotated[str, typer.Option(envvar="THMNAYAH_ADMIN_EMAIL")]
Password = Annotated[str, typer.Option(envvar="THMNAYAH_ADMIN_PASSWORD", prompt=True, hide_input=True)]
Seconds = Annotated[float, typer.Option(min=1, help="Of each measurement.")]
Only = Annotated[list[str] | None, typer.Option(help="A scenario, such as 'read one'; once for each.")]
DataDir = Annotated[
    Path, typer.Option(envvar="THMNAYAH_DATA_DIR", help="The mesh's data folder, which its processes are found by.")
]
Pid = Annotated[int, typer.Option(help="The mesh's launcher, instead of --data-dir.")]
Data = Annotated[Path, typer.Option(help="Folder of xquad-bilingual.")]
Output = Annotated[Path | None, typer.Option("--json", help="File for the figures.")]

DATA = Path("../shared/data/xquad-bilingual")
GENERATOR = f"wrk ({load.WRK})" if load.WRK else "benchmarks/load.py (Python; there is no wrk on the PATH)"

Scenarios = Mapping[str, Callable[[int], list[Request]]]


@dataclass(frozen=True)
class Measurement:
    """One scenario at one number of connections."""

    scenario: str
    connections: int
    outcome: Outcome
    floor: float
    """Right answers a second of the floor, the mean of before and after."""
    processor: Mapping[str, float]
    """Seconds each part, the generator included, kept a core busy for one answer."""
    others: float
    """The share of the machine's cores that programs outside the measurement kept busy."""
    memory: Mapping[str, int]
    """In bytes, of each part, right after."""

    @property
    def ratio(self) -> float:
        """Of its throughput to the floor's."""
        return self.outcome.per_second / self.floor if self.floor else 0.0


def chosen(scenarios: Scenarios, only: Sequence[str] | None) -> Scenarios:
    """Those that are wanted; only what was updated can be published."""
    wanted = {*(only or scenarios), *(["update"] if only and "publish" in only else [])}
    return {name: make for name, make in scenarios.items() if name in wanted}


def measure_all(
    work: Workload,
    scenarios: Scenarios,
    connections: int,
    seconds: float,
    launcher: int | None,
    advance: Callable[[], object],
) -> list[Measurement]:
    """Floor, scenario, floor, scenario, …, floor."""
    count = int(PREPARED_PER_SECOND * seconds)
    work.sign_in()
    for make in (work.floors, *scenarios.values()):  # warm caches, pools and connections
        load.ask(work.server, make(200), connections=connections, seconds=1)
    measured: list[Measurement] = []
    before = _measure(work, "floor", work.floors(count), connections, seconds, launcher)
    measured.append(before)
    advance()
    for name, make in scenarios.items():
        found = _measure(work, name, make(count), connections, seconds, launcher)
        advance()
        after = _measure(work, "floor", work.floors(count), connections, seconds, launcher)
        advance()
        measured += [replace(found, floor=(before.floor + after.floor) / 2), after]
        before = after
        if name == "update":
            work.updated = work.updated[: found.outcome.answers]
    return measured


def _measure(
    work: Workload, name: str, requests: list[Request], connections: int, seconds: float, launcher: int | None
) -> Measurement:
    watch = processes.Stopwatch(launcher)
    if load.WRK:
        outcome = load.ask_with_wrk(work.server, requests, connections=connections, seconds=seconds)
    else:
        # Publishing twice changes nothing, and would be measured as if it did.
        endless = requests if name == "publish" else cycle(requests)
        outcome = load.ask(work.server, endless, connections=connections, seconds=seconds)
    used, machine = watch.read()
    used["generator"] = outcome.processor_seconds
    others = (machine - sum(used.values())) / (outcome.seconds * (os.cpu_count() or 1))
    each = {part: total / max(outcome.answers, 1) for part, total in used.items()}
    memory = processes.memory(launcher) if launcher else {}
    return Measurement(name, connections, outcome, outcome.per_second, each, others, memory)


def start() -> None:
    """Print what the figures depend on."""
    console.print(f"load generator: {GENERATOR}; {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")


def print_all(measured: Sequence[Measurement], goals: Mapping[str, float], title: str = "Through the edge") -> None:
    """Print a row for each scenario at each number of connections.

    Args:
        goals: least ratios to the floor's throughput.
    """
    console.print(_speed(measured, goals, title))
    if measured[0].memory:
        console.print(_processor(measured), _memory(measured))
    else:
        console.print("the mesh's processes were not found, and are not measured")
    for each in measured:
        for error, count in _commonest(each.outcome.errors):
            console.print(f"{each.scenario} at {each.connections}: {count} × {error}", style="red", markup=False)


def _speed(measured: Sequence[Measurement], goals: Mapping[str, float], title: str) -> Table:
    headings = ("connections", "answers/s", "× floor", "goal", "p50 ms", "p95 ms", "p99 ms", "shed", "errors", "others")
    table = _table(title, "scenario", *headings)
    for each in _with_one_floor(measured):
        table.add_row(
            each.scenario,
            str(each.connections),
            f"{each.outcome.per_second:.0f}",
            f"{each.ratio:.2f}",
            f"≥ {goals[each.scenario]}" if each.scenario in goals else "",
            *(f"{each.outcome.percentiles[percent] * 1000:.1f}" for percent in load.PERCENTS),
            str(each.outcome.shed or ""),
            str(sum(each.outcome.errors.values()) or ""),
            f"{each.others:.0%}",
        )
    return table


def _processor(measured: Sequence[Measurement]) -> Table:
    """Steadier than throughput where others use the machine too."""
    total = {part: sum(each.processor.get(part, 0) for each in measured) for part in measured[0].processor}
    parts = sorted(total, key=lambda part: -total[part])
    table = _table("Processor time, ms an answer", "scenario", "connections", *parts)
    for each in _with_one_floor(measured):
        table.add_row(
            each.scenario, str(each.connections), *(f"{each.processor.get(part, 0) * 1000:.2f}" for part in parts)
        )
    return table


def _memory(measured: Sequence[Measurement]) -> Table:
    """When all parts together used most."""
    most = max((each.memory for each in measured), key=lambda memory: sum(memory.values()))
    table = _table("Memory at its highest (PSS)", "part", "MB")
    for part, size in sorted(most.items(), key=lambda item: -item[1]):
        table.add_row(part, f"{size / 1e6:.0f}")
    table.add_row("all", f"{sum(most.values()) / 1e6:.0f} (goal: < {MEMORY_GOAL})", style="bold")
    return table


def _table(title: str, first: str, *numbers: str) -> Table:
    table = Table(first, title=title, title_justify="left", box=None, header_style="bold")
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def _with_one_floor(measured: Sequence[Measurement]) -> Iterator[Measurement]:
    """The median of each level's floors, and the scenarios."""
    for level in dict.fromkeys(each.connections for each in measured):
        here = [each for each in measured if each.connections == level]
        floors = sorted((each for each in here if each.scenario == "floor"), key=lambda each: each.floor)
        yield floors[len(floors) // 2]
        yield from (each for each in here if each.scenario != "floor")


def report(measured: Sequence[Measurement], items: int, seconds: float) -> dict[str, Any]:
    """The figures, for JSON."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": f"{platform.platform()}, {os.cpu_count()} cores",
        "generator": GENERATOR,
        "items": items,
        "seconds": seconds,
        "measurements": [
            {
                **asdict(each),
                "outcome": {
                    **asdict(replace(each.outcome, times=[])),
                    "per_second": each.outcome.per_second,
                },
                "ratio": each.ratio,
            }
            for each in measured
        ],
    }


def _commonest(errors: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(errors.items(), key=lambda error: -error[1])[:3]
