"""Default deny: what the outside may call is exactly what the contracts open."""

import grpc
import httpx
import pytest

from libs import contracts
from tests.conftest import bearer
from tests.gateway.corpus import Example, examples, problem

PUBLIC = ("anyone", "by_credentials")
OPEN = [rpc for rpc in contracts.rpcs() if rpc.access.WhichOneof("rule") in PUBLIC]
CLOSED = [rpc for rpc in contracts.rpcs() if rpc not in OPEN]
NOT_FOR_OUTSIDE = (
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.health.v1.Health/List",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/grpc.channelz.v1.Channelz/GetTopChannels",
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
    "/thmnayah.content.v1.ContentService/DropContents",
    "/thmnayah.content.v1.ContentService",
    "/thmnayah.content.v2.ContentService/GetContent",
    "/thmnayah.content.v1.ContentService/",
)


def _rest(access: tuple[str, ...], *, opened: bool) -> list[Example]:
    return [each for each in examples() if (each.rpc.access.WhichOneof("rule") in access) == opened]


async def _grpc(
    edge: grpc.aio.Channel, path: str, token: str = "", request: bytes = b""
) -> grpc.aio.AioRpcError | None:
    """How a call ends; None when it is answered."""
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = edge.unary_unary(path)
    try:
        await call(request, metadata=bearer(token) if token else None, timeout=10)
    except grpc.aio.AioRpcError as error:
        return error
    return None


@pytest.mark.parametrize("rpc", CLOSED, ids=lambda rpc: rpc.path)
async def test_an_rpc_that_is_not_public_refuses_a_call_without_a_token(
    edge: grpc.aio.Channel, rpc: contracts.Rpc
) -> None:
    error = await _grpc(edge, rpc.path)

    assert error is not None
    assert error.code() == grpc.StatusCode.UNAUTHENTICATED
    assert error.details() == "sign in first"


@pytest.mark.parametrize("rpc", OPEN, ids=lambda rpc: rpc.path)
async def test_a_public_rpc_answers_without_a_token(edge: grpc.aio.Channel, rpc: contracts.Rpc) -> None:
    error = await _grpc(edge, rpc.path)

    assert error is None or error.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_every_rpc_says_who_may_call_it() -> None:
    assert {rpc.path for rpc in contracts.rpcs() if rpc.access.WhichOneof("rule") is None} == set()


@pytest.mark.parametrize("example", _rest(PUBLIC, opened=False), ids=str)
@pytest.mark.parametrize("suffix", ["", "/", "//", "/.", "?", "/?"])
async def test_an_address_that_is_not_public_refuses_a_call_without_a_token(
    rest: httpx.AsyncClient, example: Example, suffix: str
) -> None:
    answer = await rest.request(example.rule.verb, example.path + suffix, params=None, json=example.body)

    assert answer.status_code == 401
    assert problem(answer.status_code, answer.headers, answer.content).reason == "TOKEN_MISSING"


@pytest.mark.parametrize("example", _rest(PUBLIC, opened=True), ids=str)
async def test_a_public_address_answers_without_a_token(rest: httpx.AsyncClient, example: Example) -> None:
    answer = await rest.request(example.rule.verb, example.path, params=example.query, json=example.body)

    # Nobody's credentials are refused as such, and there is nothing yet under the example's id.
    expected = {
        "/v1/auth:login": "CREDENTIALS_INVALID",
        "/v1/auth:refresh": "REFRESH_TOKEN_INVALID",
        "/v1/apiKeys:exchange": "API_KEY_INVALID",
        "/v1/auth:verifyMfa": "MFA_CHALLENGE_INVALID",
        "/v1/auth:finishPasskeyLogin": "MFA_CHALLENGE_INVALID",
        "/v1/auth:enrolTotp": "MFA_CHALLENGE_INVALID",
        "/v1/auth:confirmTotp": "MFA_CHALLENGE_INVALID",
        "/v1/auth:beginPasskeyRegistration": "MFA_CHALLENGE_INVALID",
        "/v1/auth:finishPasskeyRegistration": "MFA_CHALLENGE_INVALID",
        "/v1/auth:beginOidcLogin": "OIDC_PROVIDER_NOT_FOUND",
        "/v1/auth:finishOidcLogin": "OIDC_LOGIN_INVALID",
        "/v1/auth:setPassword": "CODE_INVALID",
        "/v1/contents/{id}": "CONTENT_NOT_FOUND",
        "/v1/contents/{id}/references": "CONTENT_NOT_FOUND",
        "/v1/contents:bySlug": "CONTENT_NOT_FOUND",
        "/v1/categories/{id}": "CATEGORY_NOT_FOUND",
    }
    if example.rule.path in expected:
        assert problem(answer.status_code, answer.headers, answer.content).reason == expected[example.rule.path]
    else:
        assert answer.status_code == 200


@pytest.mark.parametrize("example", examples(), ids=str)
async def test_no_other_method_opens_an_address(rest: httpx.AsyncClient, example: Example) -> None:
    known = {each.rule.verb for each in examples() if each.path == example.path}

    for verb in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "OPTIONS"} - known:
        answer = await rest.request(verb, example.path)
        assert answer.status_code == 401, verb


@pytest.mark.parametrize("path", NOT_FOR_OUTSIDE)
async def test_what_is_no_rpc_of_ours_is_unreachable_even_with_a_token(
    edge: grpc.aio.Channel, admin_token: str, path: str
) -> None:
    anonymous, admin = await _grpc(edge, path), await _grpc(edge, path, admin_token)

    assert anonymous is not None
    assert anonymous.code() == grpc.StatusCode.UNAUTHENTICATED
    assert admin is not None
    assert admin.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("rpc", CLOSED, ids=lambda rpc: rpc.path)
@pytest.mark.parametrize("change", ["{}/", "/{}", "{}?x=1", "{}%20", "{}/.", "/healthz/..{}", "{}#x"])
async def test_another_spelling_of_an_rpcs_name_opens_nothing(
    edge: grpc.aio.Channel, rpc: contracts.Rpc, change: str
) -> None:
    error = await _grpc(edge, change.format(rpc.path))

    assert error is not None
    assert error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.INTERNAL)  # INTERNAL is HTTP's 400


async def test_grpc_cannot_be_spoken_to_a_rest_address(edge: grpc.aio.Channel, admin_token: str) -> None:
    error = await _grpc(edge, "/v1/me", admin_token)

    assert error is not None
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_json_cannot_be_spoken_to_an_rpcs_name(rest: httpx.AsyncClient, admin_token: str) -> None:
    headers = dict(bearer(admin_token))
    for rpc in contracts.rpcs():
        answer = await rest.post(rpc.path, json={}, headers=headers)
        assert answer.status_code == 404, rpc.path
        assert problem(answer.status_code, answer.headers, answer.content).reason == "NOT_FOUND"
