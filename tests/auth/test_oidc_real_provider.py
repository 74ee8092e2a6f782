"""Sign-in by a provider that others wrote: oidc-provider-mock, on Authlib's authorization server."""

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator

import grpc
import httpx
import pytest

from tests.auth.oidc_provider import REDIRECT_URI
from tests.conftest import AuthStub, Metadata, bearer, eventually, free_port
from tests.content.items import refused
from thmnayah.auth.v1.auth_pb2 import GetMeRequest
from thmnayah.auth.v1.oidc_pb2 import (
    BeginOidcLoginRequest,
    CreateOidcProviderRequest,
    FinishOidcLoginRequest,
    OidcProvider,
)
from thmnayah.auth.v1.oidc_pb2_grpc import OidcServiceStub


@pytest.fixture(scope="module")
async def theirs() -> AsyncIterator[httpx.AsyncClient]:
    """The provider, in a process of its own."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "-p", str(port), "--require-nonce", "true"),
        *("--require-registration", "true"),
        env={**os.environ, "AUTHLIB_INSECURE_TRANSPORT": "1"},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:

        async def up() -> bool:
            try:
                return (await client.get("/.well-known/openid-configuration")).is_success
            except httpx.TransportError:
                return False

        try:
            await eventually(up, seconds=30)
            yield client
        finally:
            process.terminate()
            await process.wait()


async def test_somebody_signs_in_by_it_once_for_each_code(
    edge: grpc.aio.Channel, auth: AuthStub, admin: Metadata, theirs: httpx.AsyncClient
) -> None:
    oidc = OidcServiceStub(edge)
    registered = (await theirs.post("/oauth2/clients", json={"redirect_uris": [REDIRECT_URI]})).json()
    name = secrets.token_hex(6)
    person = {"email": f"{name}@example.com", "email_verified": True, "groups": ["desk"]}
    assert (await theirs.put(f"/users/{name}", json=person)).is_success
    provider = OidcProvider(
        id=f"theirs-{name}",
        issuer=str(theirs.base_url).rstrip("/"),
        client_id=registered["client_id"],
        client_secret=registered["client_secret"],
        redirect_uris=[REDIRECT_URI],
        scopes=["email"],
        group_roles={"desk": "author"},
        create_users=True,
        enabled=True,
    )
    await oidc.CreateOidcProvider(CreateOidcProviderRequest(oidc_provider=provider), metadata=admin, timeout=10)
    request = BeginOidcLoginRequest(provider=provider.id, redirect_uri=REDIRECT_URI)

    async def back(uri: str) -> dict[str, str]:
        answer = await theirs.post(uri, data={"sub": name})
        assert answer.headers["location"].startswith(f"{REDIRECT_URI}?")
        return dict(httpx.URL(answer.headers["location"]).params)

    begun = await oidc.BeginOidcLogin(request, timeout=10)
    came = await back(begun.authorization_uri)
    tokens = await oidc.FinishOidcLogin(FinishOidcLoginRequest(secret=begun.secret, **came), timeout=10)

    user = await auth.GetMe(GetMeRequest(), metadata=bearer(tokens.access_token), timeout=10)
    assert (user.email, list(user.roles)) == (person["email"], ["author"])
    again = await oidc.BeginOidcLogin(request, timeout=10)
    replayed = {**await back(again.authorization_uri), "code": came["code"]}
    call = oidc.FinishOidcLogin(FinishOidcLoginRequest(secret=again.secret, **replayed), timeout=10)
    assert (await refused(call)).reason == "OIDC_REFUSED"
