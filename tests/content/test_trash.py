"""What is deleted: in the trash for a while, taken out of it, and gone for good."""

from datetime import UTC, timedelta

import asyncpg
import grpc
import httpx

from deploy.local.mesh import Mesh
from libs import db
from services.content import contents
from tests.content.conftest import Announcements
from tests.content.filing import Filing
from tests.content.items import Caller, refused
from thmnayah.content.v1.content_pb2 import Content


async def test_what_was_deleted_comes_back_as_a_draft(
    editing: Caller, anyone: Caller, announced: Announcements, word: str
) -> None:
    item = await editing.create(title={"ar": "بيت الحكمة"}, external_id=word, category=word)
    await editing.publish(item.id)
    gone = await editing.delete(item.id)
    assert gone.expire_time.ToDatetime(UTC) - gone.delete_time.ToDatetime(UTC) == timedelta(days=30)
    assert [each.id for each in await editing.walk(deleted=True, filter=f"category = {word}")] == [item.id]
    assert await editing.walk(filter=f"category = {word}") == []

    back = await editing.undelete(item.id)

    assert (back.state, dict(back.title), dict(back.slug)) == (Content.DRAFT, dict(item.title), dict(item.slug))
    assert not back.HasField("delete_time")
    assert await editing.get(item.id) == back
    assert await editing.walk(deleted=True, filter=f"category = {word}") == []
    assert (await refused(anyone.get(item.id))).code == grpc.StatusCode.NOT_FOUND
    assert [event.subject for event in await announced(item.id)][-2:] == ["content.deleted", "content.undeleted"]


async def test_a_category_that_was_deleted_meanwhile_is_made_anew(editing: Caller, filing: Filing, word: str) -> None:
    item = await editing.create(category=word)
    await editing.delete(item.id)
    await filing.delete(word)

    back = await editing.undelete(item.id)

    assert back.category == word
    assert (await filing.get(word)).id == word


async def test_a_slug_that_was_taken_meanwhile_is_made_anew(editing: Caller, word: str) -> None:
    item = await editing.create(title={"en": word})
    await editing.delete(item.id)
    other = await editing.create(title={"en": word})

    back = await editing.undelete(item.id)

    assert other.slug["en"] == item.slug["en"]
    assert back.slug["en"] == f"{item.slug['en']}-{item.id[-12:]}"


async def test_an_external_id_that_was_taken_meanwhile_is_in_the_way(editing: Caller, word: str) -> None:
    item = await editing.create(external_id=word)
    await editing.delete(item.id)
    await editing.create(external_id=word)

    refusal = await refused(editing.undelete(item.id))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "EXTERNAL_ID_TAKEN")


async def test_only_what_is_in_the_trash_comes_out_of_it(editing: Caller) -> None:
    item = await editing.create()

    assert (await refused(editing.undelete(item.id))).code == grpc.StatusCode.NOT_FOUND


async def test_the_trash_is_no_readers_business(rest: httpx.AsyncClient, reader_token: str) -> None:
    unsigned = await rest.get("/v1/contents?deleted=true")
    signed = await rest.get("/v1/contents?deleted=true", headers={"authorization": f"Bearer {reader_token}"})

    assert (unsigned.status_code, signed.status_code) == (401, 403)


async def test_after_its_time_an_item_is_gone_for_good(
    mesh: Mesh, editing: Caller, content_db: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    expired, waiting, living = [await editing.create() for _ in range(3)]
    await editing.update(living.id, title={"en": "Newer"})
    for item in (expired, waiting):
        await editing.delete(item.id)
    await content_db.execute("UPDATE contents SET expire_time = now() WHERE id = $1", expired.id)
    await content_db.execute(
        "UPDATE revisions SET create_time = now() - interval '8 days' WHERE content_id = $1", living.id
    )
    pool = await db.connect(mesh.database_url("content"), service="purge", size=1)

    async with db.connection(pool) as conn:
        assert await contents.purge(conn, revision_days=7) >= 2
        assert await contents.purge(conn, revision_days=7) == 0
    await pool.close()

    assert (await refused(editing.undelete(expired.id))).code == grpc.StatusCode.NOT_FOUND
    assert (await editing.undelete(waiting.id)).id == waiting.id
    kept = await content_db.fetch("SELECT number FROM revisions WHERE content_id = $1", living.id)
    assert [row["number"] for row in kept] == [2]
    assert not await content_db.fetch("SELECT FROM revisions WHERE content_id = $1", expired.id)
