"""Editors at once, and requests that come twice, late or in another order."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable

import grpc
import httpx
import pytest

from tests.content.items import SECONDS, Caller, refused
from tests.content.rest import Json, Rest, define, field, make
from thmnayah.content.v1.content_pb2 import Content, PublishContentRequest, UnpublishContentRequest
from thmnayah.content.v1.workflow_pb2 import ArchiveContentRequest, RestoreContentRequest, SubmitContentRequest

WRITERS = 100


async def served(call: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
    """The answer, asked for again while the service says that it has too much to do."""
    while (answer := await call()).status_code in (429, 503):
        pass
    return answer


async def test_a_hundred_writers_of_different_fields_all_survive(admin: Rest, word: str) -> None:
    await define(admin, word, *(field(f"f{number}") for number in range(WRITERS)))
    item = await make(admin, word)

    async def write(number: int) -> httpx.Response:
        body = {"etag": item["etag"], "fields": {f"f{number}": {"text": f"by {number}"}}}
        return await served(lambda: admin.call("PATCH", f"contents/{item['id']}", body, updateMask=f"fields.f{number}"))

    answers = await asyncio.gather(*map(write, range(WRITERS)))

    assert Counter(answer.status_code for answer in answers) == {200: WRITERS}
    saved = await admin.ok("GET", f"contents/{item['id']}")
    assert saved["fields"] == {f"f{number}": {"text": f"by {number}"} for number in range(WRITERS)}
    assert saved["version"] == 1 + WRITERS


@pytest.mark.parametrize("guard", ["If-Match", "etag"])
async def test_of_a_hundred_writers_of_one_field_one_wins_and_the_others_learn_how_to_go_on(
    admin: Rest, word: str, guard: str
) -> None:
    await define(admin, word)
    item = await make(admin, word)
    path = f"contents/{item['id']}"

    async def write(text: str, etag: str) -> httpx.Response:
        body: Json = {"title": {"en": text}, **({"etag": etag} if guard == "etag" else {})}
        headers = {"If-Match": etag} if guard == "If-Match" else None
        return await served(lambda: admin.call("PATCH", path, body, headers, updateMask="title.en"))

    answers = await asyncio.gather(*(write(f"by {number}", item["etag"]) for number in range(WRITERS)))

    lost = [answer for answer in answers if answer.status_code != 200]
    assert {answer.status_code for answer in lost} == {412 if guard == "If-Match" else 409}
    assert len(lost) == WRITERS - 1
    (won,) = [answer.json() for answer in answers if answer.status_code == 200]
    assert await admin.ok("GET", path) == won
    told = {(answer.json()["details"][0]["reason"], answer.json()["details"][0]["metadata"]["etag"]) for answer in lost}
    assert told == {("ETAG_MISMATCH", won["etag"])}
    assert (await write("after all", lost[0].json()["details"][0]["metadata"]["etag"])).json()["title"]["en"] == (
        "after all"
    )


async def test_every_step_twice_at_once_is_one(editing: Caller) -> None:
    item = await editing.create(title={"ar": "بيت", "en": "House"})
    for step in (editing.submit, editing.publish, editing.unpublish, editing.archive, editing.restore):
        before = (await editing.get(item.id)).version

        first, second = await asyncio.gather(step(item.id), step(item.id))

        after = await editing.get(item.id)
        assert first == second == after, step
        # An archive of what readers see would be two changes; here it is one as well.
        assert after.version == before + 1, step


async def test_late_and_repeated_requests_that_say_what_they_are_based_on_change_nothing(editing: Caller) -> None:
    item = await editing.create(title={"ar": "بيت", "en": "House"})
    call = {"metadata": editing.metadata, "timeout": SECONDS}
    done: list[Callable[[], Awaitable[Content]]] = []
    for stub, request in (
        (editing.workflow.SubmitContent, SubmitContentRequest),
        (editing.content.PublishContent, PublishContentRequest),
        (editing.content.UnpublishContent, UnpublishContentRequest),
        (editing.workflow.ArchiveContent, ArchiveContentRequest),
        (editing.workflow.RestoreContent, RestoreContentRequest),
        (editing.content.PublishContent, PublishContentRequest),
    ):
        asked = request(id=item.id, etag=item.etag)
        done.append(lambda stub=stub, asked=asked: stub(asked, **call))  # type: ignore[misc]  # mypy does not infer lambdas with defaults
        item = await done[-1]()

    again = done * 2
    random.Random(4).shuffle(again)
    for repeat in again:
        refusal = await refused(repeat())
        assert (refusal.code, refusal.metadata["etag"]) == (grpc.StatusCode.ABORTED, item.etag)

    assert await editing.get(item.id) == item


async def test_a_late_retry_of_the_last_step_is_answered_like_the_first(editing: Caller) -> None:
    item = await editing.create(title={"ar": "بيت", "en": "House"})
    published = await editing.publish(item.id)
    assert [await editing.publish(item.id) for _ in range(3)] == [published] * 3
    deleted = await editing.delete(item.id)
    assert (await refused(editing.delete(item.id))).code == grpc.StatusCode.NOT_FOUND
    restored = await editing.undelete(item.id)
    assert (await refused(editing.undelete(item.id))).code == grpc.StatusCode.NOT_FOUND
    assert (restored.version, (await editing.get(item.id)).version) == (deleted.version + 1,) * 2
