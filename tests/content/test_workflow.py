"""The way of each locale: submitted, approved, given back, put away and taken out again."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import grpc
import httpx
import pytest

from tests.conftest import bearer
from tests.content.conftest import Announcements
from tests.content.items import Caller, refused
from tests.content.rest import Rest, define, field, make
from thmnayah.content.v1.content_pb2 import Content, Schedule

SignIn = Callable[..., Awaitable[str]]
BOTH = {"ar": "بيت الحكمة", "en": "The House of Wisdom"}


def states(content: Content) -> dict[str, str]:
    return {locale: Content.State.Name(status.state) for locale, status in sorted(content.locales.items())}


async def test_each_locale_goes_its_own_way(editing: Caller, reviewing: Caller) -> None:
    item = await editing.create(title=BOTH)

    item = await editing.submit(item.id, "ar", note="راجعوا العنوان")
    assert states(item) == {"ar": "IN_REVIEW", "en": "DRAFT"}
    assert item.state == Content.IN_REVIEW
    review = item.locales["ar"].review
    assert (review.revision, review.note, list(review.approvals)) == (1, "راجعوا العنوان", [])

    item = await reviewing.approve(item.id)
    assert states(item) == {"ar": "APPROVED", "en": "DRAFT"}
    assert [each.time.ToDatetime(UTC) <= datetime.now(UTC) for each in item.locales["ar"].review.approvals] == [True]

    item = await editing.publish(item.id, "ar")
    assert states(item) == {"ar": "PUBLISHED", "en": "DRAFT"}
    assert not item.locales["ar"].HasField("review")
    assert item.locales["ar"].draft_state == Content.STATE_UNSPECIFIED


async def test_the_draft_beside_what_is_published_has_a_state_of_its_own(
    editing: Caller, reviewing: Caller, anyone: Caller
) -> None:
    item = await editing.create(title=BOTH)
    await editing.publish(item.id)

    item = await editing.update(item.id, title={"en": "Newer"})
    assert states(item) == {"ar": "PUBLISHED", "en": "PUBLISHED"}
    assert item.locales["en"].draft_state == Content.DRAFT
    assert item.locales["ar"].draft_state == Content.STATE_UNSPECIFIED

    item = await editing.submit(item.id)
    assert item.locales["en"].draft_state == Content.IN_REVIEW
    assert item.locales["ar"].draft_state == Content.STATE_UNSPECIFIED

    # Nothing of it is a reader's business.
    seen = await anyone.get(item.id)
    assert seen.title["en"] == "The House of Wisdom"
    assert {(each.draft_state, each.stale, each.HasField("review")) for each in seen.locales.values()} == {
        (Content.STATE_UNSPECIFIED, False, False)
    }

    item = await reviewing.approve(item.id)
    assert item.locales["en"].draft_state == Content.APPROVED


async def test_an_edit_voids_the_reviews_it_is_about(editing: Caller, reviewing: Caller) -> None:
    item = await editing.create(title=BOTH)
    await editing.submit(item.id)
    await reviewing.approve(item.id)

    item = await editing.update(item.id, title={"ar": "عنوان آخر"})
    assert states(item) == {"ar": "DRAFT", "en": "APPROVED"}

    await editing.submit(item.id, "ar")
    item = await editing.update(item.id, tags=["shared"])
    assert states(item) == {"ar": "DRAFT", "en": "DRAFT"}


async def test_a_review_is_of_the_revision_that_was_read(editing: Caller, reviewing: Caller) -> None:
    item = await editing.create(title=BOTH)
    await editing.submit(item.id)
    await editing.update(item.id, title={"ar": "عنوان آخر"})
    await editing.submit(item.id, "ar")

    refusal = await refused(reviewing.approve(item.id, "ar", revision=1))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert refusal.metadata["revision"] == "3"
    approved = await reviewing.approve(item.id, "ar", revision=3)
    assert states(approved)["ar"] == "APPROVED"


async def test_nobody_approves_their_own_work(editing: Caller, reviewing: Caller) -> None:
    item = await editing.create(title=BOTH)
    await reviewing.submit(item.id)

    for caller in (editing, reviewing):  # who wrote it, and who handed it in
        refusal = await refused(caller.approve(item.id))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "OWN_WORK")
    assert states(await editing.get(item.id)) == {"ar": "IN_REVIEW", "en": "IN_REVIEW"}


async def test_only_those_who_are_asked_approve(editing: Caller, reviewing: Caller) -> None:
    item = await editing.create(title=BOTH)
    due = datetime(2027, 1, 1, tzinfo=UTC)
    somebody = "0199a0a0-0000-7000-8000-000000000001"
    item = await editing.submit(item.id, reviewers=[somebody], due_time=due)
    assert list(item.locales["ar"].review.reviewers) == [somebody]
    assert item.locales["ar"].review.due_time.ToDatetime(UTC) == due

    refusal = await refused(reviewing.approve(item.id))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_A_REVIEWER")


async def test_what_is_given_back_is_a_draft_again(
    editing: Caller, reviewing: Caller, announced: Announcements
) -> None:
    item = await editing.create(title=BOTH)
    await editing.submit(item.id)
    await reviewing.approve(item.id, "en")

    item = await reviewing.give_back(item.id)

    assert states(item) == {"ar": "DRAFT", "en": "DRAFT"}
    assert [event.subject for event in await announced(item.id)] == [
        "content.created",
        "content.submitted",
        "content.approved",
        "content.changes_requested",
    ]
    refusal = await refused(reviewing.give_back(item.id))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_IN_REVIEW")


async def test_the_same_step_twice_changes_nothing(
    editing: Caller, reviewing: Caller, announced: Announcements
) -> None:
    item = await editing.create(title=BOTH)
    submitted = [await editing.submit(item.id), await editing.submit(item.id)]
    approved = [await reviewing.approve(item.id, "ar", "en"), await reviewing.approve(item.id, "ar", "en")]
    archived = [await editing.archive(item.id), await editing.archive(item.id)]
    restored = [await editing.restore(item.id), await editing.restore(item.id)]

    for first, second in (submitted, approved, archived, restored):
        assert first == second
    assert len(await announced(item.id)) == 5


async def test_there_is_nothing_to_review_where_readers_see_the_draft(editing: Caller) -> None:
    item = await editing.create(title=BOTH)
    await editing.publish(item.id, "en")

    refusal = await refused(editing.submit(item.id, "en"))

    assert refusal.reason == "NOTHING_TO_REVIEW"
    assert refusal.violations.keys() == {"locales.en"}
    assert states(await editing.submit(item.id)) == {"ar": "IN_REVIEW", "en": "PUBLISHED"}


async def test_what_is_archived_is_seen_by_no_reader_and_edited_by_nobody(
    editing: Caller, anyone: Caller, announced: Announcements
) -> None:
    item = await editing.create(title=BOTH)
    await editing.publish(item.id)

    item = await editing.archive(item.id, "en")
    assert states(item) == {"ar": "PUBLISHED", "en": "ARCHIVED"}
    assert dict((await anyone.get(item.id)).title) == {"ar": BOTH["ar"]}
    refusal = await refused(editing.update(item.id, title={"en": "x"}))
    assert refusal.reason == "LOCALE_ARCHIVED"
    assert refusal.violations.keys() == {"locales.en"}
    assert (await refused(editing.publish(item.id, "en"))).reason == "LOCALE_ARCHIVED"
    assert (await refused(editing.submit(item.id, "en"))).reason == "LOCALE_ARCHIVED"
    await editing.update(item.id, title={"ar": "عنوان آخر"}, tags=["shared"])

    item = await editing.archive(item.id)
    assert item.state == Content.ARCHIVED
    assert (await refused(anyone.get(item.id))).code == grpc.StatusCode.NOT_FOUND
    assert (await refused(editing.update(item.id, tags=["other"]))).reason == "LOCALE_ARCHIVED"
    assert (await refused(editing.publish(item.id))).reason == "LOCALE_ARCHIVED"

    item = await editing.restore(item.id)
    assert states(item) == {"ar": "DRAFT", "en": "DRAFT"}
    assert [event.subject for event in await announced(item.id)] == [
        "content.created",
        "content.published",
        "content.unpublished",
        "content.archived",
        "content.updated",
        "content.unpublished",
        "content.archived",
        "content.restored",
    ]


@pytest.mark.parametrize("verb", ["submit", "approve", "requestChanges", "archive", "restore", "unschedule"])
async def test_the_steps_over_rest(rest: httpx.AsyncClient, editing: Caller, editor_token: str, verb: str) -> None:
    item = await editing.create(title=BOTH)
    signed = {"authorization": f"Bearer {editor_token}"}
    body = {"note": "أعيدوا الصياغة"} if verb == "requestChanges" else {}

    unsigned = await rest.post(f"/v1/contents/{item.id}:{verb}", json=body)
    unknown = await rest.post(f"/v1/contents/{item.id[:-4]}0000:{verb}", json=body, headers=signed)
    stale = await rest.post(f"/v1/contents/{item.id}:{verb}", json=body, headers={**signed, "if-match": '"9"'})
    answer = await rest.post(f"/v1/contents/{item.id}:{verb}", json=body, headers=signed)

    assert unsigned.status_code == 401
    assert unknown.status_code == 404
    assert stale.status_code == 412
    refused_here = verb in ("approve", "requestChanges")  # nothing is under review
    assert answer.status_code == (400 if refused_here else 200)
    if not refused_here:
        assert answer.json()["id"] == item.id


async def test_readers_take_no_step(reading: Caller, editing: Caller) -> None:
    item = await editing.create(title=BOTH)
    tomorrow = datetime.now(UTC) + timedelta(days=1)

    for call in (
        reading.submit(item.id),
        reading.approve(item.id),
        reading.give_back(item.id),
        reading.archive(item.id),
        reading.restore(item.id),
        reading.schedule(item.id, Schedule.PUBLISH, tomorrow),
        reading.unschedule(item.id),
        reading.undelete(item.id),
    ):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")


async def test_a_text_whose_counterpart_is_newer_is_stale(editing: Caller) -> None:
    item = await editing.create(title=BOTH, category=f"stale-{datetime.now(UTC).timestamp()}")
    assert not any(status.stale for status in item.locales.values())
    question = f'category = "{item.category}" AND stale:ar'
    assert await editing.walk(filter=question) == []

    item = await editing.update(item.id, title={"en": "Another"})
    assert item.locales["ar"].stale
    assert not item.locales["en"].stale
    assert [each.id for each in await editing.walk(filter=question)] == [item.id]

    item = await editing.update(item.id, title={"ar": "عنوان آخر", "en": "A third"})
    assert await editing.walk(filter=question) == []


async def test_a_type_may_ask_for_approvals_and_locales(
    admin: Rest, editing: Caller, reviewing: Caller, edge: grpc.aio.Channel, sign_in: SignIn, word: str
) -> None:
    await define(admin, word, workflow={"requiredApprovals": 2, "requiredLocales": ["ar", "en"]})
    third = Caller(edge, bearer(await sign_in("editor")))
    item = await editing.create(type=f"t-{word}", title={"en": "The House of Wisdom"})
    assert (await refused(editing.publish(item.id))).reason == "TRANSLATION_INCOMPLETE"

    await editing.update(item.id, title={"ar": "بيت الحكمة"})
    refusal = await refused(editing.publish(item.id))
    assert (refusal.reason, sorted(refusal.violations)) == ("APPROVAL_MISSING", ["locales.ar", "locales.en"])
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert (await refused(editing.schedule(item.id, Schedule.PUBLISH, tomorrow))).reason == "APPROVAL_MISSING"

    await editing.submit(item.id)
    item = await reviewing.approve(item.id)
    assert states(item) == {"ar": "IN_REVIEW", "en": "IN_REVIEW"}
    item = await third.approve(item.id)
    assert states(item) == {"ar": "APPROVED", "en": "APPROVED"}
    assert states(await editing.publish(item.id)) == {"ar": "PUBLISHED", "en": "PUBLISHED"}


async def test_a_custom_field_takes_part_in_history_and_staleness(admin: Rest, word: str) -> None:
    await define(admin, word, field("synopsis", localized=True), field("length", {"number": {}}))
    values = {"synopsis": {"localized": {"values": {"ar": {"text": "قديم"}, "en": {"text": "Old"}}}}}
    item = await make(admin, word, values)
    newer = {"fields": {"synopsis": {"localized": {"values": {"en": {"text": "New"}}}}, "length": {"number": 12}}}
    changed = await admin.ok("PATCH", f"contents/{item['id']}", newer, updateMask="fields.synopsis.en,fields.length")
    assert (changed["locales"]["ar"]["stale"], changed["locales"]["en"]["stale"]) == (True, False)

    compared = await admin.ok("GET", f"contents/{item['id']}/revisions:diff")
    told = {(each["field"], each["locale"]): [one["text"] for one in each["segments"]] for each in compared["changes"]}
    assert told == {("fields.synopsis", "en"): ["Old", "New"], ("fields.length", ""): ["12.0"]}

    restored = await admin.ok("POST", f"contents/{item['id']}/revisions/1:restore", {})
    assert restored["fields"] == item["fields"]


async def test_archiving_takes_what_has_no_draft_any_more_from_readers(editing: Caller, anyone: Caller) -> None:
    item = await editing.create(title=BOTH)
    await editing.publish(item.id)
    await editing.update(item.id, paths=["title.ar"])

    assert (await editing.archive(item.id)).state == Content.ARCHIVED

    assert (await refused(anyone.get(item.id))).code == grpc.StatusCode.NOT_FOUND
    assert states(await editing.restore(item.id)) == {"en": "DRAFT"}
    assert (await refused(editing.archive(item.id, "ar"))).reason == "LOCALE_INCOMPLETE"


async def test_what_comes_out_of_the_trash_is_a_draft(editing: Caller) -> None:
    item = await editing.create(title=BOTH)
    await editing.archive(item.id, "ar")
    await editing.delete(item.id)

    assert states(await editing.undelete(item.id)) == {"ar": "DRAFT", "en": "DRAFT"}


async def test_a_late_retry_takes_no_approval_back(admin: Rest, editing: Caller, reviewing: Caller, word: str) -> None:
    await define(admin, word, workflow={"requiredApprovals": 1})
    item = await editing.create(type=f"t-{word}", title=BOTH)
    await editing.submit(item.id, note="Please")
    approved = await reviewing.approve(item.id)

    assert await editing.submit(item.id, note="Please") == approved
    published = await editing.publish(item.id)
    assert await editing.publish(item.id) == published


async def test_a_locale_that_is_published_as_it_is_needs_no_approval(
    admin: Rest, editing: Caller, reviewing: Caller, word: str
) -> None:
    await define(admin, word, workflow={"requiredApprovals": 1})
    item = await editing.create(type=f"t-{word}", title=BOTH)
    await editing.submit(item.id)
    await reviewing.approve(item.id)
    await editing.publish(item.id)
    await editing.update(item.id, title={"en": "Newer"})
    assert (await refused(editing.publish(item.id))).violations.keys() == {"locales.en"}
    await editing.submit(item.id)
    await reviewing.approve(item.id)

    assert (await editing.publish(item.id)).locales["en"].draft_state == Content.STATE_UNSPECIFIED
