"""How fast is the REST API, next to a call that does nothing? python -m benchmarks.rest --help

Seeds bilingual items, then measures each kind of request through Envoy at several numbers of
connections; see `measure`.
"""

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from benchmarks import measure, processes
from benchmarks.measure import Measurement, console
from benchmarks.workload import LIST_SIZE, Workload

# Least ratios to the floor's throughput.
GOALS = {"read one": 0.6, f"list of {LIST_SIZE}": 0.25, "search": 0.2, "create": 0.2}


def main(
    server: measure.Server = "127.0.0.1:8080",
    email: measure.Email = "admin@thmnayah.local",
    password: measure.Password = "",
    items: Annotated[int, typer.Option(min=1000, help="Bilingual items to measure on.")] = 10_000,
    seconds: measure.Seconds = 5,
    connections: Annotated[list[int] | None, typer.Option(help="Once for each number; otherwise 1, 16, 64.")] = None,
    only: measure.Only = None,
    data_dir: measure.DataDir = Path("var"),
    pid: measure.Pid = 0,
    data: measure.Data = measure.DATA,
    output: measure.Output = None,
) -> None:
    """Measure the REST API of a running mesh."""
    launcher = pid or processes.launcher_of(data_dir)
    measure.start()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        work = Workload(server, email, password, data, items)
        work.seed(progress)
        scenarios = measure.chosen(
            {
                "read one": work.reads,
                f"list of {LIST_SIZE}": work.lists,
                "search": work.searches,
                "new search": work.new_searches,
                "create": work.creates,
                "update": work.updates,
                "publish": work.publishes,
                "login": work.logins,
            },
            only,
        )
        levels = connections or [1, 16, 64]
        task = progress.add_task("measuring", total=len(levels) * (1 + 2 * len(scenarios)))
        measured: list[Measurement] = []
        for each in levels:
            measured += measure.measure_all(work, scenarios, each, seconds, launcher, partial(progress.advance, task))
        work.clear(progress)
    measure.print_all(measured, GOALS)
    if output:
        output.write_text(json.dumps(measure.report(measured, items, seconds), ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
