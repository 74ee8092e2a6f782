"""Categories: a tree with an address in each locale, and what may become of it while items are filed there."""

import asyncio
from urllib.parse import quote

import asyncpg
import grpc
import httpx
import pytest

from tests.conftest import bearer, eventually
from tests.content.conftest import Announcements
from tests.content.filing import Filing
from tests.content.items import Caller, refused
from thmnayah.content.v1.content_pb2 import PUBLISHED
from thmnayah.content.v1.taxonomy_pb2 import Category, CategoryCreated


async def test_a_category_has_its_address_in_each_locale(filing: Filing, browsing: Filing, word: str) -> None:
    top = await filing.create(id=word, name={"ar": f"تاريخ {word}", "en": f"History {word}"})
    inner = await filing.create(name={"ar": "الأندلس", "en": f"Al-Andalus {word}"}, parent_id=word)

    assert dict(top.slug) == dict(top.path) == {"ar": f"تاريخ-{word}", "en": f"history-{word}"}
    assert inner.id == f"al-andalus-{word}"
    assert dict(inner.path) == {"ar": f"تاريخ-{word}/الأندلس", "en": f"history-{word}/al-andalus-{word}"}
    assert (inner.parent_id, list(inner.ancestor_ids), inner.version, inner.etag) == (word, [word], 1, '"1"')
    assert await browsing.get(inner.id) == inner


async def test_an_id_is_made_from_the_name_in_its_own_script(filing: Filing, word: str) -> None:
    first = await filing.create(name={"ar": f"أخبار {word}"})
    second = await filing.create(name={"ar": f"أخبار {word}"})

    assert first.id == f"أخبار-{word}"
    assert second.id.startswith(first.id + "-")
    assert await filing.get(first.id) == first


async def test_an_ancestor_without_a_name_in_a_locale_stands_in_the_path_with_another(
    filing: Filing, word: str
) -> None:
    await filing.create(id=word, name={"ar": f"فن {word}"})

    inner = await filing.create(name={"en": f"Music {word}"}, parent_id=word)

    assert dict(inner.path) == {"en": f"فن-{word}/music-{word}"}


async def test_siblings_with_equal_names_have_different_addresses(filing: Filing, word: str) -> None:
    await filing.create(id=word, name={"en": word})
    signs = [await filing.create(name={"ar": "؟", "en": "…"}, parent_id=word) for _ in range(2)]
    first, second = [await filing.create(name={"en": "Music"}, parent_id=word) for _ in range(2)]

    assert first.slug["en"] == "music"
    assert second.slug["en"].startswith("music-")
    assert all(each.slug["ar"] and each.slug["en"] for each in signs)
    refusal = await refused(filing.create(name={"en": "x"}, slug={"en": "music"}, parent_id=word))
    assert (refusal.reason, list(refusal.violations)) == ("SLUG_TAKEN", ["category.slug.en"])
    refusal = await refused(filing.update(second.id, slug={"en": "music"}))
    assert (refusal.reason, list(refusal.violations)) == ("SLUG_TAKEN", ["category.slug.en"])


@pytest.mark.parametrize(
    ("fields", "violation"),
    [
        ({"name": {}}, "category.name"),
        ({"name": {"en": " "}}, "category.name.en"),
        ({"name": {"xx": "x"}}, "category.name.xx"),
        ({"name": {"en": "x"}, "slug": {"ar": "x"}}, "category.slug.ar"),
        ({"name": {"en": "x"}, "slug": {"en": "a b"}}, "category.slug.en"),
        ({"name": {"en": "x"}, "id": "a/b"}, "category.id"),
        ({"name": {"en": "x" * 121}}, "category.name.en"),
    ],
)
async def test_what_is_wrong_with_a_category_is_named(
    filing: Filing, fields: dict[str, object], violation: str
) -> None:
    refusal = await refused(filing.create(**fields))

    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert list(refusal.violations) == [violation]


async def test_a_category_is_made_once_and_by_editors_alone(
    filing: Filing, browsing: Filing, reading: Caller, word: str
) -> None:
    await filing.create(id=word, name={"en": word})

    assert (await refused(filing.create(id=word, name={"en": "x"}))).reason == "CATEGORY_EXISTS"
    assert (await refused(filing.create(name={"en": "x"}, parent_id="no" + word))).reason == "CATEGORY_NOT_FOUND"
    assert (await refused(browsing.create(name={"en": "x"}))).code == grpc.StatusCode.UNAUTHENTICATED
    reader = Filing(filing.taxonomy, reading.metadata)
    assert (await refused(reader.delete(word))).code == grpc.StatusCode.PERMISSION_DENIED


async def test_names_and_addresses_change_locale_by_locale(filing: Filing, word: str) -> None:
    made = await filing.create(id=word, name={"ar": f"فن {word}", "en": f"Art {word}"})

    renamed = await filing.update(word, name={"en": f"Arts {word}"})
    moved = await filing.update(word, paths=["slug.en"])
    arabic = await filing.update(word, paths=["name.en"])

    assert (dict(renamed.name), dict(renamed.slug)) == ({"ar": f"فن {word}", "en": f"Arts {word}"}, dict(made.slug))
    assert moved.slug["en"] == f"arts-{word}"
    assert (dict(arabic.name), dict(arabic.slug)) == ({"ar": f"فن {word}"}, {"ar": f"فن-{word}"})
    assert [each.version for each in (made, renamed, moved, arabic)] == [1, 2, 3, 4]
    assert await filing.update(word, name={"ar": f"فن {word}"}) == arabic
    assert (await refused(filing.update(word, etag='"1"', name={"en": "x"}))).reason == "ETAG_MISMATCH"
    assert list((await refused(filing.update(word, paths=["parent_id"]))).violations) == ["updateMask"]
    assert list((await refused(filing.update(word, paths=["name.ar"]))).violations) == ["category.name"]


async def test_siblings_keep_the_order_they_are_put_in(filing: Filing, browsing: Filing, word: str) -> None:
    await filing.create(id=word, name={"en": word})
    a, b, c, d = [(await filing.create(id=f"{word}-{each}", name={"en": each}, parent_id=word)).id for each in "abcd"]

    assert await browsing.ids(word) == [a, b, c, d]
    await filing.move(d, word, 1)
    assert await browsing.ids(word) == [a, d, b, c]
    await filing.move(a, word)
    assert await browsing.ids(word, page_size=1) == [d, b, c, a]
    assert [each.id for each in await filing.reorder(word, c, d)] == [c, d]
    assert await browsing.ids(word, page_size=2) == [c, d, b, a]
    refusal = await refused(filing.reorder(word, a, word))
    assert list(refusal.violations) == ["ids[1]"]


async def test_the_whole_tree_is_listed_with_each_category_before_those_in_it(filing: Filing, word: str) -> None:
    await filing.create(id=word, name={"en": word})
    for each, parent in (("b", ""), ("a", ""), ("b1", "-b"), ("b2", "-b"), ("a1", "-a"), ("b11", "-b1")):
        await filing.create(id=f"{word}-{each}", name={"en": each}, parent_id=word + parent)

    for size in (1, 2, 200):
        found = await filing.ids(word, all_below=True, page_size=size)
        assert [each.removeprefix(word + "-") for each in found] == ["b", "b1", "b11", "b2", "a", "a1"]


async def test_a_page_goes_on_from_a_category_that_is_there(filing: Filing, word: str) -> None:
    chain = await filing.chain(word, 3)
    _, token = await filing.page(parent_id=chain[0].id, all_below=True, page_size=1)
    await filing.move(chain[2].id, chain[0].id)
    await filing.delete(chain[1].id)

    refusal = await refused(filing.page(parent_id=chain[0].id, all_below=True, page_size=1, page_token=token))

    assert list(refusal.violations) == ["pageToken"]
    assert (await refused(filing.page(parent_id="no" + word))).reason == "CATEGORY_NOT_FOUND"


async def test_a_category_moves_with_all_below_it(filing: Filing, word: str) -> None:
    chain = await filing.chain(word, 3)
    await filing.create(id="x" + word, name={"en": "X" + word})

    moved = await filing.move(chain[1].id, "x" + word)

    below = await filing.get(chain[2].id)
    assert (moved.parent_id, list(moved.ancestor_ids)) == ("x" + word, ["x" + word])
    assert list(below.ancestor_ids) == ["x" + word, chain[1].id]
    assert below.path["en"] == f"x{word}/n1-{word}/n2-{word}"
    assert await filing.ids(chain[0].id) == []
    at_the_root = await filing.move(chain[2].id, "")
    assert (at_the_root.parent_id, at_the_root.path["en"]) == ("", f"n2-{word}")


async def test_a_category_does_not_go_below_itself(filing: Filing, word: str) -> None:
    chain = await filing.chain(word, 3)

    for target in chain:
        refusal = await refused(filing.move(chain[0].id, target.id))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CATEGORY_CYCLE")
    assert await filing.ids(chain[0].id, all_below=True) == [chain[1].id, chain[2].id]


async def test_two_moves_at_once_make_no_cycle(filing: Filing, word: str) -> None:
    a, b = [(await filing.create(id=f"{each}{word}", name={"en": f"{each}{word}"})).id for each in "ab"]

    results = await asyncio.gather(filing.move(a, b), filing.move(b, a), return_exceptions=True)

    assert sorted(type(result) is Category for result in results) == [False, True]


async def test_a_tree_is_ten_deep(filing: Filing, word: str) -> None:
    chain = await filing.chain(word, 10)
    await filing.create(id=word, name={"en": word})

    for call in (
        filing.create(name={"en": "x"}, parent_id=chain[-1].id),
        filing.move(word, chain[-1].id),
        filing.move(chain[0].id, word),
    ):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CATEGORY_TOO_DEEP")
        assert "10" in refusal.message
    assert list((await filing.move(chain[1].id, word)).ancestor_ids) == [word]


async def test_an_address_is_not_taken_by_moving(filing: Filing, word: str) -> None:
    await filing.create(id=word, name={"en": word})
    await filing.create(name={"en": "Music"}, parent_id=word)
    other = await filing.create(id="x" + word, name={"en": "X" + word}, slug={"en": "x" + word})
    inner = await filing.create(name={"en": "Music"}, parent_id=other.id)

    refusal = await refused(filing.move(inner.id, word))

    assert (refusal.reason, list(refusal.violations)) == ("SLUG_TAKEN", ["parentId"])


@pytest.mark.parametrize("name", ["w{}", "تاريخ {}", "Caf\u00e9: this, that {}"])
async def test_an_item_makes_the_category_it_names(
    editing: Caller, browsing: Filing, announced: Announcements, word: str, name: str
) -> None:
    category_id = name.format(word)
    made = await asyncio.gather(*(editing.create(category=category_id) for _ in range(6)))
    updated = await editing.update(made[0].id, category="new " + category_id)

    category, newer = await browsing.get(category_id), await browsing.get("new " + category_id)
    assert {item.category for item in made} == {category_id}
    assert list(category.name.values()) == [category_id]
    assert (category.parent_id, category.version) == ("", 1)
    assert updated.category == newer.id
    assert all(category.slug.values())
    ids = await eventually(lambda: browsing.ids("", page_size=200), lambda found: category_id in found)
    assert ids.count(category_id) == 1
    assert [event.subject for event in await announced(made[0].id)] == ["content.created", "content.updated"]


async def test_an_item_files_itself_beside_a_category_with_the_same_address(
    editing: Caller, filing: Filing, word: str
) -> None:
    await filing.create(id="x" + word, name={"en": word}, slug={"en": word})

    await editing.create(category=word)
    item = await editing.create()
    await editing.update(item.id, category=word.upper())

    slugs = {(await filing.get(each)).slug["en"] for each in (word, word.upper())}
    assert len(slugs | {word}) == 3


async def test_items_of_a_category_and_of_all_below_it_are_found(
    editing: Caller, anyone: Caller, filing: Filing, word: str
) -> None:
    chain = await filing.chain(word, 3)
    items = [await editing.create(category=each.id) for each in chain]
    for item in items:
        await editing.publish(item.id)

    for caller in (editing, anyone):
        for number, category in enumerate(chain):
            below = await caller.walk(filter=f'category_path:"{category.id}"', order_by="create_time", page_size=2)
            assert [item.id for item in below] == [item.id for item in items[number:]]
            (there,) = await caller.walk(filter=f'category = "{category.id}"')
            assert there.id == items[number].id
        outside = await caller.walk(filter=f'category_path:"{chain[0].id}" AND NOT category_path:"{chain[1].id}"')
        assert [item.id for item in outside] == [items[0].id]
        (there,) = await caller.walk(filter=f'category_path:* AND category = "{chain[1].id}"')
        assert there.id == items[1].id

    await filing.move(chain[1].id, "")
    for caller in (editing, anyone):
        assert [item.id for item in await caller.walk(filter=f'categoryPath:"{chain[0].id}"')] == [items[0].id]


async def test_a_category_that_is_in_use_is_not_deleted(editing: Caller, filing: Filing, word: str) -> None:
    chain = await filing.chain(word, 2)
    item = await editing.create(category=chain[1].id)
    await editing.publish(item.id)
    await editing.update(item.id, category="", paths=["category"])

    for category in chain:
        refusal = await refused(filing.delete(category.id))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CATEGORY_IN_USE")
        assert list(refusal.violations) == ["moveTo"]
    await editing.publish(item.id)
    assert (await refused(filing.delete(chain[1].id, etag='"7"'))).reason == "ETAG_MISMATCH"
    assert (await filing.delete(chain[1].id)).HasField("delete_time")
    assert (await refused(filing.get(chain[1].id))).reason == "CATEGORY_NOT_FOUND"


async def test_what_is_in_a_deleted_category_goes_where_it_is_told(
    editing: Caller, anyone: Caller, filing: Filing, announced: Announcements, word: str
) -> None:
    chain = await filing.chain(word, 2)
    await filing.create(id=word, name={"en": word})
    items = [await editing.create(category=chain[0].id, title={"en": "Published"}) for _ in range(2)]
    await editing.publish(items[0].id)
    await editing.update(items[0].id, title={"en": "Draft"})
    assert (await anyone.get(items[0].id)).category == chain[0].id

    assert (await refused(filing.delete(chain[0].id, move_to=chain[1].id))).reason == "CATEGORY_CYCLE"
    assert (await refused(filing.delete(chain[0].id, move_to="no" + word))).reason == "CATEGORY_NOT_FOUND"
    await filing.delete(chain[0].id, move_to=word)

    draft, shown = await editing.get(items[0].id), await anyone.get(items[0].id)
    assert (draft.category, draft.title["en"], draft.version) == (word, "Draft", 4)
    assert (shown.category, shown.title["en"], shown.version, shown.etag) == (word, "Published", 4, '"4-published"')
    assert {item.id for item in await anyone.walk(filter=f'category = "{word}"')} == {items[0].id}
    events = (await announced(items[0].id))[-2:]
    assert [(event.subject, event.content) for event in events] == [
        ("content.updated", draft),
        ("content.published", shown),
    ]
    assert [event.subject for event in await announced(items[1].id)] == ["content.created", "content.updated"]
    assert (await filing.get(chain[1].id)).parent_id == word


async def test_more_items_than_one_statement_takes_are_moved(
    editing: Caller, filing: Filing, content_db: "asyncpg.Connection[asyncpg.Record]", word: str
) -> None:
    item = await editing.create(category=word)
    await filing.create(id="x" + word, name={"en": "x" + word})
    await content_db.execute(
        """
        INSERT INTO contents (id, type, slug, title, description, body, category, tags, created_by)
        SELECT gen_random_uuid(), type, '{}', title, description, body, category, tags, created_by
        FROM contents, generate_series(1, 2300) WHERE id = $1
        """,
        item.id,
    )

    refusal = await refused(filing.delete(word, move_to="x" + word))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "CATEGORY_NOT_EMPTIED")
    await filing.delete(word, move_to="x" + word)

    count = await content_db.fetchval("SELECT count(*) FROM contents WHERE category = $1", "x" + word)
    assert count == 2301


async def test_saving_and_deleting_at_once_leaves_no_item_without_its_category(
    editing: Caller, filing: Filing, word: str
) -> None:
    await filing.create(id=word, name={"en": word})

    for number in range(10):
        await asyncio.gather(
            editing.create(category=f"{word}-{number}"),
            editing.create(category=f"{word}-{number}"),
            filing.delete(f"{word}-{number}"),
            editing.create(category=f"{word}-{number}"),
            return_exceptions=True,
        )
        await filing.get(f"{word}-{number}")


async def test_changes_of_the_tree_are_announced(
    filing: Filing, content_db: "asyncpg.Connection[asyncpg.Record]", word: str
) -> None:
    made = await filing.create(id=word, name={"en": word})
    await filing.create(id=f"{word}-a", name={"en": "a"}, parent_id=word)
    second = await filing.create(id=f"{word}-b", name={"en": "b"}, parent_id=word)
    updated = await filing.update(word, name={"ar": "عربي"})
    await filing.move(f"{word}-b", word, 0)
    await filing.move(f"{word}-b", word, 0)
    deleted = await filing.delete(f"{word}-b")

    rows = await content_db.fetch(
        "SELECT headers::jsonb->>'ce-subject' AS about, subject, payload FROM outbox"
        " WHERE headers::jsonb->>'ce-subject' LIKE $1 AND subject LIKE 'category.%' ORDER BY position",
        word + "%",
    )

    found = [(row["about"].removeprefix(word), row["subject"].removeprefix("category.")) for row in rows]
    assert sorted(found[4:6]) == [("-a", "moved"), ("-b", "moved")]
    assert found[:4] + found[6:] == [
        ("", "created"),
        ("-a", "created"),
        ("-b", "created"),
        ("", "updated"),
        ("-b", "deleted"),
    ]
    # Every event of a category holds it as its first field.
    assert [CategoryCreated.FromString(rows[number]["payload"]).category for number in (0, 2, 3, 6)] == [
        made,
        second,
        updated,
        deleted,
    ]


async def test_the_tree_is_kept_over_rest(rest: httpx.AsyncClient, editor_token: str, word: str) -> None:
    headers = dict(bearer(editor_token))

    made = await rest.post("/v1/categories", json={"name": {"ar": f"تاريخ {word}"}}, headers=headers)
    address = f"/v1/categories/{quote(made.json()['id'])}"
    inner = await rest.post(
        "/v1/categories",
        json={"id": word, "parentId": made.json()["id"], "name": {"en": "Inner"}},
        headers=headers,
    )
    listed = await rest.get("/v1/categories", params={"parentId": made.json()["id"], "allBelow": "true"})
    patched = await rest.patch(
        f"/v1/categories/{word}",
        json={"name": {"ar": "داخل"}},
        headers=headers | {"if-match": inner.headers["etag"]},
    )
    late = await rest.patch(
        f"/v1/categories/{word}", json={"name": {"ar": "x"}}, headers=headers | {"if-match": inner.headers["etag"]}
    )
    cycle = await rest.post(f"{address}:move", json={"parentId": word}, headers=headers)
    moved = await rest.post(f"/v1/categories/{word}:move", json={"position": 0}, headers=headers)
    ordered = await rest.post("/v1/categories:reorder", json={"ids": [made.json()["id"]]}, headers=headers)
    deleted = await rest.delete(address, params={"moveTo": word}, headers=headers)

    assert (await rest.get(f"/v1/categories/{word}")).json()["path"].keys() == {"ar", "en"}
    assert inner.json()["path"] == {"en": f"تاريخ-{word}/inner"}
    assert [each["id"] for each in listed.json()["categories"]] == [word]
    assert patched.json()["name"] == {"ar": "داخل", "en": "Inner"}
    assert late.status_code == 412
    assert cycle.json()["details"][0]["reason"] == "CATEGORY_CYCLE"
    assert (moved.json()["parentId"], moved.json()["position"]) == ("", 0)
    assert [each["id"] for each in ordered.json()["categories"]] == [made.json()["id"]]
    assert deleted.status_code == 200
    assert (await rest.get(address)).status_code == 404


async def test_readers_find_categories_that_were_made_for_what_they_cannot_see(
    editing: Caller, anyone: Caller, browsing: Filing, word: str
) -> None:
    """A category is public, the draft that is filed in it is not."""
    await editing.create(category=word)

    assert (await browsing.get(word)).id == word
    assert await anyone.walk(filter=f'category_path:"{word}"', view=PUBLISHED) == []


async def test_a_category_that_an_item_names_is_reached_under_any_name(
    rest: httpx.AsyncClient, editing: Caller, word: str
) -> None:
    item = await editing.create(category=word)
    for sign in (":", "?", "#", "%", "%2F", ";", " ", ":move", "..."):
        await editing.update(item.id, category=word + sign)
        read = await rest.get(f"/v1/categories/{quote(word + sign, safe='')}")
        assert (read.status_code, read.json().get("id")) == (200, word + sign)

    # The edge lets no encoded slash pass, and dots are a way up.
    for name in (f"{word}/a", f"{word}\\a", ".", ".."):
        refusal = await refused(editing.update(item.id, category=name))
        assert list(refusal.violations) == ["content.category"]
