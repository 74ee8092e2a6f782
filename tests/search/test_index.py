"""The index follows what is published, whatever order events come in and however often."""

import asyncio
import secrets
import uuid
from collections.abc import AsyncIterator

import asyncpg
import nats
import pytest
from google.protobuf.message import Message
from nats.js.client import JetStreamContext

from deploy.local.mesh import Mesh
from tests.conftest import eventually
from tests.content.items import Caller
from tests.search.conftest import Finder, published
from thmnayah.content.v1.content_pb2 import Content, ContentDeleted, ContentPublished, ContentUnpublished


@pytest.fixture(scope="module")
async def jetstream(mesh: Mesh) -> AsyncIterator[JetStreamContext]:
    client = await nats.connect(mesh.nats_url())
    yield client.jetstream()
    await client.close()


async def send(jetstream: JetStreamContext, event: Message) -> None:
    """Announce something past the content service."""
    name = event.DESCRIPTOR.name.removeprefix("Content").lower()
    headers = {"ce-id": str(uuid.uuid4()), "ce-type": event.DESCRIPTOR.full_name, "ce-specversion": "1.0"}
    await jetstream.publish(f"content.{name}", event.SerializeToString(), headers=headers)


async def settled(editing: Caller, finder: Finder) -> None:
    """Wait until what was announced before now is in the index."""
    marker = "marker" + secrets.token_hex(6)
    item = await published(editing, title={"en": marker})
    await finder.until(marker, [item.id])


async def test_what_is_not_published_is_not_found(editing: Caller, finder: Finder, word: str) -> None:
    draft = await editing.create(title={"en": word})
    arabic_alone = await editing.create(title={"ar": word + "ar", "en": word})
    await editing.publish(arabic_alone.id, "ar")
    await finder.until(word + "ar", [arabic_alone.id])

    assert await finder.ids(word) == []

    await editing.publish(draft.id)
    await finder.until(word, [draft.id])


async def test_an_edit_is_found_once_it_is_published(editing: Caller, finder: Finder, word: str) -> None:
    item = await published(editing, title={"en": word + "old"}, category="old")
    await finder.until(word + "old", [item.id])

    await editing.update(item.id, title={"en": word + "new"}, category="new")
    await settled(editing, finder)
    assert await finder.ids(word + "new") == []
    assert await finder.ids(word + "old", filter='category = "new"') == []
    assert await finder.ids(word + "old", filter='category = "old"') == [item.id]

    await editing.publish(item.id)
    await finder.until(word + "new", [item.id], filter='category = "new"')
    assert await finder.ids(word + "old") == []


async def test_what_is_unpublished_or_deleted_is_gone_and_comes_back(
    editing: Caller, finder: Finder, word: str
) -> None:
    item = await published(editing, title={"ar": word + "ar", "en": word})
    await finder.until(word, [item.id])

    await editing.unpublish(item.id, "en")
    await finder.until(word, [])
    await finder.until(word + "ar", [item.id])

    await editing.unpublish(item.id)
    await finder.until(word + "ar", [])

    await editing.publish(item.id)
    await finder.until(word, [item.id])

    await editing.delete(item.id)
    await finder.until(word, [])


async def test_many_items_at_once_are_all_found(editing: Caller, finder: Finder, word: str) -> None:
    items = await asyncio.gather(*(published(editing, title={"en": f"{word} {number}"}) for number in range(60)))

    await finder.until(word, [item.id for item in items])


async def test_a_late_event_changes_nothing(
    editing: Caller, finder: Finder, jetstream: JetStreamContext, word: str
) -> None:
    item = await published(editing, title={"en": word})
    await finder.until(word, [item.id])
    newest = (await finder.ask(word)).results[0].content
    old = Content()
    old.CopyFrom(newest)
    old.version -= 1
    old.title["en"] = word + "old"

    await send(jetstream, ContentPublished(content=old))
    await send(jetstream, ContentUnpublished(content=Content(id=item.id, type=item.type, version=old.version)))
    await send(jetstream, ContentDeleted(content=Content(id=item.id, type=item.type, version=1)))
    await settled(editing, finder)

    assert await finder.ids(word + "old") == []
    assert (await finder.ask(word)).results[0].content == newest


async def test_a_late_event_does_not_bring_back_what_is_gone(
    editing: Caller, finder: Finder, jetstream: JetStreamContext, word: str
) -> None:
    gone = [await published(editing, title={"en": word}) for _ in range(2)]
    await finder.until(word, [item.id for item in gone])
    seen = [result.content for result in (await finder.ask(word)).results]
    await editing.delete(gone[0].id)
    await editing.unpublish(gone[1].id)
    await finder.until(word, [])

    for content in seen:
        await send(jetstream, ContentPublished(content=content))
    await settled(editing, finder)

    assert await finder.ids(word) == []


async def test_an_event_that_overtook_the_one_before_it_is_kept(
    editing: Caller, finder: Finder, jetstream: JetStreamContext, word: str
) -> None:
    content_id = str(uuid.uuid4())

    def version(number: int) -> ContentPublished:
        locales = {"en": Content.LocaleStatus(state=Content.PUBLISHED)}
        title = {"en": f"{word}v{number}"}
        return ContentPublished(
            content=Content(id=content_id, type="article", title=title, locales=locales, version=number)
        )

    for number in (3, 5, 4, 2, 5, 1):
        await send(jetstream, version(number))
    await settled(editing, finder)

    assert await finder.ids(f"{word}v5") == [content_id]
    for number in (1, 2, 3, 4):
        assert await finder.ids(f"{word}v{number}") == []
    await send(jetstream, ContentDeleted(content=Content(id=content_id, type="article", version=6)))
    await finder.until(f"{word}v5", [])


async def test_a_repeated_event_changes_nothing(
    editing: Caller,
    finder: Finder,
    jetstream: JetStreamContext,
    search_db: "asyncpg.Connection[asyncpg.Record]",
    word: str,
) -> None:
    item = await published(editing, title={"en": f"{word} {word} twice"})
    await finder.until(word, [item.id])
    await settled(editing, finder)
    content = await Caller(editing.channel).get(item.id)

    async def indexed() -> list[object]:
        return [
            await search_db.fetch(
                "SELECT id, version, term_ids, lengths FROM documents WHERE content_id = $1", item.id
            ),
            await search_db.fetch("SELECT documents FROM terms WHERE term = $1", word),
            await search_db.fetch(
                "SELECT postings.* FROM postings JOIN documents d ON d.id = document_id WHERE content_id = $1"
                " ORDER BY term_id",
                item.id,
            ),
        ]

    before = await indexed()
    for _ in range(3):
        await send(jetstream, ContentPublished(content=content))
    await settled(editing, finder)

    assert await indexed() == before
    assert (await finder.ask(word)).total_size == 1


async def test_the_counts_that_ranking_rests_on_stay_true(
    editing: Caller, finder: Finder, search_db: "asyncpg.Connection[asyncpg.Record]", word: str
) -> None:
    items = [await published(editing, title={"ar": "قمر " + word, "en": f"moon {word}"}) for _ in range(6)]
    for item in items[:4]:
        await editing.update(item.id, title={"en": f"sun {word} {word}"}, body={"ar": "نص طويل عن القمر"})
        await editing.publish(item.id)
    await editing.unpublish(items[0].id)
    await editing.unpublish(items[1].id, "ar")
    await editing.delete(items[2].id)
    await editing.publish(items[0].id)
    await settled(editing, finder)

    async def untrue() -> list[asyncpg.Record]:
        return await search_db.fetch(
            """
            SELECT 'term', term, locale, documents::bigint, (SELECT count(*) FROM postings WHERE term_id = t.id)
            FROM terms t WHERE documents <> (SELECT count(*) FROM postings WHERE term_id = t.id)
            UNION ALL
            SELECT 'documents', code, '', documents, count(d.id)
            FROM locales l LEFT JOIN documents d ON d.lengths ? l.code
            GROUP BY code, documents HAVING count(d.id) <> documents
            UNION ALL
            SELECT 'length', code, '', length, coalesce(sum((d.lengths ->> code)::bigint), 0)
            FROM locales l LEFT JOIN documents d ON d.lengths ? l.code
            GROUP BY code, length HAVING coalesce(sum((d.lengths ->> code)::bigint), 0) <> length
            """
        )

    assert await untrue() == []


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("thmnayah.content.v1.ContentPublished", b"\xff\xff not a message"),
        ("thmnayah.content.v1.ContentPublished", b""),
        ("thmnayah.content.v1.ContentPublished", ContentPublished(content=Content(id="x")).SerializeToString()),
        ("thmnayah.content.v1.Unheard", b"from the future"),
        ("google.protobuf.Empty", b""),
        ("", b"no type"),
    ],
)
async def test_an_event_that_cannot_be_used_holds_up_no_other(
    editing: Caller, finder: Finder, jetstream: JetStreamContext, word: str, kind: str, payload: bytes
) -> None:
    await jetstream.publish("content.published", payload, headers={"ce-id": str(uuid.uuid4()), "ce-type": kind})
    await jetstream.publish("content.published", payload)

    items = [await published(editing, title={"en": word}) for _ in range(3)]

    await eventually(lambda: finder.ids(word), lambda found: len(found) == len(items), seconds=5)


async def test_a_locale_with_few_texts_is_not_ranked_behind(
    editing: Caller, finder: Finder, jetstream: JetStreamContext, word: str
) -> None:
    for _ in range(3):
        await published(editing, title={"en": "one more text"})
    half = await published(editing, title={"en": word})
    whole = Content(
        id=str(uuid.uuid4()),
        type="article",
        title={"sw": f"{word} {word}b"},
        locales={"sw": Content.LocaleStatus(state=Content.PUBLISHED)},
        version=1,
    )
    await send(jetstream, ContentPublished(content=whole))
    await finder.until(word, [half.id, whole.id])

    assert await finder.ids(f"{word} {word}b") == [whole.id, half.id]

    await send(jetstream, ContentDeleted(content=Content(id=whole.id, type="article", version=2)))
    await finder.until(f"{word}b", [])
