"""Keys and the record, as an administrator types them."""

import json

from tests.cli.conftest import Cli
from tests.conftest import eventually


async def test_a_key_from_its_making_to_its_end(cli: Cli, word: str) -> None:
    made = await cli("key", "create", word, "--scope", "content.create", "--days", "7")
    secret = made.out.strip()
    (key,) = [each for each in (await cli("key", "list", "--json")).lines if each["displayName"] == word]
    rotated = await cli("key", "rotate", key["id"], "--overlap-hours", "0", "--days", "30", "--json")
    shown = (await cli("key", "list")).out
    refused = await cli("key", "create", word, "--scope", "content.create", "--days", "0")
    revoked = await cli("key", "revoke", key["id"])

    assert secret.startswith(f"{key['prefix']}")
    assert key["scopes"] == ["content.create"]
    assert "secret" not in key
    assert rotated.lines[0]["secret"] != secret
    assert f"{rotated.lines[0]['prefix']}…  {word}  content.create" in shown
    assert refused.err.startswith("error: expireTime: is required")
    assert revoked.out == f"{key['id']}  revoked\n"
    assert word not in (await cli("key", "list")).out


async def test_the_record_is_listed_exported_and_verified(cli: Cli, word: str) -> None:
    made = await cli("key", "create", word, "--scope", "content.create", "--json")
    target = f"key/{made.lines[0]['id']}"

    listed = await cli("audit", "list", "--filter", f'target = "{target}"')
    newer = await cli("audit", "list", "--filter", f'target = "{target}"', "--since", "2099-01-01", "--json")
    exported = await cli("audit", "export", "--filter", f'target = "{target}"', "--since", "2020-01-01")
    *events, end = [json.loads(line) for line in exported.out.splitlines()]
    verified = await eventually(lambda: cli("audit", "verify"), until=lambda ended: ended.status == 0)
    again = await cli("audit", "verify", "--head", verified.out.strip())
    wrong = await cli("audit", "verify", "--head", f"1:{'0' * 64}")

    assert f"OK  key.created  {events[0]['actor']}  {target}" in listed.out
    assert newer.out == ""
    assert ([each["target"] for each in events], end) == ([target], {})
    assert again.status == 0
    assert (wrong.status, wrong.err) == (1, "error: the chain is broken: link 1 is another\n")
