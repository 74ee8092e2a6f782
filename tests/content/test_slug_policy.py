"""The script that a type's slugs are written in."""

import re

import pytest

from tests.content.rest import Rest, define, make, violations


async def test_a_type_may_have_its_slugs_in_latin_letters(admin: Rest, word: str) -> None:
    kind = await define(admin, word, slugPolicy="TRANSLITERATE")
    titles = {"ar": "بيت الحكمة ٢٠٣٠", "en": "Café of Wisdom"}

    item = await make(admin, word, title=titles)
    second = await make(admin, word, title=titles)

    assert kind["slugPolicy"] == "TRANSLITERATE"
    assert item["slug"] == {"ar": "bit-al-hkma-2030", "en": "cafe-of-wisdom"}
    assert all(re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", slug) for slug in second["slug"].values())
    assert second["slug"]["ar"].startswith("bit-al-hkma-2030-")


async def test_a_given_slug_is_written_so_too(admin: Rest, word: str) -> None:
    await define(admin, word, slugPolicy="TRANSLITERATE")

    item = await make(admin, word, slug={"ar": "الرياض"})
    changed = await admin.ok("PATCH", f"contents/{item['id']}", {"slug": {"ar": "مكة-المكرمة"}})
    refused = await admin.call("PATCH", f"contents/{item['id']}", {"slug": {"ar": "𐤀"}})

    assert item["slug"]["ar"] == "al-ryad"
    assert changed["slug"]["ar"] == "mka-al-mkrma"
    assert (refused.status_code, [*violations(refused)]) == (400, ["content.slug.ar"])


@pytest.mark.parametrize("title", ["😀", "❤️", "!!!", "𐤀"])
async def test_what_cannot_be_said_is_addressed_by_its_type(admin: Rest, word: str, title: str) -> None:
    await define(admin, word, slugPolicy="TRANSLITERATE")

    first, second = [await make(admin, word, title={"ar": title}) for _ in range(2)]

    assert first["slug"]["ar"] == f"t-{word}"
    assert second["slug"]["ar"] == f"t-{word}-{second['id'][-12:]}"


async def test_a_heart_has_an_address_that_can_be_seen(admin: Rest, word: str) -> None:
    await define(admin, word)

    assert (await make(admin, word, title={"ar": "❤️"}))["slug"]["ar"] == f"t-{word}"


async def test_a_change_of_the_policy_changes_no_slug(admin: Rest, word: str) -> None:
    await define(admin, word)
    item = await make(admin, word, title={"ar": "الرياض"})

    await admin.ok("PATCH", f"contentTypes/t-{word}", {"slugPolicy": "TRANSLITERATE"}, updateMask="slugPolicy")
    same = await admin.ok("PATCH", f"contents/{item['id']}", {"slug": item["slug"], "title": {"en": "Riyadh"}})
    await admin.ok("DELETE", f"contents/{item['id']}")
    back = await admin.ok("POST", f"contents/{item['id']}:undelete", {})
    anew = await admin.ok("PATCH", f"contents/{item['id']}", {}, updateMask="slug.ar")

    assert same["slug"] == back["slug"] == {"ar": "الرياض", "en": "riyadh"}
    assert anew["slug"]["ar"] == "al-ryad"
    kept = await admin.ok("PATCH", f"contentTypes/t-{word}", {"name": {"en": "Same"}})
    assert kept["slugPolicy"] == "TRANSLITERATE"
    cleared = await admin.ok("PATCH", f"contentTypes/t-{word}", {}, updateMask="slugPolicy")
    assert cleared["slugPolicy"] == "SLUG_POLICY_UNSPECIFIED"


async def test_a_policy_that_there_is_not_is_refused(admin: Rest, word: str) -> None:
    body = {"id": f"t-{word}", "name": {"en": "Type"}, "slugPolicy": 7}

    answer = await admin.call("POST", "contentTypes", body)

    assert (answer.status_code, [*violations(answer)]) == (400, ["contentType.slugPolicy"])
