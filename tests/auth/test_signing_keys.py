"""Signing keys: a new one is known before it is used, an old one stays until its tokens end, and a lost one goes."""

import asyncio
import base64
import json
import secrets
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import cast

import asyncpg
import grpc
import httpx
import jwt
import pytest

from deploy.local.mesh import Mesh
from libs import db
from services.auth import keys, totp
from tests.auth.conftest import MakeUser
from tests.conftest import ADMIN_EMAIL, ADMIN_PASSWORD, eventually, mesh_settings
from thmnayah.auth.v1.auth_pb2 import LoginRequest
from thmnayah.auth.v1.auth_pb2_grpc import AuthServiceStub
from thmnayah.auth.v1.signing_keys_pb2 import SigningKey

LOGIN = LoginRequest(email=ADMIN_EMAIL, password=ADMIN_PASSWORD)
PUBLISH_SECONDS, CACHE_SECONDS = 6, 2


@pytest.fixture(scope="module")
async def own_mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    """A mesh whose keys change quickly."""
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("THMNAYAH_KEY_PUBLISH_SECONDS", f"{PUBLISH_SECONDS}")
        environ.setenv("THMNAYAH_JWKS_CACHE_SECONDS", f"{CACHE_SECONDS}")
        mesh = Mesh(mesh_settings(tmp_path_factory.mktemp("keys")), print)
        try:
            await mesh.start()
            yield mesh
        finally:
            await mesh.stop()


@pytest.fixture
async def own(own_mesh: Mesh) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://{own_mesh.address}", timeout=20) as client:
        yield client


async def sign_in(mesh: Mesh) -> str:
    async with grpc.aio.insecure_channel(mesh.address) as channel:
        return str((await AuthServiceStub(channel).Login(LOGIN, timeout=10)).access_token)


def kid(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


def headers(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def states(client: httpx.AsyncClient, token: str) -> dict[str, str]:
    answer = await client.get("/v1/signingKeys", headers=headers(token))
    assert answer.status_code == 200, answer.text
    return {each["kid"]: each["state"] for each in answer.json()["keys"]}


async def test_a_rotation_under_load_refuses_nobody(own_mesh: Mesh, own: httpx.AsyncClient) -> None:
    first = await sign_in(own_mesh)
    stopping = asyncio.Event()
    statuses: set[int] = set()
    tokens: list[str] = []

    async def load() -> None:
        # The newest token and the oldest, as long as the rotation takes.
        while not stopping.is_set():
            tokens.append(await sign_in(own_mesh))
            for token in (tokens[-1], first):
                for path in ("/v1/me", "/v1/contents", "/v1/search?query=x"):
                    statuses.add((await own.get(path, headers=headers(token))).status_code)

    running = [asyncio.create_task(load()) for _ in range(2)]
    try:
        rotated = await own.post("/v1/signingKeys:rotate", json={}, headers=headers(first))
        new = rotated.json()["kid"]
        assert rotated.json()["state"] == "PUBLISHED"
        assert (await states(own, first))[kid(first)] == "IN_USE"
        jwks = (await own.get("/.well-known/jwks.json")).json()["keys"]
        assert {each["kid"] for each in jwks} >= {new, kid(first)}
        # It waits for its use: another rotation makes no second.
        again = await own.post("/v1/signingKeys:rotate", json={}, headers=headers(first))
        assert again.json()["kid"] == new

        async def used() -> int:
            return sum(kid(token) == new for token in tokens)

        await eventually(used, lambda count: count > 5, seconds=60)
    finally:
        stopping.set()
        await asyncio.gather(*running)

    assert statuses == {200}
    assert kid(tokens[0]) == kid(first)
    found = await states(own, tokens[-1])
    assert (found[new], found[kid(first)]) == ("IN_USE", "RETIRED")


@pytest.mark.fault
async def test_a_withdrawn_key_opens_nothing(own_mesh: Mesh, own: httpx.AsyncClient) -> None:
    token = await sign_in(own_mesh)

    removed = await own.delete(f"/v1/signingKeys/{kid(token)}", headers=headers(token))

    assert removed.json()["state"] == "IN_USE"
    assert removed.json()["kid"] != kid(token)
    new = await sign_in(own_mesh)
    assert kid(new) == removed.json()["kid"]

    async def status(token: str) -> int:
        return (await own.get("/v1/me", headers=headers(token))).status_code

    await eventually(lambda: status(new), lambda status: status == 200, seconds=30)
    # The services ask for the keys once a minute.
    await eventually(lambda: status(token), lambda status: status == 401, seconds=90)
    gone = await own.delete(f"/v1/signingKeys/{kid(token)}", headers=headers(new))
    assert gone.status_code == 404
    assert gone.json()["details"][0]["reason"] == "SIGNING_KEY_NOT_FOUND"


async def test_a_command_rotates_and_withdraws(own_mesh: Mesh) -> None:
    """For whoever holds the database, while nobody can sign in."""
    # As the mesh would run it; the key must still wait for its use when the command runs again.
    part = own_mesh._service("auth", "rotate-keys", environ={"THMNAYAH_KEY_PUBLISH_SECONDS": "3600"})  # noqa: SLF001
    published = (await own_mesh.supervisor.run(part)).split()[0]
    assert (await own_mesh.supervisor.run(part)).split()[0] == published

    part.argv = [*part.argv, "--remove", published]
    in_use = (await own_mesh.supervisor.run(part)).split()[0]

    assert in_use != published
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "services.auth", "rotate-keys", "--remove", "nothing"],
        env=dict(part.environ),
        stderr=asyncio.subprocess.PIPE,
    )
    _, told = await process.communicate()
    assert process.returncode == 1
    assert b"no signing key nothing" in told


# On a table of their own: what is done to these keys would sign everybody else out.


@pytest.fixture
async def ring(mesh: Mesh) -> AsyncIterator[tuple[keys.Ring, "asyncpg.Connection[asyncpg.Record]"]]:
    """Keys as a replica holds them, and where they are."""
    schema = f"keys_{secrets.token_hex(4)}"
    url = f"{mesh.database_url('auth')}?search_path={schema},public"
    conn = await asyncpg.connect(url)
    await conn.execute(f"CREATE SCHEMA {schema}; CREATE TABLE signing_keys (LIKE public.signing_keys INCLUDING ALL)")
    pool = await db.connect(url, service="tests", size=2)
    times = {"publish": timedelta(seconds=1), "access_life": timedelta(minutes=30), "rotate_after": timedelta(days=90)}
    yield keys.Ring(pool, secret_key(mesh), **times), conn
    await pool.close()
    await conn.execute(f"DROP SCHEMA {schema} CASCADE")
    await conn.close()


def secret_key(mesh: Mesh) -> bytes:
    return base64.b64decode(json.loads((mesh.data / "secrets.json").read_text())["secret_key"])


async def test_a_key_is_replaced_when_it_was_used_for_long_and_goes_when_no_token_needs_it(
    ring: tuple[keys.Ring, "asyncpg.Connection[asyncpg.Record]"],
) -> None:
    own_ring, conn = ring
    await own_ring.load()
    following = asyncio.create_task(own_ring.follow())
    try:
        await conn.execute("UPDATE signing_keys SET use_time = use_time - interval '91 days'")
        before = {each.kid for each in await own_ring.listed()}

        async def kids() -> set[str]:
            return {each.kid for each in await own_ring.listed() if each.state != SigningKey.RETIRED}

        await eventually(kids, lambda found: bool(found - before), seconds=20)
        (new,) = {each.kid for each in await own_ring.listed()} - before

        async def signs() -> str:
            return own_ring.signer.kid

        await eventually(signs, lambda found: found == new, seconds=20)
        assert {each.kid for each in await own_ring.listed()} > {new}  # tokens of the one before may live

        await conn.execute("UPDATE signing_keys SET use_time = use_time - interval '32 minutes' WHERE kid = $1", new)

        async def left() -> set[str]:
            return {each.kid for each in await own_ring.listed()}

        await eventually(left, lambda found: found == {new}, seconds=20)
    finally:
        following.cancel()


async def test_seeds_and_client_secrets_move_to_a_new_secret_key(mesh: Mesh, make_user: MakeUser) -> None:
    user, old, new = await make_user(), secrets.token_bytes(32), secrets.token_bytes(32)
    seed = totp.seal("JBSWY3DPEHPK3PXP", old, user.id)
    client_secret = keys.seal(b"told to nobody", old, "oidc_providers/moved")
    conn = await asyncpg.connect(mesh.database_url("auth"))
    giving_up = conn.transaction()
    await giving_up.start()
    try:
        await conn.execute("INSERT INTO totp_factors (user_id, seed, last_step) VALUES ($1, $2, 0)", user.id, seed)
        await conn.execute(
            "INSERT INTO oidc_providers (id, issuer, client_id, client_secret, scopes, redirect_uris, groups_claim,"
            " group_roles, create_users, enabled) VALUES ('moved', '', '', $1, '{}', '{}', '', '{}', false, false)",
            client_secret,
        )

        for _ in range(2):  # what has moved stays
            await keys.seal_anew(cast("db.Connection", conn), new, old)

        moved = await conn.fetchval("SELECT seed FROM totp_factors WHERE user_id = $1", user.id)
        assert keys.unseal(moved, new, f"totp:{user.id}") == b"JBSWY3DPEHPK3PXP"
        moved = await conn.fetchval("SELECT client_secret FROM oidc_providers WHERE id = 'moved'")
        assert keys.unseal(moved, new, "oidc_providers/moved") == b"told to nobody"
    finally:
        await giving_up.rollback()
        await conn.close()


async def test_keys_move_to_a_new_secret_key(own_mesh: Mesh) -> None:
    old, new = secret_key(own_mesh), secrets.token_bytes(32)
    pool = await db.connect(own_mesh.database_url("auth"), service="tests", size=1)
    try:
        async with db.connection(pool) as conn:
            giving_up = conn.transaction()
            await giving_up.start()
            before = await keys.ensure(conn, old)
            with pytest.raises(keys.WrongSecretKey):
                await keys.ensure(conn, new)
            with pytest.raises(keys.WrongSecretKey):
                await keys.ensure(conn, new, secrets.token_bytes(32))

            after = await keys.ensure(conn, new, old)

            assert after.kid == before.kid
            assert after.private_key.private_numbers() == before.private_key.private_numbers()
            assert (await keys.ensure(conn, new)).kid == before.kid
            with pytest.raises(keys.WrongSecretKey):
                await keys.ensure(conn, old)
            await giving_up.rollback()
    finally:
        await pool.close()
