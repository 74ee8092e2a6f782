"""What tests say over REST of types and of items with custom fields."""

from typing import Any

import httpx

Json = dict[str, Any]


class Rest:
    """REST calls of somebody."""

    def __init__(self, client: httpx.AsyncClient, token: str) -> None:
        self._client = client
        self._headers = {"authorization": f"Bearer {token}"} if token else {}

    async def call(
        self, method: str, path: str, body: Json | None = None, headers: dict[str, str] | None = None, **query: str
    ) -> httpx.Response:
        return await self._client.request(
            method, f"/v1/{path}", json=body, params=query, headers={**self._headers, **(headers or {})}
        )

    async def ok(self, method: str, path: str, body: Json | None = None, **query: str) -> Json:
        answer = await self.call(method, path, body, None, **query)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


def violations(answer: httpx.Response) -> dict[str, str]:
    """The fields that an error names."""
    details = answer.json().get("details", [])
    return {each["field"]: each["description"] for detail in details for each in detail.get("fieldViolations", ())}


def reason(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, str(answer.json()["details"][0]["reason"])


def field(name: str, kind: Json | None = None, **settings: Any) -> Json:
    return {"name": name, "kind": {"text": {}} if kind is None else kind, **settings}


async def define(admin: Rest, word: str, *fields: Json, **settings: Any) -> Json:
    """A type of its own for a test."""
    body = {"id": f"t-{word}", "name": {"ar": "نوع", "en": "Type"}, "fields": list(fields), **settings}
    return await admin.ok("POST", "contentTypes", body)


async def make(admin: Rest, word: str, values: Json | None = None, **settings: Any) -> Json:
    """An item of that type."""
    body = {"type": f"t-{word}", "title": {"ar": "عنوان", "en": "Title"}, "fields": values or {}, **settings}
    return await admin.ok("POST", "contents", body)
