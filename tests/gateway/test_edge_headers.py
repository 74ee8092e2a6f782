"""What every answer of the edge tells browsers and caches, whoever made it."""

import httpx
import pytest

from tests.conftest import ADMIN_EMAIL, ADMIN_PASSWORD, bearer

# A service's answer, pages, and refusals by a service, by the edge's filters and by its routes.
ANSWERS = {
    "/v1/contents": 200,
    "/healthz": 200,
    "/.well-known/jwks.json": 200,
    "/docs": 200,
    "/docs/init.js": 200,
    "/openapi.json": 200,
    "/": 302,
    "/v1/contents?orderBy=title": 400,
    "/v1/contents?nobody=1": 400,
    "/v1/me": 401,
    "/docs/nothing.js": 404,
}
TYPES = {"/docs": "text/html; charset=utf-8", "/docs/init.js": "text/javascript; charset=utf-8"}


@pytest.mark.parametrize(("path", "status"), ANSWERS.items())
async def test_every_answer_tells_browsers_what_it_is_not(rest: httpx.AsyncClient, path: str, status: int) -> None:
    answer = await rest.get(path)

    assert answer.status_code == status
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    assert answer.headers.get_list("content-security-policy") == ["frame-ancestors 'none'"]
    assert answer.headers.get_list("referrer-policy") == ["no-referrer"]
    if answer.content:
        assert answer.headers["content-type"] == TYPES.get(path, "application/json")


async def test_nobody_keeps_what_auth_answers(rest: httpx.AsyncClient, admin_token: str) -> None:
    signed = dict(bearer(admin_token))
    answers = [
        *[
            await rest.get(path, headers=signed)
            for path in ("/v1/me", "/v1/users", "/v1/me/sessions", "/v1/auditEvents")
        ],
        await rest.post("/v1/auth:login", json={"email": ADMIN_EMAIL, "password": ADMIN_PASSWORD}),
        await rest.post("/v1/auth:login", json={"email": ADMIN_EMAIL, "password": "wrong"}),
    ]
    published = [await rest.get(path) for path in ("/v1/contents", "/.well-known/jwks.json")]

    assert [answer.status_code for answer in answers] == [200] * 5 + [401]
    assert {answer.headers["cache-control"] for answer in answers} == {"no-store"}
    assert not [answer for answer in published if "no-store" in answer.headers.get("cache-control", "")]


@pytest.mark.parametrize("path", ["/v1/contents", "/v1/me", "/v1/contents?nobody=1"])
async def test_no_shared_cache_takes_one_callers_answer_for_anothers(
    rest: httpx.AsyncClient, editor_token: str, path: str
) -> None:
    for headers in ({}, dict(bearer(editor_token))):
        answer = await rest.get(path, headers=headers)

        varies = {name.strip().lower() for name in answer.headers["vary"].split(",")}
        assert {"authorization", "x-api-key", "accept-language"} <= varies
        assert "public" not in answer.headers.get("cache-control", "")
