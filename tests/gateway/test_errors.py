"""Every error looks alike, whoever makes it: Envoy, the transcoder, the edge's own script, or a service."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from deploy.local.mesh import Mesh
from tests.conftest import ADMIN_EMAIL, ADMIN_PASSWORD, Metadata, bearer
from tests.gateway.corpus import ID, http, problem, send
from thmnayah.auth.v1.auth_pb2 import CreateUserRequest
from thmnayah.content.v1.content_pb2 import (
    Content,
    CreateContentRequest,
    GetContentRequest,
    ListContentsRequest,
    PublishContentRequest,
    UpdateContentRequest,
)
from thmnayah.search.v1.search_pb2 import SearchRequest

# gRPC's numbers.
INVALID, DEADLINE, NOT_FOUND, EXISTS, DENIED, EXHAUSTED, PRECONDITION, ABORTED, UNAUTHENTICATED = (
    *(3, 4, 5, 6, 7, 8, 9, 10),
    16,
)


@dataclass(frozen=True)
class Source:
    """A request that ends in an error, and which."""

    verb: str
    path: str
    status: int
    code: int
    reason: str
    role: str = ""
    """Whose token is sent; "" for none."""
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None


_UNPUBLISHABLE: dict[str, Any] = {"locales": ["fr"]}
_NEW_USER = {"email": "new@example.com", "password": ADMIN_PASSWORD, "roles": ["reader"]}
SOURCES = {
    "the contract's rules": Source("GET", "/v1/search?query=", 400, INVALID, "INVALID_REQUEST"),
    "a rule of a service": Source("GET", "/v1/contents?orderBy=title", 400, INVALID, "INVALID_REQUEST"),
    "a rule about a list": Source(
        "POST", "/v1/users", 400, INVALID, "INVALID_REQUEST", "admin", body=_NEW_USER | {"roles": ["king"]}
    ),
    "a message a service cannot read": Source("GET", "/v1/search?query=%ff", 400, INVALID, "INVALID_REQUEST"),
    "JSON the transcoder cannot read": Source("POST", "/v1/auth:login", 400, INVALID, "INVALID_REQUEST", body=b"{"),
    "a type the transcoder cannot take": Source(
        "POST", "/v1/auth:login", 400, INVALID, "INVALID_REQUEST", body={"email": 1}
    ),
    "a query the transcoder does not know": Source("GET", "/healthz?x=1", 400, INVALID, "INVALID_REQUEST"),
    "a query that the script refuses": Source("GET", f"/v1/contents/{ID}?id={ID}", 400, INVALID, "INVALID_REQUEST"),
    "a path that Envoy refuses": Source("GET", "/v1%2fme", 400, INVALID, "INVALID_REQUEST"),
    "no token": Source("GET", "/v1/me", 401, UNAUTHENTICATED, "TOKEN_MISSING"),
    "a token that Envoy refuses": Source(
        "GET", "/v1/me", 401, UNAUTHENTICATED, "TOKEN_INVALID", headers=dict(bearer("a.b.c"))
    ),
    "a token that a service refuses": Source(
        "GET", "/v1/contents", 401, UNAUTHENTICATED, "TOKEN_INVALID", headers={"authorization": "Basic eDp5"}
    ),
    "a wrong password": Source(
        "POST",
        "/v1/auth:login",
        401,
        UNAUTHENTICATED,
        "CREDENTIALS_INVALID",
        body={"email": ADMIN_EMAIL, "password": "wrong"},
    ),
    "an unknown refresh token": Source(
        "POST", "/v1/auth:refresh", 401, UNAUTHENTICATED, "REFRESH_TOKEN_INVALID", body={"refreshToken": "x"}
    ),
    "a missing permission": Source("DELETE", f"/v1/contents/{ID}", 403, DENIED, "PERMISSION_DENIED", "reader"),
    "drafts asked for by a reader": Source(
        "GET", "/v1/contents?view=DRAFT", 403, DENIED, "PERMISSION_DENIED", "reader"
    ),
    "an upgrade of the connection": Source(
        "GET",
        "/healthz",
        403,
        DENIED,
        "PERMISSION_DENIED",
        headers={"connection": "upgrade", "upgrade": "websocket"},
    ),
    "an unknown item": Source("GET", f"/v1/contents/{ID}", 404, NOT_FOUND, "CONTENT_NOT_FOUND"),
    "an unknown file": Source("GET", "/docs/nothing.js", 404, NOT_FOUND, "DOCS_ASSET_NOT_FOUND"),
    "an unknown address": Source("GET", "/nowhere", 404, NOT_FOUND, "NOT_FOUND", "reader"),
    "an unknown method": Source("PUT", "/v1/me", 404, NOT_FOUND, "NOT_FOUND", "reader"),
    "a taken e-mail address": Source(
        "POST", "/v1/users", 409, EXISTS, "USER_EXISTS", "admin", body=_NEW_USER | {"email": ADMIN_EMAIL}
    ),
    "a large body": Source("POST", "/v1/auth:login", 413, EXHAUSTED, "BODY_TOO_LARGE", body=b" " * 70_000),
    "large headers": Source("GET", "/healthz", 431, EXHAUSTED, "HEADERS_TOO_LARGE", headers={"x-large": "a" * 9000}),
    "a deadline that has passed": Source(
        "GET", "/healthz", 504, DEADLINE, "DEADLINE_EXCEEDED", headers={"grpc-timeout": "0S"}
    ),
}
# Envoy answers these before it has read any header.
UNREAD = ("large headers",)


@pytest.fixture(scope="session")
def tokens(admin_token: str, reader_token: str) -> dict[str, str]:
    return {"admin": admin_token, "reader": reader_token}


async def ask(rest: httpx.AsyncClient, tokens: dict[str, str], source: Source, **headers: str) -> httpx.Response:
    sent = source.headers | {name.replace("_", "-"): value for name, value in headers.items()}
    if source.role:
        sent["authorization"] = f"Bearer {tokens[source.role]}"
    content = source.body if isinstance(source.body, bytes) else None
    body = None if content is not None else source.body
    return await rest.request(source.verb, source.path, content=content, json=body, headers=sent)


@pytest.mark.parametrize("name", SOURCES)
async def test_every_error_has_the_one_shape(rest: httpx.AsyncClient, tokens: dict[str, str], name: str) -> None:
    source = SOURCES[name]

    answer = await ask(rest, tokens, source)

    error = problem(answer.status_code, answer.headers, answer.content)
    assert (answer.status_code, error.code, error.reason) == (source.status, source.code, source.reason)
    assert error.locale == "en"
    assert not re.search("[\u0600-\u06ff]", error.message)


@pytest.mark.parametrize("name", sorted(SOURCES.keys() - set(UNREAD)))
async def test_every_error_speaks_arabic_to_those_who_ask_for_it(
    rest: httpx.AsyncClient, tokens: dict[str, str], name: str
) -> None:
    english = await ask(rest, tokens, SOURCES[name])
    arabic = await ask(rest, tokens, SOURCES[name], accept_language="ar-SA,ar;q=0.9,en;q=0.8")

    first = problem(english.status_code, english.headers, english.content)
    second = problem(arabic.status_code, arabic.headers, arabic.content)
    assert second.locale == "ar"
    # What programs read is the same.
    assert (first.code, first.message, first.reason) == (second.code, second.message, second.reason)


LANGUAGES = {
    "ar": "ar",
    "ar-EG": "ar",
    "AR": "ar",
    "ar, en": "ar",
    "fr, ar;q=0.9, en;q=0.8": "ar",
    "en;q=0.1, ar;q=0.9": "ar",
    "en, ar": "en",
    "en, ar;q=0.5": "en",
    "ar;q=0, en": "en",
    "ar;q=0": "en",
    "fr": "en",
    "*": "en",
    "arn": "en",
    "": "en",
    ";;q=,": "en",
    "ar;q=x, en;q=0.2": "en",
}


@pytest.mark.parametrize(("asked", "locale"), LANGUAGES.items())
async def test_the_language_is_the_same_whoever_answers(rest: httpx.AsyncClient, asked: str, locale: str) -> None:
    for path in (f"/v1/contents/{ID}", "/v1/me", "/healthz?x=1", f"/v1/contents/{ID}?id={ID}"):
        answer = await rest.get(path, headers={"accept-language": asked})

        assert problem(answer.status_code, answer.headers, answer.content).locale == locale, path


@pytest.mark.parametrize("request_id", ["from-the-caller", 'a","b":{\\', "{{x}} %REQ(:PATH)%", "<script>", "ع"])
@pytest.mark.parametrize("path", [f"/v1/contents/{ID}", "/v1/me", "/healthz?x=1", f"/v1/contents/{ID}?id={ID}"])
async def test_the_request_id_of_the_caller_is_in_every_error(
    rest: httpx.AsyncClient, request_id: str, path: str
) -> None:
    answer = await rest.get(path, headers={b"x-request-id": request_id.encode()})

    assert answer.headers["x-request-id"] == request_id
    problem(answer.status_code, answer.headers, answer.content)  # which compares the ids


@pytest.mark.parametrize("text", ['"', "\\", '","reason":"X', "</script>", "%s%n", "{{}}", "x\u2028", "\u202e"])
async def test_what_a_caller_sent_cannot_break_an_error(rest: httpx.AsyncClient, text: str) -> None:
    answers = [
        await rest.get("/v1/contents", params={"pageSize": text}),
        await rest.get("/v1/contents", params={text: "1"}),
        await rest.get("/v1/contents", params={"filter": text}),
        await rest.get(f"/v1/contents/{ID}", params={"id": text}),
        await rest.post("/v1/auth:login", json={"email": {text: 1}}),
        await rest.post("/v1/auth:login", json={"email": text, "password": text}),
    ]

    for answer in answers:
        assert problem(answer.status_code, answer.headers, answer.content).reason == "INVALID_REQUEST"


async def test_a_crowd_that_signs_in_is_told_to_wait(rest: httpx.AsyncClient) -> None:
    # Each of another address: who tries one again and again has to wait for other reasons.
    wrong = [{"email": f"{number}@crowd.example", "password": "wrong"} for number in range(60)]

    answers = await asyncio.gather(*(rest.post("/v1/auth:login", json=each) for each in wrong))

    errors = [problem(answer.status_code, answer.headers, answer.content) for answer in answers]
    assert {error.reason for error in errors} == {"CREDENTIALS_INVALID", "SIGN_IN_BUSY"}
    for answer, error in zip(answers, errors, strict=True):
        assert (answer.status_code == 429) == (error.reason == "SIGN_IN_BUSY")
        assert (error.retry_delay == "1s") == (error.reason == "SIGN_IN_BUSY")


async def test_a_request_that_is_no_http_gets_an_error_too(mesh: Mesh) -> None:
    for request in (b"\r\n\r\nhello\r\n\r\n", http("/healthz", "A B: 1"), http("/healthz", version="HTTP/9.9")):
        answer = await send(mesh.address, request)

        problem(answer.status, answer.headers, answer.body)


# Over gRPC.


def details(error: grpc.aio.AioRpcError) -> tuple[status_pb2.Status, dict[str, Any]]:
    """The google.rpc.Status of an error, and its details by their names."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # takes whatever has code, details and trailers
    assert status is not None, error
    found: dict[str, Any] = {}
    for packed in status.details:
        name = packed.TypeName().rpartition(".")[2]
        found[name] = getattr(error_details_pb2, name)()
        assert packed.Unpack(found[name])
    return status, found


async def refusal(call: Awaitable[object]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value


async def test_a_service_tells_grpc_callers_the_reason_and_the_fields(content: Any, editor: Metadata) -> None:
    request = CreateContentRequest(content=Content(type="Article", title={"en": "x"}))

    error = await refusal(content.CreateContent(request, metadata=(*editor, ("accept-language", "ar")), timeout=10))

    status, found = details(error)
    assert (error.code(), status.code) == (grpc.StatusCode.INVALID_ARGUMENT, INVALID)
    assert found["ErrorInfo"].reason == "INVALID_REQUEST"
    assert found["ErrorInfo"].domain == "thmnayah"
    assert found["LocalizedMessage"].locale == "ar"
    assert [violation.field for violation in found["BadRequest"].field_violations] == ["content.type"]
    assert found["RequestInfo"].request_id == dict(error.trailing_metadata() or ())["x-request-id"]


EDGE_REFUSALS: dict[str, tuple[str, Metadata | None, grpc.StatusCode, str]] = {
    "no token": ("/thmnayah.auth.v1.AuthService/GetMe", (), grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING"),
    "a bad token": (
        "/thmnayah.auth.v1.AuthService/GetMe",
        bearer("a.b.c"),
        grpc.StatusCode.UNAUTHENTICATED,
        "TOKEN_INVALID",
    ),
    "no such method": (
        "/thmnayah.auth.v1.AuthService/Nothing",
        None,  # a reader's
        grpc.StatusCode.UNIMPLEMENTED,
        "NOT_FOUND",
    ),
}


@pytest.mark.parametrize("name", EDGE_REFUSALS)
@pytest.mark.parametrize("locale", ["ar", "en"])
async def test_the_edge_tells_grpc_callers_the_reason_too(
    edge: grpc.aio.Channel, reader: Metadata, name: str, locale: str
) -> None:
    path, metadata, code, reason = EDGE_REFUSALS[name]
    sent = (*(reader if metadata is None else metadata), ("accept-language", locale))
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = edge.unary_unary(path)

    error = await refusal(call(b"", metadata=sent, timeout=10))

    assert error.code() == code
    assert "Jwt" not in (error.details() or "")
    status, found = details(error)
    assert status.message == error.details()
    assert found["ErrorInfo"].reason == reason
    assert found["LocalizedMessage"].locale == locale


_ARTICLE: dict[str, Any] = {"type": "article", "title": {"en": "x"}}
# Bad requests with much to say about them. HTTP/2 clients take 8 KiB of trailers.
LONG: dict[str, Callable[[Any, Any, Any, Metadata], Awaitable[object]]] = {
    "a mask of a long path": lambda content, _, __, editor: content.UpdateContent(
        UpdateContentRequest(content=Content(id=ID, **_ARTICLE), update_mask=FieldMask(paths=["a" * 100_000])),
        metadata=editor,
    ),
    "a filter of an unknown field": lambda content, _, __, ___: content.ListContents(
        ListContentsRequest(filter="م" * 1020 + " = 1")
    ),
    "a search filter of an unknown field": lambda _, __, search, ___: search.Search(
        SearchRequest(query="x", filter="م" * 1020 + " = 1")
    ),
    "fifty wrong tags": lambda content, _, __, editor: content.CreateContent(
        CreateContentRequest(content=Content(tags=[f"\1{number}" for number in range(50)], **_ARTICLE)),
        metadata=editor,
    ),
    "thousands of wrong tags": lambda content, _, __, editor: content.CreateContent(
        CreateContentRequest(content=Content(tags=["\1"] * 5000, **_ARTICLE)), metadata=editor
    ),
    "long wrong locales": lambda content, _, __, editor: content.CreateContent(
        CreateContentRequest(content=Content(type="article", title={"x" * 100_000 + str(n): "" for n in range(5)})),
        metadata=editor,
    ),
    "fifty locales without a title": lambda content, _, __, editor: content.PublishContent(
        PublishContentRequest(id=ID, locales=["ع" * 33 + f"{number:02}" for number in range(50)]), metadata=editor
    ),
    "long unknown roles": lambda _, auth, __, editor: auth.CreateUser(
        CreateUserRequest(
            email="x@example.com", password=ADMIN_PASSWORD, roles=[f"{n:02}" + "ع" * 61 for n in range(20)]
        ),
        metadata=editor,
    ),
}


@pytest.mark.parametrize("name", LONG)
async def test_a_bad_request_is_told_so_however_much_is_wrong_with_it(
    content: Any, auth: Any, search: Any, admin_token: str, name: str
) -> None:
    error = await refusal(LONG[name](content, auth, search, bearer(admin_token)))

    assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND), error
    _, found = details(error)
    assert found["ErrorInfo"].reason in ("INVALID_REQUEST", "CONTENT_NOT_FOUND")


async def test_nor_does_rest_call_it_a_failure_of_ours(rest: httpx.AsyncClient, editor_token: str) -> None:
    headers = dict(bearer(editor_token))
    bodies: Sequence[dict[str, Any]] = [
        _ARTICLE | {"tags": ["\1"] * 5000},
        _ARTICLE | {"title": {"x" * 50_000 + str(number): "" for number in range(5)}},
        _ARTICLE | {"title": {f"{'x' * 36}{number}": "" for number in range(5000)}},
    ]

    for body in bodies:
        answer = await rest.post("/v1/contents", json=body, headers=headers)
        assert answer.status_code == 400
        assert problem(answer.status_code, answer.headers, answer.content).violations


async def test_an_error_says_nothing_of_a_draft(content: Any, editor: Metadata, reader: Metadata) -> None:
    draft = await content.CreateContent(CreateContentRequest(content=Content(**_ARTICLE)), metadata=editor, timeout=10)

    of_draft = await refusal(content.GetContent(GetContentRequest(id=draft.id), metadata=reader, timeout=10))
    of_nothing = await refusal(content.GetContent(GetContentRequest(id=ID), metadata=reader, timeout=10))

    assert of_draft.code() == of_nothing.code() == grpc.StatusCode.NOT_FOUND
    assert (of_draft.details() or "").replace(draft.id, ID) == of_nothing.details()
