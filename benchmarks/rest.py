"""How fast is the REST API, next to a call that does nothing? python -m benchmarks.rest --help

Seeds bilingual items, then measures each kind of request through Envoy at several numbers of
connections. A no-op RPC through the same edge (`GET /healthz`), the floor, is measured before and
after each, and every figure is given as a ratio to the mean of the two as well: machines differ,
and a shared one differs from minute to minute.
"""

import json
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
from rich.progress import Progress
from rich.table import Table

from benchmarks import load, processes
from benchmarks.load import Outcome, Request
from benchmarks.workload import LIST_SIZE, Workload

DATA = Path("../shared/data/xquad-bilingual")
# Different requests prepared for each second of a measurement; when they run out, they are asked again.
PREPARED_PER_SECOND = 1000

# Least ratios to the floor's throughput, and the most memory of all processes, in megabytes.
GOALS = {"read one": 0.6, f"list of {LIST_SIZE}": 0.25, "search": 0.2, "create": 0.2}
MEMORY_GOAL = 900

console = Console(width=None if os.isatty(1) else 140)


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


def main(
    server: Annotated[str, typer.Option(help="host:port of the gateway.")] = "127.0.0.1:8080",
    email: Annotated[str, typer.Option(envvar="THMNAYAH_ADMIN_EMAIL")] = "admin@thmnayah.local",
    password: Annotated[str, typer.Option(envvar="THMNAYAH_ADMIN_PASSWORD", prompt=True, hide_input=True)] = "",
    items: Annotated[int, typer.Option(min=1000, help="Bilingual items to measure on.")] = 10_000,
    seconds: Annotated[float, typer.Option(min=1, help="Of each measurement.")] = 5,
    connections: Annotated[list[int] | None, typer.Option(help="Once for each number; otherwise 1, 16, 64.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="A scenario, such as 'read one'; once for each.")] = None,
    data_dir: Annotated[
        Path, typer.Option(envvar="THMNAYAH_DATA_DIR", help="The mesh's data folder, which its processes are found by.")
    ] = Path("var"),
    pid: Annotated[int, typer.Option(help="The mesh's launcher, instead of --data-dir.")] = 0,
    data: Annotated[Path, typer.Option(help="Folder of xquad-bilingual.")] = DATA,
    output: Annotated[Path | None, typer.Option("--json", help="File for the figures.")] = None,
) -> None:
    """Measure the REST API of a running mesh."""
    launcher = pid or processes.launcher_of(data_dir)
    generator = f"wrk ({load.WRK})" if load.WRK else "benchmarks/load.py (Python; there is no wrk on the PATH)"
    console.print(f"load generator: {generator}; {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        work = Workload(server, email, password, data, items)
        work.seed(progress)
        scenarios: dict[str, Callable[[int], list[Request]]] = {
            "read one": work.reads,
            f"list of {LIST_SIZE}": work.lists,
            "search": work.searches,
            "new search": work.new_searches,
            "create": work.creates,
            "update": work.updates,
            "publish": work.publishes,
            "login": work.logins,
        }
        # Only what was updated can be published.
        wanted = {*(only or scenarios), *(["update"] if only and "publish" in only else [])}
        chosen = {name: make for name, make in scenarios.items() if name in wanted}
        levels = connections or [1, 16, 64]
        task = progress.add_task("measuring", total=len(levels) * (1 + 2 * len(chosen)))
        measured: list[Measurement] = []
        for each in levels:
            measured += _measure_all(work, chosen, each, seconds, launcher, lambda: progress.advance(task))
        work.clear(progress)
    console.print(_speed(measured))
    if launcher:
        console.print(_processor(measured), _memory(measured))
    else:
        console.print(f"no mesh runs on {data_dir}: its processes are not measured")
    _print_errors(measured)
    if output:
        output.write_text(json.dumps(_report(measured, generator, items, seconds), ensure_ascii=False, indent=1) + "\n")


def _measure_all(
    work: Workload,
    scenarios: Mapping[str, Callable[[int], list[Request]]],
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


def _speed(measured: Sequence[Measurement]) -> Table:
    headings = ("connections", "answers/s", "× floor", "goal", "p50 ms", "p95 ms", "p99 ms", "shed", "errors", "others")
    table = _table("Through the edge", "scenario", *headings)
    for each in _with_one_floor(measured):
        table.add_row(
            each.scenario,
            str(each.connections),
            f"{each.outcome.per_second:.0f}",
            f"{each.ratio:.2f}",
            f"≥ {GOALS[each.scenario]}" if each.scenario in GOALS else "",
            *(f"{each.outcome.percentiles[percent] * 1000:.1f}" for percent in load.PERCENTS),
            str(each.outcome.shed or ""),
            str(sum(each.outcome.errors.values()) or ""),
            f"{each.others:.0%}",
            end_section=each.scenario == "login",
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


def _print_errors(measured: Sequence[Measurement]) -> None:
    for each in measured:
        for error, count in _commonest(each.outcome.errors):
            console.print(f"{each.scenario} at {each.connections}: {count} × {error}", style="red", markup=False)


def _report(measured: Sequence[Measurement], generator: str, items: int, seconds: float) -> dict[str, Any]:
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": f"{platform.platform()}, {os.cpu_count()} cores",
        "generator": generator,
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


if __name__ == "__main__":
    typer.run(main)
