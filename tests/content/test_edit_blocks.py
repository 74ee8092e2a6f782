"""EditBlocks: single blocks of a text, changed by several editors at once."""

import asyncio
import uuid
from typing import Any

import grpc
import httpx
import pytest

from tests.conftest import Metadata
from tests.content.items import refused
from tests.content.rest import Json, Rest, define, field, make, reason, violations
from tests.content.test_rich_text_values import localized, paragraph, text
from thmnayah.content.v1.blocks_pb2 import BlockEdit, EditBlocksRequest
from thmnayah.content.v1.blocks_pb2_grpc import BlockServiceStub

Item = dict[str, Any]


async def written(admin: Rest, word: str, *some: Json, locale: str = "ar") -> Item:
    """An item whose field `a` holds these blocks in a locale."""
    await define(admin, word, field("a", {"richText": {}}, localized=True), field("b", {"richText": {}}), field("c"))
    return await make(admin, word, {"a": localized(**{locale: text(*some)})})


def request(*edits: Json, name: str = "a", locale: str = "ar", **more: Any) -> Json:
    return {"field": name, "edits": list(edits), **({"locale": locale} if locale else {}), **more}


async def edit(caller: Rest, item: Item, *edits: Json, **more: Any) -> httpx.Response:
    return await caller.call("POST", f"contents/{item['id']}:editBlocks", request(*edits, **more))


def outline(answer: httpx.Response, locale: str = "ar") -> list[Any]:
    """The ids of the blocks, those in others as lists behind them."""
    assert answer.status_code == 200, answer.text

    def of(blocks: list[Json]) -> list[Any]:
        found: list[Any] = []
        for block in blocks:
            found.append(block["id"])
            inner = [each for entry in block["items"] for each in entry["blocks"]]
            if inner := inner + block.get("quote", {}).get("blocks", []):
                found.append(of(inner))
        return found

    return of(answer.json()["fields"]["a"]["localized"]["values"][locale]["richText"]["blocks"])


def words(item: Item, locale: str = "ar") -> dict[str, str]:
    blocks = item["fields"]["a"]["localized"]["values"][locale]["richText"]["blocks"]
    return {block["id"]: "".join(span["text"] for span in block["paragraph"]["spans"]) for block in blocks}


async def test_blocks_are_updated_inserted_moved_and_deleted(admin: Rest, word: str) -> None:
    quote = {"id": "q", "quote": {"blocks": [paragraph("in", "in")]}}
    entries = [{"blocks": [paragraph("l1", "l1")]}, {"blocks": [paragraph("l2", "l2")]}]
    item = await written(admin, word, paragraph("1", "p1"), quote, {"id": "l", "list": {}, "items": entries})

    changed = await edit(admin, item, {"update": paragraph("new", "in")}, note="جملة")
    assert outline(changed) == ["p1", "q", ["in"], "l", ["l1", "l2"]]
    assert '"text":"new"' in changed.text
    newest = (await admin.ok("GET", f"contents/{item['id']}/revisions"))["revisions"][0]
    assert (newest["number"], newest["note"], newest["autosave"]) == (2, "جملة", False)
    assert changed.headers["etag"] == '"2"'

    inserted = await edit(
        admin,
        item,
        {"insert": {"block": paragraph("x", "x"), "place": {"after": "l1"}}},
        {"insert": {"block": paragraph("y", "y"), "place": {"before": "x"}}},
        {"insert": {"block": paragraph("z", "z")}},
    )
    assert outline(inserted) == ["p1", "q", ["in"], "l", ["l1", "y", "x", "l2"], "z"]
    moved = await edit(
        admin, item, {"move": {"id": "l1", "place": {"after": "p1"}}}, {"move": {"id": "l2"}}, {"delete": "y"}
    )
    assert outline(moved) == ["p1", "l1", "q", ["in"], "l", ["x"], "z", "l2"]
    emptied = await edit(admin, item, {"delete": "x"}, {"move": {"id": "in", "place": {"before": "q"}}})
    assert outline(emptied) == ["p1", "l1", "in", "z", "l2"]
    same = await edit(admin, item, {"move": {"id": "z", "place": {"before": "l2"}}})
    assert same.json()["version"] == emptied.json()["version"]


async def test_a_text_that_is_not_there_yet_begins_with_a_block(admin: Rest, word: str) -> None:
    item = await written(admin, word, paragraph("1", "p"))

    english = await edit(admin, item, {"insert": {"block": paragraph("one", "e")}}, locale="en")
    assert (outline(english), outline(english, "en")) == (["p"], ["e"])
    shared = await edit(admin, item, {"insert": {"block": paragraph("both", "s")}}, name="b", locale="")
    assert shared.json()["fields"]["b"]["richText"]["blocks"][0]["id"] == "s"


async def test_what_cannot_be_done_is_refused_by_its_name(admin: Rest, word: str) -> None:
    item = await written(admin, word, paragraph("1", "p"), {"id": "q", "quote": {"blocks": [paragraph("2", "in")]}})

    for wrong in (
        {"update": paragraph("x", "gone")},
        {"delete": "gone"},
        {"move": {"id": "gone"}},
        {"insert": {"block": paragraph("x"), "place": {"after": "gone"}}},
        {"move": {"id": "q", "place": {"after": "in"}}},
    ):
        assert reason(await edit(admin, item, wrong)) == (404, "BLOCK_NOT_FOUND"), wrong
    remove = {"delete": "p"}
    assert list(violations(await edit(admin, item, remove, name="c", locale=""))) == ["field"]
    assert list(violations(await edit(admin, item, remove, name="none"))) == ["field"]
    assert list(violations(await edit(admin, item, remove, locale=""))) == ["locale"]
    assert list(violations(await edit(admin, item, remove, name="b"))) == ["locale"]
    assert list(violations(await edit(admin, item, {"insert": {"block": paragraph("x", "p")}}))) == [
        "content.fields.a.ar.blocks[2].id"
    ]
    assert list(violations(await edit(admin, item, {"update": {"id": "p", "heading": {"level": 7}}}))) == [
        "edits[0].update.heading.level"
    ]
    assert list(violations(await edit(admin, item))) == ["edits"]
    assert list(violations(await edit(admin, item, {}))) == ["edits[0].edit"]
    missing = await edit(admin, {"id": str(uuid.uuid4())}, remove)
    assert reason(missing) == (404, "CONTENT_NOT_FOUND")
    assert (await admin.ok("GET", f"contents/{item['id']}"))["version"] == 1


async def test_editors_of_different_blocks_all_survive(admin: Rest, word: str) -> None:
    count = 20
    item = await written(admin, word, *(paragraph("0", f"p{number}") for number in range(count)))

    answers = await asyncio.gather(
        *(
            edit(admin, item, {"update": paragraph(f"by {number}", f"p{number}")}, etag=item["etag"])
            for number in range(count)
        )
    )

    assert [answer.status_code for answer in answers] == [200] * count
    assert sorted(answer.json()["version"] for answer in answers) == list(range(2, count + 2))
    after = await admin.ok("GET", f"contents/{item['id']}")
    assert words(after) == {f"p{number}": f"by {number}" for number in range(count)}


async def test_of_the_editors_of_one_block_one_wins(admin: Rest, word: str) -> None:
    item = await written(admin, word, paragraph("0", "p"), paragraph("1", "other"))

    answers = await asyncio.gather(
        *(edit(admin, item, {"update": paragraph(f"by {number}", "p")}, etag=item["etag"]) for number in range(8))
    )

    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
    lost = next(answer for answer in answers if answer.status_code == 409)
    assert reason(lost) == (409, "ETAG_MISMATCH")
    assert lost.json()["details"][0]["metadata"]["etag"] == '"2"'


@pytest.mark.parametrize(
    ("first", "second", "survives"),
    [
        ({"update": paragraph("x", "p")}, {"update": paragraph("y", "in")}, True),
        ({"update": paragraph("x", "p")}, {"insert": {"block": paragraph("y"), "place": {"after": "p"}}}, True),
        ({"update": paragraph("x", "p")}, {"move": {"id": "p", "place": {"after": "r"}}}, False),
        ({"move": {"id": "p", "place": {"after": "r"}}}, {"update": paragraph("y", "p")}, True),
        ({"move": {"id": "p", "place": {"after": "in"}}}, {"move": {"id": "p"}}, False),
        ({"update": paragraph("x", "in")}, {"delete": "q"}, False),
        ({"delete": "p"}, {"update": paragraph("y", "p")}, False),
        ({"delete": "p"}, {"insert": {"block": paragraph("y"), "place": {"after": "p"}}}, False),
        ({"insert": {"block": paragraph("x"), "place": {"before": "p"}}}, {"delete": "p"}, True),
    ],
)
async def test_what_two_editors_do_at_once_merges_or_is_told(
    admin: Rest, word: str, first: Json, second: Json, survives: bool
) -> None:
    quote = {"id": "q", "quote": {"blocks": [paragraph("in", "in"), paragraph("r", "r")]}}
    item = await written(admin, word, paragraph("1", "p"), quote)

    assert (await edit(admin, item, first, etag=item["etag"])).status_code == 200
    answer = await edit(admin, item, second, etag=item["etag"])

    if survives:
        assert answer.status_code == 200, answer.text
    else:
        assert reason(answer) == (409, "ETAG_MISMATCH")


async def test_if_match_is_about_the_whole_item(admin: Rest, word: str) -> None:
    item = await written(admin, word, paragraph("1", "p"), paragraph("2", "r"))
    await edit(admin, item, {"update": paragraph("x", "r")})
    path = f"contents/{item['id']}:editBlocks"

    stale = await admin.call("POST", path, request({"delete": "p"}), {"if-match": item["etag"]})
    fresh = await admin.call("POST", path, request({"delete": "p"}), {"if-match": '"2"'})

    assert reason(stale) == (412, "ETAG_MISMATCH")
    assert outline(fresh) == ["r"]


async def test_an_etag_of_no_version_changes_nothing(admin: Rest, word: str) -> None:
    item = await written(admin, word, paragraph("1", "p"))

    for etag in ('"99"', "nonsense"):
        assert reason(await edit(admin, item, {"delete": "p"}, etag=etag)) == (409, "ETAG_MISMATCH")
    assert outline(await edit(admin, item, {"insert": {"block": paragraph("x", "x")}}, etag="*")) == ["p", "x"]


async def test_a_version_between_two_saves_is_merged(admin: Rest, word: str) -> None:
    item = await written(admin, word, paragraph("1", "p"), paragraph("2", "r"))
    published = await admin.ok("POST", f"contents/{item['id']}:publish", {})
    assert published["version"] == 2  # which has no revision
    await edit(admin, item, {"update": paragraph("x", "r")})

    assert (await edit(admin, item, {"update": paragraph("y", "r")}, etag=published["etag"])).status_code == 409
    assert (await edit(admin, item, {"update": paragraph("y", "p")}, etag=published["etag"])).status_code == 200


async def test_what_a_program_saved_over_is_not_known_and_not_merged(admin: Rest, word: str) -> None:
    """The block went and came back: whoever read it in between must not undo that unseen."""
    item = await written(admin, word, paragraph("1", "p"), paragraph("2", "r"))
    between = (await edit(admin, item, {"update": paragraph("x", "p")}, autosave=True)).json()
    await edit(admin, item, {"update": paragraph("1", "p")}, autosave=True)

    assert reason(await edit(admin, item, {"update": paragraph("x!", "p")}, etag=between["etag"])) == (
        409,
        "ETAG_MISMATCH",
    )
    numbers = [each["number"] for each in (await admin.ok("GET", f"contents/{item['id']}/revisions"))["revisions"]]
    assert numbers == [3, 1]


async def test_an_edit_of_another_field_leaves_a_text_as_it_was_read(admin: Rest, word: str) -> None:
    item = await written(admin, word, paragraph("1", "p"))
    await admin.ok("PATCH", f"contents/{item['id']}", {"title": {"ar": "آخر"}})

    assert outline(await edit(admin, item, {"update": paragraph("x", "p")}, etag=item["etag"])) == ["p"]


async def test_readers_see_an_edit_once_it_is_published(admin: Rest, anybody: Rest, word: str) -> None:
    item = await written(admin, word, paragraph("seen", "p"))
    await admin.ok("POST", f"contents/{item['id']}:publish", {})
    await edit(admin, item, {"update": paragraph("unseen", "p")})

    assert words(await anybody.ok("GET", f"contents/{item['id']}")) == {"p": "seen"}
    assert reason(await edit(anybody, item, {"delete": "p"}))[0] == 401


async def test_blocks_are_edited_over_grpc(admin: Rest, edge: grpc.aio.Channel, editor: Metadata, word: str) -> None:
    item = await written(admin, word, paragraph("1", "p"), paragraph("2", "r"))
    stub: Any = BlockServiceStub(edge)
    wanted = EditBlocksRequest(id=item["id"], field="a", locale="ar", edits=[BlockEdit(delete="p")])

    content = await stub.EditBlocks(wanted, metadata=editor, timeout=10)
    refusal = await refused(stub.EditBlocks(wanted, metadata=editor, timeout=10))

    assert [block.id for block in content.fields["a"].localized.values["ar"].rich_text.blocks] == ["r"]
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "BLOCK_NOT_FOUND")
