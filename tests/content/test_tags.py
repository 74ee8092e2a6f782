"""Tags: how many items have each, and what becomes of them over all items."""

import asyncpg
import grpc
import httpx
import pytest

from tests.conftest import Metadata, SearchStub, bearer, eventually
from tests.content.conftest import Announcements
from tests.content.filing import Filing
from tests.content.items import Caller, refused
from thmnayah.content.v1.content_pb2 import DRAFT, PUBLISHED, Content
from thmnayah.content.v1.revisions_pb2 import ListRevisionsRequest
from thmnayah.content.v1.revisions_pb2_grpc import RevisionServiceStub
from thmnayah.content.v1.values_pb2 import Value
from thmnayah.search.v1.search_pb2 import SearchRequest

TEXT = Value(text="Told")


async def counts(calls: Filing, prefix: str, **question: object) -> list[tuple[str, int]]:
    """Tags that begin with a word, without it, and their counts."""
    found = await calls.tags(prefix=prefix, **question)
    return [(tag.name.removeprefix(prefix), tag.count) for tag in found]


async def test_editors_count_drafts_and_readers_what_is_published(
    editing: Caller, filing: Filing, browsing: Filing, word: str
) -> None:
    first = await editing.create(tags=[word + "a", word + "b"])
    await editing.create(tags=[word + "a"])
    await editing.publish(first.id)
    await editing.update(first.id, tags=[word + "a", word + "c"])

    assert await counts(filing, word) == [("a", 2), ("c", 1)]
    assert await counts(filing, word, view=PUBLISHED) == [("a", 1), ("b", 1)]
    assert await counts(browsing, word) == [("a", 1), ("b", 1)]
    await editing.publish(first.id)
    assert await counts(browsing, word) == [("a", 1), ("c", 1)]
    await editing.delete(first.id)
    assert await counts(browsing, word) == []
    assert (await refused(browsing.tags(view=DRAFT))).code == grpc.StatusCode.UNAUTHENTICATED


async def test_tags_come_by_count_or_by_name(editing: Caller, filing: Filing, word: str) -> None:
    for tags in (["b", "c"], ["c"], ["B2", "a"], ["c"]):
        await editing.create(tags=[word + tag for tag in tags])

    assert await counts(filing, word) == [("c", 3), ("B2", 1), ("a", 1), ("b", 1)]
    assert await counts(filing, word, order_by="count") == [("B2", 1), ("a", 1), ("b", 1), ("c", 3)]
    assert [tag for tag, _ in await counts(filing, word, order_by="name")] == ["a", "b", "B2", "c"]
    assert [tag for tag, _ in await counts(filing, word, order_by="name desc")] == ["c", "B2", "b", "a"]
    for order_by in ("size", "name up"):
        assert list((await refused(filing.tags(order_by=order_by))).violations) == ["orderBy"]


@pytest.mark.parametrize("order_by", ["", "count", "name", "name desc"])
async def test_pages_hold_every_tag_once(
    rest: httpx.AsyncClient, editing: Caller, editor_token: str, word: str, order_by: str
) -> None:
    await editing.create(tags=[f"{word}{number}" for number in range(7)])
    await editing.create(tags=[f"{word}{number}" for number in range(0, 7, 2)])
    question = {"prefix": word, "orderBy": order_by}
    headers = dict(bearer(editor_token))

    whole = (await rest.get("/v1/tags", params=question, headers=headers)).json()["tags"]
    pages, token = [], ""
    for _ in range(4):
        params = {**question, "pageSize": "2", "pageToken": token}
        page = (await rest.get("/v1/tags", params=params, headers=headers)).json()
        pages += page["tags"]
        token = page["nextPageToken"]

    assert pages == whole
    assert len(whole) == 7
    assert not token
    assert (await rest.get("/v1/tags", params={"pageToken": "x"})).status_code == 400


async def test_a_prefix_is_compared_as_it_is_read(editing: Caller, filing: Filing, word: str) -> None:
    await editing.create(tags=["إسلام " + word, "اسلاميات " + word, "Résumé " + word])

    for prefix in ("اسلام", "أِسـلام", "إسلام"):
        found = {tag.name for tag in await filing.tags(prefix=prefix, page_size=200) if tag.name.endswith(word)}
        assert found == {"إسلام " + word, "اسلاميات " + word}
    assert [tag.name for tag in await filing.tags(prefix="RESUME " + word)] == ["Résumé " + word]


async def test_a_tag_is_renamed_on_drafts_and_on_what_is_published(
    editing: Caller, anyone: Caller, filing: Filing, announced: Announcements, word: str
) -> None:
    both = await editing.create(tags=["x", word, "y"], title={"en": "Published"})
    await editing.publish(both.id)
    await editing.update(both.id, title={"en": "Draft"})
    draft = await editing.create(tags=[word])
    published = await editing.create(tags=[word])
    await editing.publish(published.id)
    await editing.update(published.id, paths=["tags"])
    assert list((await anyone.get(both.id)).tags) == ["x", word, "y"]

    answer = await filing.rename(word, "new " + word)

    assert (answer.changed, answer.complete) == (3, True)
    after, shown = await editing.get(both.id), await anyone.get(both.id)
    assert (list(after.tags), after.title["en"], after.version) == (["x", "new " + word, "y"], "Draft", 4)
    assert (list(shown.tags), shown.title["en"], shown.version) == (["x", "new " + word, "y"], "Published", 4)
    assert [(event.subject, event.content) for event in (await announced(both.id))[-2:]] == [
        ("content.updated", after),
        ("content.published", shown),
    ]
    assert (await announced(draft.id))[-1].subject == "content.updated"
    # Its draft has no tags, so that only what readers see changed.
    assert (await announced(published.id))[-1].subject == "content.published"
    assert list((await editing.get(published.id)).tags) == []
    assert {item.id for item in await anyone.walk(filter=f'tags:"new {word}"')} == {both.id, published.id}
    again = await filing.rename(word, "new " + word)
    assert (again.changed, again.complete) == (0, True)


async def test_a_rename_is_a_save_of_each_draft_it_changes(
    editing: Caller, anyone: Caller, filing: Filing, edge: grpc.aio.Channel, editor: Metadata, word: str
) -> None:
    async def history(content_id: str) -> list[tuple[int, str]]:
        request = ListRevisionsRequest(id=content_id)
        answer = await RevisionServiceStub(edge).ListRevisions(request, metadata=editor, timeout=10)
        return [(revision.number, revision.author) for revision in answer.revisions]

    reviewed = await editing.create(tags=[word])
    submitted = await editing.submit(reviewed.id)
    fielded = await editing.create(
        tags=[word], type="article", fields={"subtitle": Value(localized=Value.Localized(values={"en": TEXT}))}
    )
    published = await editing.publish(fielded.id)

    await filing.rename(word, "new " + word)

    item = await editing.get(reviewed.id)
    assert submitted.locales["en"].state == Content.IN_REVIEW
    assert (item.version, item.locales["en"].state) == (3, Content.DRAFT)
    assert item.update_time.ToDatetime() > reviewed.update_time.ToDatetime()
    assert await history(item.id) == [(3, item.created_by), (1, item.created_by)]
    # It was about the tags alone, so an edit of another field may still be based on what was read before.
    assert (await refused(editing.update(item.id, tags=["x"], etag=submitted.etag))).reason == "ETAG_MISMATCH"
    assert (await editing.update(item.id, title={"en": "Other"}, etag=submitted.etag)).version == 4

    after, shown = await editing.get(fielded.id), await anyone.get(fielded.id)
    assert after.locales["en"].draft_state == Content.STATE_UNSPECIFIED  # readers see the draft
    assert after.locales["en"].publish_time == published.locales["en"].publish_time
    assert after.fields["subtitle"] == shown.fields["subtitle"] == fielded.fields["subtitle"]
    assert (await editing.publish(fielded.id)).version == after.version
    await editing.update(fielded.id, title={"en": "Changed"})
    await filing.rename("new " + word, word)
    assert (await editing.get(fielded.id)).locales["en"].draft_state == Content.DRAFT


async def test_a_tag_is_not_renamed_to_one_that_is_in_use(
    editing: Caller, browsing: Filing, filing: Filing, word: str
) -> None:
    await editing.create(tags=[word])
    await editing.create(tags=["x" + word])

    refusal = await refused(filing.rename(word, "x" + word))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "TAG_EXISTS")
    assert list((await refused(filing.rename(word, word))).violations) == ["newTag"]
    assert list((await refused(filing.rename(word, ""))).violations) == ["newTag"]
    assert (await refused(browsing.rename(word, "y"))).code == grpc.StatusCode.UNAUTHENTICATED
    assert await counts(filing, word) == [("", 1)]


async def test_tags_are_merged_into_one(
    editing: Caller, filing: Filing, search: SearchStub, announced: Announcements, word: str
) -> None:
    both = await editing.create(tags=[word + "a", "z", word + "b"], title={"en": word})
    into = await editing.create(tags=[word, word + "b"])
    untouched = await editing.create(tags=[word])
    await editing.publish(both.id)

    answer = await filing.merge([word + "a", word + "b", word], word)

    assert (answer.changed, answer.complete) == (2, True)
    assert list((await editing.get(both.id)).tags) == [word, "z"]
    assert list((await editing.get(into.id)).tags) == [word]
    assert len(await announced(untouched.id)) == 1

    async def found() -> list[list[str]]:
        answer = await search.Search(SearchRequest(query=word), timeout=10)
        return [list(result.content.tags) for result in answer.results]

    assert await eventually(found, lambda tags: tags == [[word, "z"]])
    again = await filing.merge([word + "a", word + "b"], word)
    assert (again.changed, again.complete) == (0, True)


async def test_a_long_rename_goes_on_where_it_stopped_and_is_announced_once(
    editing: Caller, filing: Filing, content_db: "asyncpg.Connection[asyncpg.Record]", word: str
) -> None:
    item = await editing.create(tags=[word, "other"])
    await content_db.execute(
        """
        INSERT INTO contents (id, type, slug, title, description, body, tags, created_by)
        SELECT gen_random_uuid(), type, '{}', title, description, body, tags, created_by
        FROM contents, generate_series(1, 2100) WHERE id = $1
        """,
        item.id,
    )
    announced = "SELECT count(*) FROM outbox WHERE subject = 'tag.renamed' AND headers->>'ce-subject' = $1"

    first = await filing.rename(word, "new " + word)
    assert (first.changed, first.complete) == (2000, False)
    assert await content_db.fetchval(announced, "new " + word) == 0
    second = await filing.rename(word, "new " + word)

    assert (second.changed, second.complete) == (101, True)
    assert await content_db.fetchval(announced, "new " + word) == 1
    assert await counts(filing, "new " + word) == [("", 2101)]
    events = await content_db.fetchval(
        "SELECT count(*) FROM outbox"
        " WHERE subject = 'content.updated' AND position(convert_to($1, 'UTF8') IN payload) > 0",
        "new " + word,
    )
    assert events == 2101


async def test_tags_are_changed_over_rest(
    rest: httpx.AsyncClient, editing: Caller, editor_token: str, word: str
) -> None:
    headers = dict(bearer(editor_token))
    item = await editing.create(tags=["cafe\u0301/" + word])

    renamed = await rest.post(
        "/v1/tags:rename", json={"tag": "café/" + word, "newTag": "قهوة/" + word}, headers=headers
    )
    merged = await rest.post("/v1/tags:merge", json={"tags": ["قهوة/" + word], "into": word}, headers=headers)

    assert renamed.json() == merged.json() == {"changed": 1, "complete": True}
    assert list((await editing.get(item.id)).tags) == [word]


async def test_a_rename_reaches_the_trash_without_telling_of_it(
    editing: Caller, filing: Filing, announced: Announcements, word: str
) -> None:
    item = await editing.create(tags=[word])
    await editing.delete(item.id)

    answer = await filing.rename(word, "new " + word)

    assert (answer.changed, answer.complete) == (1, True)
    assert [event.subject for event in await announced(item.id)] == ["content.created", "content.deleted"]
    assert list((await editing.undelete(item.id)).tags) == ["new " + word]
    assert await counts(filing, word) == []


async def test_an_archived_item_is_renamed_and_stays_archived(editing: Caller, filing: Filing, word: str) -> None:
    whole = await editing.create(tags=[word])
    half = await editing.create(tags=[word], title={"ar": "عنوان", "en": "Title"})
    await editing.archive(whole.id)
    await editing.archive(half.id, "ar")
    await editing.publish(half.id, "en")

    assert (await filing.merge([word], "into " + word)).changed == 2

    for item, state in ((whole, Content.ARCHIVED), (half, Content.PUBLISHED)):
        after = await editing.get(item.id)
        assert (list(after.tags), after.state) == (["into " + word], state)
    assert (await editing.get(half.id)).locales["ar"].state == Content.ARCHIVED
    assert (await refused(editing.update(whole.id, title={"en": "x"}))).reason == "LOCALE_ARCHIVED"
