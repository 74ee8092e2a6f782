"""Where each locale of an item stands: read from its row, and told in its message."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp

from libs.errors import FailedPrecondition
from libs.permissions import Columns
from thmnayah.content.v1.content_pb2 import Content, PublishWait, Schedule

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Columns by name: a row of `contents`, perhaps with what a change made of it.
Row: TypeAlias = Mapping[str, Any]


def describe(content: Content, row: Row) -> None:
    """Set the state of an item and of each of its locales, as editors see them, and what is scheduled."""
    # What readers see stays told, though its draft may be gone.
    for locale in {**row["title"], **row["published"]}:
        status = content.locales[locale]
        of_draft = stage(row, locale)
        status.stale = locale in row["stale"]
        if locale in row["published"]:
            status.state = Content.PUBLISHED
            status.publish_time.CopyFrom(timestamp(datetime.fromisoformat(row["published"][locale]["time"])))
            if modified(row, locale):
                status.draft_state = of_draft
        else:
            status.state = of_draft
        if locale in row["reviews"]:
            status.review.CopyFrom(_review(row["reviews"][locale]))
    states = {status.state for status in content.locales.values()}
    content.state = next(state for state in _FURTHEST_FIRST if state in states or state == Content.DRAFT)
    if states == {Content.ARCHIVED}:
        content.state = Content.ARCHIVED
    content.schedules.extend(schedule(each) for each in row["schedules"])
    if row["waiting"] is not None:
        content.waiting.CopyFrom(_waiting(row["waiting"]))


def stage(row: Row, locale: str) -> "Content.State.ValueType":
    """How far the draft of a locale is."""
    if locale in row["archived"]:
        return Content.ARCHIVED
    if any(
        each["action"] == Schedule.PUBLISH
        and each["state"] == Schedule.PENDING
        and (locale in each["locales"] or (not each["locales"] and locale in row["title"]))
        for each in row["schedules"]
    ):
        return Content.SCHEDULED
    return Content.State.Value(row["reviews"].get(locale, {}).get("stage", "DRAFT"))


def modified(row: Row, locale: str, *, shared: bool = True) -> bool:
    """Whether a locale's draft, with or without what all locales share, was changed since readers see it."""
    if locale not in row["published"]:
        return True
    version = row["published"][locale]["version"]
    about = ("", locale) if shared else (locale,)
    return any(changed > version for path, changed in row["changes"].items() if locale_of(path) in about)


def locale_of(path: str) -> str:
    """The locale that a change at a path is about: `ar` of `title.ar` and of `fields.f1.ar`; "" for all of them."""
    parts = path.split(".")
    return parts[-1] if len(parts) > 1 else ""


def wanted(row: Row, locales: Sequence[str], default: Iterable[str]) -> list[str]:
    """The locales that a request names, or the default ones.

    Raises:
        FailedPrecondition: one of them has no title.
    """
    chosen = list(locales) or sorted(default)
    missing = [locale for locale in chosen if not row["title"].get(locale)]
    if missing:
        named = ", ".join(missing)
        raise FailedPrecondition(
            "LOCALE_INCOMPLETE",
            f"there is no title in: {named}",
            f"لا يوجد عنوان في: {named}",
            violations={f"title.{locale}": "is required in this locale" for locale in missing},
        )
    return chosen


def archived(locales: Sequence[str]) -> FailedPrecondition:
    """These locales are put away."""
    named = ", ".join(locales)
    return FailedPrecondition(
        "LOCALE_ARCHIVED",
        f"restore these locales first: {named}",
        f"استعد هذه اللغات من الأرشيف أولًا: {named}",
        violations={f"locales.{locale}": "is archived" for locale in locales},
    )


def schedule(stored: Mapping[str, Any]) -> Schedule:
    """A schedule as its row keeps it."""
    return Schedule(
        id=stored["id"],
        action=stored["action"],
        locales=stored["locales"],
        local_time=stored["local_time"],
        time_zone=stored["time_zone"],
        time=timestamp(datetime.fromisoformat(stored["time"])),
        state=stored["state"],
        problem=stored["problem"],
        created_by=stored["created_by"],
    )


def timestamp(moment: datetime) -> Timestamp:
    """A moment as messages have it. A third of what FromDatetime takes, and an answer has ten."""
    since = moment - _EPOCH
    return Timestamp(seconds=since.days * 86400 + since.seconds, nanos=since.microseconds * 1000)


def _waiting(stored: Mapping[str, Any]) -> PublishWait:
    return PublishWait(
        locales=stored["locales"],
        create_time=timestamp(datetime.fromisoformat(stored["time"])),
        created_by=stored["created_by"],
        problem=stored["problem"],
    )


def _review(stored: Mapping[str, Any]) -> Content.Review:
    review = Content.Review(
        revision=stored["revision"],
        submitted_by=stored["submitted_by"],
        submit_time=timestamp(datetime.fromisoformat(stored["submit_time"])),
        reviewers=stored["reviewers"],
        note=stored["note"],
        approvals=[
            Content.Review.Approval(user_id=each["user_id"], time=timestamp(datetime.fromisoformat(each["time"])))
            for each in stored["approvals"]
        ],
    )
    if stored["due_time"]:
        review.due_time.CopyFrom(timestamp(datetime.fromisoformat(stored["due_time"])))
    return review


_FURTHEST_FIRST = (Content.PUBLISHED, Content.SCHEDULED, Content.APPROVED, Content.IN_REVIEW, Content.DRAFT)


def columns(table: str, *, field: str = "", locale: str = "") -> Columns:
    """What conditions on drafts are about, of rows of `contents` by the name of a table.

    Args:
        field, locale: see `Columns`.
    """
    return Columns(
        type=f"{table}.type",
        category=f"{table}.category",
        created_by=f"{table}.created_by",
        state=STATE.format(table=table),
        has_locale=f"({table}.title ?| {{0}} OR {table}.published ?| {{0}})",
        field=field,
        locale=locale,
    )


# The state of an item as `describe` tells it, of a row of `contents` by the name {table}.
STATE = f"""(
    SELECT CASE
        WHEN {{table}}.published <> '{{{{}}}}' THEN 'PUBLISHED'
        WHEN bool_or(NOT away AND scheduled) THEN 'SCHEDULED'
        WHEN bool_or(NOT away AND stage = 'APPROVED') THEN 'APPROVED'
        WHEN bool_or(NOT away AND stage = 'IN_REVIEW') THEN 'IN_REVIEW'
        WHEN bool_and(away) THEN 'ARCHIVED'
        ELSE 'DRAFT'
    END
    FROM (
        SELECT locale = ANY({{table}}.archived) AS away, {{table}}.reviews -> locale ->> 'stage' AS stage, EXISTS (
            SELECT FROM jsonb_array_elements({{table}}.schedules) AS one
            WHERE one -> 'action' = '{int(Schedule.PUBLISH)}' AND one -> 'state' = '{int(Schedule.PENDING)}'
              AND (one -> 'locales' = '[]' OR one -> 'locales' ? locale)
        ) AS scheduled
        FROM jsonb_object_keys({{table}}.title) AS locale
    ) AS of_locales
)"""
