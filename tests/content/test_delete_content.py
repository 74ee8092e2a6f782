"""DeleteContent: what is gone, and what is free again."""

import grpc
import pytest

from tests.content.items import Caller, refused


async def test_a_deleted_item_is_gone_for_everyone(editing: Caller, anyone: Caller, word: str) -> None:
    item = await editing.create(category=word)
    await editing.publish(item.id)

    deleted = await editing.delete(item.id)

    assert deleted.HasField("delete_time")
    assert (deleted.id, deleted.version, dict(deleted.title)) == (item.id, 3, dict(item.title))
    for caller in (editing, anyone):
        assert (await refused(caller.get(item.id))).code == grpc.StatusCode.NOT_FOUND
        assert await caller.walk(filter=f'category = "{word}"') == []


@pytest.mark.parametrize("action", ["update", "publish", "unpublish", "delete"])
async def test_nothing_happens_to_a_deleted_item(editing: Caller, action: str) -> None:
    item = await editing.create()
    await editing.delete(item.id)

    fields = {"title": {"en": "x"}} if action == "update" else {}
    refusal = await refused(getattr(editing, action)(item.id, **fields))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "CONTENT_NOT_FOUND")


async def test_its_external_id_and_its_address_are_free(editing: Caller, word: str) -> None:
    for _ in range(3):
        item = await editing.create(external_id=word, slug={"en": word})
        assert (item.external_id, item.slug["en"]) == (word, word)
        await editing.delete(item.id)


async def test_a_stale_etag_deletes_nothing(editing: Caller) -> None:
    item = await editing.create()
    edited = await editing.update(item.id, title={"en": "Edited meanwhile"})

    assert (await refused(editing.delete(item.id, etag=item.etag))).reason == "ETAG_MISMATCH"
    assert await editing.get(item.id) == edited
    await editing.delete(item.id, etag=edited.etag)


async def test_only_who_may_delete_deletes(editing: Caller, anyone: Caller, reading: Caller) -> None:
    item = await editing.create()

    assert (await refused(anyone.delete(item.id))).code == grpc.StatusCode.UNAUTHENTICATED
    assert (await refused(reading.delete(item.id))).code == grpc.StatusCode.PERMISSION_DENIED
    assert await editing.get(item.id) == item
