"""The history of an item: listed, read, compared and brought back."""

import asyncio
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from tests.conftest import Metadata
from tests.content.items import Caller, refused
from thmnayah.content.v1.content_pb2 import Content, UpdateContentRequest
from thmnayah.content.v1.revisions_pb2 import (
    DiffRevisionsRequest,
    GetRevisionRequest,
    ListRevisionsRequest,
    RestoreRevisionRequest,
    Revision,
    RevisionDiff,
)
from thmnayah.content.v1.revisions_pb2_grpc import RevisionServiceStub

EQUAL, ADDED, REMOVED = RevisionDiff.Segment.EQUAL, RevisionDiff.Segment.ADDED, RevisionDiff.Segment.REMOVED


class History:
    """An editor's calls about the history of one item."""

    def __init__(self, channel: grpc.aio.Channel, metadata: Metadata) -> None:
        self.stub: Any = RevisionServiceStub(channel)
        self.metadata = metadata

    async def all(self, content_id: str, page_size: int = 0) -> list[Revision]:
        found: list[Revision] = []
        token = ""
        while True:
            request = ListRevisionsRequest(id=content_id, page_size=page_size, page_token=token)
            page = await self.stub.ListRevisions(request, metadata=self.metadata, timeout=10)
            found += page.revisions
            token = page.next_page_token
            if not token:
                return found

    async def get(self, content_id: str, number: int) -> Revision:
        request = GetRevisionRequest(id=content_id, number=number)
        revision: Revision = await self.stub.GetRevision(request, metadata=self.metadata, timeout=10)
        return revision

    async def diff(self, content_id: str, older: int = 0, newer: int = 0) -> RevisionDiff:
        request = DiffRevisionsRequest(id=content_id, to=newer)
        setattr(request, "from", older)
        answer: RevisionDiff = await self.stub.DiffRevisions(request, metadata=self.metadata, timeout=10)
        return answer

    async def restore(self, content_id: str, number: int, *paths: str, etag: str = "") -> Content:
        request = RestoreRevisionRequest(id=content_id, number=number, paths=paths, etag=etag)
        content: Content = await self.stub.RestoreRevision(request, metadata=self.metadata, timeout=10)
        return content


@pytest.fixture
def history(edge: grpc.aio.Channel, editor: Metadata) -> History:
    return History(edge, editor)


async def save(editing: Caller, content_id: str, *, note: str = "", autosave: bool = False, **fields: Any) -> Content:
    request = UpdateContentRequest(content=Content(id=content_id, **fields), note=note, autosave=autosave)
    return await editing.content.UpdateContent(request, metadata=editing.metadata, timeout=10)


async def test_every_save_is_a_revision_of_all_locales(editing: Caller, history: History) -> None:
    item = await editing.create(title={"ar": "بيت الحكمة", "en": "The House of Wisdom"}, body={"en": "One."})
    await save(editing, item.id, note="صُحح العنوان", title={"ar": "دار الحكمة"}, tags=["baghdad"])
    await editing.publish(item.id)  # changes no text
    await save(editing, item.id, body={"en": "One. Two."})

    revisions = await history.all(item.id)

    assert [(each.number, each.note, each.author) for each in revisions] == [
        (4, "", item.created_by),
        (2, "صُحح العنوان", item.created_by),
        (1, "", item.created_by),
    ]
    assert [each.number for each in await history.all(item.id, page_size=1)] == [4, 2, 1]
    second = await history.get(item.id, 2)
    assert dict(second.content.title) == {"ar": "دار الحكمة", "en": "The House of Wisdom"}
    assert dict(second.content.body) == {"en": "One."}
    assert list(second.content.tags) == ["baghdad"]
    assert dict((await history.get(item.id, 1)).content.slug) == dict(item.slug)


async def test_a_programs_saves_are_one_revision_until_somebody_saves(
    editing: Caller, reviewing: Caller, history: History
) -> None:
    item = await editing.create(body={"en": "0"})
    for number in range(1, 6):
        await save(editing, item.id, autosave=True, body={"en": str(number)})
    await save(reviewing, item.id, autosave=True, body={"en": "another's"})
    await save(editing, item.id, body={"en": "done"})
    await save(editing, item.id, autosave=True, body={"en": "and on"})

    kept = [(each.number, each.autosave) for each in await history.all(item.id)]

    assert kept == [(9, True), (8, False), (7, True), (6, True), (1, False)]


async def test_a_diff_names_each_field_and_locale_and_the_words_that_changed(editing: Caller, history: History) -> None:
    item = await editing.create(
        title={"ar": "بيت الحكمة في بغداد", "en": "The House of Wisdom"}, tags=["a", "b"], category="history"
    )
    await save(editing, item.id, title={"ar": "بيت العلم في بغداد"}, tags=["a", "c"], description={"en": "New"})

    answer = await history.diff(item.id)

    assert (getattr(answer, "from"), answer.to) == (1, 2)
    changes = {
        (each.field, each.locale): [(segment.kind, segment.text) for segment in each.segments]
        for each in answer.changes
    }
    assert changes == {
        ("title", "ar"): [(EQUAL, "بيت "), (REMOVED, "الحكمة "), (ADDED, "العلم "), (EQUAL, "في بغداد")],
        ("description", "en"): [(ADDED, "New")],
        ("tags", ""): [(EQUAL, "a"), (REMOVED, "b"), (ADDED, "c")],
    }
    assert await history.diff(item.id, 1, 2) == answer
    backwards = await history.diff(item.id, 2, 1)
    assert [segment.kind for segment in backwards.changes[1].segments] == [REMOVED]
    assert {each.field for each in (await history.diff(item.id, 0, 1)).changes} == {
        "title",
        "slug",
        "tags",
        "category",
    }


async def test_the_segments_of_a_diff_are_the_texts(editing: Caller, history: History) -> None:
    before = "  كان بيت الحكمة،\n\nمكتبةً كبيرة. The end.\t"
    after = "كان بيتُ الحكمة، مكتبةً   كبيرة جدًا. The end."
    item = await editing.create(body={"ar": before})
    await save(editing, item.id, body={"ar": after})

    (change,) = (await history.diff(item.id)).changes

    assert "".join(each.text for each in change.segments if each.kind != ADDED) == before
    assert "".join(each.text for each in change.segments if each.kind != REMOVED) == after


async def test_long_texts_are_compared_while_others_are_served(editing: Caller, history: History) -> None:
    words = [f"كلمة{number % 977}" for number in range(20_000)]
    item = await editing.create(body={"ar": " ".join(words)})
    await save(editing, item.id, body={"ar": " ".join([*words[:9000], "جديدة", *words[9100:]])})

    comparing = asyncio.create_task(history.diff(item.id))
    await asyncio.gather(*(editing.get(item.id) for _ in range(10)))

    (change,) = (await comparing).changes
    assert "جديدة" in "".join(segment.text for segment in change.segments if segment.kind == ADDED)


async def test_a_revision_is_brought_back_whole(editing: Caller, history: History) -> None:
    item = await editing.create(title={"ar": "بيت", "en": "House"}, body={"en": "One."}, tags=["a"])
    await editing.update(item.id, paths=["title.ar", "body", "tags"], tags=["b"])

    restored = await history.restore(item.id, 1)

    assert (dict(restored.title), dict(restored.body), list(restored.tags)) == (
        {"ar": "بيت", "en": "House"},
        {"en": "One."},
        ["a"],
    )
    assert [each.number for each in await history.all(item.id)] == [3, 2, 1]
    assert await history.restore(item.id, 1) == restored  # it is like that already


async def test_some_fields_of_a_revision_are_brought_back(editing: Caller, history: History) -> None:
    item = await editing.create(title={"ar": "بيت", "en": "House"}, tags=["a"])
    await save(editing, item.id, title={"ar": "دار", "en": "Home"}, tags=["b"])

    restored = await history.restore(item.id, 1, "title.ar")

    assert (dict(restored.title), list(restored.tags)) == ({"ar": "بيت", "en": "Home"}, ["b"])
    refusal = await refused(history.restore(item.id, 1, "nothing.ar"))
    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT


async def test_what_is_not_there_is_not_found(editing: Caller, history: History) -> None:
    item = await editing.create()
    nobody = "0199a0a0-0000-7000-8000-000000000001"

    for call in (
        history.get(item.id, 2),
        history.diff(item.id, 1, 2),
        history.diff(item.id, 2, 1),
        history.restore(item.id, 2),
        history.get(nobody, 1),
        history.diff(nobody),
        history.all(nobody),
    ):
        assert (await refused(call)).code == grpc.StatusCode.NOT_FOUND
    stale = await refused(history.restore(item.id, 1, etag='"7"'))
    assert stale.reason == "ETAG_MISMATCH"


async def test_the_history_is_no_readers_business(editing: Caller, edge: grpc.aio.Channel, reader: Metadata) -> None:
    item = await editing.create()
    await editing.publish(item.id)
    reading = History(edge, reader)

    for call in (reading.all(item.id), reading.get(item.id, 1), reading.diff(item.id), reading.restore(item.id, 1)):
        assert (await refused(call)).code == grpc.StatusCode.PERMISSION_DENIED


async def test_the_history_over_rest(rest: httpx.AsyncClient, editing: Caller, editor_token: str) -> None:
    item = await editing.create(title={"en": "One"})
    await save(editing, item.id, title={"en": "Two"})
    signed = {"authorization": f"Bearer {editor_token}"}
    address = f"/v1/contents/{item.id}/revisions"

    listed = (await rest.get(address, headers=signed)).json()
    read = (await rest.get(f"{address}/1", headers=signed)).json()
    compared = (await rest.get(f"{address}:diff?from=1&to=2", headers=signed)).json()
    restored = (await rest.post(f"{address}/1:restore", headers=signed, json={"paths": ["title"]})).json()

    assert [each["number"] for each in listed["revisions"]] == [2, 1]
    assert read["content"]["title"] == {"en": "One"}
    assert compared["changes"][0]["segments"] == [
        {"kind": "REMOVED", "text": "One"},
        {"kind": "ADDED", "text": "Two"},
    ]
    assert restored["title"] == {"en": "One"}


async def test_saves_at_once_of_different_fields_all_survive(editing: Caller) -> None:
    item = await editing.create(title={"ar": "بيت", "en": "House"})
    paths = ["title.ar", "title.en", "description.ar", "description.en", "body.ar", "body.en", "category", "tags"]

    async def change(path: str) -> None:
        field, _, locale = path.partition(".")
        value: Any = {locale: "جديد"} if locale else ["جديد"] if field == "tags" else "جديد"
        request = UpdateContentRequest(
            content=Content(id=item.id, etag=item.etag, **{field: value}), update_mask=FieldMask(paths=[path])
        )
        await editing.content.UpdateContent(request, metadata=editing.metadata, timeout=30)

    await asyncio.gather(*map(change, paths))

    changed = await editing.get(item.id)
    assert changed.version == 1 + len(paths)
    for field in ("title", "description", "body"):
        assert dict(getattr(changed, field)) == {"ar": "جديد", "en": "جديد"}
    assert (changed.category, list(changed.tags)) == ("جديد", ["جديد"])


async def test_of_saves_at_once_of_one_field_one_wins(editing: Caller) -> None:
    item = await editing.create()
    saves = [editing.update(item.id, title={"en": f"Title {number}"}, etag=item.etag) for number in range(100)]

    answers = await asyncio.gather(*saves, return_exceptions=True)

    won = [answer for answer in answers if isinstance(answer, Content)]
    lost = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    assert (len(won), len(lost)) == (1, 99)
    assert {error.code() for error in lost} == {grpc.StatusCode.ABORTED}
    assert await editing.get(item.id) == won[0]
