"""Changes of a type that ten thousand items have, while they are read and written."""

import asyncio
import itertools
import random
import time
import uuid
from collections.abc import Awaitable, Callable

import asyncpg
import httpx
import pytest

from tests.content.conftest import admin  # noqa: F401 — a fixture
from tests.content.rest import Json, Rest, define, field, make, reason
from thmnayah.content.v1.content_pb2 import Content

pytestmark = pytest.mark.fault

ITEMS = 10_000


async def multiply(conn: "asyncpg.Connection[asyncpg.Record]", content_id: str) -> list[str]:
    """Put ITEMS items into the database that are like one, published as it is; their ids."""
    columns = [
        row["attname"]
        for row in await conn.fetch(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'contents'::regclass AND attnum > 0 AND NOT attisdropped"
            " AND attname NOT IN ('id', 'external_id')"
        )
    ]
    ids = [str(uuid.uuid4()) for _ in range(ITEMS)]
    copied = ", ".join(columns)
    await conn.execute(
        f"INSERT INTO contents (id, {copied})"
        f" SELECT made.id, {copied} FROM contents, unnest($2::uuid[]) AS made (id) WHERE contents.id = $1",
        content_id,
        ids,
    )
    shown = Content.FromString(await conn.fetchval("SELECT content FROM publications WHERE id = $1", content_id))
    stored = []
    for each in ids:
        shown.id = each
        stored.append(shown.SerializeToString(deterministic=True))
    await conn.execute(
        "INSERT INTO publications (id, type, category, tags, version, create_time, update_time, publish_time, locales,"
        " content) SELECT made.id, type, category, tags, version, create_time, update_time, publish_time, locales,"
        " made.content FROM publications, unnest($2::uuid[], $3::bytea[]) AS made (id, content)"
        " WHERE publications.id = $1",
        content_id,
        ids,
        stored,
    )
    await conn.execute("ANALYZE contents, publications")
    return ids


class Load:
    """Readers and writers, and how long the slowest call of each took."""

    def __init__(self) -> None:
        self.stopping = False
        self.calls: dict[str, int] = {}
        self.slowest: dict[str, float] = {}

    async def go_on(self, name: str, call: Callable[[], Awaitable[httpx.Response]]) -> None:
        while not self.stopping:
            began = time.monotonic()
            answer = await call()
            assert answer.status_code == 200, answer.text
            self.calls[name] = self.calls.get(name, 0) + 1
            self.slowest[name] = max(self.slowest.get(name, 0.0), time.monotonic() - began)


async def test_a_type_changes_under_load_and_every_call_is_served(
    admin: Rest,  # noqa: F811
    rest: httpx.AsyncClient,
    word: str,
    content_db: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    kind = await define(admin, word, field("note"), field("count", {"number": {}}))
    item = await make(admin, word, {"note": {"text": "x"}, "count": {"number": 1}})
    await admin.ok("POST", f"contents/{item['id']}:publish", {})
    ids = await multiply(content_db, item["id"])
    load, chance, numbers = Load(), random.Random(1), itertools.count()
    path = f"contentTypes/{kind['id']}"

    async def read() -> httpx.Response:
        answer = await rest.get(f"/v1/contents/{chance.choice(ids)}")
        (note,) = [each for name, each in answer.json()["fields"].items() if name != "count"]
        assert note in ({"text": "x"}, {"localized": {"values": {"ar": {"text": "x"}, "en": {"text": "x"}}}})
        return answer

    async def listed() -> httpx.Response:
        answer = await rest.get("/v1/contents", params={"filter": f'type = "{kind["id"]}"', "pageSize": "20"})
        assert len(answer.json()["contents"]) == 20
        return answer

    async def write() -> httpx.Response:
        body = {"fields": {"count": {"number": next(numbers)}}}
        return await admin.call("PATCH", f"contents/{chance.choice(ids)}", body, updateMask="fields.count")

    async def create() -> httpx.Response:
        body = {"type": kind["id"], "title": {"en": f"{word} {next(numbers)}"}, "fields": {"count": {"number": 2}}}
        return await admin.call("POST", "contents", body)

    async def change(*fields: Json, **query: str) -> httpx.Response:
        return await admin.call("PATCH", path, {"fields": list(fields)}, None, updateMask="fields", **query)

    calls = {"read": read, "list": listed, "write": write, "create": create}
    tasks = [asyncio.create_task(load.go_on(name, call)) for name, call in calls.items() for _ in range(2)]
    try:
        note, count = kind["fields"]
        for _ in range(3):
            for changed in (
                {**note, "name": "remark"},
                {**note, "localized": True},
                note,
                {**note, "kind": {"text": {"maxLength": 5}}},  # each value is looked at
                note,
            ):
                answer = await change(changed, count)
                assert answer.status_code == 200, answer.text
        # What is refused and what is only counted: all that are there, whatever is written meanwhile.
        number = {**note, "kind": {"number": {}}}
        for fields, why in (((number, count), "INVALID"), ((note, count, field("new", required=True)), "MISSING")):
            checked = await change(*fields, validateOnly="true")
            assert [(each["reason"], each["items"]) for each in checked.json()["breaks"]] == [(why, ITEMS + 1)]
            assert reason(await change(*fields)) == (400, "CONTENT_TYPE_CHANGE_BREAKS")
        assert not any(task.done() for task in tasks)
    finally:
        load.stopping = True
        await asyncio.gather(*tasks)

    print({name: f"{load.calls[name]} calls, the slowest {load.slowest[name]:.2f} s" for name in calls})
