"""PublishContent and UnpublishContent: what readers see, and when."""

import uuid

import grpc
import pytest

from tests.content.conftest import Announcements
from tests.content.items import Caller, refused
from thmnayah.content.v1.content_pb2 import Content

TITLES = {"ar": "عنوان", "en": "Title"}


async def test_a_published_item_is_read_by_everyone(editing: Caller, anyone: Caller, reading: Caller) -> None:
    item = await editing.create(title=TITLES, body={"en": "Body"}, category="history", tags=["a"])

    published = await editing.publish(item.id)

    assert published.state == Content.PUBLISHED
    assert published.version == 2
    assert {status.state for status in published.locales.values()} == {Content.PUBLISHED}
    for caller in (anyone, reading):
        seen = await caller.get(item.id)
        for field in ("title", "slug", "body", "category", "tags", "publish_time", "locales", "version", "created_by"):
            assert getattr(seen, field) == getattr(published, field), field


async def test_publishing_what_is_published_changes_nothing(editing: Caller, anyone: Caller) -> None:
    item = await editing.create(title=TITLES)
    first = await editing.publish(item.id)
    seen = await anyone.get(item.id)

    again = [await editing.publish(item.id), await editing.publish(item.id, "en"), await editing.publish(item.id, "ar")]

    assert again == [first] * 3
    assert await anyone.get(item.id) == seen


async def test_an_edit_that_is_published_replaces_what_readers_see(editing: Caller, anyone: Caller) -> None:
    item = await editing.create(title=TITLES, description={"en": "Old"}, tags=["old"])
    first = await editing.publish(item.id)
    await editing.update(item.id, paths=["title.en", "description.en", "tags"], title={"en": "New"})

    second = await editing.publish(item.id)

    seen = await anyone.get(item.id)
    assert (dict(seen.title), dict(seen.description), list(seen.tags)) == ({"ar": "عنوان", "en": "New"}, {}, [])
    assert second.publish_time == first.publish_time
    assert seen.update_time.ToMicroseconds() > first.update_time.ToMicroseconds()
    assert seen.version == second.version == first.version + 2


async def test_locales_are_published_one_by_one(editing: Caller, anyone: Caller) -> None:
    item = await editing.create(title=TITLES, body={"ar": "نص", "en": "Body"})

    first = await editing.publish(item.id, "ar")
    assert {locale: status.state for locale, status in first.locales.items()} == {
        "ar": Content.PUBLISHED,
        "en": Content.DRAFT,
    }
    assert first.state == Content.PUBLISHED
    assert not first.locales["en"].HasField("publish_time")
    assert set((await anyone.get(item.id)).body) == {"ar"}

    both = await editing.publish(item.id, "en")
    assert set((await anyone.get(item.id)).body) == {"ar", "en"}
    assert both.locales["ar"].publish_time == first.locales["ar"].publish_time == both.publish_time
    assert both.locales["en"].publish_time.ToMicroseconds() > both.publish_time.ToMicroseconds()

    one = await editing.unpublish(item.id, "ar")
    seen = await anyone.get(item.id)
    assert set(seen.title) == set(seen.slug) == set(seen.body) == set(seen.locales) == {"en"}
    assert one.publish_time == both.locales["en"].publish_time
    assert dict(one.title) == TITLES

    none = await editing.unpublish(item.id)
    assert (none.state, none.HasField("publish_time")) == (Content.DRAFT, False)
    assert (await refused(anyone.get(item.id))).code == grpc.StatusCode.NOT_FOUND


async def test_publishing_a_locale_leaves_the_edits_of_another_alone(editing: Caller, anyone: Caller) -> None:
    item = await editing.create(title=TITLES)
    await editing.publish(item.id)
    await editing.update(item.id, title={"ar": "جديد", "en": "New"})

    await editing.publish(item.id, "ar")

    assert dict((await anyone.get(item.id)).title) == {"ar": "جديد", "en": "Title"}


async def test_an_item_is_back_as_its_draft_is_then(editing: Caller, anyone: Caller) -> None:
    item = await editing.create(title=TITLES)
    first = await editing.publish(item.id)
    await editing.unpublish(item.id)
    await editing.update(item.id, title={"en": "New"})

    back = await editing.publish(item.id)

    seen = await anyone.get(item.id)
    assert dict(seen.title) == {"ar": "عنوان", "en": "New"}
    assert back.publish_time.ToMicroseconds() > first.publish_time.ToMicroseconds()
    assert seen.version == back.version == 5


async def test_unpublishing_what_is_not_published_changes_nothing(editing: Caller) -> None:
    item = await editing.create(title=TITLES)
    assert await editing.unpublish(item.id) == item

    published = await editing.publish(item.id, "ar")
    assert await editing.unpublish(item.id, "en") == published


async def test_a_locale_without_a_title_is_not_published(editing: Caller, anyone: Caller) -> None:
    item = await editing.create(title={"ar": "عنوان"}, body={"en": "Body"})

    for locales in (["en"], ["ar", "en"], ["fr"]):
        refusal = await refused(editing.publish(item.id, *locales))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "LOCALE_INCOMPLETE")
        assert list(refusal.violations) == [f"title.{locales[-1]}"]
    assert (await refused(anyone.get(item.id))).code == grpc.StatusCode.NOT_FOUND
    assert set((await editing.publish(item.id)).locales) == {"ar"}


async def test_a_locale_that_readers_see_is_shown_to_editors_when_its_draft_is_gone(
    editing: Caller, anyone: Caller
) -> None:
    item = await editing.create(title=TITLES)
    await editing.publish(item.id)

    edited = await editing.update(item.id, paths=["title.ar", "slug.ar"])

    assert set((await anyone.get(item.id)).title) == {"ar", "en"}
    assert edited.locales["ar"].state == Content.PUBLISHED


async def test_a_stale_etag_publishes_nothing(editing: Caller, anyone: Caller) -> None:
    item = await editing.create(title=TITLES)
    await editing.update(item.id, title={"en": "Edited meanwhile"})

    refusal = await refused(editing.publish(item.id, etag=item.etag))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert (await refused(anyone.get(item.id))).code == grpc.StatusCode.NOT_FOUND
    published = await editing.publish(item.id, etag='"2"')
    assert (await refused(editing.unpublish(item.id, etag='"2"'))).reason == "ETAG_MISMATCH"
    assert (await editing.unpublish(item.id, etag=published.etag)).state == Content.DRAFT


@pytest.mark.parametrize("action", ["publish", "unpublish"])
async def test_what_is_not_there_is_not_found(editing: Caller, action: str) -> None:
    refusal = await refused(getattr(editing, action)(str(uuid.uuid4())))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "CONTENT_NOT_FOUND")


@pytest.mark.parametrize("action", ["publish", "unpublish"])
async def test_only_who_may_publish_publishes(editing: Caller, anyone: Caller, reading: Caller, action: str) -> None:
    item = await editing.create(title=TITLES)

    assert (await refused(getattr(anyone, action)(item.id))).code == grpc.StatusCode.UNAUTHENTICATED
    assert (await refused(getattr(reading, action)(item.id))).code == grpc.StatusCode.PERMISSION_DENIED
    assert await editing.get(item.id) == item


async def test_a_draft_that_was_changed_back_is_published_as_it_is(editing: Caller, announced: Announcements) -> None:
    item = await editing.create(title={"en": "One"})
    await editing.publish(item.id)
    await editing.update(item.id, title={"en": "Two"})
    await editing.update(item.id, title={"en": "One"})
    await editing.submit(item.id)

    item = await editing.publish(item.id)

    assert item.locales["en"].draft_state == Content.STATE_UNSPECIFIED
    assert not item.locales["en"].HasField("review")
    assert [event.subject for event in await announced(item.id)].count("content.published") == 1
    assert await editing.publish(item.id) == item


async def test_what_locales_share_is_published_with_any_of_them(editing: Caller) -> None:
    item = await editing.create(title={"ar": "بيت", "en": "House"})
    await editing.publish(item.id)
    await editing.update(item.id, tags=["shared"])
    item = await editing.submit(item.id)
    assert item.locales["en"].draft_state == Content.IN_REVIEW

    item = await editing.publish(item.id, "ar")

    assert item.locales["en"].draft_state == Content.STATE_UNSPECIFIED
    assert not item.locales["en"].HasField("review")
