"""Second factors on the command line: at sign-in, and for administrators."""

import json
import secrets
from collections.abc import AsyncIterator

import grpc
import pytest

from deploy.local.mesh import Mesh
from tests.auth.authenticator import Authenticator
from tests.auth.people import Person
from tests.cli.conftest import Cli
from thmnayah.auth.v1.auth_pb2 import CreateUserRequest, GetMeRequest
from thmnayah.client import Mesh as Client
from thmnayah.client import MfaNeeded, connect

PASSWORD = "Correct-Horse-7"


@pytest.fixture
async def person(client: Client, mesh: Mesh) -> AsyncIterator[Person]:
    """Somebody without factors, signed in."""
    request = CreateUserRequest(email=f"{secrets.token_hex(6)}@example.com", password=PASSWORD, roles=["reader"])
    async with grpc.aio.insecure_channel(mesh.address) as channel:
        person = Person(channel, await client.auth.CreateUser(request), PASSWORD)
        await person.login()
        yield person


async def test_a_sign_in_asks_for_the_code_of_an_app_or_a_recovery_code(stranger: Cli, person: Person) -> None:
    await person.add_totp()
    email = person.user.email

    missing = await stranger("login", email, stdin=f"{PASSWORD}\n")
    by_app = await stranger("login", email, "--json", stdin=f"{PASSWORD}\n{person.code(1)}\n")
    by_recovery = await stranger("login", email, stdin=f"{PASSWORD}\n{person.recovery_codes[0]}\n")

    assert (missing.status, by_recovery.status) == (1, 0)
    assert by_app.lines[0]["email"] == email


async def test_who_has_only_a_passkey_is_told_to_use_a_recovery_code(stranger: Cli, person: Person) -> None:
    await person.add_passkey(Authenticator())

    ended = await stranger("login", person.user.email, stdin=f"{PASSWORD}\n{person.recovery_codes[0]}\n")

    assert ended.status == 0, ended.err


async def test_an_administrator_sets_the_policy_and_resets_factors(cli: Cli, stranger: Cli, person: Person) -> None:
    role = f"role-{secrets.token_hex(6)}"
    await person.add_totp()

    assert (await cli("mfa", "require", role, "passkey")).out == f"{role}  PASSKEY_REQUIRED\n"
    rule = {"role": role, "requirement": "PASSKEY_REQUIRED"}
    assert json.dumps(rule) in (await cli("mfa", "policy", "--json")).out
    assert (await cli("mfa", "require", role, "sometimes")).status == 2
    assert (await cli("mfa", "reset", person.user.email)).status == 0
    assert (await stranger("login", person.user.email, stdin=f"{PASSWORD}\n")).status == 0


async def test_the_client_says_that_a_second_factor_is_needed(mesh: Mesh, person: Person) -> None:
    await person.add_totp()

    async with connect(mesh.address, email=person.user.email, password=PASSWORD) as client:
        with pytest.raises(MfaNeeded) as needed:
            await client.auth.GetMe(GetMeRequest())

        tokens = await person.verify(needed.value.challenge, totp_code=person.code(1))
        client.session.keep(tokens)
        assert (await client.auth.GetMe(GetMeRequest())).id == person.user.id
