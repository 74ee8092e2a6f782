"""One command after the other, as an editor types them."""

import asyncio
import json
from pathlib import Path

from tests.cli.conftest import Cli
from tests.conftest import ADMIN_EMAIL, ADMIN_PASSWORD, eventually


def expire(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"expireTime": 0}))


async def test_an_item_from_its_creation_to_its_end(cli: Cli, word: str) -> None:
    created = await cli(
        *("content", "create", "--type", "article", "--title", f"ar=مرحبا {word}", "--title", f"en=Hello {word}"),
        *("--tag", "a", "--category", word, "--json"),
    )
    item = created.lines[0]["id"]

    assert (await cli("content", "publish", item, "ar")).out == f"{item}  published  ar published en draft\n"
    shown = await cli("content", "get", item, "--published", "--json")
    assert shown.lines[0]["title"] == {"ar": f"مرحبا {word}"}
    assert f"Hello {word}" in (await cli("content", "get", item)).out
    listed = await cli("content", "list", "--filter", f"category = {word}", "--locale", "en")
    assert f"Hello {word}" in listed.out
    results = await eventually(lambda: cli("search", f"مَرحباً {word}", "--json"), until=lambda ended: bool(ended.out))
    assert results.lines[0]["content"]["id"] == item
    assert f"مرحبا {word}" in (await cli("search", word, "--locale", "ar")).out
    assert (await cli("content", "unpublish", item)).out == f"{item}  draft  ar draft en draft\n"
    assert (await cli("content", "delete", item, "--yes")).status == 0
    gone = await cli("content", "get", item)
    assert (gone.status, gone.err) == (1, f"error: no content {item} (CONTENT_NOT_FOUND)\n")


async def test_an_error_names_the_field_in_the_language_asked_for(cli: Cli) -> None:
    unknown = "018f0000-0000-7000-8000-000000000001"

    ended = await cli("content", "create", "--type", "Not A Type", "--title", "en=x")
    arabic = await cli("content", "get", unknown, "--locale", "ar")

    assert ended.status == 1
    assert ended.err.startswith("error: content.type: ")
    assert arabic.err == f"error: لا يوجد محتوى {unknown} (CONTENT_NOT_FOUND)\n"


async def test_signing_in_acting_and_signing_out(stranger: Cli) -> None:
    before = await stranger("content", "create", "--type", "article", "--title", "en=x")
    wrong = await stranger("login", ADMIN_EMAIL, THMNAYAH_PASSWORD="Wr0ng-password")
    signed_in = await stranger("login", ADMIN_EMAIL, "--json", THMNAYAH_PASSWORD=ADMIN_PASSWORD)
    doctor = await stranger("doctor", "--json")
    await stranger("logout")
    after = await stranger("content", "list", "--published", "--limit", "1")

    assert (before.status, "thmnayah login" in before.err) == (1, True)
    assert (wrong.status, "CREDENTIALS_INVALID" in wrong.err) == (1, True)
    assert signed_in.lines[0]["email"] == ADMIN_EMAIL
    assert [(check["name"], check["ok"]) for check in doctor.lines if not check["ok"]] == []
    assert ADMIN_EMAIL in next(check["found"] for check in doctor.lines if check["name"] == "sign-in")
    assert after.status == 0


async def test_commands_at_once_renew_one_session_once(stranger: Cli) -> None:
    await stranger("login", ADMIN_EMAIL, stdin=f"{ADMIN_PASSWORD}\n")
    (path,) = stranger.folder.glob("sessions/*.json")
    expire(path)

    ended = await asyncio.gather(*(stranger("content", "list", "--limit", "1") for _ in range(4)))

    # A refresh token that was used twice would have ended the session.
    assert [each.status for each in ended] == [0, 0, 0, 0]
    assert (await stranger("content", "list", "--limit", "1")).status == 0


async def test_an_account_that_was_added_can_sign_in(cli: Cli, stranger: Cli, word: str) -> None:
    email = f"{word}@example.com"

    added = await cli(
        "user", "create", email, "--role", "editor", "--name", "محرر", "--json", stdin=f"{ADMIN_PASSWORD}\n"
    )
    again = await cli("user", "create", email, "--role", "editor", stdin=f"{ADMIN_PASSWORD}\n")

    assert added.lines[0]["roles"] == ["editor"]
    assert (again.status, again.err) == (1, "error: email: is taken (USER_EXISTS)\n")
    assert (await stranger("login", email, stdin=f"{ADMIN_PASSWORD}\n")).status == 0
