"""Requests as they come over the wire with the answers they must get, and the one shape of an error."""

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from libs import contracts

ID = "0190b0a0-0000-7000-8000-000000000000"
OTHER_ID = "0190b0a0-0000-7000-8000-00000000ffff"

# What only we may know: traces, classes, drivers, addresses, statements and the edge's parts.
_INSIDE = re.compile(
    r"Traceback|File \"|\.py\b|<class|\bat 0x|Exception|\w(?<!_)Error\b|asyncpg|sqlstate|grpcio|C-core|protobuf"
    r"|envoy|upstream|downstream|cluster|upstream_reset|\d+\.\d+\.\d+\.\d+|localhost|\.sock\b"
    r"|SELECT |INSERT |UPDATE |relation \"|column \"|thmnayah\.\w+\.v1|googleapis|Jwt |Jwks",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Answer:
    """What came back; status 0 when the connection ended without an answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Problem:
    """An error in the one shape, taken apart."""

    code: int
    message: str
    reason: str
    metadata: dict[str, str]
    locale: str
    localized: str
    violations: dict[str, str]
    retry_delay: str


def problem(status: int, headers: Mapping[str, str], body: bytes) -> Problem:
    """The error that an answer holds; fails when it has not the one shape or tells of our insides."""
    assert status >= 400
    if headers["content-type"] == "application/scim+json":
        return _scim_problem(status, body)
    assert headers["content-type"] == "application/json"
    assert not [name for name in headers if name.lower().startswith(("x-envoy", "grpc-"))]
    error = json.loads(body.decode("utf-8"))
    assert error.keys() == {"code", "message", "details"}
    assert isinstance(error["code"], int)
    assert 1 <= error["code"] <= 16
    assert isinstance(error["message"], str)
    assert error["message"]
    details = {detail["@type"].removeprefix("type.googleapis.com/google.rpc."): detail for detail in error["details"]}
    assert len(details) == len(error["details"])
    assert details.keys() - {"BadRequest", "RetryInfo"} == {"ErrorInfo", "LocalizedMessage", "RequestInfo"}
    info, localized = details["ErrorInfo"], details["LocalizedMessage"]
    assert re.fullmatch("[A-Z][A-Z_]+", info["reason"])
    assert info["domain"] == "thmnayah"
    assert localized["locale"] in ("ar", "en")
    if localized["locale"] == "en":
        assert localized["message"] == error["message"]
    else:
        assert re.search("[\u0600-\u06ff]", localized["message"])
    # A request that could not even be read as HTTP has no id yet.
    assert details["RequestInfo"].get("requestId", "") == headers.get("x-request-id", "")
    for text in _texts(error):
        assert not _INSIDE.search(text), text
    return Problem(
        code=error["code"],
        message=error["message"],
        reason=info["reason"],
        metadata=info.get("metadata", {}),
        locale=localized["locale"],
        localized=localized["message"],
        violations={
            violation["field"]: violation["description"]
            for violation in details.get("BadRequest", {}).get("fieldViolations", ())
        },
        retry_delay=details.get("RetryInfo", {}).get("retryDelay", ""),
    )


def _scim_problem(status: int, body: bytes) -> Problem:
    """The same of an error in SCIM's form, as far as that says it."""
    error = json.loads(body.decode("utf-8"))
    assert error.keys() - {"scimType"} == {"schemas", "status", "detail"}
    assert error["schemas"] == ["urn:ietf:params:scim:api:messages:2.0:Error"]
    assert error["status"] == str(status)
    said = error["detail"]
    assert not _INSIDE.search(said), said
    field, _, wrong = said.partition(": ")
    return Problem(
        code={400: 3, 401: 16, 403: 7, 404: 5}[status],
        message=said,
        reason="TOKEN_MISSING" if said == "sign in first" else "INVALID_REQUEST",
        metadata={},
        locale="en",
        localized=said,
        violations={field: wrong} if wrong else {},
        retry_delay="",
    )


def _texts(value: Any) -> list[str]:
    """Every text in a JSON value, without the type names of details."""
    if isinstance(value, dict):
        return [text for key, each in value.items() if key != "@type" for text in (key, *_texts(each))]
    if isinstance(value, list):
        return [text for each in value for text in _texts(each)]
    return [value] if isinstance(value, str) else []


async def send(address: str, request: bytes, *, seconds: float = 5) -> Answer:
    """The first final answer to bytes sent as they are."""
    async with asyncio.timeout(seconds):
        reader, writer = await asyncio.open_connection(*address.split(":"))
        try:
            writer.write(request)
            await writer.drain()
            answer = await _read(reader)
            while answer.status == 100:
                answer = await _read(reader)
            return answer
        finally:
            writer.close()


async def send_all(address: str, request: bytes, *, seconds: float = 10) -> list[Answer]:
    """Every answer until the other side closes the connection; fails when it does not."""
    async with asyncio.timeout(seconds):
        reader, writer = await asyncio.open_connection(*address.split(":"))
        try:
            writer.write(request)
            await writer.drain()
            answers = []
            while (answer := await _read(reader)).status:
                answers.append(answer)
            return answers
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Answer:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = b""
        if headers.get("transfer-encoding") == "chunked":
            while size := int(await reader.readline(), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readline()
        else:
            body = await reader.readexactly(int(headers.get("content-length", 0)))
    except (asyncio.IncompleteReadError, ConnectionError):
        return Answer(0, {}, b"")
    return Answer(int(first.split(" ")[1]), headers, body)


@dataclass(frozen=True)
class Case:
    """A request and its golden answer."""

    name: str
    request: bytes
    status: int
    reason: str = ""
    """Of the error; "" when the answer is none."""


def http(
    target: str,
    *headers: str,
    method: str = "GET",
    version: str = "HTTP/1.1",
    host: str | None = "edge.test",
    body: bytes = b"",
) -> bytes:
    """A request as bytes; nothing in it is checked or escaped."""
    lines = [f"{method} {target} {version}"]
    if host is not None:
        lines.append(f"Host: {host}")
    if body:
        lines.append(f"Content-Length: {len(body)}")
    lines += [*headers, "Connection: close"]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def post(body: bytes, *headers: str, target: str = "/v1/auth:login") -> bytes:
    """A POST that frames its body by `headers` alone."""
    return http(target, *headers, method="POST") + body


_JSON = "Content-Type: application/json"
_ARABIC = "%D8%A8%D9%8A%D8%AA-%D9%84%D9%8A%D8%B3-%D9%87%D9%86%D8%A7"

CASES = [
    # Paths.
    Case("a public address", http("/healthz"), 200),
    Case("a protected address", http("/v1/me"), 401, "TOKEN_MISSING"),
    Case("an unknown address", http("/nowhere"), 401, "TOKEN_MISSING"),
    Case("the root leads to the docs", http("/"), 302),
    Case("the root with a query", http("/?x=1"), 302),
    Case("other case", http("/HealthZ"), 401, "TOKEN_MISSING"),
    Case("other case of the version", http("/V1/contents"), 401, "TOKEN_MISSING"),
    Case("a slash after a public address", http("/healthz/"), 200),
    Case("a slash after a protected address", http("/v1/me/"), 401, "TOKEN_MISSING"),
    Case("double slashes are one", http("//healthz"), 200),
    Case("double slashes open nothing", http("//v1//me"), 401, "TOKEN_MISSING"),
    Case("an encoded slash", http("/v1%2Fme"), 400, "INVALID_REQUEST"),
    Case("an encoded slash in an id", http(f"/v1/contents/..%2f{ID}"), 400, "INVALID_REQUEST"),
    Case("an encoded backslash", http("/v1%5Cme"), 400, "INVALID_REQUEST"),
    Case("a backslash is a slash", http("/v1\\me"), 401, "TOKEN_MISSING"),
    Case("NUL at the end", http("/healthz%00"), 400, "INVALID_REQUEST"),
    Case(
        "an Arabic address",
        http(f"/v1/contents:bySlug?type=article&locale=ar&slug={_ARABIC}"),
        404,
        "CONTENT_NOT_FOUND",
    ),
    Case("an address by no slug", http("/v1/contents:bySlug?type=article&locale=ar"), 400, "INVALID_REQUEST"),
    Case(
        "an address in malformed UTF-8",
        http("/v1/contents:bySlug?type=article&locale=ar&slug=%d8"),
        400,
        "INVALID_REQUEST",
    ),
    Case("old addresses", http(f"/v1/contents/{ID}/oldSlugs"), 401, "TOKEN_MISSING"),
    Case("NUL in an id", http("/v1/contents/%00"), 400, "INVALID_REQUEST"),
    Case("traversal from a public address", http("/docs/../v1/me"), 401, "TOKEN_MISSING"),
    Case("encoded traversal", http("/docs/%2e%2e/v1/me"), 401, "TOKEN_MISSING"),
    Case("half encoded traversal", http("/docs/.%2E/v1/me"), 401, "TOKEN_MISSING"),
    Case("traversal past the root", http("/../../healthz"), 200),
    Case("traversal behind a path parameter", http("/docs/..;/v1/me"), 401, "TOKEN_MISSING"),
    Case("a path parameter", http("/healthz;x=1"), 401, "TOKEN_MISSING"),
    Case("an encoded letter", http("/%68ealthz"), 200),
    Case("an encoded letter opens nothing", http("/v1/%6de"), 401, "TOKEN_MISSING"),
    Case("encoded twice", http("/v1/contents/%252e%252e"), 400, "INVALID_REQUEST"),
    Case("half an escape", http("/v1/contents/%zz"), 400, "INVALID_REQUEST"),
    Case("malformed UTF-8 in an id", http("/v1/contents/%ff"), 400, "INVALID_REQUEST"),
    Case("an encoded surrogate in an id", http("/v1/contents/%ed%a0%80"), 400, "INVALID_REQUEST"),
    Case("a raw byte in an id", http("/v1/contents/\xff"), 400, "INVALID_REQUEST"),
    Case("a space in an id", http("/v1/contents/a b"), 400, "INVALID_REQUEST"),
    Case("comments", http(f"/v1/contents/{ID}/comments"), 401, "TOKEN_MISSING"),
    Case("all comments", http("/v1/comments?filter=state=OPEN"), 401, "TOKEN_MISSING"),
    Case("a comment on what is published", http(f"/v1/contents/{ID}/comments/{ID}"), 401, "TOKEN_MISSING"),
    Case("sessions", http("/v1/me/sessions"), 401, "TOKEN_MISSING"),
    Case("sessions of another", http(f"/v1/users/{ID}/sessions"), 401, "TOKEN_MISSING"),
    Case("a session ended over REST", http(f"/v1/me/sessions/{ID}", method="DELETE"), 401, "TOKEN_MISSING"),
    Case("signing keys", http("/v1/signingKeys"), 401, "TOKEN_MISSING"),
    Case("a signing key", http("/v1/signingKeys/none", method="DELETE"), 401, "TOKEN_MISSING"),
    Case("a fragment", http("/healthz#x"), 400, "INVALID_REQUEST"),
    Case("an empty query", http("/healthz?"), 200),
    Case("a long address", http("/v1/contents?filter=" + "a" * 20_000), 431, "HEADERS_TOO_LARGE"),
    Case("a long query", http("/v1/contents?filter=" + "a" * 7000), 400, "INVALID_REQUEST"),
    Case("an absolute address", http("http://elsewhere.example/healthz"), 200),
    Case("an absolute address opens nothing", http("http://elsewhere.example/v1/me"), 401, "TOKEN_MISSING"),
    Case("no address", http(""), 400, "INVALID_REQUEST"),
    Case("an asterisk", http("*"), 400, "INVALID_REQUEST"),
    Case("Envoy's admin", http("/stats"), 401, "TOKEN_MISSING"),
    Case("a verb nobody knows", http(f"/v1/contents/{ID}:explode", method="POST"), 401, "TOKEN_MISSING"),
    # Methods.
    Case("POST where GET is known", http("/healthz", method="POST", body=b"{}"), 401, "TOKEN_MISSING"),
    Case("PUT", http(f"/v1/contents/{ID}", method="PUT", body=b"{}"), 401, "TOKEN_MISSING"),
    Case("TRACE", http("/healthz", method="TRACE"), 401, "TOKEN_MISSING"),
    Case("OPTIONS", http("/v1/contents", method="OPTIONS"), 401, "TOKEN_MISSING"),
    Case("a method nobody knows", http("/healthz", method="BREW"), 400, "INVALID_REQUEST"),
    Case("a method in lower case", http("/healthz", method="get"), 400, "INVALID_REQUEST"),
    Case("a method put in a header", http("/v1/contents", "X-HTTP-Method-Override: DELETE"), 200),
    Case("a tunnel", http("db.internal:5432", method="CONNECT", host="db.internal:5432"), 403, "PERMISSION_DENIED"),
    # Headers.
    Case("a large header", http("/healthz", "X-Large: " + "a" * 9000), 431, "HEADERS_TOO_LARGE"),
    Case("many headers", http("/healthz", *(f"X-{n}: 1" for n in range(70))), 431, "HEADERS_TOO_LARGE"),
    Case("an underscore in a name", http("/healthz", "X_User_Id: 1"), 400, "INVALID_REQUEST"),
    Case("no name", http("/healthz", ": 1"), 400, "INVALID_REQUEST"),
    Case("a space after a name", http("/healthz", "X-A : 1"), 400, "INVALID_REQUEST"),
    Case("NUL in a value", http("/healthz", "X-A: a\0b"), 400, "INVALID_REQUEST"),
    Case("a folded value", http("/healthz", "X-A: a\r\n b"), 200),
    Case("no host", http("/healthz", host=None), 400, "INVALID_REQUEST"),
    # Envoy joins them; no route looks at the host.
    Case("two hosts", http("/healthz", "Host: other.test"), 200),
    Case("a malformed host", http("/healthz", host="a b"), 400, "INVALID_REQUEST"),
    Case("another address in Envoy's header", http("/v1/me", "X-Envoy-Original-Path: /healthz"), 401, "TOKEN_MISSING"),
    Case("another address in a proxy's header", http("/v1/me", "X-Original-URL: /healthz"), 401, "TOKEN_MISSING"),
    Case("an identity in a header", http("/v1/me", f"X-User-Id: {ID}"), 401, "TOKEN_MISSING"),
    Case("no time at all", http("/healthz", "grpc-timeout: 0S"), 504, "DEADLINE_EXCEEDED"),
    Case("a deadline that cannot be read", http("/healthz", "grpc-timeout: soon"), 200),
    Case("a WebSocket", http("/healthz", "Upgrade: websocket", "Connection: Upgrade"), 403, "PERMISSION_DENIED"),
    Case("an upgrade to HTTP/2", http("/healthz", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"), 200),
    # Versions and framing.
    Case("HTTP/1.0", http("/healthz", version="HTTP/1.0"), 426, "UPGRADE_REQUIRED"),
    Case("HTTP/2.0 in the first line", http("/healthz", version="HTTP/2.0"), 426, "UPGRADE_REQUIRED"),
    Case("no version", b"GET /healthz\r\n\r\n", 426, "UPGRADE_REQUIRED"),
    Case("a TLS greeting", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, "INVALID_REQUEST"),
    Case("no HTTP at all", b"hello there\r\n\r\n", 400, "INVALID_REQUEST"),
    # RFC 9112 lets a server take a bare LF for a line's end. What reaches the services is framed anew.
    Case("bare LF", http("/healthz").replace(b"\r\n", b"\n"), 200),
    Case("bare LF opens nothing", http("/v1/me").replace(b"\r\n", b"\n"), 401, "TOKEN_MISSING"),
    Case("two lengths that differ", post(b"{}x", "Content-Length: 2", "Content-Length: 3"), 400, "INVALID_REQUEST"),
    Case("two lengths alike", post(b"{}", "Content-Length: 2", "Content-Length: 2"), 400, "INVALID_REQUEST"),
    Case("a list of lengths", post(b"{}", "Content-Length: 2, 2"), 400, "INVALID_REQUEST"),
    Case("a negative length", post(b"", "Content-Length: -1"), 400, "INVALID_REQUEST"),
    Case("a length with a sign", post(b"{}", "Content-Length: +2"), 400, "INVALID_REQUEST"),
    Case("a length in hexadecimal", post(b"{}", "Content-Length: 0x2"), 400, "INVALID_REQUEST"),
    Case("an endless length", post(b"{}", "Content-Length: 99999999999999999999"), 400, "INVALID_REQUEST"),
    Case(
        "a length and chunks",
        post(b"2\r\n{}\r\n0\r\n\r\n", "Content-Length: 4", "Transfer-Encoding: chunked"),
        400,
        "INVALID_REQUEST",
    ),
    Case("an unknown framing", post(b"2\r\n{}\r\n0\r\n\r\n", "Transfer-Encoding: xchunked"), 501, "NOT_SUPPORTED"),
    Case("two framings", post(b"0\r\n\r\n", "Transfer-Encoding: chunked, identity"), 501, "NOT_SUPPORTED"),
    Case(
        "a chunk without a size", post(b"zz\r\n{}\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), 400, "INVALID_REQUEST"
    ),
    Case("chunks", post(b"2;a=b\r\n{}\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), 400, "INVALID_REQUEST"),
    Case("a client that asks first", post(b"{}", "Expect: 100-continue", "Content-Length: 2"), 400, "INVALID_REQUEST"),
    Case(
        "a compressed body",
        post(b"\x1f\x8b\x08", "Content-Encoding: gzip", "Content-Length: 3"),
        400,
        "INVALID_REQUEST",
    ),
    Case("XML", post(b"<a/>", "Content-Type: application/xml", "Content-Length: 4"), 400, "INVALID_REQUEST"),
    Case("a body with GET", http("/healthz", _JSON, body=b"{}"), 200),
    # The names of RPCs are no addresses for JSON.
    Case(
        "JSON to an RPC's name",
        http("/thmnayah.auth.v1.AuthService/GetJwks", _JSON, method="POST", body=b"{}"),
        404,
        "NOT_FOUND",
    ),
    Case(
        "JSON to a protected RPC's name",
        http("/thmnayah.auth.v1.AuthService/GetMe", _JSON, method="POST", body=b"{}"),
        401,
        "TOKEN_MISSING",
    ),
]

# A second request hides in each: it may never be answered.
SMUGGLING = [
    Case(name, before + http("/healthz"), 400, "INVALID_REQUEST")
    for name, before in {
        "behind chunks, by length": post(b"0\r\n\r\n", "Content-Length: 5", "Transfer-Encoding: chunked"),
        "behind chunks, by a second length": post(b"", "Content-Length: 0", "Content-Length: 200"),
        "behind an unreadable length": post(b"", "Content-Length: 0\x0b"),
        "behind a length and a folded framing": post(
            b"0\r\n\r\n", "Content-Length: 5", "Transfer-Encoding:\r\n chunked"
        ),
        "behind a broken chunk": post(b"1\r\n{}\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
        "behind a chunk of negative size": post(b"-1\r\n", "Transfer-Encoding: chunked"),
    }.items()
]


@dataclass(frozen=True)
class Example:
    """A REST call that the contract allows, as one may be made in a test."""

    rpc: contracts.Rpc
    rule: contracts.HttpRule
    path: str
    query: Mapping[str, str]
    body: Mapping[str, Any] | None

    def __str__(self) -> str:
        return f"{self.rule.verb} {self.rule.path}"


_PASSWORD = "Passw0rd-of-tests"
_QUERIES: dict[str, dict[str, str]] = {
    "/v1/search": {"query": "word"},
    "/v1/contents:bySlug": {"type": "article", "locale": "ar", "slug": "ليس-هنا"},
}
_BODIES: dict[str, dict[str, Any]] = {
    "/v1/auth:login": {"email": "nobody@example.com", "password": _PASSWORD},
    "/v1/auth:refresh": {"refreshToken": "of-nobody"},
    "/v1/auth:logout": {"refreshToken": "of-nobody"},
    "/v1/apiKeys": {"displayName": "Importer", "scopes": ["content.create"], "expireTime": "2099-01-01T00:00:00Z"},
    "/v1/apiKeys:exchange": {"apiKey": "of-nobody"},
    "/v1/serviceAccounts": {"displayName": "Importer", "roles": ["reader"]},
    "/v1/auth:verifyMfa": {"challenge": "of-nobody", "totpCode": "123456"},
    "/v1/auth:finishPasskeyLogin": {"challenge": "of-nobody", "passkey": {"id": "x"}},
    "/v1/auth:enrolTotp": {"challenge": "of-nobody"},
    "/v1/auth:confirmTotp": {"challenge": "of-nobody", "code": "123456"},
    "/v1/auth:beginPasskeyRegistration": {"challenge": "of-nobody"},
    "/v1/auth:finishPasskeyRegistration": {"challenge": "of-nobody", "passkey": {"id": "x"}},
    "/v1/me/passkeys/{id}:rename": {"name": "phone"},
    "/v1/mfaPolicy/rules/{rule.role}": {"requirement": "OPTIONAL"},
    "/v1/oidcProviders": {
        "id": "company",
        "issuer": "https://login.example.com",
        "clientId": "thmnayah",
        "clientSecret": "of-nobody",
        "redirectUris": ["https://studio.example.com/callback"],
    },
    "/v1/oidcProviders/{oidc_provider.id}": {"enabled": True},
    "/v1/auth:beginOidcLogin": {"provider": "nobodys", "redirectUri": "https://studio.example.com/callback"},
    "/v1/auth:finishOidcLogin": {"secret": "of-nobody", "state": "x", "code": "x"},
    "/v1/me/identities:beginLink": {"provider": "nobodys", "redirectUri": "https://studio.example.com/callback"},
    "/v1/me/identities:finishLink": {"secret": "of-nobody", "state": "x", "code": "x"},
    "/v1/users": {"email": "nobody@example.com", "password": _PASSWORD, "roles": ["reader"]},
    "/v1/roles": {"id": "sports-desk"},
    "/v1/roles/{role.id}": {"name": {"en": "Sports"}},
    "/v1/auth:testPermissions": {"permissions": ["content.update"], "resource": {"type": "article"}},
    "/v1/users:invite": {"email": "nobody@example.com", "roles": ["reader"]},
    "/v1/users:register": {"email": "nobody@example.com"},
    "/v1/auth:requestPasswordReset": {"email": "nobody@example.com"},
    "/v1/auth:setPassword": {"code": "of-nobody", "password": _PASSWORD},
    "/v1/me:changePassword": {"currentPassword": _PASSWORD, "password": _PASSWORD},
    "/v1/me": {"displayName": "Nobody"},
    "/v1/me:beginEmailChange": {"email": "nobody@example.com"},
    "/v1/me:finishEmailChange": {"code": "of-nobody"},
    "/v1/me:delete": {"email": "nobody@example.com"},
    "/v1/users/{user.id}": {"displayName": "Nobody"},
    "/v1/users/{id}:changeEmail": {"email": "nobody@example.com"},
    "/v1/contents": {"type": "article", "title": {"en": "Title"}},
    "/v1/contents/{content.id}": {"category": "history"},
    "/v1/locales": {"code": "fr", "name": {"en": "French"}, "direction": "LTR"},
    "/v1/locales/{locale.code}": {"name": {"en": "English"}},
    "/v1/categories": {"name": {"en": "History"}},
    "/v1/categories/{category.id}": {"name": {"en": "History"}},
    "/v1/categories:reorder": {"ids": ["history"]},
    "/v1/tags:rename": {"tag": "bagdad", "newTag": "baghdad"},
    "/v1/tags:merge": {"tags": ["bagdad"], "into": "baghdad"},
    "/v1/contents/{id}:releaseOldSlug": {"locale": "ar", "slug": "ليس-هنا"},
    "/v1/contents/{id}:requestChanges": {"note": "Once more"},
    "/v1/contents/{id}:confirmTranslation": {"locales": ["ar"]},
    "/v1/contents/{comment.content_id}/comments": {"text": "Why?"},
    "/v1/contents/{comment.content_id}/comments/{comment.id}": {"text": "Why?"},
    "/v1/contents/{id}:schedule": {
        "schedule": {"action": "PUBLISH", "localTime": "2099-01-01T00:00:00", "timeZone": "Asia/Riyadh"}
    },
    "/v1/contents/{id}:editBlocks": {"field": "story", "locale": "ar", "edits": [{"delete": "b7f3a09c41de"}]},
    "/v1/groups/{group.id}": {"roles": ["reader"]},
    "/scim/v2/Users": {"userName": "provisioned@example.com"},
    "/scim/v2/Groups": {"displayName": "Desk"},
    # Of PUT and PATCH: what belongs to the other is let pass.
    "/scim/v2/Users/{id}": {"userName": "provisioned@example.com", "Operations": [{"op": "replace", "value": {}}]},
    "/scim/v2/Groups/{id}": {"displayName": "Desk", "Operations": [{"op": "replace", "value": {}}]},
    "/v1/richText:parse": {"markdown": "word"},
    "/v1/richText:diff": {"before": {}, "after": {}},
    "/v1/richText:render": {"richText": {}, "format": "PLAIN"},
}
_PATH_FIELDS = {
    "asset": "swagger-ui.css",
    "id": ID,
    "content_id": ID,
    "user_id": ID,
    "kid": "none",
    "code": "en",
    "role": "reader",
    "number": "1",
    "name": "User",
    "urn": "urn:ietf:params:scim:schemas:core:2.0:User",
}


def examples() -> list[Example]:
    """A valid call of each REST mapping of each RPC that the outside may call."""
    return [
        Example(
            rpc,
            rule,
            path=re.sub(r"\{(?:\w+\.)?(\w+)\}", lambda match: _PATH_FIELDS[match[1]], rule.path),
            query=_QUERIES.get(rule.path, {}),
            body=_BODIES.get(rule.path, {}) if rule.body else None,
        )
        for rpc in contracts.rpcs()
        for rule in rpc.http
    ]
