"""GetContent: which side of an item each caller sees."""

import uuid

import grpc
import pytest

from tests.content.items import Caller, refused
from thmnayah.content.v1.content_pb2 import DRAFT, PUBLISHED, VIEW_UNSPECIFIED, Content, View


async def test_a_draft_is_not_found_by_readers(editing: Caller, anyone: Caller, reading: Caller) -> None:
    item = await editing.create()
    unknown = str(uuid.uuid4())

    for caller in (anyone, reading):
        hidden, missing = await refused(caller.get(item.id)), await refused(caller.get(unknown))
        assert (hidden.code, hidden.reason) == (grpc.StatusCode.NOT_FOUND, "CONTENT_NOT_FOUND")
        # Nothing but the id tells an item that is hidden from one that is not there.
        assert hidden.message.replace(item.id, "") == missing.message.replace(unknown, "")
        assert (hidden.reason, hidden.metadata) == (missing.reason, missing.metadata)


async def test_an_edit_is_for_editors_until_it_is_published(
    editing: Caller, anyone: Caller, reading: Caller, word: str
) -> None:
    item = await editing.create(
        title={"ar": "قديم", "en": "Old"}, body={"en": "Old body"}, category="old", tags=["old"]
    )
    await editing.publish(item.id)
    published = await anyone.get(item.id)

    edited = await editing.update(
        item.id,
        title={"ar": "جديد", "en": "New"},
        description={"en": "New"},
        body={"en": "New body"},
        slug={"en": "new-" + word},
        category="new",
        tags=["new"],
        external_id="new-" + word,
    )

    assert dict((await editing.get(item.id)).title) == {"ar": "جديد", "en": "New"}
    assert edited.state == Content.PUBLISHED
    for caller in (anyone, reading):
        seen = await caller.get(item.id)
        assert seen == published
        assert "new" not in str(seen).lower()


async def test_an_edit_does_not_move_what_readers_see_of_time_and_version(editing: Caller, anyone: Caller) -> None:
    item = await editing.create()
    await editing.publish(item.id)
    before = await anyone.get(item.id)

    await editing.update(item.id, title={"en": "Newer"})

    after = await anyone.get(item.id)
    assert (after.version, after.etag, after.update_time) == (before.version, before.etag, before.update_time)


@pytest.mark.parametrize(("view", "title"), [(VIEW_UNSPECIFIED, "New"), (DRAFT, "New"), (PUBLISHED, "Old")])
async def test_editors_choose_the_side_they_see(editing: Caller, view: View.ValueType, title: str) -> None:
    item = await editing.create(title={"en": "Old"})
    await editing.publish(item.id)
    await editing.update(item.id, title={"en": "New"})

    assert (await editing.get(item.id, view)).title["en"] == title


async def test_the_published_side_of_a_draft_is_not_there_for_editors_either(editing: Caller) -> None:
    item = await editing.create()

    assert (await refused(editing.get(item.id, PUBLISHED))).code == grpc.StatusCode.NOT_FOUND


async def test_asking_for_drafts_needs_the_permission(editing: Caller, anyone: Caller, reading: Caller) -> None:
    item = await editing.create()
    await editing.publish(item.id)

    for content_id in (item.id, str(uuid.uuid4())):
        assert (await refused(reading.get(content_id, DRAFT))).code == grpc.StatusCode.PERMISSION_DENIED
        assert (await refused(anyone.get(content_id, DRAFT))).code in {
            grpc.StatusCode.UNAUTHENTICATED,
            grpc.StatusCode.PERMISSION_DENIED,
        }


async def test_a_locale_that_is_not_published_does_not_leak(editing: Caller, anyone: Caller) -> None:
    item = await editing.create(
        title={"ar": "عربي", "en": "Secret"}, description={"en": "Secret"}, body={"en": "Secret"}, slug={"en": "secret"}
    )

    await editing.publish(item.id, "ar")

    seen = await anyone.get(item.id)
    assert set(seen.locales) == set(seen.title) == set(seen.slug) == {"ar"}
    assert "secret" not in str(seen).lower()


async def test_the_two_sides_have_their_own_etags(editing: Caller, anyone: Caller) -> None:
    item = await editing.create()

    published = await editing.publish(item.id)

    assert (await anyone.get(item.id)).etag != published.etag


async def test_an_etag_is_a_header_too(editing: Caller) -> None:
    item = await editing.create()
    call = editing.get(item.id)

    assert (await call).etag == '"1"'


@pytest.mark.parametrize("content_id", ["", "1", "no-uuid", "../../etc/passwd", "0" * 36])
async def test_what_is_no_id_is_refused(anyone: Caller, content_id: str) -> None:
    refusal = await refused(anyone.get(content_id))

    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert list(refusal.violations) == ["id"]
