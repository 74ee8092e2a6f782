"""thmnayah session and thmnayah keys."""

import re
import secrets
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.conftest import ADMIN_PASSWORD, eventually


@pytest.fixture
async def person(cli: Cli, tmp_path: Path) -> Cli:
    """Commands of somebody who is signed in on two devices."""
    email = f"person-{secrets.token_hex(6)}@example.com"
    made = await cli("user", "create", email, "--role", "reader", stdin=f"{ADMIN_PASSWORD}\n")
    assert made.status == 0, made.err
    person = Cli(cli.server, tmp_path)
    for each in (Cli(cli.server, tmp_path / "other"), person):
        ended = await each("login", email, stdin=f"{ADMIN_PASSWORD}\n")
        assert ended.status == 0, ended.err
    return person


async def test_a_person_lists_and_ends_sessions(person: Cli) -> None:
    here, there = (await person("session", "list", "--json")).lines
    assert (here.get("current"), there.get("current")) == (True, None)
    assert here["deviceName"]
    shown, _ = (await person("session", "list")).out.splitlines()
    assert re.fullmatch(
        rf"{here['id']}  since 2.* UTC  used 2.* UTC  {re.escape(here['deviceName'])}.* \(this one\)", shown
    )

    ended = await person("session", "end", there["id"])

    assert (ended.status, ended.out) == (0, f"Ended {there['id']}.\n")
    assert [each["id"] for each in (await person("session", "list", "--json")).lines] == [here["id"]]
    again = await person("session", "end", there["id"])
    assert again.status == 1
    assert "SESSION_NOT_FOUND" in again.err


async def test_all_sessions_end_with_one_command(person: Cli) -> None:
    assert (await person("session", "end-all", "--others")).out == "Ended 1.\n"
    assert len((await person("session", "list", "--json")).lines) == 1

    assert (await person("session", "end-all")).out == "Ended 1.\n"

    async def shut_out() -> bool:
        return (await person("session", "list")).status == 1

    await eventually(shut_out)


async def test_an_administrator_ends_a_users_sessions(cli: Cli, person: Cli) -> None:
    (session, _) = (await person("session", "list", "--json")).lines

    listed = await cli("session", "list", "--user", session["userId"], "--json")
    (user,) = (await cli("user", "show", session["userId"], "--json")).lines
    ended = await cli("session", "end-all", "--user", user["email"])

    assert session["id"] in [each["id"] for each in listed.lines]
    assert ended.out == "Ended 2.\n"
    forbidden = await person("session", "list", "--user", "01900000-0000-7000-8000-000000000001")
    assert forbidden.status == 1


async def test_an_administrator_rotates_keys(cli: Cli) -> None:
    published = (await cli("keys", "rotate", "--json")).lines[0]
    assert published["state"] == "PUBLISHED"
    assert f"{published['kid']}  published  used from" in (await cli("keys", "list")).out
    assert published["kid"] in [each["kid"] for each in (await cli("keys", "list", "--json")).lines]

    removed = await cli("keys", "rotate", "--remove", published["kid"])

    assert "in use" in removed.out
    assert published["kid"] not in (await cli("keys", "list")).out
