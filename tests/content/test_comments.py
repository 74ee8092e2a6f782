"""Comments: what editors say to each other about an item, and who sees it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC
from typing import Any

import asyncpg
import grpc
import httpx
import pytest

from deploy.local.mesh import Mesh
from libs import db
from services.content import contents
from tests.conftest import Metadata, eventually
from tests.content.items import Caller, refused
from tests.content.rest import Json, Rest, define, field, make, reason, violations
from thmnayah.content.v1.comments_pb2 import Comment, CommentCreated, CreateCommentRequest, ListCommentsRequest
from thmnayah.content.v1.comments_pb2_grpc import CommentServiceStub
from thmnayah.content.v1.content_pb2 import Content

NOBODY = "0190b0a0-0000-7000-8000-000000000000"
ANOTHER = "0190b0a0-0000-7000-8000-00000000000A"


class Talk(Rest):
    """Somebody's comments on one item."""

    def __init__(self, client: httpx.AsyncClient, token: str, content_id: str) -> None:
        super().__init__(client, token)
        self.path = f"contents/{content_id}/comments"

    async def say(self, text: str = "Why?", **place: Any) -> Json:
        return await self.ok("POST", self.path, {"text": text, **place})

    async def verb(self, comment: Json, verb: str) -> Json:
        return await self.ok("POST", f"{self.path}/{comment['id']}:{verb}", {})

    async def texts(self, **question: str) -> list[str]:
        """What all pages say."""
        page = await self.ok("GET", self.path, None, **question)
        found = [each["text"] for each in page["comments"]]
        while page["nextPageToken"]:
            page = await self.ok("GET", self.path, None, **question, pageToken=page["nextPageToken"])
            found += [each["text"] for each in page["comments"]]
        return found


@pytest.fixture
async def item(editing: Caller) -> Content:
    return await editing.create(title={"ar": "بيت الحكمة", "en": "The House of Wisdom"})


@pytest.fixture
def talk(rest: httpx.AsyncClient, editor_token: str, item: Content) -> Talk:
    """An editor's comments on the item."""
    return Talk(rest, editor_token, item.id)


@pytest.fixture(scope="session")
async def other_token(sign_in: Callable[..., Awaitable[str]]) -> str:
    return await sign_in("editor")


@pytest.fixture
def answering(rest: httpx.AsyncClient, other_token: str, item: Content) -> Talk:
    """Another editor's comments on the item."""
    return Talk(rest, other_token, item.id)


Told = Callable[[str], Awaitable[list[tuple[str, Comment]]]]


@pytest.fixture
def told(content_db: "asyncpg.Connection[asyncpg.Record]") -> Told:
    """The events about a comment that were sent."""

    async def read(comment_id: str) -> list[tuple[str, Comment]]:
        rows = await content_db.fetch(
            "SELECT subject, payload FROM outbox"
            " WHERE headers->>'ce-subject' = $1 AND sent_time IS NOT NULL ORDER BY position",
            comment_id,
        )
        # Each of them holds the comment, and nothing else.
        return [(row["subject"], CommentCreated.FromString(row["payload"]).comment) for row in rows]

    return read


async def test_a_comment_says_who_said_what_where_and_of_which_revision(
    editing: Caller, talk: Talk, item: Content
) -> None:
    await editing.update(item.id, title={"en": "The House"})

    made = await talk.say(f"Cafe\u0301 @{{{NOBODY}}} and @{{{ANOTHER}}}, @{{{NOBODY}}}", field="title.en")
    quoted = await talk.say(field="title.ar", quote="الحكمة", quoteStart=4, revision=1)

    assert made["text"] == f"Café @{{{NOBODY}}} and @{{{ANOTHER}}}, @{{{NOBODY}}}"
    assert made["mentions"] == [NOBODY, ANOTHER.lower()]
    assert (made["field"], made["revision"], made["state"], made["placeGone"]) == ("title.en", 2, "OPEN", False)
    assert (made["contentId"], made["createdBy"], made["threadId"]) == (item.id, item.created_by, "")
    assert (quoted["quote"], quoted["quoteStart"], quoted["revision"]) == ("الحكمة", 4, 1)
    assert await talk.ok("GET", f"{talk.path}/{made['id']}") == made


async def test_a_comment_is_no_change_of_the_item(
    editing: Caller, reviewing: Caller, talk: Talk, item: Content, admin: Rest
) -> None:
    await editing.submit(item.id)
    before = await reviewing.approve(item.id)

    thread = await talk.say()
    await talk.verb(thread, "resolve")

    assert await editing.get(item.id) == before
    assert len((await admin.ok("GET", f"contents/{item.id}/revisions"))["revisions"]) == 1
    await talk.say("Still open")
    assert (await editing.publish(item.id)).state == Content.PUBLISHED


async def test_replies_follow_the_comment_they_answer(talk: Talk, answering: Talk) -> None:
    first = await talk.say("1", field="title.en")
    second = await talk.say("2")
    reply = await answering.say("1a", threadId=first["id"])
    await talk.say("1b", threadId=first["id"])

    assert await talk.texts() == await talk.texts(pageSize="1") == ["1", "1a", "1b", "2"]
    assert await talk.texts(filter=f"thread_id = {first['id']}") == ["1", "1a", "1b"]
    assert (reply["threadId"], reply["field"], reply["state"]) == (first["id"], "title.en", "OPEN")
    nested = await talk.call("POST", talk.path, {"text": "x", "threadId": reply["id"]})
    nowhere = await talk.call("POST", talk.path, {"text": "x", "threadId": NOBODY})
    placed = await talk.call("POST", talk.path, {"text": "x", "threadId": second["id"], "field": "title.en"})
    assert (nested.status_code, list(violations(nested))) == (400, ["comment.threadId"])
    assert (reason(nowhere), list(violations(nowhere))) == ((404, "COMMENT_NOT_FOUND"), ["comment.threadId"])
    assert list(violations(placed)) == ["comment.threadId"]


@pytest.mark.parametrize(
    ("comment", "violation"),
    [
        ({"text": " \u200f"}, "comment.text"),
        ({"text": "x" * 10_001}, "comment.text"),
        ({"text": "a\u0000"}, "comment.text"),
        ({"text": " ".join(f"@{{0190b0a0-0000-7000-8000-{number:012}}}" for number in range(51))}, "comment.text"),
        ({"text": "x", "field": "nothing"}, "comment.field"),
        ({"text": "x", "field": "tags.ar"}, "comment.field"),
        ({"text": "x", "field": "title.fr"}, "comment.field"),
        ({"text": "x", "field": "fields.nothing"}, "comment.field"),
        ({"text": "x", "field": "title.ar", "blockId": "b1"}, "comment.blockId"),
        ({"text": "x", "blockId": "b1"}, "comment.blockId"),
        ({"text": "x", "quote": "q"}, "comment.quote"),
        ({"text": "x", "revision": 2}, "comment.revision"),
    ],
)
async def test_what_is_wrong_with_a_comment_is_named(talk: Talk, comment: Json, violation: str) -> None:
    answer = await talk.call("POST", talk.path, comment)

    assert (answer.status_code, list(violations(answer))) == (400, [violation])
    assert await talk.texts() == []


async def test_a_comment_stays_when_its_place_goes(
    admin: Rest, rest: httpx.AsyncClient, editor_token: str, word: str
) -> None:
    kind = await define(
        admin,
        word,
        field("synopsis", localized=True),
        field("story", {"richText": {}}, localized=True),
        field("length"),
    )
    story = {"richText": {"blocks": [{"id": "b1", "paragraph": {"spans": [{"text": "x"}]}}]}}
    made = await make(admin, word, {"story": {"localized": {"values": {"en": story}}}})
    talk = Talk(rest, editor_token, made["id"])
    for place in (
        {"field": "fields.synopsis.ar"},
        {"field": "fields.story.en", "blockId": "b1"},
        {"field": "externalId"},
    ):
        await talk.say(place["field"], **place)
    wrong = await talk.call("POST", talk.path, {"text": "x", "field": "fields.length.ar"})
    assert list(violations(wrong)) == ["comment.field"]
    for place in ({"blockId": "b2", "field": "fields.story.en"}, {"blockId": "b1", "field": "fields.story.ar"}):
        wrong = await talk.call("POST", talk.path, {"text": "x", **place})
        assert (wrong.status_code, list(violations(wrong))) == (400, ["comment.blockId"])

    async def seen() -> dict[str, tuple[str, bool]]:
        listed = (await talk.ok("GET", talk.path))["comments"]
        return {each["text"]: (each["field"], each["placeGone"]) for each in listed}

    async def change(**fields: Json) -> None:
        kept = [{**each, **fields[each["name"]]} for each in kind["fields"] if each["name"] in fields]
        kind.update(await admin.ok("PATCH", f"contentTypes/t-{word}", {"fields": kept}, allowBreaking="true"))

    await change(synopsis={"name": "summary"}, story={})
    assert await seen() == {
        "fields.synopsis.ar": ("fields.summary.ar", False),
        "fields.story.en": ("fields.story.en", False),
        "externalId": ("external_id", False),
    }
    assert await talk.texts(filter='field = "fields.summary.ar"') == ["fields.synopsis.ar"]
    assert await talk.texts(filter="block_id = b1") == ["fields.story.en"]
    edit = {"field": "story", "locale": "en", "edits": [{"delete": "b1"}]}
    await admin.ok("POST", f"contents/{made['id']}:editBlocks", edit)
    assert (await seen())["fields.story.en"][1]
    await change(summary={"localized": False})
    gone = kind["fields"][0]["id"]
    assert (await seen())["fields.synopsis.ar"] == ("fields.summary.ar", True)
    assert (await seen())["fields.story.en"][1]
    await admin.ok("PATCH", f"contentTypes/t-{word}", {"fields": []}, updateMask="fields")
    assert (await seen())["fields.synopsis.ar"] == (f"fields.{gone}.ar", True)


async def test_a_comment_on_a_locale_says_when_it_is_gone(editing: Caller, talk: Talk, item: Content) -> None:
    made = await talk.say(field="title.ar")
    whole = await talk.say(field="title")
    read = await talk.call("GET", f"{talk.path}/{made['id']}")

    await editing.update(item.id, paths=["title.ar"])

    conditions = {"If-None-Match": read.headers["etag"]}
    again = await talk.call("GET", f"{talk.path}/{made['id']}", headers=conditions)
    assert (again.status_code, again.json()["placeGone"]) == (200, True)
    assert again.json()["version"] == made["version"]
    assert not (await talk.ok("GET", f"{talk.path}/{whole['id']}"))["placeGone"]


async def test_only_the_author_edits_a_comment(talk: Talk, answering: Talk, admin: Rest) -> None:
    made = await talk.say(f"Ask @{{{NOBODY}}}")
    path = f"{talk.path}/{made['id']}"

    edited = await talk.ok("PATCH", path, {"text": "Never mind"}, updateMask="text")

    assert (edited["text"], edited["mentions"], edited["version"]) == ("Never mind", [], 2)
    assert edited["editTime"]
    assert await talk.ok("PATCH", path, {"text": "Never mind"}) == edited
    for other in (answering, admin):
        assert reason(await other.call("PATCH", path, {"text": "x"})) == (403, "NOT_THE_AUTHOR")
    assert reason(await talk.call("PATCH", path, {"text": "x", "etag": made["etag"]})) == (409, "ETAG_MISMATCH")
    late = await talk.call("PATCH", path, {"text": "x"}, {"If-Match": made["etag"]})
    assert reason(late) == (412, "ETAG_MISMATCH")
    masked = await talk.call("PATCH", path, {"field": "title.ar"}, updateMask="field")
    assert list(violations(masked)) == ["updateMask"]
    assert list(violations(await talk.call("PATCH", path, {"text": ""}))) == ["comment.text"]


async def test_what_is_deleted_leaves_its_place_to_its_replies(talk: Talk, answering: Talk, admin: Rest) -> None:
    first = await talk.say("1")
    reply = await answering.say("1a", threadId=first["id"])
    lonely = await talk.say("2")
    path = f"{talk.path}/{first['id']}"

    assert reason(await answering.call("DELETE", path)) == (403, "NOT_THE_AUTHOR")
    assert reason(await talk.call("DELETE", path, None, {"If-Match": '"7"'})) == (412, "ETAG_MISMATCH")
    gone = await talk.ok("DELETE", path)
    alone = await talk.ok("DELETE", f"{talk.path}/{lonely['id']}")

    assert (gone["text"], gone["version"], bool(gone["deleteTime"])) == ("", 2, True)
    assert alone["deleteTime"]
    assert await talk.texts() == ["", "1a"]
    assert await talk.ok("GET", path) == gone
    for call in (
        talk.call("DELETE", path),
        talk.call("PATCH", path, {"text": "x"}),
        talk.call("GET", f"{talk.path}/{lonely['id']}"),
    ):
        assert reason(await call) == (404, "COMMENT_NOT_FOUND")
    await talk.say("1b", threadId=first["id"])
    # An administrator may take anybody's away; the thread goes with the last one.
    await admin.ok("DELETE", f"{talk.path}/{reply['id']}")
    assert await talk.texts() == ["", "1b"]
    (last,) = (await talk.ok("GET", talk.path, None, filter=f"thread_id = {first['id']}"))["comments"][1:]
    await talk.ok("DELETE", f"{talk.path}/{last['id']}")
    assert await talk.texts() == []


async def test_a_thread_is_resolved_and_opened_again(talk: Talk, answering: Talk) -> None:
    first = await talk.say("1")
    reply = await answering.say("1a", threadId=first["id"])
    await talk.say("2")

    resolved = await answering.verb(first, "resolve")

    assert (resolved["state"], resolved["resolvedBy"]) == ("RESOLVED", reply["createdBy"])
    assert resolved["resolveTime"]
    assert await talk.verb(first, "resolve") == resolved
    seen = await talk.ok("GET", f"{talk.path}/{reply['id']}")
    assert (seen["state"], seen["version"]) == ("RESOLVED", 1)
    assert seen["etag"] != reply["etag"]
    assert await talk.texts(filter="state = OPEN") == ["2"]
    assert await talk.texts(filter="state = RESOLVED") == ["1", "1a"]
    assert await talk.texts(filter=f"created_by = {reply['createdBy']}") == ["1a"]
    opened = await talk.verb(first, "reopen")
    assert (opened["state"], opened["resolvedBy"], opened["version"]) == ("OPEN", "", 3)
    assert "resolveTime" not in opened
    assert await talk.verb(first, "reopen") == opened
    for verb in ("resolve", "reopen"):
        answer = await talk.call("POST", f"{talk.path}/{reply['id']}:{verb}", {})
        assert list(violations(answer)) == ["id"]
        answer = await talk.call("POST", f"{talk.path}/{first['id']}:{verb}", {}, {"If-Match": '"1"'})
        assert reason(answer) == (412, "ETAG_MISMATCH")


async def test_an_inbox_holds_the_open_comments_that_mention_somebody(
    editing: Caller, rest: httpx.AsyncClient, editor_token: str, talk: Talk, item: Content
) -> None:
    me = item.created_by
    other = Talk(rest, editor_token, (await editing.create()).id)
    first = await talk.say("1")
    await talk.say(f"1a @{{{me}}}", threadId=first["id"])
    await other.say(f"2 @{{{me}}}")
    done = await talk.say(f"3 @{{{me}}}")
    await talk.verb(done, "resolve")
    mine = {"filter": f'state = OPEN AND mentions:"{me}"', "pageSize": "1"}

    page = await talk.ok("GET", "comments", None, **mine)
    next_page = await talk.ok("GET", "comments", None, **mine, pageToken=page["nextPageToken"])

    assert [each["text"][:2] for each in page["comments"] + next_page["comments"]] == ["2 ", "1a"]
    assert not next_page["nextPageToken"]
    assert await talk.texts(filter=f'mentions:"{me}"') == [f"1a @{{{me}}}", f"3 @{{{me}}}"]
    for wrong in ({"pageToken": "x"}, {"filter": "nothing = 1"}, {"pageToken": page["nextPageToken"]}):
        assert (await talk.call("GET", "comments", None, None, **wrong)).status_code == 400
    await editing.delete(item.id)
    left = await talk.ok("GET", "comments", None, filter=f'mentions:"{me}"')
    assert [each["contentId"] for each in left["comments"]] == [other.path.split("/")[1]]


async def test_nobody_but_editors_hears_of_comments(
    editing: Caller, anyone: Caller, rest: httpx.AsyncClient, reader_token: str, talk: Talk, item: Content
) -> None:
    made = await talk.say("Secret")
    await editing.publish(item.id)

    for token, status in (("", 401), (reader_token, 403)):
        reader = Talk(rest, token, item.id)
        for path in ("comments", reader.path, f"{reader.path}/{made['id']}", f"contents/{NOBODY}/comments"):
            assert (await reader.call("GET", path)).status_code == status
        assert (await reader.call("POST", reader.path, {"text": "x"})).status_code == status
        assert (await reader.call("DELETE", f"{reader.path}/{made['id']}")).status_code == status
    assert "Secret" not in str(await anyone.get(item.id))


async def test_what_is_not_there_is_not_found(editing: Caller, talk: Talk) -> None:
    made = await talk.say()
    elsewhere = f"contents/{(await editing.create()).id}/comments"

    assert reason(await talk.call("GET", f"contents/{NOBODY}/comments")) == (404, "CONTENT_NOT_FOUND")
    assert reason(await talk.call("POST", f"contents/{NOBODY}/comments", {"text": "x"})) == (404, "CONTENT_NOT_FOUND")
    for method, path in (
        ("GET", f"{talk.path}/{NOBODY}"),
        ("GET", f"{elsewhere}/{made['id']}"),
        ("DELETE", f"{elsewhere}/{made['id']}"),
    ):
        assert reason(await talk.call(method, path)) == (404, "COMMENT_NOT_FOUND")
    moved = await talk.call("POST", elsewhere, {"text": "x", "threadId": made["id"]})
    assert reason(moved) == (404, "COMMENT_NOT_FOUND")


async def test_comments_wait_in_the_trash_and_end_with_the_item(
    mesh: Mesh, editing: Caller, talk: Talk, item: Content, content_db: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    made = await talk.say("Kept")
    await talk.say("Too", threadId=made["id"])
    await editing.delete(item.id)
    assert reason(await talk.call("GET", talk.path)) == (404, "CONTENT_NOT_FOUND")
    assert reason(await talk.call("GET", f"{talk.path}/{made['id']}")) == (404, "COMMENT_NOT_FOUND")
    await editing.undelete(item.id)
    assert await talk.texts() == ["Kept", "Too"]

    await editing.delete(item.id)
    await content_db.execute("UPDATE contents SET expire_time = now() WHERE id = $1", item.id)
    pool = await db.connect(mesh.database_url("content"), service="purge", size=1)
    async with db.connection(pool) as conn:
        while await contents.purge(conn, revision_days=0):
            pass
    await pool.close()

    assert await content_db.fetchval("SELECT count(*) FROM comments WHERE content_id = $1", item.id) == 0


async def test_what_happens_to_comments_is_announced_without_the_item(talk: Talk, told: Told) -> None:
    made = await talk.say(f"@{{{NOBODY}}}")
    path = f"{talk.path}/{made['id']}"
    await talk.verb(made, "resolve")
    await talk.verb(made, "resolve")
    await talk.verb(made, "reopen")
    await talk.ok("PATCH", path, {"text": "New"})
    await talk.ok("PATCH", path, {"text": "New"})
    await talk.ok("DELETE", path)

    events = await eventually(lambda: told(made["id"]), lambda found: len(found) == 5)

    assert [(subject, comment.version) for subject, comment in events] == [
        ("content.commented", 1),
        ("content.comment_resolved", 2),
        ("content.comment_reopened", 3),
        ("content.comment_updated", 4),
        ("content.comment_deleted", 5),
    ]
    assert list(events[0][1].mentions) == [NOBODY]
    assert (events[-1][1].text, events[-1][1].content_id) == ("", made["contentId"])


async def test_replies_and_the_end_of_their_thread_do_not_miss_each_other(talk: Talk, answering: Talk) -> None:
    for _ in range(5):
        first = await talk.say("First")
        path = f"{talk.path}/{first['id']}"

        answers = await asyncio.gather(
            talk.call("DELETE", path),
            *(answering.call("POST", talk.path, {"text": "Reply", "threadId": first["id"]}) for _ in range(3)),
        )

        assert answers[0].status_code == 200
        assert {answer.status_code for answer in answers[1:]} <= {200, 404}
        kept = sum(answer.status_code == 200 for answer in answers[1:])
        texts = await talk.texts(filter=f"thread_id = {first['id']}")
        assert texts == (["", *["Reply"] * kept] if kept else [])


async def test_comments_are_spoken_of_over_grpc(edge: grpc.aio.Channel, editor: Metadata, item: Content) -> None:
    stub: Any = CommentServiceStub(edge)
    request = CreateCommentRequest(comment=Comment(content_id=item.id, text="Why?", field="title.ar"))

    made = await stub.CreateComment(request, metadata=editor, timeout=10)
    listed = await stub.ListComments(ListCommentsRequest(content_id=item.id), metadata=editor, timeout=10)

    assert list(listed.comments) == [made]
    assert made.create_time.ToDatetime(UTC) >= item.create_time.ToDatetime(UTC)
    assert (await refused(stub.CreateComment(request, timeout=10))).code == grpc.StatusCode.UNAUTHENTICATED
