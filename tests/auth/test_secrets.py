"""Passwords and tokens stay with whom they belong: they are in no log, no event and no database."""

import contextlib
import json
import secrets
from pathlib import Path

import asyncpg
import grpc
import httpx

from deploy.local.mesh import Mesh
from tests.auth.conftest import MakeUser
from tests.conftest import ADMIN_PASSWORD, AuthStub, bearer, eventually
from tests.content.items import Caller
from thmnayah.auth.v1.auth_pb2 import CreateUserRequest, LoginRequest, RefreshTokensRequest


async def test_what_is_secret_is_written_nowhere(
    mesh: Mesh,
    rest: httpx.AsyncClient,
    auth: AuthStub,
    edge: grpc.aio.Channel,
    make_user: MakeUser,
    admin_token: str,
) -> None:
    used = {"admin's password": ADMIN_PASSWORD, "admin's access token": admin_token}

    def secret(name: str) -> str:
        used[name] = f"Canary7-{secrets.token_hex(12)}"
        return used[name]

    user = await make_user(password=secret("password"), roles=("editor",))
    marker = f"marker-{secrets.token_hex(6)}"
    for number in range(2):
        tokens = await auth.Login(LoginRequest(email=user.email, password=used["password"]), timeout=10)
        used[f"access token {number}"], used[f"refresh token {number}"] = tokens.access_token, tokens.refresh_token
    used["device token"] = tokens.device_token
    renewed = await auth.RefreshTokens(RefreshTokensRequest(refresh_token=tokens.refresh_token), timeout=10)
    used["renewed access token"], used["renewed refresh token"] = renewed.access_token, renewed.refresh_token
    await Caller(edge, bearer(tokens.access_token)).create(title={"en": marker})
    over_rest = await rest.post("/v1/auth:login", json={"email": user.email, "password": used["password"]})
    used["access token over REST"] = over_rest.json()["accessToken"]
    used["refresh token over REST"] = over_rest.json()["refreshToken"]
    page = {"sec-fetch-site": "same-origin"}
    credentials = {"email": user.email, "password": used["password"], "browser": True}
    for number in range(2):
        answer = await rest.post("/v1/auth:login", json=credentials, headers=page)
        used[f"refresh token in cookie {number}"] = cookie = (
            answer.headers.get_list("set-cookie")[0].partition(";")[0].partition("=")[2]
        )
        used[f"CSRF token {number}"] = answer.json()["csrfToken"]
        used[f"device token in cookie {number}"] = (
            answer.headers.get_list("set-cookie")[-1].partition(";")[0].partition("=")[2]
        )
    sent = page | {"cookie": f"__Secure-thmnayah-refresh={cookie}", "x-csrf-token": answer.json()["csrfToken"]}
    assert (await rest.post("/v1/auth:refresh", json={}, headers=sent)).status_code == 200
    assert (await rest.post("/v1/auth:refresh", json={}, headers=sent | {"x-csrf-token": "x"})).status_code == 403

    # What goes wrong is logged more than what goes right.
    for request in (
        LoginRequest(email=user.email, password=secret("wrong password")),
        LoginRequest(email="no address", password=secret("password without an address")),
        LoginRequest(email=user.email, password=secret("long password") * 20),
        CreateUserRequest(email=user.email, password=secret("password of nobody"), roles=["admin"]),
        RefreshTokensRequest(refresh_token=secret("unknown token")),
        RefreshTokensRequest(refresh_token=tokens.refresh_token),
    ):
        call = {LoginRequest: auth.Login, CreateUserRequest: auth.CreateUser, RefreshTokensRequest: auth.RefreshTokens}
        with contextlib.suppress(grpc.aio.AioRpcError):
            await call[type(request)](request, metadata=bearer(admin_token), timeout=10)  # type: ignore[operator]  # a stub of each type
    for body in (
        f'{{"email": "{user.email}", "password": "{secret("password in broken JSON")}"',
        json.dumps({"email": user.email, "password": [secret("password of a wrong type")]}),
        json.dumps({"email": user.email, "passwort": secret("password in an unknown field")}),
        json.dumps({secret("password as a field"): user.email}),
    ):
        await rest.post("/v1/auth:login", content=body, headers={"content-type": "application/json"})
    await rest.post("/v1/auth:login", params={"password": secret("password in the query")}, json={})
    await rest.get("/v1/me", headers={"authorization": f"Bearer {secret('broken token')}"})
    await rest.get("/v1/me", headers={"authorization": f"Basic {secret('basic credentials')}"})
    await rest.get("/v1/me", headers={"cookie": f"session={secret('cookie')}"})
    await rest.get("/v1/me", headers={"authorization": f"Bearer {admin_token[:-2]}xx"})
    used["spoilt token"] = admin_token[:-2] + "xx"

    async def announced() -> bool:
        conn = await asyncpg.connect(mesh.database_url("content"))
        try:
            count = await conn.fetchval(
                "SELECT count(*) FROM outbox"
                " WHERE sent_time IS NOT NULL AND position(convert_to($1, 'UTF8') IN payload) > 0",
                marker,
            )
        finally:
            await conn.close()
        return bool(count)

    await eventually(announced)
    logs = {path.name: path.read_text("utf-8", "replace") for path in mesh.supervisor.log_dir.iterdir()}
    assert {"auth.log", "content.log", "envoy.log", "postgresql.log"} <= logs.keys()
    texts = logs | {f"database {service}": await everything(mesh, service) for service in ("auth", "content", "search")}
    found = [(name, place) for name, value in used.items() for place, text in texts.items() if value in text]
    assert found == []
    assert any(marker in text for text in texts.values())


async def everything(mesh: Mesh, service: str) -> str:
    """All rows of all tables of a service's database, bytes both in hexadecimal and as they are."""
    conn = await asyncpg.connect(mesh.database_url(service))
    try:
        tables = await conn.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        rows = [row for table in tables for row in await conn.fetch(f'SELECT * FROM "{table["tablename"]}"')]
    finally:
        await conn.close()
    values = [value for row in rows for value in row.values()]
    return "\n".join(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values)


def test_the_files_that_hold_secrets_are_for_their_owner_alone(mesh: Mesh) -> None:
    for path in (mesh.data / "secrets.json", *(mesh.data / "run").iterdir()):
        assert Path(path).stat().st_mode & 0o077 == 0, path
