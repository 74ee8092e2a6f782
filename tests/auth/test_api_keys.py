"""API keys: what they are made of, what they let whom do, through the edge and past it, and how they end."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc
import httpx
import jwt
import pytest
from envoy_auth.external_auth_pb2 import AttributeContext, CheckRequest
from envoy_auth.external_auth_pb2_grpc import AuthorizationStub

from deploy.local.mesh import Mesh
from services.auth import api_keys
from tests.auth.conftest import PASSWORD, Find, MakeUser
from tests.auth.test_secrets import everything
from tests.conftest import AuthStub, Metadata, bearer, eventually
from thmnayah.auth.v1.api_keys_pb2 import (
    ApiKey,
    CreateApiKeyRequest,
    CreateServiceAccountRequest,
    DeleteApiKeyRequest,
    DeleteServiceAccountRequest,
    DisableServiceAccountRequest,
    EnableServiceAccountRequest,
    ExchangeApiKeyRequest,
    GetApiKeyRequest,
    ListApiKeysRequest,
    ListServiceAccountsRequest,
    RotateApiKeyRequest,
    ServiceAccount,
)
from thmnayah.auth.v1.api_keys_pb2_grpc import ApiKeyServiceStub, ServiceAccountServiceStub
from thmnayah.auth.v1.auth_pb2 import GetMeRequest, LoginRequest

if TYPE_CHECKING:
    from thmnayah.auth.v1.api_keys_pb2_grpc import ApiKeyServiceAsyncStub, ServiceAccountServiceAsyncStub

DRAFT = {"type": "article", "title": {"en": "Made with a key"}}

MakeKey = Callable[..., Awaitable[ApiKey]]


@pytest.fixture(scope="session")
def keys(edge: grpc.aio.Channel) -> "ApiKeyServiceAsyncStub":
    return ApiKeyServiceStub(edge)


@pytest.fixture(scope="session")
def accounts(edge: grpc.aio.Channel) -> "ServiceAccountServiceAsyncStub":
    return ServiceAccountServiceStub(edge)


@pytest.fixture
async def owner(sign_in: Callable[[str], Awaitable[str]]) -> Metadata:
    """An editor who owns nothing yet."""
    return bearer(await sign_in("editor"))


@pytest.fixture
def make_key(keys: "ApiKeyServiceAsyncStub", owner: Metadata) -> MakeKey:
    """Makes a key of the owner's for an hour."""

    async def make(*scopes: str, seconds: float = 3600, metadata: Metadata = owner, account: str = "") -> ApiKey:
        request = CreateApiKeyRequest(display_name="Test", scopes=scopes, service_account_id=account)
        request.expire_time.FromDatetime(datetime.now(UTC) + timedelta(seconds=seconds))
        return await keys.CreateApiKey(request, metadata=metadata, timeout=10)

    return make


@pytest.fixture
async def account(accounts: "ServiceAccountServiceAsyncStub", admin: Metadata) -> ServiceAccount:
    """A service account that is an editor."""
    request = CreateServiceAccountRequest(display_name="Importer", roles=["editor"])
    return await accounts.CreateServiceAccount(request, metadata=admin, timeout=10)


async def create(rest: httpx.AsyncClient, **headers: str) -> int:
    """The status of an attempt to make an item."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return (await rest.post("/v1/contents", json=DRAFT, headers=headers)).status_code


async def code_of(call: Awaitable[Any]) -> grpc.StatusCode:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


# What they are made of.


def test_a_key_is_marked_random_and_checked() -> None:
    made = {api_keys.new_secret("live") for _ in range(200)}

    assert len(made) == 200
    for key in made:
        api_keys.check_form(key, "live")
        mark, environment, random, checksum = key.split("_")
        assert (mark, environment, len(random), len(checksum)) == ("thm", "live", 43, 6)


def test_a_mistyped_key_and_one_of_another_environment_need_no_database() -> None:
    key = api_keys.new_secret("live")
    typos = [
        key[:position] + ("a" if key[position] != "a" else "b") + key[position + 1 :] for position in range(len(key))
    ]
    exchanged = [key[:20] + key[21] + key[20] + key[22:]] if key[20] != key[21] else []

    for typo in [*typos, *exchanged, key + "a", key[:-1], "", "thm_live_", f" {key}", f"{key}\n"]:
        with pytest.raises(Exception, match="not valid"):
            api_keys.check_form(typo, "live")
    with pytest.raises(Exception, match="not valid"):
        api_keys.check_form(key, "test")


# What they let their owners do.


async def test_a_key_acts_as_its_owner_within_its_scopes(
    rest: httpx.AsyncClient, make_key: MakeKey, owner: Metadata
) -> None:
    key = await make_key("content.create", "content.read_drafts")
    headers = {"authorization": f"Bearer {key.secret}"}

    made = await rest.post("/v1/contents", json=DRAFT, headers=headers)
    me = await rest.get("/v1/me", headers=headers)
    denied = await rest.post(f"/v1/contents/{made.json()['id']}:publish", json={}, headers=headers)

    assert made.status_code == 200, made.text
    assert me.json()["id"] == key.owner_id == _claims(owner)["sub"]
    assert denied.status_code == 403
    assert "content.publish" in denied.text


async def test_a_key_is_taken_in_either_header_and_over_grpc(
    rest: httpx.AsyncClient, auth: AuthStub, make_key: MakeKey
) -> None:
    key = await make_key("content.create")

    assert await create(rest, authorization=f"Bearer {key.secret}") == 200
    assert await create(rest, authorization=f"bearer {key.secret}") == 200
    assert await create(rest, x_api_key=key.secret) == 200
    assert await create(rest, x_api_key=key.secret, authorization=f"Bearer {key.secret}") == 400
    for metadata in (bearer(key.secret), (("x-api-key", key.secret),)):
        assert (await auth.GetMe(GetMeRequest(), metadata=metadata, timeout=10)).id == key.owner_id


@pytest.mark.parametrize("path", ["/v1/me", "/v1/contents"])
@pytest.mark.parametrize("language", ["en", "ar"])
async def test_a_wrong_key_is_refused_in_the_one_shape(rest: httpx.AsyncClient, path: str, language: str) -> None:
    """Also where anyone may call: who sends a key means to be known."""
    unknown = api_keys.new_secret("live")

    for value in (unknown, unknown[:-1] + "-", "thm_", "thm_live_x"):
        for headers in ({"authorization": f"Bearer {value}"}, {"x-api-key": value}):
            answer = await rest.get(path, headers=headers | {"accept-language": language})
            details = {each["@type"].rpartition(".")[2]: each for each in answer.json()["details"]}
            assert (answer.status_code, details["ErrorInfo"]["reason"]) == (401, "API_KEY_INVALID"), value
            assert details["LocalizedMessage"]["locale"] == language


async def test_no_key_reaches_a_service_and_the_token_in_its_place_is_short(
    keys: "ApiKeyServiceAsyncStub", make_key: MakeKey, owner: Metadata
) -> None:
    key = await make_key("content.create")

    answer = await keys.ExchangeApiKey(ExchangeApiKeyRequest(api_key=key.secret), timeout=10)
    claims = jwt.decode(answer.access_token, options={"verify_signature": False})

    assert claims["exp"] - claims["iat"] <= 300
    assert 0 < answer.expires_in <= 300
    assert (claims["sub"], claims["sid"], claims["scope"]) == (_claims(owner)["sub"], key.id, "content.create")
    assert await code_of(keys.ExchangeApiKey(ExchangeApiKeyRequest(api_key=f"{key.secret}x"), timeout=10)) == (
        grpc.StatusCode.UNAUTHENTICATED
    )


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"scopes": ["users.create"]}, "scopes[0]"),
        ({"scopes": ["content.create", "content.everything"]}, "scopes[1]"),
        ({"scopes": []}, "scopes"),
        ({"expireTime": None}, "expireTime"),
        ({"expireTime": "2020-01-01T00:00:00Z"}, "expireTime"),
        ({"expireTime": "2090-01-01T00:00:00Z"}, "expireTime"),
        ({"displayName": ""}, "displayName"),
    ],
)
async def test_a_key_never_grants_more_than_its_owner_holds_and_always_ends(
    rest: httpx.AsyncClient, owner: Metadata, changes: dict[str, Any], field: str
) -> None:
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    body = {"displayName": "Test", "scopes": ["content.create"], "expireTime": soon} | changes

    answer = await rest.post("/v1/apiKeys", json=body, headers=dict(owner))

    (bad,) = [each for each in answer.json()["details"] if each["@type"].endswith("BadRequest")]
    assert answer.status_code == 400
    assert [each["field"] for each in bad["fieldViolations"]] == [field]


@pytest.mark.parametrize(
    ("change", "left"),
    [(("PATCH", "", {"roles": ["reader"]}), 403), (("POST", ":disable", {}), 401)],
    ids=["other roles", "disabled"],
)
async def test_a_key_and_its_tokens_lose_what_their_owner_loses(
    rest: httpx.AsyncClient,
    keys: "ApiKeyServiceAsyncStub",
    make_key: MakeKey,
    admin: Metadata,
    change: tuple[str, str, object],
    left: int,
) -> None:
    key = await make_key("content.create")
    exchanged = await keys.ExchangeApiKey(ExchangeApiKeyRequest(api_key=key.secret), timeout=10)
    token = {"authorization": f"Bearer {exchanged.access_token}"}
    assert await create(rest, x_api_key=key.secret) == await create(rest, **token) == 200
    method, verb, body = change

    changed = await rest.request(method, f"/v1/users/{key.owner_id}{verb}", json=body, headers=dict(admin))

    assert changed.status_code == 200, changed.text
    await eventually(partial(create, rest, **token), until=lambda status: status == 401, seconds=5)
    await eventually(lambda: create(rest, x_api_key=key.secret), until=lambda status: status == left, seconds=5)


async def test_with_a_key_nobody_manages_keys(keys: "ApiKeyServiceAsyncStub", make_key: MakeKey) -> None:
    """A key that leaked cannot be made to last."""
    key = await make_key("content.create")
    metadata = bearer(key.secret)
    request = CreateApiKeyRequest(display_name="More", scopes=["content.create"])
    request.expire_time.FromDatetime(datetime.now(UTC) + timedelta(days=300))

    refused = grpc.StatusCode.PERMISSION_DENIED
    assert await code_of(keys.CreateApiKey(request, metadata=metadata, timeout=10)) == refused
    assert await code_of(keys.RotateApiKey(RotateApiKeyRequest(id=key.id), metadata=metadata, timeout=10)) == refused
    assert await code_of(keys.DeleteApiKey(DeleteApiKeyRequest(id=key.id), metadata=metadata, timeout=10)) == refused
    assert await code_of(keys.GetApiKey(GetApiKeyRequest(id=key.id), metadata=metadata, timeout=10)) == (
        grpc.StatusCode.OK
    )


# Whose they are.


async def test_keys_are_seen_by_their_owner_and_by_administrators_without_secrets(
    keys: "ApiKeyServiceAsyncStub", make_key: MakeKey, owner: Metadata, editor: Metadata, admin: Metadata
) -> None:
    made = [await make_key("content.create") for _ in range(3)]
    ids = [key.id for key in reversed(made)]

    pages, token = [], ""
    while True:
        page = await keys.ListApiKeys(ListApiKeysRequest(page_size=2, page_token=token), metadata=owner, timeout=10)
        pages.append([key.id for key in page.api_keys])
        assert not any(key.secret for key in page.api_keys)
        token = page.next_page_token
        if not token:
            break
    own = ListApiKeysRequest(owner_id=made[0].owner_id)
    get, refused = GetApiKeyRequest(id=ids[0]), grpc.StatusCode.NOT_FOUND

    assert pages == [ids[:2], ids[2:]]
    assert made[0].secret.startswith(made[0].prefix)
    assert [key.id for key in (await keys.ListApiKeys(own, metadata=admin, timeout=10)).api_keys] == ids
    assert not (await keys.ListApiKeys(own, metadata=editor, timeout=10)).api_keys
    everybodys = await keys.ListApiKeys(ListApiKeysRequest(owner_id="-"), metadata=owner, timeout=10)
    assert {key.owner_id for key in everybodys.api_keys} == {made[0].owner_id}
    assert await code_of(keys.GetApiKey(get, metadata=editor, timeout=10)) == refused
    assert await code_of(keys.DeleteApiKey(DeleteApiKeyRequest(id=ids[0]), metadata=editor, timeout=10)) == refused
    # An administrator may end a person's key, and not come by one.
    assert await code_of(keys.RotateApiKey(RotateApiKeyRequest(id=ids[0]), metadata=admin, timeout=10)) == refused
    assert await code_of(keys.DeleteApiKey(DeleteApiKeyRequest(id=ids[0]), metadata=admin, timeout=10)) == (
        grpc.StatusCode.OK
    )


# How they end.


async def test_a_revoked_key_ends_within_five_seconds(
    rest: httpx.AsyncClient, keys: "ApiKeyServiceAsyncStub", make_key: MakeKey, owner: Metadata
) -> None:
    key = await make_key("content.create")
    assert await create(rest, x_api_key=key.secret) == 200

    await keys.DeleteApiKey(DeleteApiKeyRequest(id=key.id), metadata=owner, timeout=10)

    await eventually(lambda: create(rest, x_api_key=key.secret), until=lambda status: status == 401, seconds=5)
    assert await code_of(keys.GetApiKey(GetApiKeyRequest(id=key.id), metadata=owner, timeout=10)) == (
        grpc.StatusCode.NOT_FOUND
    )


async def test_a_key_ends_when_its_time_is_over(rest: httpx.AsyncClient, make_key: MakeKey) -> None:
    key = await make_key("content.create", seconds=3)
    assert await create(rest, x_api_key=key.secret) == 200

    await eventually(lambda: create(rest, x_api_key=key.secret), until=lambda status: status == 401)


async def test_a_rotated_key_overlaps_with_the_one_before_as_long_as_was_said(
    rest: httpx.AsyncClient, keys: "ApiKeyServiceAsyncStub", make_key: MakeKey, owner: Metadata
) -> None:
    key = await make_key("content.create")
    newer = await keys.RotateApiKey(RotateApiKeyRequest(id=key.id), metadata=owner, timeout=10)

    assert newer.id == key.id
    assert newer.secret != key.secret
    assert await create(rest, x_api_key=key.secret) == 200
    assert await create(rest, x_api_key=newer.secret) == 200

    request = RotateApiKeyRequest(id=key.id)
    request.overlap.FromTimedelta(timedelta())
    request.expire_time.FromDatetime(datetime.now(UTC) + timedelta(days=30))
    newest = await keys.RotateApiKey(request, metadata=owner, timeout=10)

    for old in (key, newer):
        await eventually(lambda: create(rest, x_api_key=old.secret), until=lambda status: status == 401, seconds=5)  # noqa: B023 — called within the round
    assert await create(rest, x_api_key=newest.secret) == 200
    assert newest.expire_time.ToDatetime() > key.expire_time.ToDatetime()
    assert newest.prefix != key.prefix


async def test_a_use_is_noted_once_a_minute_and_on_record(
    rest: httpx.AsyncClient, keys: "ApiKeyServiceAsyncStub", make_key: MakeKey, owner: Metadata, find: Find
) -> None:
    key = await make_key("content.create")
    assert not key.HasField("last_used_time")

    await asyncio.gather(*(create(rest, x_api_key=key.secret, user_agent="Test/2") for _ in range(10)))
    first = await keys.GetApiKey(GetApiKeyRequest(id=key.id), metadata=owner, timeout=10)
    await keys.ExchangeApiKey(ExchangeApiKeyRequest(api_key=key.secret), timeout=10)
    second = await keys.GetApiKey(GetApiKeyRequest(id=key.id), metadata=owner, timeout=10)

    used, created = await find(f'target = "key/{key.id}"')
    assert first.last_used_time == second.last_used_time
    assert abs(first.last_used_time.ToDatetime(UTC).timestamp() - time.time()) < 60
    assert (used.action, used.actor, used.session, used.user_agent) == ("key.used", key.owner_id, key.id, "Test/2")
    assert used.client_address
    assert (created.action, created.details["scopes"]) == ("key.created", "content.create")


async def test_no_key_is_written_down_anywhere(
    mesh: Mesh, rest: httpx.AsyncClient, keys: "ApiKeyServiceAsyncStub", make_key: MakeKey, owner: Metadata
) -> None:
    key = await make_key("content.create")
    newer = await keys.RotateApiKey(RotateApiKeyRequest(id=key.id), metadata=owner, timeout=10)
    wrong = api_keys.new_secret("live")
    for secret in (key.secret, newer.secret, wrong):
        await create(rest, x_api_key=secret)
        await create(rest, authorization=f"Bearer {secret}")
        await rest.get("/v1/me", headers={"x-api-key": secret, "authorization": secret})
        await code_of(keys.ExchangeApiKey(ExchangeApiKeyRequest(api_key=secret), timeout=10))
        await code_of(keys.ExchangeApiKey(ExchangeApiKeyRequest(api_key=secret * 2), timeout=10))
        await rest.post("/v1/apiKeys:exchange", json={"apiKey": secret, "other": secret})

    texts = {path.name: path.read_text("utf-8", "replace") for path in mesh.supervisor.log_dir.iterdir()}
    texts |= {f"database {service}": await everything(mesh, service) for service in ("auth", "content", "search")}

    canaries = {secret[len(key.prefix) :] for secret in (key.secret, newer.secret)} | {wrong}
    assert [(place, canary) for place, text in texts.items() for canary in canaries if canary in text] == []
    assert newer.prefix in texts["database auth"]


# Envoy's question itself.


async def test_the_edge_is_answered_past_the_edge_too(mesh: Mesh, make_key: MakeKey) -> None:
    key = await make_key("content.create")

    async with grpc.aio.insecure_channel(mesh.service_address("auth")) as channel:

        async def check(**headers: str) -> Any:
            http = AttributeContext.HttpRequest(headers=headers)
            request = CheckRequest(attributes=AttributeContext(request=AttributeContext.Request(http=http)))
            return await AuthorizationStub(channel).Check(request, timeout=10)

        good = await check(authorization=f"Bearer {key.secret}")
        again = await check(authorization=f"Bearer {key.secret}")
        bad = [await check(authorization=value) for value in ("", "Bearer x", f"Bearer {key.secret[:-1]}")]
        bad.append(await check())

    (header,) = good.ok_response.headers
    assert header.header.value.startswith("Bearer ey")
    assert good == again  # one token for many requests, so that others remember that it was verified
    assert {(each.status.code, each.denied_response.status.code) for each in bad} == {(16, 401)}


# Service accounts.


async def test_a_service_account_acts_with_keys_alone(
    rest: httpx.AsyncClient,
    auth: AuthStub,
    accounts: "ServiceAccountServiceAsyncStub",
    keys: "ApiKeyServiceAsyncStub",
    account: ServiceAccount,
    admin: Metadata,
    auth_db: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    request = CreateApiKeyRequest(display_name="Nightly", scopes=["content.create"], service_account_id=account.id)
    key = await keys.CreateApiKey(request, metadata=admin, timeout=10)  # without an end

    assert key.owner_id == account.id
    assert await create(rest, x_api_key=key.secret) == 200
    stored = await auth_db.fetchrow("SELECT email, email_key, password_hash FROM users WHERE id = $1", account.id)
    assert stored is not None
    for email in (stored["email"], stored["email_key"]):
        sign_in = auth.Login(LoginRequest(email=email, password=PASSWORD), timeout=10)
        assert await code_of(sign_in) in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAUTHENTICATED)
    listed = await accounts.ListServiceAccounts(ListServiceAccountsRequest(page_size=200), metadata=admin, timeout=10)
    assert account.id in [each.id for each in listed.service_accounts]

    await accounts.DeleteServiceAccount(DeleteServiceAccountRequest(id=account.id), metadata=admin, timeout=10)

    await eventually(lambda: create(rest, x_api_key=key.secret), until=lambda status: status == 401, seconds=5)
    gone = accounts.DeleteServiceAccount(DeleteServiceAccountRequest(id=account.id), metadata=admin, timeout=10)
    assert await code_of(gone) == grpc.StatusCode.NOT_FOUND


async def test_a_disabled_service_accounts_keys_and_tokens_are_refused_until_it_is_enabled(
    rest: httpx.AsyncClient,
    accounts: "ServiceAccountServiceAsyncStub",
    keys: "ApiKeyServiceAsyncStub",
    account: ServiceAccount,
    make_key: MakeKey,
    make_user: MakeUser,
    admin: Metadata,
    find: Find,
) -> None:
    key = await make_key("content.create", metadata=admin, account=account.id)
    exchanged = await keys.ExchangeApiKey(ExchangeApiKeyRequest(api_key=key.secret), timeout=10)
    assert await create(rest, x_api_key=key.secret) == 200

    disabled = await accounts.DisableServiceAccount(
        DisableServiceAccountRequest(id=account.id), metadata=admin, timeout=10
    )

    assert disabled.disabled
    for headers in ({"x_api_key": key.secret}, {"authorization": f"Bearer {exchanged.access_token}"}):
        await eventually(partial(create, rest, **headers), until=lambda status: status == 401, seconds=5)
    listed = await accounts.ListServiceAccounts(ListServiceAccountsRequest(page_size=200), metadata=admin, timeout=10)
    assert disabled in listed.service_accounts
    person = EnableServiceAccountRequest(id=(await make_user()).id)
    nobody = accounts.EnableServiceAccount(person, metadata=admin, timeout=10)
    assert await code_of(nobody) == grpc.StatusCode.NOT_FOUND
    enable = EnableServiceAccountRequest(id=account.id)
    assert await accounts.EnableServiceAccount(enable, metadata=admin, timeout=10) == account
    # The edge remembers a token for 2 seconds, which may be one that is refused.
    await eventually(lambda: create(rest, x_api_key=key.secret), until=lambda status: status == 200, seconds=5)
    assert await create(rest, authorization=f"Bearer {exchanged.access_token}") == 401
    actions = [event.action for event in await find(f'target = "service_account/{account.id}"')]
    assert actions == [f"service_account.{each}" for each in ("enabled", "disabled", "created")]


async def test_nobody_comes_by_more_through_a_service_account(
    accounts: "ServiceAccountServiceAsyncStub",
    keys: "ApiKeyServiceAsyncStub",
    account: ServiceAccount,
    make_key: MakeKey,
    make_user: MakeUser,
    admin: Metadata,
    owner: Metadata,
) -> None:
    """Not an editor, not whoever manages accounts alone, and not as a person who is none."""
    managing = bearer((await make_key("service_accounts.manage", metadata=admin)).secret)
    person = await make_user(roles=("editor",))
    escalating = CreateServiceAccountRequest(display_name="x", roles=["editor"])
    harmless = CreateServiceAccountRequest(display_name="x", roles=["reader"])
    unknown = CreateServiceAccountRequest(display_name="x", roles=["nothing"])

    invalid, denied = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED
    assert await code_of(accounts.CreateServiceAccount(escalating, metadata=managing, timeout=10)) == denied
    assert await code_of(accounts.CreateServiceAccount(harmless, metadata=managing, timeout=10)) == grpc.StatusCode.OK
    assert await code_of(accounts.CreateServiceAccount(unknown, metadata=admin, timeout=10)) == invalid
    assert await code_of(make_key("content.create", account=account.id)) == denied
    assert await code_of(make_key("users.create", metadata=admin, account=account.id)) == invalid
    assert await code_of(make_key("content.create", metadata=admin, account=person.id)) == grpc.StatusCode.NOT_FOUND
    key = await make_key("content.create", metadata=admin, account=account.id)
    rotate = RotateApiKeyRequest(id=key.id)
    assert await code_of(keys.RotateApiKey(rotate, metadata=owner, timeout=10)) == grpc.StatusCode.NOT_FOUND
    assert await code_of(keys.RotateApiKey(rotate, metadata=admin, timeout=10)) == grpc.StatusCode.OK


def _claims(metadata: Metadata) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(metadata[0][1].split()[1], options={"verify_signature": False})
    return claims
