"""Bodies at the edge: how large they may be, and what is said of those that cannot be read."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.conftest import bearer
from tests.gateway.corpus import ID, Problem, problem

SMALL_BYTES = 64 * 1024
LARGE_BYTES = 1024 * 1024

LOGIN = b'{"email":"bodies@example.com","password":"Passw0rd-of-tests"}'
ARTICLE = b'{"type":"article","title":{"en":"Title"}}'


@pytest.fixture(scope="session")
def headers(editor_token: str) -> dict[str, str]:
    return {**dict(bearer(editor_token)), "content-type": "application/json"}


def read(answer: httpx.Response) -> Problem:
    return problem(answer.status_code, answer.headers, answer.content)


LIMITS = {
    "sign in": ("POST", "/v1/auth:login", LOGIN, SMALL_BYTES, 401),
    "refresh": ("POST", "/v1/auth:refresh", b'{"refreshToken":"of-nobody"}', SMALL_BYTES, 401),
    "publish": ("POST", f"/v1/contents/{ID}:publish", b"{}", SMALL_BYTES, 404),
    "create": ("POST", "/v1/contents", ARTICLE, LARGE_BYTES, 200),
    "create, with a slash at the end": ("POST", "/v1/contents/", ARTICLE, LARGE_BYTES, 200),
    "update": ("PATCH", f"/v1/contents/{ID}", b'{"category":"history"}', LARGE_BYTES, 404),
}


@pytest.mark.parametrize("name", LIMITS)
async def test_a_body_may_be_as_large_as_its_limit_and_no_larger(
    rest: httpx.AsyncClient, headers: dict[str, str], name: str
) -> None:
    verb, path, body, limit, status = LIMITS[name]

    fits = await rest.request(verb, path, content=body.ljust(limit), headers=headers)
    too_large = await rest.request(verb, path, content=body.ljust(limit + 1), headers=headers)

    assert fits.status_code == status
    assert too_large.status_code == 413
    assert read(too_large).reason == "BODY_TOO_LARGE"


@pytest.mark.parametrize("name", LIMITS)
async def test_a_body_in_chunks_has_the_same_limit(rest: httpx.AsyncClient, headers: dict[str, str], name: str) -> None:
    verb, path, body, limit, status = LIMITS[name]

    async def chunks(size: int) -> AsyncIterator[bytes]:
        padded = body.ljust(size)
        for start in range(0, size, 8192):
            yield padded[start : start + 8192]

    fits = await rest.request(verb, path, content=chunks(limit), headers=headers)
    too_large = await rest.request(verb, path, content=chunks(limit + 1), headers=headers)

    assert fits.status_code == status
    assert too_large.status_code == 413
    assert read(too_large).reason == "BODY_TOO_LARGE"


async def test_a_long_text_is_kept_whole(rest: httpx.AsyncClient, headers: dict[str, str]) -> None:
    text = "كلمة " * 40_000  # 360 KB

    made = await rest.post(
        "/v1/contents", json={"type": "article", "title": {"ar": "نص"}, "body": {"ar": text}}, headers=headers
    )
    read_again = await rest.get(f"/v1/contents/{made.json()['id']}", headers=headers)

    assert read_again.json()["body"]["ar"] == text


# What cannot be read as JSON, or not as a message; no field can be named.
UNREADABLE = {
    "an open brace": b"{",
    "an open string": b'{"email":"a',
    "a word": b"nonsense",
    "a list": b"[]",
    "a text": b'"x"',
    "a number": b"1",
    "null": b"null",
    "two values": LOGIN + LOGIN,
    "no comma": b'{"email":"a@b.co" "password":"x"}',
    "no value": b'{"email":}',
    "NaN": b'{"email":NaN}',
    "malformed UTF-8": b'{"email":"\xff"}',
    "an overlong form": b'{"email":"\xc0\xaf"}',
    "a surrogate in UTF-8": b'{"email":"\xed\xa0\x80"}',
    "UTF-16": '{"email":"a"}'.encode("utf-16"),
    "half a surrogate pair": b'{"email":"\\ud800"}',
    "half a pair before a letter": b'{"email":"\\ud800x"}',
    "a pair in the wrong order": b'{"email":"\\udc00\\ud800"}',
    "half an escape": b'{"email":"\\u12"}',
    "a control character": b'{"email":"a\x01b"}',
    "deep nesting": b'{"a":' * 500 + b"1" + b"}" * 500,
    "deep lists": b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "an endless number": b'{"email":' + b"9" * 60_000 + b"}",
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_a_body_that_cannot_be_read_is_refused(rest: httpx.AsyncClient, name: str) -> None:
    answer = await rest.post("/v1/auth:login", content=UNREADABLE[name], headers={"content-type": "application/json"})

    assert answer.status_code == 400
    assert read(answer).reason == "INVALID_REQUEST"


WRONG = {
    "email": [b'{"email":1}', b'{"email":true}', b'{"email":{"a":1}}', b'{"email":{}}'],
    "password": [b'{"email":"a@b.co","password":1.5}', b'{"email":"a@b.co","password":{"a":[]}}'],
}


@pytest.mark.parametrize(
    ("field", "body"), [(field, body) for field, bodies in WRONG.items() for body in bodies], ids=repr
)
async def test_a_value_of_the_wrong_type_is_refused_by_its_field(
    rest: httpx.AsyncClient, field: str, body: bytes
) -> None:
    answer = await rest.post("/v1/auth:login", content=body, headers={"content-type": "application/json"})

    assert answer.status_code == 400
    assert read(answer).violations.keys() == {field}


WRONG_CONTENT = {
    '{"type":1}': "content.type",
    '{"type":{"a":1}}': "content.type",
    '{"title":"x"}': "content.title",
    '{"title":["x"]}': "content.title",
    '{"title":{"en":1}}': "content.title",
    '{"tags":[1]}': "content.tags[0]",
    '{"tags":["a",{}]}': "content.tags",
    '{"version":"x"}': "content.version",
    '{"version":1.5}': "content.version",
    '{"version":99999999999}': "content.version",
    '{"createTime":"soon"}': "content.createTime",
    '{"createTime":5}': "content.createTime",
    '{"createTime":"0000-00-00T00:00:00Z"}': "content.createTime",
    '{"state":"SOLD"}': "content.state",
    '{"externalId":true}': "content.externalId",
    '{"locales":{"en":5}}': "content.locales",
    # Past the edge, by the contract's rules.
    '{"type":"article","title":{"en":""}}': "content.title.en",
    '{"type":"article","title":{"english":"x"}}': "content.title.english",
    '{"type":"article","title":{"en":"a\\u0000b"}}': "content.title.en",
    '{"type":"article","title":{"en":"a\\u202eb"}}': "content.title.en",
    '{"type":"Article","title":{"en":"x"}}': "content.type",
    '{"type":"article","title":{"en":"x"},"tags":["a","a"]}': "content.tags",
    '{"type":"article","title":{"en":"x"},"tags":[""]}': "content.tags[0]",
    '{"type":"article"}': "content.title",
    '{"title":{"en":"x"}}': "content.type",
    "{}": "content",
}


@pytest.mark.parametrize(("body", "field"), WRONG_CONTENT.items())
async def test_a_wrong_field_of_a_content_is_named(
    rest: httpx.AsyncClient, headers: dict[str, str], body: str, field: str
) -> None:
    answer = await rest.post("/v1/contents", content=body, headers=headers)

    assert answer.status_code == 400
    error = read(answer)
    assert error.reason == "INVALID_REQUEST"
    assert any(each == field or each.startswith(field + ".") for each in error.violations), error.violations
    assert all(error.violations.values())


WRONG_QUERIES = {
    "pageSize=ten": "pageSize",
    "pageSize=1.5": "pageSize",
    "pageSize=99999999999": "pageSize",
    "pageSize=-1": "pageSize",
    "pageSize=201": "pageSize",
    "view=SIDEWAYS": "view",
    "view=7": "view",
    "view=-1": "view",
    "filter=%00": "filter",
    "filter=type+%3D": "filter",
    "orderBy=title": "orderBy",
    "pageToken=%F0%9F%98%80": "pageToken",
    "pageToken=e30": "pageToken",
}


@pytest.mark.parametrize(("query", "field"), WRONG_QUERIES.items())
async def test_a_wrong_query_parameter_is_named(rest: httpx.AsyncClient, query: str, field: str) -> None:
    answer = await rest.get(f"/v1/contents?{query}")

    assert answer.status_code == 400
    assert read(answer).violations.keys() == {field}


@pytest.mark.parametrize("query", ["%ff", "%fe%ff", "%c0%af", "%ed%a0%80", "%f4%90%80%80", "%e2%82"])
async def test_a_query_in_malformed_utf8_is_refused(rest: httpx.AsyncClient, query: str) -> None:
    answer = await rest.get(f"/v1/search?query={query}")

    assert answer.status_code == 400
    assert read(answer).violations


@pytest.mark.parametrize("space", ["+", "%20"])
async def test_a_space_in_a_query_may_be_written_as_forms_do(
    rest: httpx.AsyncClient, headers: dict[str, str], word: str, space: str
) -> None:
    category = f"{word} 1+1"
    made = await rest.post(
        "/v1/contents", json={"type": "article", "title": {"en": word}, "category": category}, headers=headers
    )

    found = await rest.get(f'/v1/contents?filter=category{space}={space}"{word}{space}1%2B1"', headers=headers)

    assert [content["id"] for content in found.json().get("contents", ())] == [made.json()["id"]]


async def test_a_refused_body_changes_nothing(rest: httpx.AsyncClient, headers: dict[str, str], word: str) -> None:
    body = f'{{"type":"article","title":{{"en":"{word}"}},"category":"{word}","tags":[""]}}'

    refused = await rest.post("/v1/contents", content=body, headers=headers)
    found = await rest.get("/v1/contents", params={"filter": f'category = "{word}"'}, headers=headers)

    assert refused.status_code == 400
    assert found.json()["contents"] == []
