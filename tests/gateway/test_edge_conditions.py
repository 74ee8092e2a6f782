"""Conditional requests over REST: nothing is sent twice, nothing is overwritten unseen."""

from typing import Any

import httpx
import pytest

from tests.conftest import bearer
from tests.gateway.corpus import problem


@pytest.fixture(scope="session")
def headers(editor_token: str) -> dict[str, str]:
    return dict(bearer(editor_token))


@pytest.fixture
async def item(rest: httpx.AsyncClient, headers: dict[str, str], word: str) -> dict[str, Any]:
    """A draft that was changed once."""
    made = await rest.post("/v1/contents", json={"type": "article", "title": {"en": word}}, headers=headers)
    path = f"/v1/contents/{made.json()['id']}"
    changed = await rest.patch(path, json={"category": "history"}, headers=headers)
    item: dict[str, Any] = changed.json()
    assert item["etag"] == changed.headers["etag"] != made.headers["etag"]
    return item | {"path": path, "stale": made.headers["etag"]}


@pytest.mark.parametrize("condition", ["{etag}", "W/{etag}", '"other", {etag}', '"other",{etag} ,"x"', "*"])
async def test_what_the_caller_has_is_not_sent_again(
    rest: httpx.AsyncClient, headers: dict[str, str], item: dict[str, Any], condition: str
) -> None:
    condition = condition.format(etag=item["etag"])

    answer = await rest.get(item["path"], headers={**headers, "if-none-match": condition})

    assert answer.status_code == 304
    assert answer.content == b""
    assert answer.headers["etag"] == item["etag"]
    assert not answer.headers.keys() & {"content-type", "content-length", "transfer-encoding"}
    again = await rest.get(item["path"], headers=headers)  # on the same connection
    assert again.json()["etag"] == item["etag"]


@pytest.mark.parametrize("condition", ['"other"', "other", '""', "{stale}", "W/{stale}", "{unquoted}", ","])
async def test_what_the_caller_has_not_is_sent(
    rest: httpx.AsyncClient, headers: dict[str, str], item: dict[str, Any], condition: str
) -> None:
    condition = condition.format(stale=item["stale"], unquoted=item["etag"].strip('"'))

    answer = await rest.get(item["path"], headers={**headers, "if-none-match": condition})

    assert answer.status_code == 200
    assert answer.json()["etag"] == item["etag"]


async def test_readers_are_told_when_what_they_have_is_current(
    rest: httpx.AsyncClient, headers: dict[str, str], item: dict[str, Any]
) -> None:
    await rest.post(f"{item['path']}:publish", json={}, headers=headers)
    seen = await rest.get(item["path"])

    same = await rest.get(item["path"], headers={"if-none-match": seen.headers["etag"]})
    await rest.patch(item["path"], json={"category": "science"}, headers=headers)
    await rest.post(f"{item['path']}:publish", json={}, headers=headers)
    changed = await rest.get(item["path"], headers={"if-none-match": seen.headers["etag"]})

    assert (same.status_code, same.content) == (304, b"")
    assert changed.status_code == 200
    assert changed.headers["etag"] != seen.headers["etag"]


async def test_an_error_is_never_turned_into_not_modified(rest: httpx.AsyncClient, item: dict[str, Any]) -> None:
    answer = await rest.get(item["path"], headers={"if-none-match": "*"})  # a draft, which nobody else may know of

    assert answer.status_code == 404


CHANGES: dict[str, tuple[str, str, dict[str, Any] | None]] = {
    "update": ("PATCH", "", {"category": "science"}),
    "publish": ("POST", ":publish", {}),
    "unpublish": ("POST", ":unpublish", {}),
    "delete": ("DELETE", "", None),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("condition", ["{stale}", '"99"', "W/{etag}", '"{stale_number}", "99"'])
async def test_a_change_of_what_is_stale_is_refused(
    rest: httpx.AsyncClient, headers: dict[str, str], item: dict[str, Any], change: str, condition: str
) -> None:
    verb, suffix, body = CHANGES[change]
    condition = condition.format(stale=item["stale"], etag=item["etag"], stale_number=item["stale"].strip('"'))

    answer = await rest.request(verb, item["path"] + suffix, json=body, headers={**headers, "if-match": condition})

    assert answer.status_code == 412
    error = problem(answer.status_code, answer.headers, answer.content)
    assert (error.reason, error.code) == ("ETAG_MISMATCH", 10)
    assert (await rest.get(item["path"], headers=headers)).json()["version"] == item["version"]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("condition", ["{etag}", "*", '"99", {etag}'])
async def test_a_change_of_what_is_current_is_made(
    rest: httpx.AsyncClient, headers: dict[str, str], item: dict[str, Any], change: str, condition: str
) -> None:
    verb, suffix, body = CHANGES[change]

    answer = await rest.request(
        verb, item["path"] + suffix, json=body, headers={**headers, "if-match": condition.format(etag=item["etag"])}
    )

    assert answer.status_code == 200


async def test_a_stale_etag_in_the_message_is_a_conflict(
    rest: httpx.AsyncClient, headers: dict[str, str], item: dict[str, Any]
) -> None:
    stale = {"etag": item["stale"]}
    answers = [
        await rest.patch(item["path"], json={"category": "science", **stale}, headers=headers),
        await rest.post(f"{item['path']}:publish", json=stale, headers=headers),
        await rest.post(f"{item['path']}:unpublish", json=stale, headers=headers),
        await rest.delete(item["path"], params=stale, headers=headers),
    ]

    for answer in answers:
        assert answer.status_code == 409
        assert problem(answer.status_code, answer.headers, answer.content).reason == "ETAG_MISMATCH"
    assert (await rest.get(item["path"], headers=headers)).json()["version"] == item["version"]


async def test_a_conflict_that_is_no_stale_etag_stays_a_conflict(
    rest: httpx.AsyncClient, headers: dict[str, str], item: dict[str, Any], word: str
) -> None:
    taken = {"type": "article", "title": {"en": "Title"}, "externalId": word}
    await rest.post("/v1/contents", json=taken, headers=headers)

    answer = await rest.patch(item["path"], json={"externalId": word}, headers={**headers, "if-match": item["etag"]})

    assert answer.status_code == 409
    assert problem(answer.status_code, answer.headers, answer.content).reason == "EXTERNAL_ID_TAKEN"
