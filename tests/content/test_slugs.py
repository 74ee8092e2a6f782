"""Reads by slug: which item a slug leads to, for readers and for editors, and what becomes of old slugs."""

import asyncio
import unicodedata
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import asyncpg
import grpc
import httpx
import pytest

from tests.conftest import bearer
from tests.content.conftest import Announcements
from tests.content.items import SECONDS, Caller, Refusal, refused
from tests.content.rest import Rest, reason
from thmnayah.content.v1.content_pb2 import PUBLISHED, Content
from thmnayah.content.v1.slugs_pb2 import GetContentBySlugRequest, ListOldSlugsRequest, ReleaseOldSlugRequest
from thmnayah.content.v1.slugs_pb2_grpc import SlugServiceStub

HIDDEN = (grpc.StatusCode.NOT_FOUND, "CONTENT_NOT_FOUND")


async def by_slug(caller: Caller, slug: str, locale: str = "en", **asked: Any) -> Content:
    request = GetContentBySlugRequest(**{"type": "article", "locale": locale, "slug": slug, **asked})
    stub: Any = SlugServiceStub(caller.channel)
    found: Content = await stub.GetContentBySlug(request, metadata=caller.metadata, timeout=SECONDS)
    return found


async def old_slugs(caller: Caller, content_id: str, **page: Any) -> list[tuple[str, str]]:
    stub: Any = SlugServiceStub(caller.channel)
    request = ListOldSlugsRequest(id=content_id, **page)
    answer = await stub.ListOldSlugs(request, metadata=caller.metadata, timeout=SECONDS)
    found = [(old.locale, old.slug) for old in answer.old_slugs]
    if answer.next_page_token:
        found += await old_slugs(caller, content_id, **{**page, "page_token": answer.next_page_token})
    return found


async def release(caller: Caller, content_id: str, slug: str, locale: str = "en") -> None:
    stub: Any = SlugServiceStub(caller.channel)
    request = ReleaseOldSlugRequest(id=content_id, locale=locale, slug=slug)
    await stub.ReleaseOldSlug(request, metadata=caller.metadata, timeout=SECONDS)


async def shown(editing: Caller, slug: str, **fields: Any) -> Content:
    """A published item with a slug."""
    item = await editing.create(slug={"en": slug}, **fields)
    return await editing.publish(item.id)


async def moved(editing: Caller, item: Content, slug: str) -> None:
    """The item published under another slug."""
    await editing.update(item.id, slug={"en": slug})
    await editing.publish(item.id)


def outcome(refusal: Refusal) -> tuple[grpc.StatusCode, str]:
    return refusal.code, refusal.reason


async def test_readers_find_what_is_published_by_its_slug(editing: Caller, anyone: Caller, word: str) -> None:
    item = await editing.create(title={"ar": f"بيت الحكمة {word}", "en": f"House of wisdom {word}"})
    await editing.publish(item.id)

    for locale in ("ar", "en"):
        found = await by_slug(anyone, item.slug[locale], locale)
        assert found == await anyone.get(item.id, locale=locale)
        assert found == await by_slug(anyone, item.slug[locale], locale)
        assert not found.redirected_from


async def test_a_slug_is_found_in_any_spelling(editing: Caller, anyone: Caller, word: str) -> None:
    item = await shown(editing, f"été-{word}")
    arabic = await editing.create(title={"ar": f"الرياض {word}"})
    await editing.publish(arabic.id)

    for spelling in (unicodedata.normalize("NFD", f"ÉTÉ-{word.upper()}"), f"été {word}!"):
        assert (await by_slug(anyone, spelling)).id == item.id
    assert (await by_slug(anyone, f"الرِّيَاضُ-{word}", "ar")).redirected_from == ""


async def test_a_slug_belongs_to_a_type_and_a_locale(editing: Caller, anyone: Caller, word: str) -> None:
    article = await shown(editing, word)
    page = await shown(editing, word, type="page")

    assert (await by_slug(anyone, word)).id == article.id
    assert (await by_slug(anyone, word, type="page")).id == page.id
    assert outcome(await refused(by_slug(anyone, word, "ar"))) == HIDDEN
    assert outcome(await refused(by_slug(anyone, word, type="person"))) == HIDDEN


async def test_a_draft_has_no_address_for_readers(editing: Caller, anyone: Caller, reading: Caller, word: str) -> None:
    await editing.create(slug={"en": word})

    for caller in (anyone, reading):
        hidden, missing = await refused(by_slug(caller, word)), await refused(by_slug(caller, "no" + word))
        assert outcome(hidden) == HIDDEN
        assert hidden.message.replace(word, "") == missing.message.replace("no" + word, "")
    assert outcome(await refused(by_slug(editing, word, view=PUBLISHED))) == HIDDEN


async def test_readers_know_the_published_slug_and_editors_the_drafts(
    editing: Caller, anyone: Caller, word: str
) -> None:
    item = await shown(editing, "old-" + word)
    await editing.update(item.id, slug={"en": "new-" + word}, title={"en": "New"})

    assert (await by_slug(anyone, "old-" + word)).redirected_from == ""
    assert outcome(await refused(by_slug(anyone, "new-" + word))) == HIDDEN
    draft = await by_slug(editing, "new-" + word)
    assert (draft.id, draft.title["en"], draft.redirected_from) == (item.id, "New", "")
    assert (await by_slug(editing, "old-" + word)).redirected_from == "old-" + word


async def test_an_old_slug_leads_to_the_slug_of_today(editing: Caller, anyone: Caller, word: str) -> None:
    item = await shown(editing, "a-" + word)
    await moved(editing, item, "b-" + word)
    await editing.update(item.id, slug={"en": "never-published-" + word})
    await moved(editing, item, "c-" + word)

    for old in ("a-" + word, "b-" + word):
        for _ in range(2):
            found = await by_slug(anyone, old)
            assert (found.id, found.slug["en"], found.redirected_from) == (item.id, "c-" + word, old)
    assert outcome(await refused(by_slug(anyone, "never-published-" + word))) == HIDDEN


async def test_over_rest_an_old_slug_is_a_redirect(
    rest: httpx.AsyncClient, anybody: Rest, editor_token: str, editing: Caller, word: str
) -> None:
    item = await editing.create(title={"ar": "بيت"}, slug={"ar": f"بيت-{word}"})
    await editing.publish(item.id)
    await editing.update(item.id, slug={"ar": f"دار-{word}"})
    await editing.publish(item.id)
    address = f"/v1/contents:bySlug?type=article&locale=ar&slug={quote(f'بيت-{word}')}&fallbackLocales=en"

    answer = await rest.get(address)
    followed = await rest.get(address, follow_redirects=True)
    editors = await rest.get(address + "&view=DRAFT", headers=dict(bearer(editor_token)), follow_redirects=True)

    assert (answer.status_code, answer.headers["cache-control"]) == (301, "no-cache")
    assert answer.json()["slug"] == {"ar": f"دار-{word}"}
    assert answer.json()["redirectedFrom"] == f"بيت-{word}"
    assert answer.headers["location"].isascii()
    assert (followed.status_code, followed.json()["id"], followed.json()["redirectedFrom"]) == (200, item.id, "")
    assert "view=DRAFT" in str(editors.url)
    assert editors.json()["id"] == item.id
    again = await rest.get(str(followed.url), headers={"if-none-match": followed.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    missing = await anybody.call("GET", "contents:bySlug", type="article", locale="ar", slug="لا" + word)
    assert reason(missing) == (404, "CONTENT_NOT_FOUND")


@pytest.mark.parametrize(
    "query",
    [
        {"locale": "ar", "slug": "x"},
        {"type": "article", "slug": "x"},
        {"type": "article", "locale": "ar"},
        {"type": "Article", "locale": "ar", "slug": "x"},
        {"type": "article", "locale": "xx", "slug": "x"},
        {"type": "article", "locale": "ar", "slug": "x" * 481},
        {"type": "article", "locale": "ar", "slug": "a\u202eb"},
    ],
)
async def test_what_cannot_be_an_address_is_refused(anybody: Rest, query: dict[str, str]) -> None:
    assert reason(await anybody.call("GET", "contents:bySlug", None, None, **query)) == (400, "INVALID_REQUEST")


async def test_asking_for_drafts_by_slug_needs_the_permission(editing: Caller, anybody: Rest, word: str) -> None:
    await shown(editing, word)

    answer = await anybody.call("GET", "contents:bySlug", type="article", locale="en", slug=word, view="DRAFT")

    assert answer.status_code == 401


async def test_a_locale_that_stands_in_lends_its_slug(editing: Caller, anyone: Caller, word: str) -> None:
    item = await shown(editing, word)
    named = await editing.create(
        title={"ar": "عنوان", "en": "Title"}, slug={"ar": f"عنوان-{word}", "en": f"title-{word}"}
    )
    await editing.publish(named.id)

    assert outcome(await refused(by_slug(anyone, word, "ar"))) == HIDDEN
    found = await by_slug(anyone, word, "ar", fallback=True)
    assert found == await anyone.get(item.id, locale="ar", fallback=True)
    # Who has a slug of their own in the locale is known by that one.
    assert (await by_slug(anyone, f"title-{word}", "ar", fallback_locales=["en"])).slug["ar"] == f"عنوان-{word}"
    # In the locale itself the slug is another item's now.
    other = await editing.create(title={"ar": "آخر"}, slug={"ar": word})
    await editing.publish(other.id)
    assert (await by_slug(anyone, word, "ar", fallback=True)).id == other.id


async def gone_after(
    change: Callable[[str], Awaitable[object]], editing: Caller, anyone: Caller, word: str
) -> tuple[Content, list[tuple[grpc.StatusCode, str]]]:
    """What readers get by the slugs of an item, old and new, after a change of it."""
    item = await shown(editing, "old-" + word)
    await moved(editing, item, word)
    for slug in ("old-" + word, word):
        assert (await by_slug(anyone, slug)).id == item.id

    await change(item.id)
    return item, [outcome(await refused(by_slug(anyone, slug))) for slug in ("old-" + word, word)]


async def test_what_is_unpublished_is_not_found_until_it_is_back(editing: Caller, anyone: Caller, word: str) -> None:
    item, found = await gone_after(editing.unpublish, editing, anyone, word)
    assert found == [HIDDEN, HIDDEN]

    await moved(editing, item, "back-" + word)

    for slug in ("old-" + word, word):
        assert (await by_slug(anyone, slug)).slug["en"] == "back-" + word


async def test_what_is_deleted_gives_its_slugs_back(editing: Caller, anyone: Caller, word: str) -> None:
    item, found = await gone_after(editing.delete, editing, anyone, word)
    assert found == [HIDDEN, HIDDEN]

    other = await shown(editing, "old-" + word, title={"en": word})

    assert (await by_slug(anyone, "old-" + word)).id == other.id
    assert (await editing.undelete(item.id)).slug["en"] == word
    assert await old_slugs(editing, item.id) == []


async def test_a_slug_is_not_free_while_readers_know_it(editing: Caller, anyone: Caller, word: str) -> None:
    item = await shown(editing, word)
    await editing.update(item.id, slug={"en": "new-" + word})

    refusal = await refused(editing.create(slug={"en": word}))
    other = await editing.create(title={"en": word})
    edited = await refused(editing.update(other.id, slug={"en": word}))

    for each in (refusal, edited):
        assert outcome(each) == (grpc.StatusCode.ALREADY_EXISTS, "SLUG_TAKEN")
        assert each.violations == {"content.slug.en": "is taken"}
    assert other.slug["en"].startswith(word + "-")
    assert (await by_slug(anyone, word)).id == item.id


async def test_an_old_slug_is_avoided_until_it_is_given(editing: Caller, anyone: Caller, word: str) -> None:
    item = await shown(editing, word)
    await moved(editing, item, "new-" + word)

    derived = await editing.create(title={"en": word})
    given = await editing.create(slug={"en": word})

    assert derived.slug["en"].startswith(word + "-")
    assert given.slug["en"] == word
    # It is a draft's: readers notice nothing.
    assert (await by_slug(anyone, word)).id == item.id
    await editing.publish(given.id)
    assert (await by_slug(anyone, word)).id == given.id
    await editing.unpublish(given.id)
    assert (await by_slug(anyone, word)).id == item.id


async def test_a_slug_that_is_taken_and_not_used_is_given_back(editing: Caller, anyone: Caller, word: str) -> None:
    item = await shown(editing, word)
    await moved(editing, item, "new-" + word)
    taker, deleted = await editing.create(), await editing.create()

    for other in (taker, deleted):
        await editing.update(other.id, slug={"en": word})
        assert (await refused(editing.update(item.id, slug={"en": word}))).reason == "SLUG_TAKEN"
        if other is taker:
            await editing.update(other.id, slug={"en": "else-" + word})
        else:
            await editing.delete(other.id)
        assert (await editing.create(title={"en": word})).slug["en"] != word

    await moved(editing, item, word)
    found = await by_slug(anyone, word)
    assert (found.id, found.redirected_from) == (item.id, "")
    assert (await refused(editing.update(taker.id, slug={"en": word}))).reason == "SLUG_TAKEN"


async def test_two_items_swap_their_slugs(editing: Caller, anyone: Caller, word: str) -> None:
    one, two, meanwhile = "one-" + word, "two-" + word, "meanwhile-" + word
    first, second = await shown(editing, one), await shown(editing, two)

    await moved(editing, first, meanwhile)
    await moved(editing, second, one)
    await moved(editing, first, two)

    found = {slug: await by_slug(anyone, slug) for slug in (one, two, meanwhile)}
    assert {slug: (each.id, each.redirected_from) for slug, each in found.items()} == {
        one: (second.id, ""),
        two: (first.id, ""),
        meanwhile: (first.id, meanwhile),
    }


async def test_of_two_that_want_one_slug_one_gets_it(editing: Caller, word: str) -> None:
    holder = await shown(editing, word)
    await moved(editing, holder, "new-" + word)
    items = [await editing.create() for _ in range(4)]

    changes = [editing.update(item.id, slug={"en": word}) for item in [holder, *items]]
    changes += [editing.create(slug={"en": word}) for _ in range(4)]
    answers = await asyncio.gather(*changes, return_exceptions=True)

    won = [answer for answer in answers if isinstance(answer, Content)]
    assert [item.slug["en"] for item in won] == [word]
    for answer in answers:
        if not isinstance(answer, Content):
            assert isinstance(answer, grpc.aio.AioRpcError)
            assert answer.code() == grpc.StatusCode.ALREADY_EXISTS


async def test_readers_find_an_item_by_every_slug_it_had_while_it_moves(
    editing: Caller, anyone: Caller, word: str
) -> None:
    item = await shown(editing, f"{word}-0")
    known = [f"{word}-0"]
    moving = True

    async def read() -> int:
        reads = 0
        while moving:
            for slug in known:
                assert (await by_slug(anyone, slug)).id == item.id
                reads += 1
        return reads

    readers = [asyncio.create_task(read()) for _ in range(4)]
    for number in range(1, 9):
        await moved(editing, item, f"{word}-{number % 5}")
        known.append(f"{word}-{number % 5}")
    moving = False

    assert min(await asyncio.gather(*readers)) > 0


async def test_editors_see_and_release_old_slugs(
    editing: Caller, anyone: Caller, announced: Announcements, word: str
) -> None:
    names = [f"{letter}-{word}" for letter in "abcd"]
    item = await shown(editing, names[0])
    for name in names[1:]:
        await moved(editing, item, name)
    await editing.update(item.id, slug={"en": names[0]})  # the draft's again

    assert await old_slugs(editing, item.id) == [("en", names[1]), ("en", names[2])]
    assert await old_slugs(editing, item.id, page_size=1) == [("en", names[1]), ("en", names[2])]
    assert (await by_slug(anyone, names[1])).id == item.id
    await release(editing, item.id, names[1])

    assert outcome(await refused(by_slug(anyone, names[1]))) == HIDDEN
    assert await old_slugs(editing, item.id) == [("en", names[2])]
    for name in (names[0], names[1], names[3], "no-" + word):
        assert (await refused(release(editing, item.id, name))).reason == "SLUG_NOT_FOUND"
    assert (await by_slug(anyone, names[3])).id == item.id
    assert (await editing.create(title={"en": names[1]})).slug["en"] == names[1]
    assert (await announced(item.id))[-1].subject == "content.slug_released"


async def test_old_slugs_of_nothing_are_not_found(editing: Caller, word: str) -> None:
    item = await editing.create()
    await editing.delete(item.id)

    assert outcome(await refused(old_slugs(editing, item.id))) == HIDDEN
    assert outcome(await refused(release(editing, item.id, word))) == HIDDEN


async def test_an_item_that_is_remembered_as_it_was_before_its_slug_is_read_again(
    editing: Caller, anyone: Caller, content_db: "asyncpg.Connection[asyncpg.Record]", word: str
) -> None:
    """As in a process that has not heard yet of a publish in another one."""
    item = await shown(editing, "a-" + word)
    assert (await anyone.get(item.id)).slug["en"] == "a-" + word  # remembered
    stored = await content_db.fetchval("SELECT content FROM publications WHERE id = $1", item.id)
    changed = Content.FromString(stored)
    changed.slug["en"] = "b-" + word
    async with content_db.transaction():
        await content_db.execute(
            "INSERT INTO slugs (type, locale, slug, content_id) VALUES ('article', 'en', $1, $2)",
            "b-" + word,
            item.id,
        )
        await content_db.execute(
            "UPDATE publications SET content = $2 WHERE id = $1", item.id, changed.SerializeToString()
        )

    assert (await by_slug(anyone, "b-" + word)).slug["en"] == "b-" + word
