"""Nobody gets at another's things by naming them (R-AZ-1): every RPC, every field that names one, in every place."""

import copy
import json
import re
import secrets
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from libs import contracts
from tests.auth.authenticator import Authenticator
from tests.auth.identifying_fields import (
    NARROWS,
    PARTS,
    PLAIN,
    ROWS,
    SHARED,
    Field,
    Thing,
    fields,
    name,
    owner,
    thing,
    unread,
)
from tests.auth.people import MakePerson, Person, session_of
from tests.conftest import bearer
from tests.content.rest import Json, Rest, field
from tests.gateway.corpus import Example, examples
from thmnayah.auth.v1.auth_pb2 import LoginRequest

# google.rpc.Code: INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED.
REFUSED = {3, 5, 7}

Value = str | int
Things = Mapping[Thing, Value]

RPCS = {name(rpc): rpc for rpc in contracts.rpcs()}


@dataclass(frozen=True)
class Case:
    """A field, and where a request holds it."""

    example: Example
    field: Field
    thing: Thing
    place: str
    """"path", "query" or "body"."""

    @property
    def in_path(self) -> list[str]:
        """The fields that the path holds."""
        return re.findall(r"\{([\w.]+)\}", self.example.rule.path)

    @property
    def overrides(self) -> bool:
        """Whether the path says something else of the field."""
        return self.place != "path" and self.field.name in self.in_path


def cases(rpc: contracts.Rpc) -> Iterator[Case]:
    for example in examples():
        if example.rpc.path != rpc.path:
            continue
        for each in fields(rpc):
            named = thing(rpc, each)
            if named is None or named is Thing.SECRET:
                continue
            if f"{{{each.name}}}" in example.rule.path:
                yield Case(example, each, named, "path")
            if each.in_queries:
                yield Case(example, each, named, "query")
            if example.rule.body in ("*", each.path[0].name):
                yield Case(example, each, named, "body")


@dataclass(frozen=True)
class Caller:
    """Somebody who asks for another's things."""

    person: Person
    rest: httpx.AsyncClient
    kind: str
    """The type of what is created."""
    own: Things

    async def ask(self, case: Case, target: Value, others: Callable[[Field, Thing], Value]) -> httpx.Response:
        """Make the call.

        Args:
            target: what the field names.
            others: what the other fields of the path and the query name, by field.
        """
        rpc, rule = case.example.rpc, case.example.rule
        named = {each.name: others(each, what) for each in fields(rpc) if (what := thing(rpc, each))}
        path = named | ({case.field.name: target} if case.place == "path" else {})
        query = {key: named.get(key, value) for key, value in case.example.query.items()}
        body = copy.deepcopy(dict(case.example.body)) if case.example.body is not None else None
        if case.place == "query":
            query[case.field.name] = target
        if case.place == "body":
            assert body is not None
            asked: Any = case.field.json(target)
            if rule.body == "content":
                body = {"type": self.kind, "title": {"en": "Title"}} if rule.verb == "POST" else {}
            _merge(body, asked if rule.body == "*" else asked[case.field.path[0].json_name])
        return await self.rest.request(
            rule.verb,
            re.sub(r"\{([\w.]+)\}", lambda match: str(path[match[1]]), rule.path),
            params=query,
            json=body,
            headers=dict(bearer(self.person.tokens.access_token)),
        )


def _merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


@dataclass(frozen=True)
class Victim:
    """Somebody who owns one of each, and the word that stands in the texts of all."""

    word: str
    things: Things
    person: Person
    admin: Rest

    async def state(self) -> Json:
        """All of it, as it is now."""
        t, ok = self.things, self.admin.ok
        draft, user = f"contents/{t[Thing.DRAFT]}", f"users/{t[Thing.USER]}"
        accounts = (await ok("GET", "serviceAccounts", pageSize="200"))["serviceAccounts"]
        keys = (await ok("GET", "signingKeys"))["keys"]
        return {
            "draft": await ok("GET", draft, view="DRAFT"),
            "revisions": (await ok("GET", f"{draft}/revisions"))["revisions"],
            "comments": (await ok("GET", f"{draft}/comments"))["comments"],
            "user": await ok("GET", user),
            "sessions": (await ok("GET", f"{user}/sessions"))["sessions"],
            "factors": (await self.person.factors()).SerializeToString(deterministic=True),
            "key": await ok("GET", f"apiKeys/{t[Thing.API_KEY]}"),
            "account": [each for each in accounts if each["id"] == t[Thing.SERVICE_ACCOUNT]],
            "signing key": [each["kid"] for each in keys if each["kid"] == t[Thing.SIGNING_KEY]],
            "role": await ok("GET", f"roles/{t[Thing.ROLE]}"),
            "type": await ok("GET", f"contentTypes/{t[Thing.TYPE]}"),
            "category": await ok("GET", f"categories/{t[Thing.CATEGORY]}"),
        }


def unknown(what: Thing) -> Value:
    """The name of nothing."""
    match what:
        case Thing.REVISION:
            return 1000 + secrets.randbelow(1000)
        case Thing.SLUG | Thing.ROLE | Thing.TYPE | Thing.CATEGORY | Thing.TAG | Thing.SIGNING_KEY:
            return f"no-{secrets.token_hex(4)}"
        case Thing.LOCALE:
            return "zz"
        case Thing.BLOCK:
            return secrets.token_hex(6)
        case _:
            return str(uuid.uuid4())


async def make_things(person: Person, rest: httpx.AsyncClient, kind: str, word: str, **more: str) -> dict[Thing, Value]:
    """A draft, a comment on it, a key and a session, all with a word in their texts."""
    login = LoginRequest(email=person.user.email, password=person.password, device_name=word)
    person.tokens = await person.auth.Login(login, timeout=10)
    call = Rest(rest, person.tokens.access_token)
    story = {"blocks": [{"id": (block := secrets.token_hex(6)), "paragraph": {"spans": [{"text": word}]}}]}
    slug = f"s-{secrets.token_hex(6)}"
    draft = await call.ok(
        "POST",
        "contents",
        {
            "type": kind,
            "title": {"ar": f"بيت {word}", "en": word},
            "slug": {"ar": slug, "en": slug},
            "body": {"ar": word, "en": word},
            "fields": {"story": {"localized": {"values": {"ar": {"richText": story}}}}},
            **more,
        },
    )
    comment = await call.ok("POST", f"contents/{draft['id']}/comments", {"text": word})
    key = await call.ok(
        "POST",
        "apiKeys",
        {"displayName": word, "scopes": ["content.create"], "expireTime": "2027-06-01T00:00:00Z"},
    )
    return {
        Thing.DRAFT: draft["id"],
        Thing.REVISION: 1,
        Thing.COMMENT: comment["id"],
        Thing.BLOCK: block,
        Thing.SLUG: slug,
        Thing.USER: person.user.id,
        Thing.SESSION: session_of(person.tokens),
        Thing.API_KEY: key["id"],
        Thing.TYPE: kind,
    }


@pytest.fixture(scope="module")
async def victim(rest: httpx.AsyncClient, admin_token: str, make_person: MakePerson) -> Victim:
    admin, word, mark = Rest(rest, admin_token), f"w{secrets.token_hex(6)}", secrets.token_hex(6)
    kind = await admin.ok(
        "POST",
        "contentTypes",
        {
            "id": f"t-{mark}",
            "name": {"ar": "نوع", "en": "Type"},
            "fields": [
                field("story", {"richText": {}}, localized=True),
                field("about", {"reference": {"types": [f"t-{mark}"]}}),
            ],
        },
    )
    category = await admin.ok("POST", "categories", {"id": f"c-{mark}", "name": {"ar": "باب", "en": "Category"}})
    role = await admin.ok("POST", "roles", {"id": f"r-{mark}", "name": {"en": word}, "grants": []})
    account = await admin.ok("POST", "serviceAccounts", {"displayName": word, "roles": ["reader"]})
    person = await make_person("editor")
    await Rest(rest, person.tokens.access_token).ok("PATCH", "me", {"displayName": word})
    things = await make_things(person, rest, kind["id"], word, category=category["id"])
    times = {"localTime": "2099-01-01T00:00:00", "timeZone": "Asia/Riyadh"}
    draft = await admin.ok(
        "POST", f"contents/{things[Thing.DRAFT]}:schedule", {"schedule": {"action": "PUBLISH", **times}}
    )
    await person.add_passkey(Authenticator(), name=word)
    (passkey,) = await person.passkeys()
    (signing_key, *_) = (await admin.ok("GET", "signingKeys"))["keys"]
    things |= {
        Thing.SCHEDULE: draft["schedules"][0]["id"],
        Thing.PASSKEY: passkey.id,
        Thing.SERVICE_ACCOUNT: account["id"],
        Thing.ROLE: role["id"],
        Thing.SIGNING_KEY: signing_key["kid"],
        Thing.CATEGORY: category["id"],
        Thing.LOCALE: "en",
        Thing.TAG: f"tag-{mark}",
        # A reference, the worst that can be named.
        Thing.NAME: things[Thing.DRAFT],
    }
    return Victim(word, things, person, admin)


@pytest.fixture(scope="module")
async def before(victim: Victim) -> Json:
    return await victim.state()


@pytest.fixture(scope="module")
async def callers(victim: Victim, rest: httpx.AsyncClient, make_person: MakePerson) -> list[Caller]:
    """A reader and an author who own nothing, and an author who does."""
    reader, author, owning = [await make_person(role) for role in ("reader", "author", "author")]
    kind = str(victim.things[Thing.TYPE])
    own = await make_things(owning, rest, kind, "mine")
    return [Caller(reader, rest, kind, {}), Caller(author, rest, kind, {}), Caller(owning, rest, kind, own)]


def test_every_field_of_every_rpc_is_said_to_name_something_or_nothing() -> None:
    assert RPCS.keys() == ROWS.keys()
    rows, parts = {each: set[str]() for each in ROWS}, {each: set[str]() for each in PARTS}
    for rpc in RPCS.values():
        for each in fields(rpc):
            if thing(rpc, each) is not None:
                assert each.last.name not in PLAIN, f"{name(rpc)}: {each.name} is both"
                (rows[name(rpc)] if len(each.path) == 1 else parts[owner(each)]).add(each.last.name)
            else:
                assert each.last.name in PLAIN, f"{name(rpc)}: what does {each.name} name?"
    assert rows == {each: set(row) for each, row in ROWS.items()}, "a row without a field"
    assert parts == {each: set(row) for each, row in PARTS.items()}, "a row without a field"


def test_what_must_not_be_told_is_there_to_be_told(victim: Victim, before: Json) -> None:
    for what in ("draft", "comments", "user", "sessions", "key", "account", "role"):
        assert victim.word in json.dumps(before[what], ensure_ascii=False), what
    assert victim.word.encode() in before["factors"]
    assert before["signing key"]
    assert before["draft"]["schedules"]


@pytest.mark.parametrize("rpc", [each for each in RPCS.values() if any(True for _ in cases(each))], ids=name)
async def test_naming_anothers_thing_opens_nothing(
    victim: Victim, before: Json, callers: list[Caller], rpc: contracts.Rpc
) -> None:
    for caller in callers:
        if rpc.service == "auth":  # a call may have ended the session
            await caller.person.login()
        for case in cases(rpc):
            await check(victim, caller, case)
    if rpc.has_side_effects:
        assert await victim.state() == before


@pytest.mark.parametrize("header", ["x-user-id", "x-user", "x-session-id", "x-forwarded-user", "x-jwt-payload", "sub"])
async def test_a_header_makes_nobody_another(victim: Victim, callers: list[Caller], header: str) -> None:
    person = callers[0].person
    await person.login()
    headers = {header: str(victim.things[Thing.USER]), **dict(bearer(person.tokens.access_token))}

    me = await callers[0].rest.get("/v1/me", headers=headers)

    assert me.json()["id"] == person.user.id


async def check(victim: Victim, caller: Caller, case: Case) -> None:
    if caller.own and case.thing is Thing.REVISION:
        return  # a number, which counts anybody's

    def others(each: Field, what: Thing) -> Value:
        if caller.own:
            return caller.own.get(what, unknown(what)) if what not in SHARED else victim.things[what]
        return unknown(what) if each.name == case.field.name else victim.things[what]

    theirs = await caller.ask(case, victim.things[case.thing], others)
    nothings = await caller.ask(case, unknown(case.thing), others)

    about = f"{case.example}, {case.field.name} in the {case.place}: {theirs.status_code} {theirs.text}"
    for answer in (theirs, nothings):
        assert answer.status_code < 500, f"{about}; {answer.text}"
        assert victim.word not in answer.text, about
        assert victim.word not in str(answer.headers), about
    rpc = case.example.rpc
    if case.thing is Thing.NAME:
        return
    if theirs.status_code == 200 and (unread(rpc, case.field) or (case.overrides and caller.own)):
        # What is ignored leaves no trace, and what the path says holds.
        assert case.thing is Thing.REVISION or str(victim.things[case.thing]) not in theirs.text, about
    elif case.field.name in NARROWS.get(name(rpc), ()):
        assert (theirs.status_code, theirs.text) == (nothings.status_code, nothings.text), about
    elif case.thing not in SHARED or rpc.has_side_effects:
        told = theirs.json()
        code = {"400": 3, "403": 7, "404": 5}.get(told.get("status"), told.get("code"))  # SCIM tells a status
        assert code in REFUSED, about
        if case.thing not in SHARED:
            # Nor does the refusal tell that there is such a thing.
            assert nothings.status_code >= 400, f"{about}; {nothings.text}"
            assert _kind(theirs) == _kind(nothings), f"{about}; {nothings.text}"


def _kind(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, str(answer.json().get("details", [{}])[0].get("reason"))
