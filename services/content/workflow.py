"""The way of a draft to its readers: submitted, approved or given back, put away and taken out again."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from libs.db import Connection
from libs.errors import Conflict, FailedPrecondition, Forbidden, InvalidArgument
from services.content import contents, places, publishing, schedules, stages, translations
from services.content.stages import Row
from thmnayah.content.v1.content_pb2 import Content, ContentUpdated
from thmnayah.content.v1.workflow_pb2 import (
    ContentApproved,
    ContentArchived,
    ContentChangesRequested,
    ContentRestored,
    ContentSubmitted,
)


async def submit(
    conn: Connection,
    row: Row,
    *,
    locales: Sequence[str],
    reviewers: Sequence[str],
    due_time: datetime | None,
    note: str,
    author: str,
) -> Content | None:
    """Hand the drafts of some locales to reviewers; None when just that was done already."""
    open_ones = [locale for locale in row["title"] if locale not in row["archived"] and stages.modified(row, locale)]
    chosen = stages.wanted(row, locales, open_ones)
    if put_away := sorted({*chosen} & {*row["archived"]}):
        raise stages.archived(put_away)
    if same := sorted({*chosen} - {*open_ones}) or ([] if chosen else sorted(row["title"])):
        raise FailedPrecondition(
            "NOTHING_TO_REVIEW",
            f"readers see the draft as it is in: {', '.join(same)}",
            f"يرى القراء المسودة كما هي في: {', '.join(same)}",
            violations={f"locales.{locale}": "has no newer draft" for locale in same},
        )
    asked = {
        "revision": row["revision"],
        "submitted_by": author,
        "reviewers": list(reviewers),
        "due_time": due_time.isoformat() if due_time else "",
        "note": note,
    }
    news = [locale for locale in chosen if not asked.items() <= row["reviews"].get(locale, {}).items()]
    if not news:
        return None
    asked |= {"stage": "IN_REVIEW", "submit_time": row["moment"].isoformat(), "approvals": []}
    return await contents.store(
        conn,
        row,
        {"reviews": {**row["reviews"], **dict.fromkeys(news, asked)}},
        events=[lambda content: ContentSubmitted(content=content, locales=news)],
    )


async def approve(
    conn: Connection, row: Row, *, locales: Sequence[str], revision: int, reviewer: str
) -> Content | None:
    """Add a reviewer's approval; None when they had given it.

    Args:
        revision: that was read; 0 for whatever is under review.
    """
    workflow = contents.type_of(row).workflow
    chosen = _under_review(row, locales, ("IN_REVIEW", "APPROVED") if locales else ("IN_REVIEW",))
    authors = await _authors(conn, row, [row["reviews"][locale]["revision"] for locale in chosen])
    for locale in chosen:
        review = row["reviews"][locale]
        if revision not in (0, review["revision"]):
            raise Conflict(
                "ETAG_MISMATCH",
                "another revision is under review now; read it",
                "توجد الآن نسخة أخرى قيد المراجعة؛ اقرأها",
                metadata={"revision": str(review["revision"]), "etag": f'"{row["version"]}"'},
            )
        if review["reviewers"] and reviewer not in review["reviewers"]:
            raise Forbidden("NOT_A_REVIEWER", "others are asked to review this", "طُلبت هذه المراجعة من غيرك")
        if reviewer in (review["submitted_by"], authors.get(review["revision"])) and not workflow.author_may_approve:
            raise Forbidden("OWN_WORK", "nobody approves their own work here", "لا يعتمد أحد عمله بنفسه هنا")
    reviews = dict(row["reviews"])
    given = {"user_id": reviewer, "time": row["moment"].isoformat()}
    for locale in chosen:
        review = reviews[locale]
        if all(each["user_id"] != reviewer for each in review["approvals"]):
            approvals = [*review["approvals"], given]
            enough = len(approvals) >= max(1, workflow.required_approvals)
            reviews[locale] = {**review, "approvals": approvals, "stage": "APPROVED" if enough else "IN_REVIEW"}
    if reviews == row["reviews"]:
        return None
    approved = [
        locale
        for locale in chosen
        if reviews[locale]["stage"] == "APPROVED" and row["reviews"][locale]["stage"] != "APPROVED"
    ]
    events = [lambda content: ContentApproved(content=content, locales=approved)] if approved else []
    return await contents.store(conn, row, {"reviews": reviews}, events=events)


async def request_changes(conn: Connection, row: Row, *, locales: Sequence[str], note: str) -> Content:
    """Give what is in review or approved back to its authors."""
    chosen = _under_review(row, locales, ("IN_REVIEW", "APPROVED"))
    reviews = {locale: review for locale, review in row["reviews"].items() if locale not in chosen}
    return await contents.store(
        conn,
        row,
        {"reviews": reviews},
        events=[lambda content: ContentChangesRequested(content=content, locales=chosen, note=note)],
    )


async def archive(conn: Connection, row: Row, *, locales: Sequence[str], force: bool) -> Content | None:
    """Put locales away, from readers and authors alike; None when they are already.

    Args:
        force: also when published items refer to them.
    """
    chosen = [locale for locale in locales or {**row["title"], **row["published"]} if locale not in row["archived"]]
    # Readers may see what has no draft any more.
    stages.wanted(row, [locale for locale in chosen if locale not in row["published"]], ())
    if not chosen:
        return None
    put_away = sorted({*row["archived"], *chosen})
    columns = {
        "archived": [locale for locale in put_away if locale in row["title"]],
        "reviews": {locale: review for locale, review in row["reviews"].items() if locale not in chosen},
        **_without_schedules(row, put_away),
    }
    shown = await publishing.unpublish(conn, row, locales=chosen, force=force)
    if shown is not None:
        row = await contents.read(conn, str(row["id"]), lock=True)
    return await contents.store(
        conn, row, columns, events=[lambda content: ContentArchived(content=content, locales=chosen)]
    )


async def restore(conn: Connection, row: Row, *, locales: Sequence[str]) -> Content | None:
    """Make archived locales drafts again; None when none of them is archived."""
    chosen = sorted({*(locales or row["archived"])} & {*row["archived"]})
    if not chosen:
        return None
    kept = [locale for locale in row["archived"] if locale not in chosen]
    return await contents.store(
        conn, row, {"archived": kept}, events=[lambda content: ContentRestored(content=content, locales=chosen)]
    )


async def confirm_translation(
    conn: Connection, row: Row, *, locales: Sequence[str], paths: Sequence[str]
) -> Content | None:
    """Say of texts that they still hold, those of some locales and those at some paths; None when none is stale."""
    chosen = {path for path, *_ in translations.behind(row) if stages.locale_of(path) in locales}
    for number, path in enumerate(paths):
        place = places.find(contents.type_of(row), path)
        if place is None or not place.locale:
            raise InvalidArgument({f"paths[{number}]": "is not a text in one locale of this item"})
        chosen.add(f"{place.field}.{place.locale}")
    sources = translations.confirmed(row, chosen)
    if sources == row["sources"]:
        return None
    late = translations.stale({**row, "sources": sources}, contents.type_of(row))
    columns = {"sources": sources, "stale": late, "update_time": row["moment"]}
    return await contents.store(conn, row, columns, events=[lambda content: ContentUpdated(content=content)])


def _without_schedules(row: Row, put_away: Sequence[str]) -> Mapping[str, Any]:
    """The columns of schedules without those that are about archived locales alone."""
    kept = [each for each in row["schedules"] if not each["locales"] or not {*each["locales"]} <= {*put_away}]
    if {*row["title"]} <= {*put_away}:
        kept = []
    return schedules.columns(kept)


def _under_review(row: Row, locales: Sequence[str], expected: Sequence[str]) -> list[str]:
    """The locales named, or all that are there; each must be in one of the stages."""
    there = sorted(locale for locale, review in row["reviews"].items() if review["stage"] in expected)
    chosen = list(locales) or there
    if not chosen or not {*chosen} <= {*there}:
        others = sorted({*chosen} - {*there})
        raise FailedPrecondition(
            "NOT_IN_REVIEW",
            f"nothing is under review in: {', '.join(others)}" if others else "nothing is under review",
            f"لا شيء قيد المراجعة في: {'، '.join(others)}" if others else "لا شيء قيد المراجعة",
            violations={f"locales.{locale}": "is not under review" for locale in others},
        )
    return chosen


async def _authors(conn: Connection, row: Row, revisions: Sequence[int]) -> dict[int, str]:
    """Who saved each of these revisions."""
    rows = await conn.fetch(
        "SELECT number, author FROM revisions WHERE content_id = $1 AND number = ANY($2)", row["id"], revisions
    )
    return {row["number"]: row["author"] for row in rows}
