"""How fast are the verbs of an editorial team, at 10,000 and at 100,000 items? python -m benchmarks.content --help

Seeds items of a type with custom fields that refer to people, then measures each verb through Envoy; see
`measure`. The larger size goes on from the smaller one, so the two are measured in one run.
"""

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer
from rich.progress import Progress

from benchmarks import load, measure, processes
from benchmarks.load import Request
from benchmarks.measure import Measurement, console
from benchmarks.workload import LIST_SIZE, LOCALES, WARM, Workload

TYPE = "benchmark-story"
PERSON = "person"
PEOPLE = 200
TITLE = {"ar": "حقل", "en": "Field"}
LIST = f"list of {LIST_SIZE}, expanded"

# Least ratios to the floor's throughput, and p95 in milliseconds on a quiet machine of two cores.
GOALS = {"read by id": 0.6, "read by slug": 0.6, LIST: 0.25, "create": 0.2, "update": 0.2, "publish": 0.15}
P95_MS = {"read by id": 10, "read by slug": 10, LIST: 25, "create": 50, "update": 50, "publish": 60}
FIELDS = [
    {"name": "subtitle", "title": TITLE, "kind": {"text": {"maxLength": 300}}, "localized": True},
    {"name": "minutes", "title": TITLE, "kind": {"number": {"min": 1, "whole": True}}},
    {"name": "authors", "title": TITLE, "kind": {"list": {"item": {"reference": {"types": [PERSON]}}}}},
]

# Of the throughput at the smallest size to that at the largest, at most.
SAME = 1.5


class Stories(Workload):
    """Items of a type with fields, each by one of many people."""

    kind, draft_kind = TYPE, f"{TYPE}-draft"
    list_query: Mapping[str, str | int] = {
        "pageSize": LIST_SIZE,
        "filter": f'type = "{TYPE}"',
        "expand": "authors",
    }

    def prepare(self, progress: Progress) -> None:
        """See that the types and the people are there."""
        self.sign_in()
        name = {"ar": "قصة للقياس", "en": "Benchmark story"}
        for kind in (self.kind, self.draft_kind):  # one that is there already stays
            made = self.ask("POST", "/v1/contentTypes", body={"id": kind, "name": name, "fields": FIELDS})
            if made.status_code not in (200, 409):
                made.raise_for_status()
        names = [f"{TYPE}-person-{number}" for number in range(PEOPLE)]
        stored = self.stored(PERSON)
        missing = [name for name in names if name not in stored]
        creations = (self.request("POST", "/v1/contents", expects=name, body=_person(name)) for name in missing)
        self.ask_all("people", creations, len(missing), progress)
        stored = self.stored(PERSON)
        drafts = [stored[name]["id"] for name in names if stored[name]["state"] != "PUBLISHED"]
        self.ask_all("publishing people", map(self.publish, drafts), len(drafts), progress)
        self._people = [stored[name]["id"] for name in names]

    def seed(self, progress: Progress) -> None:
        super().seed(progress)
        slugs = [(item, locale) for item in self.seeded[:WARM] for locale in LOCALES]
        self.ask_all("reading by slug", (self._read_by_slug(*each) for each in slugs), len(slugs), progress)

    def more(self, number: int) -> dict[str, Any]:
        subtitles = {locale: {"text": f"{number}"} for locale in LOCALES}
        return {
            "fields": {
                "subtitle": {"localized": {"values": subtitles}},
                "minutes": {"number": 1 + number % 90},
                "authors": {"list": {"values": [{"reference": self._people[number % PEOPLE]}]}},
            }
        }

    def reads_by_slug(self, count: int) -> list[Request]:
        return [
            self._read_by_slug(each, self.random.choice(LOCALES)) for each in self.random.choices(self.seeded, k=count)
        ]

    def _read_by_slug(self, item: Mapping[str, Any], locale: str) -> Request:
        query = urlencode({"type": TYPE, "locale": locale, "slug": item["slug"][locale]}, quote_via=quote)
        return load.request("GET", f"/v1/contents:bySlug?{query}", expects=f'"id":"{item["id"]}"')

    def diffs(self, _: int) -> list[Request]:
        """Of the last two revisions of the items updated last."""
        return [
            self.request("GET", f"/v1/contents/{each}/revisions:diff", expects='"description') for each in self.updated
        ]

    def restores(self, _: int) -> list[Request]:
        """Of the first revision of the items updated last."""
        return [
            self.request("POST", f"/v1/contents/{each}/revisions/1:restore", expects=each, body={})
            for each in self.updated
        ]


def main(
    server: measure.Server = "127.0.0.1:8080",
    email: measure.Email = "admin@thmnayah.local",
    password: measure.Password = "",
    items: Annotated[list[int] | None, typer.Option(help="Once for each number; otherwise 10000, 100000.")] = None,
    seconds: measure.Seconds = 5,
    connections: Annotated[int, typer.Option(min=1)] = 16,
    only: measure.Only = None,
    data_dir: measure.DataDir = Path("var"),
    pid: measure.Pid = 0,
    data: measure.Data = measure.DATA,
    output: measure.Output = None,
) -> None:
    """Measure the verbs of the content service on a running mesh."""
    launcher = pid or processes.launcher_of(data_dir)
    measure.start()
    found: dict[int, list[Measurement]] = {}
    for size in sorted(items or [10_000, 100_000]):
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            work = Stories(server, email, password, data, size)
            work.prepare(progress)
            work.seed(progress)
            scenarios = measure.chosen(
                {
                    "read by id": work.reads,
                    "read by slug": work.reads_by_slug,
                    LIST: work.lists,
                    "create": work.creates,
                    "update": work.updates,
                    "publish": work.publishes,
                    "diff": work.diffs,
                    "restore": work.restores,
                },
                only,
            )
            task = progress.add_task(f"measuring {size:,} items", total=1 + 2 * len(scenarios))
            found[size] = measure.measure_all(
                work, scenarios, connections, seconds, launcher, partial(progress.advance, task)
            )
            work.clear(progress)
        measure.print_all(found[size], GOALS, f"{size:,} items")
        _print_slow(found[size])
    if len(found) > 1:
        _print_growth(found[min(found)], found[max(found)])
    if output:
        reports = [measure.report(measured, size, seconds) for size, measured in found.items()]
        output.write_text(json.dumps(reports, ensure_ascii=False, indent=1) + "\n")


def _print_slow(measured: Sequence[Measurement]) -> None:
    for each in measured:
        p95 = each.outcome.percentiles[95] * 1000
        if p95 > P95_MS.get(each.scenario, math.inf):
            console.print(f"{each.scenario}: p95 {p95:.0f} ms, goal {P95_MS[each.scenario]}", style="yellow")


def _print_growth(small: Sequence[Measurement], large: Sequence[Measurement]) -> None:
    """How much less of the floor each scenario reaches with more items."""
    for before, after in zip(small, large, strict=True):
        if before.scenario != "floor" and after.ratio:
            times = before.ratio / after.ratio
            style = "yellow" if times > SAME else None
            console.print(f"{before.scenario}: {times:.2f} times slower with more items, goal ≤ {SAME}", style=style)


def _person(name: str) -> dict[str, Any]:
    return {"type": PERSON, "externalId": name, "title": {"ar": f"كاتب {name}", "en": f"Author {name}"}}


if __name__ == "__main__":
    typer.run(main)
