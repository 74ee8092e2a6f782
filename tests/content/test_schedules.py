"""What is published and unpublished at an instant: once, in time, and with a reason where it cannot be."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import grpc
import httpx
import pytest

from deploy.local.mesh import Mesh
from libs import db
from services.content import schedules
from tests.conftest import eventually
from tests.content.conftest import Announcements
from tests.content.items import Caller, refused
from thmnayah.content.v1.content_pb2 import Content, Schedule

BOTH = {"ar": "بيت الحكمة", "en": "The House of Wisdom"}


def soon(seconds: float = 1) -> datetime:
    """A second of the clock that has not begun."""
    return (datetime.now(UTC) + timedelta(seconds=seconds + 1)).replace(microsecond=0)


async def test_an_item_is_published_and_unpublished_when_it_is_time(
    editing: Caller, anyone: Caller, announced: Announcements
) -> None:
    item = await editing.create(title=BOTH)
    start = soon()
    item = await editing.schedule(item.id, Schedule.PUBLISH, start, "ar", zone="Asia/Riyadh")
    item = await editing.schedule(item.id, Schedule.UNPUBLISH, start + timedelta(seconds=2))

    assert item.locales["ar"].state == Content.SCHEDULED
    assert item.locales["en"].state == Content.DRAFT
    first = item.schedules[0]
    assert (first.time.ToDatetime(UTC), first.time_zone, first.state) == (start, "Asia/Riyadh", Schedule.PENDING)
    assert first.local_time == (start + timedelta(hours=3)).strftime("%Y-%m-%dT%H:%M:%S")
    assert (await refused(anyone.get(item.id))).code == grpc.StatusCode.NOT_FOUND

    published = await eventually(lambda: editing.get(item.id), lambda content: content.state == Content.PUBLISHED)
    assert published.publish_time.ToDatetime(UTC) - start < timedelta(seconds=2)
    assert set((await anyone.get(item.id)).title) == {"ar"}
    gone = await eventually(lambda: editing.get(item.id), lambda content: content.state == Content.DRAFT)
    assert list(gone.schedules) == []
    assert (await refused(anyone.get(item.id))).code == grpc.StatusCode.NOT_FOUND
    assert [event.subject for event in await announced(item.id)] == [
        "content.created",
        "content.scheduled",
        "content.scheduled",
        "content.published",
        "content.unpublished",
    ]


async def test_a_schedule_that_cannot_run_says_why(editing: Caller, announced: Announcements) -> None:
    item = await editing.create(title=BOTH)
    await editing.schedule(item.id, Schedule.PUBLISH, soon(), "en")
    await editing.update(item.id, paths=["title.en"])  # the English text is gone before its time

    failed = await eventually(
        lambda: editing.get(item.id), lambda content: content.schedules[0].state != Schedule.PENDING
    )

    assert (failed.schedules[0].state, failed.schedules[0].problem) == (Schedule.FAILED, "LOCALE_INCOMPLETE")
    assert failed.state == Content.DRAFT
    assert [event.subject for event in await announced(item.id)][-1] == "content.schedule_failed"
    assert list((await editing.unschedule(item.id, failed.schedules[0].id)).schedules) == []


async def test_what_is_taken_back_does_not_happen(editing: Caller) -> None:
    item = await editing.create(title=BOTH)
    await editing.schedule(item.id, Schedule.PUBLISH, soon(2))
    item = await editing.schedule(item.id, Schedule.PUBLISH, soon(60))

    item = await editing.unschedule(item.id, item.schedules[0].id)
    assert len(item.schedules) == 1
    item = await editing.unschedule(item.id)
    assert list(item.schedules) == []
    assert (await refused(editing.unschedule(item.id, "0199a0a0-0000-7000-8000-000000000001"))).reason == (
        "SCHEDULE_NOT_FOUND"
    )

    await asyncio.sleep(4)
    assert (await editing.get(item.id)).state == Content.DRAFT


async def test_archiving_takes_the_schedules_along(editing: Caller) -> None:
    item = await editing.create(title=BOTH)
    await editing.schedule(item.id, Schedule.PUBLISH, soon(60), "ar")
    await editing.schedule(item.id, Schedule.PUBLISH, soon(90), "en")

    assert [list(each.locales) for each in (await editing.archive(item.id, "ar")).schedules] == [["en"]]
    assert list((await editing.archive(item.id)).schedules) == []


@pytest.mark.parametrize(
    ("local_time", "time_zone", "field"),
    [
        ("2020-01-01T00:00:00", "Asia/Riyadh", "schedule.localTime"),
        ("2027-02-30T00:00:00", "Asia/Riyadh", "schedule.localTime"),
        ("2027-01-01T25:00:00", "Asia/Riyadh", "schedule.localTime"),
        ("2027-03-28T02:30:00", "Europe/Berlin", "schedule.localTime"),
        ("2027-01-01T00:00:00", "Asia/Nowhere", "schedule.timeZone"),
        ("2027-01-01T00:00:00", "../../etc/passwd", "schedule.timeZone"),
        ("2027-01-01T00:00:00", "/etc/passwd", "schedule.timeZone"),
        ("tomorrow", "Asia/Riyadh", "schedule.localTime"),
    ],
)
async def test_a_time_that_does_not_come_is_refused(
    rest: httpx.AsyncClient, editing: Caller, editor_token: str, local_time: str, time_zone: str, field: str
) -> None:
    item = await editing.create(title=BOTH)

    answer = await rest.post(
        f"/v1/contents/{item.id}:schedule",
        json={"schedule": {"action": "PUBLISH", "localTime": local_time, "timeZone": time_zone}},
        headers={"authorization": f"Bearer {editor_token}"},
    )

    assert answer.status_code == 400
    (violations,) = [each["fieldViolations"] for each in answer.json()["details"] if "fieldViolations" in each]
    assert [each["field"] for each in violations] == [field]
    assert list((await editing.get(item.id)).schedules) == []


def test_of_a_time_that_comes_twice_the_first_is_meant() -> None:
    assert schedules.instant("2027-10-31T02:30:00", "Europe/Berlin") == datetime(2027, 10, 31, 0, 30, tzinfo=UTC)


async def test_an_item_has_at_most_fifty_schedules(editing: Caller) -> None:
    item = await editing.create(title=BOTH)
    for number in range(50):
        await editing.schedule(item.id, Schedule.PUBLISH, soon(600 + number))

    refusal = await refused(editing.schedule(item.id, Schedule.PUBLISH, soon(700)))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "TOO_MANY_SCHEDULES")


async def test_three_replicas_do_each_thing_once(mesh: Mesh, editing: Caller, announced: Announcements) -> None:
    items = [await editing.create(title=BOTH) for _ in range(12)]
    start = soon(3)
    for item in items:
        await editing.schedule(item.id, Schedule.PUBLISH, start)
    pools = [await db.connect(mesh.database_url("content"), service="replica", size=2) for _ in range(3)]

    async def nobody(_: str) -> None:
        """These replicas serve no reader."""

    replicas = [asyncio.create_task(schedules.run(pool, nobody)) for pool in pools]
    await asyncio.sleep((start - datetime.now(UTC)).total_seconds())
    replicas[0].cancel()  # it may be in the middle of one
    await eventually(
        lambda: asyncio.gather(*(editing.get(item.id) for item in items)),
        lambda found: all(content.state == Content.PUBLISHED for content in found),
    )
    for task in replicas:
        task.cancel()
    await asyncio.gather(*replicas, return_exceptions=True)
    for pool in pools:
        await pool.close()

    for item in items:
        assert Counter(event.subject for event in await announced(item.id))["content.published"] == 1


async def test_the_same_schedule_twice_is_one(editing: Caller) -> None:
    item = await editing.create(title=BOTH)
    moment = soon(600)
    first = await editing.schedule(item.id, Schedule.PUBLISH, moment)

    assert await editing.schedule(item.id, Schedule.PUBLISH, moment) == first
    assert len((await editing.schedule(item.id, Schedule.PUBLISH, moment, "ar")).schedules) == 2
