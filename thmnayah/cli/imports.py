"""What becomes of each line of an import: an item created, updated, left alone, or a reason why not."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Thread
from typing import Literal, TypeVar
from unicodedata import normalize

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from thmnayah.cli.checkpoints import Checkpoint
from thmnayah.cli.records import LOCALISED, BadLine, Problem, Record, shows
from thmnayah.cli.retries import TRANSIENT, patiently
from thmnayah.cli.terminal import describe
from thmnayah.client import ApiError, Mesh
from thmnayah.content.v1 import content_pb2
from thmnayah.content.v1.content_pb2 import (
    Content,
    CreateContentRequest,
    GetContentRequest,
    ListContentsRequest,
    PublishContentRequest,
    UpdateContentRequest,
)

# What one filter may hold, see ListContentsRequest.
FILTER_TERMS = 50
FILTER_BYTES = 2048

# Lines that are looked up together are in memory together.
BATCH_BYTES = 8 * 1024 * 1024

# What would happen to every other line too, so it ends the run.
FATAL = (*TRANSIENT, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)

# No item has it: the service gives UUIDs of version 7.
NO_ID = "00000000-0000-0000-0000-000000000000"

Outcome = Literal["created", "updated", "unchanged"]
T = TypeVar("T")


@dataclass
class Counts:
    """What became of the lines of a file; all but `published` add up to `read`."""

    read: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    failed: int = 0
    skipped: int = 0
    """Done by an earlier run that was cut short."""
    published: int = 0
    """Items whose publication changed."""

    def __str__(self) -> str:
        counted = {"created": self.created, "updated": self.updated, "unchanged": self.unchanged, "failed": self.failed}
        if self.skipped:
            counted["done before"] = self.skipped
        if rest := self.read - sum(counted.values()):
            counted["not finished"] = rest
        return (
            f"{self.read} read: {', '.join(f'{n} {what}' for what, n in counted.items())}; {self.published} published"
        )


@dataclass(frozen=True)
class _Existing:
    """An item that is there already."""

    draft: Content
    shown: Content | None = None
    """What readers see of it, where that was asked for."""


class Import:
    """One run of an import."""

    def __init__(
        self,
        mesh: Mesh,
        report: Callable[[BadLine], None],
        *,
        checkpoint: Checkpoint | None = None,
        publish: bool | None = None,
        dry_run: bool = False,
        parallel: int = 16,
    ) -> None:
        """Args:
        report: told of every bad line.
        checkpoint: knows the lines that need not be done again.
        publish: every item in all its locales, or none; None for the locales that each line names.
        dry_run: check everything, change nothing.
        parallel: so many items at once.
        """
        self.counts = Counts()
        self._mesh = mesh
        self._report = report
        self._checkpoint = checkpoint
        self._publish = publish
        self._dry_run = dry_run
        self._slots = asyncio.Semaphore(parallel)
        self._running: dict[str, asyncio.Task[None]] = {}

    async def run(self, entries: Iterator[Record | BadLine]) -> None:
        """Deal with every line.

        Raises:
            ApiError: the server is away for good, or the caller may not import.
        """
        lines = batches(entries)
        try:
            async with asyncio.TaskGroup() as group:
                while (batch := await _in_thread(lambda: next(lines, None))) is not None:
                    await self._start(batch, group)
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _start(self, batch: Sequence[Record | BadLine], group: asyncio.TaskGroup) -> None:
        todo = []
        for entry in batch:
            self.counts.read += 1
            if isinstance(entry, BadLine):
                self._fail(entry)
            elif self._checkpoint is not None and entry.line in self._checkpoint:
                self.counts.skipped += 1
            else:
                todo.append(entry)
        # When a file holds an item twice, the later line must find what the earlier one left.
        earlier = [self._running[key] for key in map(_key, todo) if key in self._running]
        if earlier:
            await asyncio.wait(earlier)
        existing = await self._find(todo)
        for record in todo:
            await self._slots.acquire()
            key = _key(record)
            self._running[key] = group.create_task(self._take(record, existing.get(key)))

    async def _take(self, record: Record, existing: _Existing | None) -> None:
        try:
            outcome = await (self._check(record, existing) if self._dry_run else self._apply(record, existing))
        except ApiError as error:
            if error.code() in FATAL:
                raise
            self._fail(BadLine(record.line, _problems(error), _key(record)))
        except _Refused as refused:
            self._fail(BadLine(record.line, refused.problems, _key(record)))
        else:
            setattr(self.counts, outcome, getattr(self.counts, outcome) + 1)
            if self._checkpoint is not None:
                self._checkpoint.add(record.line)
        finally:
            self._slots.release()
            del self._running[_key(record)]

    def _fail(self, bad: BadLine) -> None:
        self.counts.failed += 1
        self._report(bad)

    async def _find(self, batch: Sequence[Record]) -> dict[str, _Existing]:
        """The items that are there already, by the external ids of their records."""
        if not batch:
            return {}
        ids = [_key(record) for record in batch]
        drafts = await self._list(ids, content_pb2.DRAFT)
        for record in batch:
            if record.content.id and _key(record) not in drafts and (draft := await self._get(record.content.id)):
                drafts[_key(record)] = draft
        publishing = any(_key(record) in drafts and self._is_published(record) for record in batch)
        shown = await self._list(ids, content_pb2.PUBLISHED) if publishing else {}
        return {key: _Existing(draft, shown.get(key)) for key, draft in drafts.items()}

    async def _list(self, external_ids: Sequence[str], view: content_pb2.View.ValueType) -> dict[str, Content]:
        conditions = " OR ".join(map(equals_external_id, external_ids))
        request = ListContentsRequest(filter=conditions, page_size=FILTER_TERMS, view=view)
        page = await patiently(lambda: self._mesh.content.ListContents(request))
        return {content.external_id: content for content in page.contents}

    async def _get(self, content_id: str) -> Content | None:
        request = GetContentRequest(id=content_id, view=content_pb2.DRAFT)
        try:
            return await patiently(lambda: self._mesh.content.GetContent(request))
        except ApiError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise
        return None

    async def _apply(self, record: Record, existing: _Existing | None) -> Outcome:
        if existing is None:
            content, outcome = await self._create(record)
        else:
            content, outcome = await self._update(record, existing.draft)
        if self._is_published(record):
            locales = sorted(content.title) if self._publish else record.published_locales
            if not (existing and existing.shown and shows(existing.shown, content, locales)):
                # What it refers to may stand further down in the file.
                wait = PublishContentRequest.WAIT
                request = PublishContentRequest(id=content.id, locales=locales, references=wait)
                published = await patiently(lambda: self._mesh.content.PublishContent(request))
                self.counts.published += published.version != content.version and not published.HasField("waiting")
        return outcome

    def _is_published(self, record: Record) -> bool:
        return bool(record.published_locales) if self._publish is None else self._publish

    async def _create(self, record: Record) -> tuple[Content, Outcome]:
        request = CreateContentRequest(content=record.content)
        try:
            return await patiently(lambda: self._mesh.content.CreateContent(request)), "created"
        except ApiError as error:
            if error.reason != "EXTERNAL_ID_TAKEN":
                raise
            # It was made since the look-up: by somebody else, or by a call whose answer was lost.
            existing = (await self._find([record])).get(_key(record))
            if existing is None:
                raise
        return await self._update(record, existing.draft)

    async def _update(self, record: Record, draft: Content) -> tuple[Content, Outcome]:
        paths = _changes(record, draft)
        if not paths:
            return draft, "unchanged"
        request = UpdateContentRequest(content=record.content, update_mask=FieldMask(paths=paths))
        request.content.id = draft.id
        content = await patiently(lambda: self._mesh.content.UpdateContent(request))
        # The service keeps some values in a form of its own, and so knows better what differs.
        return content, "unchanged" if content.version == draft.version else "updated"

    async def _check(self, record: Record, existing: _Existing | None) -> Outcome:
        """What would become of a record.

        To ask the service, an item that does not exist is updated: that is checked like any other
        update and then ends in NOT_FOUND.
        """
        if existing is None and (missing := [name for name in ("type", "title") if not getattr(record.content, name)]):
            raise _Refused(*(Problem(name, "is required") for name in missing))
        paths = record.paths if existing is None else _changes(record, existing.draft)
        request = UpdateContentRequest(content=record.content, update_mask=FieldMask(paths=paths))
        request.content.id = NO_ID
        try:
            await patiently(lambda: self._mesh.content.UpdateContent(request))
        except ApiError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise
        return "created" if existing is None else "updated" if paths else "unchanged"


class _Refused(Exception):
    """A record that cannot be applied, which is known without asking the service."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(problems)
        self.problems = problems


def batches(entries: Iterator[Record | BadLine]) -> Iterator[list[Record | BadLine]]:
    """The lines in order, in groups whose items are all different and fit into one look-up."""
    batch: list[Record | BadLine] = []
    keys: set[str] = set()
    filter_bytes = content_bytes = 0
    for entry in entries:
        key, term_bytes, size = "", 0, 0
        if isinstance(entry, Record):
            key = _key(entry)
            term_bytes = len(f"{equals_external_id(key)} OR ".encode())
            size = entry.content.ByteSize()
        fits = (
            len(batch) < FILTER_TERMS
            and filter_bytes + term_bytes <= FILTER_BYTES
            and content_bytes + size <= BATCH_BYTES
            and key not in keys
        )
        if batch and not fits:
            yield batch
            batch, keys = [], set()
            filter_bytes = content_bytes = 0
        batch.append(entry)
        if key:
            keys.add(key)
        filter_bytes += term_bytes
        content_bytes += size
    if batch:
        yield batch


def equals_external_id(external_id: str) -> str:
    """The filter that the item with this external id matches."""
    escaped = external_id.replace("\\", "\\\\").replace('"', '\\"')
    return f'external_id = "{escaped}"'


def differing(record: Record, content: Content) -> list[str]:
    """The paths that a record names and at which an item holds something else."""
    return [path for path in record.paths if _at(record.content, path) != _at(content, path)]


def _at(content: Content, path: str) -> object:
    """The value at a path in the form that the service stores."""
    name, _, locale = path.partition(".")
    value = getattr(content, name)
    if name == "fields":
        return value.get(locale)
    if locale:
        return normalize("NFC", value.get(locale, ""))
    if name in LOCALISED:
        return {each: normalize("NFC", text) for each, text in value.items() if text}
    if name == "tags":
        return [normalize("NFC", tag) for tag in value]
    return normalize("NFC", value)


def _changes(record: Record, draft: Content) -> list[str]:
    kind = record.content.type
    if kind not in ("", draft.type):
        raise _Refused(Problem("type", f"cannot become {kind!r}: the item was made as {draft.type!r}"))
    return differing(record, draft)


def _key(record: Record) -> str:
    return record.content.external_id


def _problems(error: ApiError) -> list[Problem]:
    violations = [Problem(field.removeprefix("content."), why) for field, why in error.violations.items()]
    return violations or [Problem("", describe(error))]


def _in_thread(function: Callable[[], T]) -> "asyncio.Future[T]":
    """Run what may wait for input beside the event loop.

    Unlike asyncio's own threads, this one does not keep a process from ending while it waits.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 -- whoever awaits it gets it
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return asyncio.wrap_future(future)
