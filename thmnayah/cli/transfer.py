"""Many items at once, from and to files: the commands `import` and `export`."""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import IO, Annotated, Any, BinaryIO

import grpc
import typer
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from thmnayah.auth.v1.auth_pb2 import GetMeRequest
from thmnayah.cli import records
from thmnayah.cli.checkpoints import Checkpoint, checkpoint_path
from thmnayah.cli.imports import Import
from thmnayah.cli.records import BadLine, Columns, WrongField
from thmnayah.cli.session import connect_as_user
from thmnayah.cli.terminal import (
    DEFAULT_LOCALE,
    DEFAULT_SERVER,
    AsJson,
    CommandError,
    Locale,
    Server,
    err,
    out,
    print_json,
)
from thmnayah.client import ApiError, Mesh, pages
from thmnayah.content.v1 import content_pb2
from thmnayah.content.v1.content_pb2 import Content, GetContentRequest, ListContentsRequest

EXPORT_PAGE_SIZE = 50

Format = Annotated[records.Format | None, typer.Option(help="Told by the name of the file when left out.")]


async def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON Lines or CSV; - for standard input.")],
    *,
    format: Format = None,
    map: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FIELD", help="Read NAME as FIELD; without a FIELD, leave it out."),
    ] = None,
    set: Annotated[
        list[str] | None, typer.Option(metavar="FIELD=VALUE", help="Where a line has no FIELD, it is VALUE.")
    ] = None,
    id_field: Annotated[str, typer.Option(metavar="NAME", help="Short for --map NAME=externalId.")] = "",
    publish: Annotated[
        bool | None,
        typer.Option(
            "--publish/--no-publish",
            help="Publish every item in all its locales, or none. When left out: in its publishedLocales.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check every line and change nothing.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Do not go on with a run that was cut short.")] = False,
    errors: Annotated[Path | None, typer.Option(help="Write what is wrong with bad lines here, as JSON Lines.")] = None,
    parallel: Annotated[int, typer.Option(min=1, max=256, help="So many items at once.")] = 16,
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
    as_json: AsJson = False,
) -> None:
    """Create or update the items of a file.

    An item is known by its externalId: it is created if there is none, updated if it differs and left
    alone otherwise. So a file may be imported again, and a run that was cut short goes on where it
    stopped. A line without an externalId is known by its id, as an export writes it: it is that item
    if it is here, otherwise the item with that externalId.

    Fields: externalId, type, category, tags, publishedLocales, and title, slug, description and body
    with a locale, such as title.ar or title_ar, or in JSON {"title": {"ar": "…"}}. One cell of CSV
    holds all tags, with | or ; between them. Custom fields are JSON, {"fields": {"number": {"number": 3}}},
    of CSV one cell of it. What a line names is set, an empty value clears, and
    what it does not name stays.

    A bad line is reported and does not stop the others; the exit status is then 1.

    Example: thmnayah content import items.csv --id-field sku --set type=article --publish
    """
    columns = _columns(map, set, id_field)
    path = None if file == "-" else Path(file)
    with ExitStack() as stack:
        source = stack.enter_context(_source(path))
        sink = stack.enter_context(_written(errors) if errors else nullcontext())
        progress = stack.enter_context(_progress(BarColumn(), DownloadColumn(), TimeRemainingColumn()))
        bar = progress.add_task("importing", total=path.stat().st_size if path and path.is_file() else None)
        entries = records.read(
            source, format or _format(file), columns, lambda size: progress.update(bar, advance=size)
        )
        async with connect_as_user(server, locale) as mesh:
            user = await mesh.auth.GetMe(GetMeRequest())
            checkpoint = None
            if path and path.is_file() and not dry_run:
                # The user's id tells an installation from another one that took over its address.
                circumstances = (server, user.id, str(columns.renamed), str(columns.defaults), str(publish))
                checkpoint = stack.enter_context(Checkpoint(checkpoint_path(path, *circumstances), restart=restart))
            run = Import(
                mesh,
                _reporter(progress, sink),
                checkpoint=checkpoint,
                publish=publish,
                dry_run=dry_run,
                parallel=parallel,
            )
            try:
                await run.run(entries)
            except WrongField as error:
                raise CommandError(str(error)) from None
            except BaseException:
                progress.stop()
                err.print(f"cut short, the same command goes on from here: {run.counts}", markup=False)
                raise
            if checkpoint:
                checkpoint.remove()
    if as_json:
        print_json(asdict(run.counts))
    else:
        out.print(f"{'dry run, nothing changed: ' if dry_run else ''}{run.counts}", markup=False)
    if run.counts.failed:
        raise typer.Exit(1)


async def export(
    file: Annotated[str, typer.Argument(metavar="[FILE]", help="Where to; standard output when left out.")] = "-",
    *,
    format: Format = None,
    filter: Annotated[str, typer.Option(help='Such as \'type = "episode" AND tags:"history"\'.')] = "",
    published: Annotated[bool, typer.Option("--published", help="What readers see, without any draft.")] = False,
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
) -> None:
    """Write items to a file that `import` makes the same items of.

    JSON Lines, or CSV by the name of the file or --format. A line holds the draft, and where it is
    published in publishedLocales. An item that was changed since it was published takes two lines:
    what readers see, then the draft. The file appears when it is complete.

    Items without an externalId are known by their id, which an import elsewhere makes their externalId.
    """
    as_csv = (format or _format(file)) == "csv"
    items = 0
    locales: dict[str, None] = {}
    with ExitStack() as stack:
        progress = stack.enter_context(_progress(MofNCompleteColumn()))
        bar = progress.add_task("exporting", total=None)
        sink = stack.enter_context(_output(file))
        # Which columns there are is known only when every item has been seen.
        spool = stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8")) if as_csv else sink
        async with connect_as_user(server, locale) as mesh:
            async for draft, shown in _items(mesh, filter, published=published):
                items += 1
                progress.update(bar, advance=1)
                for line in records.lines_of(draft, shown):
                    locales |= dict.fromkeys(each for name in records.LOCALISED for each in line[name])
                    spool.write(json.dumps(line, ensure_ascii=False) + "\n")
        if as_csv:
            spool.seek(0)
            columns = records.csv_columns(locales)
            sink.write(records.csv_line(columns))
            sink.writelines(records.csv_line(records.csv_cells(json.loads(line), columns)) for line in spool)
    err.print(f"{items} exported", markup=False)


async def _items(mesh: Mesh, filter: str, *, published: bool) -> AsyncIterator[tuple[Content, Content | None]]:
    """Each item as it is to be written and as readers see it, the oldest first."""
    view = content_pb2.PUBLISHED if published else content_pb2.DRAFT
    request = ListContentsRequest(filter=filter, order_by="create_time", page_size=EXPORT_PAGE_SIZE, view=view)

    async def shown(content: Content) -> Content | None:
        if published:
            return content
        if content.state != Content.PUBLISHED:
            return None
        asked = GetContentRequest(id=content.id, view=content_pb2.PUBLISHED)
        try:
            return await mesh.content.GetContent(asked)
        except ApiError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise
        return None

    async for page in pages(mesh.content.ListContents, request):
        for pair in zip(page.contents, await asyncio.gather(*map(shown, page.contents)), strict=True):
            yield pair


def _columns(map: Sequence[str] | None, set: Sequence[str] | None, id_field: str) -> Columns:
    renamed = _pairs("--map", map) | ({id_field: "externalId"} if id_field else {})
    try:
        return Columns(renamed, _pairs("--set", set))
    except WrongField as error:
        raise CommandError(str(error)) from None


def _pairs(option: str, given: Sequence[str] | None) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for each in given or ():
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise CommandError(f"{option}: {each!r} is not NAME=VALUE")
        pairs[name] = value
    return pairs


def _format(file: str) -> records.Format:
    return "csv" if Path(file).suffix.lower() == ".csv" else "jsonl"


def _source(path: Path | None) -> AbstractContextManager[BinaryIO]:
    # A thread may be waiting for standard input when the process ends: closing it would wait too,
    # and so would the interpreter for sys.stdin.
    return path.open("rb") if path else nullcontext(open(0, "rb", closefd=False))


def _written(path: Path) -> IO[str]:
    return path.open("w", encoding="utf-8")


def _reporter(progress: Progress, sink: IO[str] | None) -> Callable[[BadLine], None]:
    """Says what is wrong with a line, to people and, if wanted, to a file."""

    def report(bad: BadLine) -> None:
        for problem in bad.problems:
            where = f"line {bad.line}: {problem.field}: " if problem.field else f"line {bad.line}: "
            progress.console.print(Text(where, style="red").append(problem.reason, "default"))
            if sink:
                told = {"line": bad.line, "externalId": bad.external_id, **asdict(problem)}
                print(json.dumps(told, ensure_ascii=False), file=sink, flush=True)

    return report


def _progress(*columns: Any) -> Progress:
    columns = (TextColumn("{task.description}"), *columns)
    return Progress(*columns, console=err, transient=True, disable=not err.is_terminal)


@contextmanager
def _output(file: str) -> Iterator[IO[str]]:
    """Where to write: standard output, or a file that appears when it is complete."""
    path = Path(file)
    if file == "-":
        yield sys.stdout
        sys.stdout.flush()
    elif path.exists() and not path.is_file():  # a pipe, a device
        with path.open("w", encoding="utf-8", newline="") as sink:
            yield sink
    else:
        path = path.resolve()
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with part.open("w", encoding="utf-8", newline="") as sink:
                yield sink
                sink.flush()
                os.fsync(sink.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
