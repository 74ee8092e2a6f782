"""Does search find the right document, and how soon? python -m benchmarks.search_quality --help

Imports XQuAD's 240 bilingual documents with the command line, asks its 1,190 questions in each
language as they were typed, and prints how high the one right document stands. Other items in the
mesh take places in its answers: a figure to compare is measured on a mesh of its own.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, urlencode

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import load
from benchmarks.load import Request
from benchmarks.workload import read_lines

DATA = Path("../shared/data/xquad-bilingual")
LOCALES = {"en": "English", "ar": "Arabic"}
PAGE = 10
LONGEST_QUERY = 512
CONVERGED_SECONDS = 60.0

console = Console(width=None if os.isatty(1) else 140)


@dataclass(frozen=True)
class Quality:
    """How good the answers to the questions of one language are."""

    ranks: Sequence[int]
    """For each question the place of the right document, from 1; 0 when it is not on the first page."""
    times: Sequence[float]
    """In seconds, shortest first."""

    def recall(self, depth: int) -> float:
        """The share of questions whose document is among the first `depth`."""
        return sum(0 < rank <= depth for rank in self.ranks) / len(self.ranks)

    @property
    def mrr(self) -> float:
        """Mean reciprocal rank."""
        return sum(1 / rank for rank in self.ranks if rank) / len(self.ranks)

    @property
    def ndcg(self) -> float:
        """Normalised discounted cumulative gain: one document is right, so the ideal is 1."""
        return sum(1 / math.log2(rank + 1) for rank in self.ranks if rank) / len(self.ranks)


def main(
    server: Annotated[str, typer.Option(help="host:port of the gateway.")] = "127.0.0.1:8080",
    email: Annotated[str, typer.Option(envvar="THMNAYAH_ADMIN_EMAIL")] = "admin@thmnayah.local",
    password: Annotated[str, typer.Option(envvar="THMNAYAH_ADMIN_PASSWORD", prompt=True, hide_input=True)] = "",
    data: Annotated[Path, typer.Option(help="Folder of xquad-bilingual.")] = DATA,
    locale: Annotated[bool, typer.Option("--locale", help="Search only texts in the question's language.")] = False,
    floor_en: Annotated[float, typer.Option(help="Least recall@10 in English.")] = 0.95,
    floor_ar: Annotated[float, typer.Option(help="Least recall@10 in Arabic.")] = 0.90,
) -> None:
    """Measure the search of a running mesh; fails when it finds too little."""
    documents, questions = read_lines(data / "documents.jsonl"), read_lines(data / "queries.jsonl")
    _import(data / "documents.jsonl", server, email, password)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        _wait_until_found(server, documents, progress)
        found = {each: _ask(server, questions, each, each if locale else "", progress) for each in LOCALES}
    console.print(_table(found))
    floors = {"en": floor_en, "ar": floor_ar}
    missed = [each for each in LOCALES if found[each].recall(PAGE) < floors[each]]
    for each in missed:
        console.print(f"{LOCALES[each]}: recall@{PAGE} is below {floors[each]}", style="red")
    raise typer.Exit(1 if missed else 0)


def _import(documents: Path, server: str, email: str, password: str) -> None:
    """Have the documents there and published; what is there already stays."""
    command = str(Path(sys.executable).with_name("thmnayah"))
    fields = ("--map", "id=externalId", "--set", "type=article", "--publish")
    with tempfile.TemporaryDirectory() as folder:
        environ = {
            **os.environ,
            "THMNAYAH_CONFIG_DIR": folder,
            "THMNAYAH_PASSWORD": password,
            "THMNAYAH_SERVER": server,
        }
        for arguments in (["login", email], ["content", "import", str(documents), *fields]):
            if subprocess.run([command, *arguments], env=environ, check=False).returncode != 0:
                console.print(f"`thmnayah {' '.join(arguments)}` failed", style="red")
                raise typer.Exit(2)


def _wait_until_found(server: str, documents: Sequence[Mapping[str, str]], progress: Progress) -> None:
    """Until search finds each document by its own beginning."""
    task = progress.add_task("search converges", total=len(documents))
    give_up = time.monotonic() + CONVERGED_SECONDS
    missing = {each["id"]: each["body_en"][:LONGEST_QUERY] for each in documents}
    while missing:
        answers, _ = _search(server, list(missing.values()), "", lambda: None)
        missing = {
            name: text for (name, text), found in zip(missing.items(), answers, strict=True) if name not in found
        }
        progress.update(task, completed=len(documents) - len(missing))
        if missing and time.monotonic() > give_up:
            console.print(f"search does not find {next(iter(missing))} and {len(missing) - 1} more", style="red")
            raise typer.Exit(2)


def _ask(
    server: str, questions: Sequence[Mapping[str, str]], language: str, locale: str, progress: Progress
) -> Quality:
    task = progress.add_task(LOCALES[language], total=len(questions))
    texts = [each[f"query_{language}"] for each in questions]
    answers, times = _search(server, texts, locale, lambda: progress.advance(task))
    return Quality(
        ranks=[
            found.index(each["doc_id"]) + 1 if each["doc_id"] in found else 0
            for each, found in zip(questions, answers, strict=True)
        ],
        times=times,
    )


def _search(
    server: str, texts: Sequence[str], locale: str, advance: Callable[[], object]
) -> tuple[list[list[str]], list[float]]:
    """The external ids found for each text, best first, and the seconds each search took, shortest first."""
    answers: list[list[str]] = []

    def answered(_request: Request, body: bytes, _seconds: float) -> None:
        answers.append([result["content"]["externalId"] for result in json.loads(body)["results"]])
        advance()

    parameters = {"pageSize": PAGE, **({"locale": locale} if locale else {})}
    requests = [
        load.request(
            "GET", f"/v1/search?{urlencode({'query': text, **parameters}, quote_via=quote)}", expects='"results":['
        )
        for text in texts
    ]
    outcome = load.ask(server, requests, connections=1, answered=answered)
    if outcome.errors:
        console.print(f"search failed: {outcome.errors}", style="red", markup=False)
        raise typer.Exit(2)
    return answers, outcome.times


def _table(found: Mapping[str, Quality]) -> Table:
    table = Table("questions", title=f"{len(found['en'].ranks)} questions a language, asked one after the other",
                  title_justify="left", box=None, header_style="bold")  # fmt: skip
    for heading in ("recall@1", "recall@5", "recall@10", "MRR@10", "nDCG@10", "p50 ms", "p95 ms", "p99 ms"):
        table.add_column(heading, justify="right")
    for language, quality in found.items():
        table.add_row(
            LOCALES[language],
            *(f"{figure:.3f}" for figure in (*map(quality.recall, (1, 5, 10)), quality.mrr, quality.ndcg)),
            *(f"{load.percentile(quality.times, percent) * 1000:.1f}" for percent in load.PERCENTS),
        )
    return table


if __name__ == "__main__":
    typer.run(main)
