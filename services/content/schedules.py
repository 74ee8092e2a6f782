"""Publishing and unpublishing at an instant: set, taken back, and run once by whichever replica comes first."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import asyncpg
import structlog
from prometheus_client import Counter, Histogram

from libs.db import Connection, Pool, transaction
from libs.errors import FailedPrecondition, Failure, InvalidArgument, NotFound
from services.content import contents, publishing
from services.content.stages import Row
from thmnayah.content.v1.content_pb2 import Content, Schedule
from thmnayah.content.v1.workflow_pb2 import ContentScheduled, ContentScheduleFailed

MAX_SCHEDULES = 50
POLL_SECONDS = 0.5

_ran = Counter("schedules_total", "Schedules that came due", ["action", "outcome"])
_late = Histogram(
    "schedule_lateness_seconds",
    "From the instant that was set to the start of the transaction",
    buckets=(0.1, 0.25, 0.5, 1, 2, 5, 30, 300),
)
_log = structlog.get_logger(__name__)


async def add(conn: Connection, row: Row, schedule: Schedule, *, author: str) -> Content | None:
    """Set what is to happen to the item of a locked row; None when just that is set already."""
    moment = instant(schedule.local_time, schedule.time_zone)
    wanted = {
        "action": schedule.action,
        "locales": list(schedule.locales),
        "local_time": schedule.local_time,
        "time_zone": schedule.time_zone,
        "state": Schedule.PENDING,
    }
    if any(wanted.items() <= each.items() for each in row["schedules"]):
        return None
    if moment <= row["moment"]:
        raise InvalidArgument({"schedule.localTime": f"has passed in {schedule.time_zone}"})
    if len(row["schedules"]) >= MAX_SCHEDULES:
        raise FailedPrecondition(
            "TOO_MANY_SCHEDULES",
            f"an item has at most {MAX_SCHEDULES} schedules",
            f"للعنصر {MAX_SCHEDULES} موعدًا على الأكثر",
        )
    if schedule.action == Schedule.PUBLISH:
        publishing.check_publishable(row, schedule.locales, Content())
    stored = {
        **wanted,
        "id": str(uuid.uuid4()),
        "time": moment.isoformat(),
        "problem": "",
        "created_by": author,
    }
    return await contents.store(
        conn,
        row,
        columns([*row["schedules"], stored]),
        events=[lambda content: ContentScheduled(content=content, locales=schedule.locales)],
    )


async def remove(conn: Connection, row: Row, schedule_id: str) -> Content | None:
    """Take back one schedule, or all; None when there is none to take back."""
    kept = [each for each in row["schedules"] if schedule_id and each["id"] != schedule_id]
    if len(kept) == len(row["schedules"]):
        if schedule_id:
            raise NotFound("SCHEDULE_NOT_FOUND", f"no schedule {schedule_id}", f"لا يوجد موعد {schedule_id}")
        return None
    return await contents.store(conn, row, columns(kept))


def instant(local_time: str, time_zone: str) -> datetime:
    """The instant that a wall clock shows a time; of two, the first.

    Raises:
        InvalidArgument: there is no such zone, or its clocks skip that time.
    """
    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidArgument({"schedule.timeZone": "is not an IANA time zone, such as Asia/Riyadh"}) from None
    try:
        shown = datetime.fromisoformat(local_time).replace(tzinfo=zone)
        moment = shown.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidArgument({"schedule.localTime": "is not a time, such as 2026-12-01T20:00:00"}) from None
    if moment.astimezone(zone).replace(tzinfo=None) != shown.replace(tzinfo=None):
        raise InvalidArgument({"schedule.localTime": f"does not exist in {time_zone}: its clocks go forward then"})
    return moment


def columns(schedules: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The columns that keep an item's schedules, soonest first."""
    ordered = sorted(schedules, key=lambda each: str(each["time"]))
    pending = [datetime.fromisoformat(each["time"]) for each in ordered if each["state"] == Schedule.PENDING]
    return {"schedules": ordered, "next_schedule": min(pending, default=None)}


async def run(pool: Pool, changed: Callable[[str], Awaitable[None]]) -> None:
    """Do for ever what comes due.

    Args:
        changed: told the id of each item that readers may see differently now.
    """
    while True:
        try:
            while (content_id := await run_next(pool)) is not None:
                await changed(content_id)
        except (Failure, OSError, asyncpg.PostgresError) as error:  # the next round tries again
            _log.warning("schedule_interrupted", error=type(error).__name__)
        await asyncio.sleep(POLL_SECONDS)


async def run_next(pool: Pool) -> str | None:
    """Do the first thing that is due, in the transaction that takes it off the list; the item's id, or None.

    So it happens once, however many replicas run and whenever one of them dies.
    """
    async with transaction(pool) as conn:
        due = await conn.fetchrow(
            f"{contents.SELECT} WHERE next_schedule <= now() ORDER BY next_schedule LIMIT 1 FOR UPDATE SKIP LOCKED"
        )
        if due is None:
            return None
        row = dict(due)
        now = next(each for each in row["schedules"] if each["state"] == Schedule.PENDING)
        _late.observe((row["moment"] - datetime.fromisoformat(now["time"])).total_seconds())
        rest = [each for each in row["schedules"] if each["id"] != now["id"]]
        step = publishing.publish if now["action"] == Schedule.PUBLISH else publishing.unpublish
        outcome = "done"
        try:
            async with conn.transaction():
                if await step(conn, row, locales=now["locales"], also=columns(rest)) is None:
                    await contents.store(conn, row, columns(rest))
        except FailedPrecondition as failure:
            outcome = failure.reason
            failed = {**now, "state": Schedule.FAILED, "problem": failure.reason}
            await contents.store(
                conn,
                row,
                columns([*rest, failed]),
                events=[lambda content: ContentScheduleFailed(content=content, locales=now["locales"])],
            )
        _ran.labels(Schedule.Action.Name(now["action"]).lower(), outcome).inc()
        return str(row["id"])
