"""People, administered from the command line."""

import uuid

import asyncpg

from deploy.local.mesh import Mesh
from tests.auth.mailbox import code_of, mail_to
from tests.cli.conftest import Cli
from thmnayah.auth.v1.auth_pb2 import CreateUserRequest
from thmnayah.auth.v1.oidc_pb2 import ListUserIdentitiesRequest
from thmnayah.client import Mesh as Client

PASSWORD = "Correct-Horse-7"


async def test_a_person_comes_changes_and_goes(mesh: Mesh, cli: Cli, stranger: Cli, word: str) -> None:
    email = f"{word}@example.com"

    invited = await cli("user", "invite", email, "--role", "reader", "--name", "منى", "--language", "en", "--json")
    assert (invited.status, invited.lines[0]["state"]) == (0, "INVITED"), invited.err
    code = code_of(await mail_to(mesh, email))
    done = await stranger("user", "set-password", stdin=f"{PASSWORD}\n", THMNAYAH_CODE=code)
    assert done.status == 0, done.err
    assert (await stranger("login", email, stdin=f"{PASSWORD}\n")).status == 0

    shown = await cli("user", "show", email, "--json")
    assert shown.lines == [{**invited.lines[0], "state": "ACTIVE", "etag": shown.lines[0]["etag"]}]
    roles = await cli("user", "set-roles", email, "editor", "reader", "--json")
    assert roles.lines[0]["roles"] == ["editor", "reader"]
    assert email in (await cli("user", "list", "--filter", f'email = "{email}" AND roles:editor')).out
    assert "DISABLED" in (await cli("user", "disable", email)).out
    assert (await stranger("login", email, stdin=f"{PASSWORD}\n")).status == 1
    assert "DISABLED" not in (await cli("user", "enable", email)).out

    email, old = f"new-{email}", email
    assert email in (await cli("user", "set-email", old, email)).out

    kept = await cli("user", "delete", email, stdin="n\n")
    assert (kept.status, (await cli("user", "show", email)).status) == (1, 0)
    gone = await cli("user", "delete", shown.lines[0]["id"], "--yes", "--json")
    assert gone.lines[0]["state"] == "DELETED"
    missing = await cli("user", "show", email)
    assert (missing.status, missing.err) == (1, f"error: nobody has the address {email}\n")


async def test_a_reset_is_asked_for_by_anybody(mesh: Mesh, cli: Cli, stranger: Cli, word: str) -> None:
    email = f"{word}@example.com"
    assert (await cli("user", "create", email, "--role", "reader", stdin=f"{PASSWORD}\n")).status == 0

    asked = [await stranger("user", "reset-password", address) for address in (email, f"no-{email}")]

    assert [each.status for each in asked] == [0, 0]
    assert asked[0].out.replace(email, "") == asked[1].out.replace(f"no-{email}", "")
    assert code_of(await mail_to(mesh, email))


async def test_an_identity_is_listed_and_unlinked(mesh: Mesh, cli: Cli, client: Client, word: str) -> None:
    email, identity = f"{word}@example.com", str(uuid.uuid4())
    user = await client.auth.CreateUser(CreateUserRequest(email=email, password=PASSWORD, roles=["reader"]))
    conn = await asyncpg.connect(mesh.database_url("auth"))
    await conn.execute(
        "INSERT INTO identities (id, user_id, issuer, subject) VALUES ($1, $2, 'https://login.example.com', $3)",
        identity,
        user.id,
        word,
    )
    await conn.close()

    listed = await cli("user", "identities", email)
    unlinked = await cli("user", "unlink", user.id, identity)

    assert listed.out == f"{identity}  https://login.example.com  {word}  used never\n"
    assert unlinked.out == f"{identity}  unlinked\n"
    left = await client.oidc.ListUserIdentities(ListUserIdentitiesRequest(user_id=user.id))
    assert not left.identities
