"""Pages of other origins: those that are set up may call the API, no others."""

import httpx
import pytest

from tests.conftest import CORS_ORIGIN, bearer
from tests.gateway.corpus import ID, problem

OTHERS = (
    "https://evil.example",
    "null",
    "http://studio.example.com",
    "https://studio.example.com:8443",
    "https://studio.example.com.evil.example",
    "https://a.studio.example.com",
    "HTTPS://STUDIO.EXAMPLE.COM",
)
ASKED = {"access-control-request-method": "PATCH", "access-control-request-headers": "authorization, if-match"}


@pytest.mark.parametrize("path", ["/v1/contents", "/v1/me", f"/v1/contents/{ID}:publish", "/nowhere"])
async def test_an_allowed_origin_may_ask_before_it_calls(rest: httpx.AsyncClient, path: str) -> None:
    answer = await rest.options(path, headers={"origin": CORS_ORIGIN, **ASKED})

    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == CORS_ORIGIN
    assert {"GET", "POST", "PATCH", "DELETE"} <= set(answer.headers["access-control-allow-methods"].split(", "))
    allowed = answer.headers["access-control-allow-headers"].split(", ")
    assert {"authorization", "content-type", "if-match", "if-none-match", "accept-language"} <= set(allowed)
    # The API takes no cookies.
    assert "access-control-allow-credentials" not in answer.headers
    assert answer.content == b""


@pytest.mark.parametrize("path", ["/v1/contents", "/healthz", "/v1/me", "/nowhere", "/v1/contents?nobody=1"])
async def test_an_allowed_origin_may_read_answers_and_errors(
    rest: httpx.AsyncClient, admin_token: str, path: str
) -> None:
    for headers in ({}, dict(bearer(admin_token)), dict(bearer("not-a-token"))):
        answer = await rest.get(path, headers={"origin": CORS_ORIGIN, **headers})

        assert answer.headers["access-control-allow-origin"] == CORS_ORIGIN
        assert {"etag", "retry-after", "x-ratelimit-remaining", "x-request-id"} <= set(
            answer.headers["access-control-expose-headers"].split(", ")
        )
        # A cache must not hand one origin's answer to another.
        assert "origin" in [name.strip().lower() for name in answer.headers["vary"].split(",")]


async def test_an_allowed_origin_may_write(rest: httpx.AsyncClient, editor_token: str) -> None:
    answer = await rest.post(
        "/v1/contents",
        json={"type": "article", "title": {"en": "Title"}},
        headers={"origin": CORS_ORIGIN, **dict(bearer(editor_token))},
    )

    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == CORS_ORIGIN


@pytest.mark.parametrize("origin", OTHERS)
async def test_another_origin_gets_no_permission(rest: httpx.AsyncClient, admin_token: str, origin: str) -> None:
    asked = await rest.options("/v1/contents", headers={"origin": origin, **ASKED})
    read = await rest.get("/v1/contents", headers={"origin": origin})
    private = await rest.get("/v1/me", headers={"origin": origin, **dict(bearer(admin_token))})

    assert problem(asked.status_code, asked.headers, asked.content).reason in ("NOT_FOUND", "TOKEN_MISSING")
    for answer in (asked, read, private):
        assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_asking_before_a_call_reveals_nothing(rest: httpx.AsyncClient) -> None:
    answers = [
        await rest.options(path, headers={"origin": CORS_ORIGIN, **ASKED})
        for path in (f"/v1/contents/{ID}", "/nowhere", "/v1/users")
    ]

    assert {(answer.status_code, answer.content) for answer in answers} == {(200, b"")}
