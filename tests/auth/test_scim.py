"""SCIM 2.0 as Okta and Entra ID speak it, through the edge, and what a provisioner cannot do."""

import asyncio
import json
import secrets
from dataclasses import dataclass
from typing import Annotated, Any

import grpc
import httpx
import pytest
from google.api.httpbody_pb2 import HttpBody
from pydantic import Field
from scim2_client import BaseSyncSCIMClient
from scim2_models import ComplexAttribute, Group, Required, ScimProvider
from scim2_tester import Status, check_server

from deploy.local.mesh import Mesh
from services.auth import scim
from tests.auth.conftest import PASSWORD, Find, UsersStub, sign_in
from tests.auth.mailbox import code_of, mail_to, mails_to
from tests.conftest import AuthStub, Metadata, bearer, eventually
from thmnayah.auth.v1.auth_pb2 import GetMeRequest, RefreshTokensRequest, Tokens, User
from thmnayah.auth.v1.scim_pb2 import CreateScimUserRequest
from thmnayah.auth.v1.scim_pb2_grpc import ScimServiceStub
from thmnayah.auth.v1.users_pb2 import (
    DisableUserRequest,
    GetUserRequest,
    RequestPasswordResetRequest,
    SetPasswordRequest,
    UpdateUserRequest,
)

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"
NOBODY = "0190b0a0-0000-7000-8000-000000000000"

Json = dict[str, Any]


@dataclass
class Provisioner:
    """What an identity provider does here."""

    rest: httpx.AsyncClient
    key: str

    async def call(self, method: str, path: str, body: object = None, **headers: str) -> httpx.Response:
        content = None if body is None else json.dumps(body).encode()
        headers = {"authorization": f"Bearer {self.key}", "content-type": "application/scim+json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        return await self.rest.request(method, f"/scim/v2/{path}", content=content, headers=headers)

    async def made(self, path: str, body: Json) -> Json:
        answer = await self.call("POST", path, body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def user(self, **attributes: object) -> Json:
        """A new user, by an address that nobody else has."""
        name = f"scim-{secrets.token_hex(6)}@example.com"
        return await self.made("Users", {"schemas": [USER], "userName": name, **attributes})

    async def group(self, *members: str) -> Json:
        named = {"schemas": [GROUP], "displayName": f"Group {secrets.token_hex(6)}"}
        return await self.made("Groups", {**named, "members": [{"value": each} for each in members]})

    async def patch(self, path: str, *operations: Json, **headers: str) -> httpx.Response:
        return await self.call("PATCH", path, {"schemas": [PATCH], "Operations": operations}, **headers)

    async def patched(self, path: str, *operations: Json) -> Json:
        answer = await self.patch(path, *operations)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def found(self, path: str, filter: str, **query: str) -> Json:
        answer = await self.call("GET", f"{path}?{httpx.QueryParams(filter=filter, **query)}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


def error(answer: httpx.Response) -> tuple[int, str, str]:
    """The status, scimType and detail of an error that has SCIM's form."""
    body = answer.json()
    assert answer.headers["content-type"] == "application/scim+json"
    assert body["schemas"] == [ERROR]
    assert body["status"] == str(answer.status_code)
    return answer.status_code, body.get("scimType", ""), body["detail"]


@pytest.fixture(scope="session")
async def provisioner(rest: httpx.AsyncClient, admin_token: str) -> Provisioner:
    """A service account that may provision and nothing else, and its key."""
    headers = {"authorization": f"Bearer {admin_token}"}
    name = f"provisioner-{secrets.token_hex(4)}"
    role = {"id": name, "name": {"en": "Provisioner"}, "grants": [{"permission": "users.provision"}]}
    await rest.post("/v1/roles", json=role, headers=headers)
    account = await rest.post("/v1/serviceAccounts", json={"displayName": name, "roles": [name]}, headers=headers)
    asked = {"displayName": name, "scopes": ["users.provision"], "serviceAccountId": account.json()["id"]}
    key = await rest.post("/v1/apiKeys", json=asked, headers=headers)
    return Provisioner(rest, key.json()["secret"])


@pytest.fixture(scope="session")
def as_admin(rest: httpx.AsyncClient, admin_token: str) -> Any:
    async def call(method: str, path: str, body: object = None) -> httpx.Response:
        return await rest.request(method, path, json=body, headers={"authorization": f"Bearer {admin_token}"})

    return call


@pytest.fixture
def enter(mesh: Mesh, auth: AuthStub, users: UsersStub) -> Any:
    """Has a provisioned person ask for a code, set a password with it and sign in."""

    async def sign_in_first(email: str) -> Tokens:
        await users.RequestPasswordReset(RequestPasswordResetRequest(email=email), timeout=10)
        code = code_of(await mail_to(mesh, email))
        await users.SetPassword(SetPasswordRequest(code=code, password=PASSWORD), timeout=10)
        return await sign_in(auth, email)

    return sign_in_first


# As the standard has it.


class Address(ComplexAttribute):
    value: Annotated[str | None, Required.true] = None
    type: str | None = None
    primary: bool | None = None


class PersonWithMail(scim.User):
    """What the conformance tester makes up: not every text is a language or an address."""

    locale: str | None = Field(None, examples=["ar", "en-US"])
    timezone: str | None = Field(None, examples=["Asia/Riyadh", "Europe/Paris"])
    emails: Annotated[list[Address] | None, Required.true] = None  # type: ignore[assignment]  # narrower on purpose


class Client(BaseSyncSCIMClient):
    """How the conformance tester reaches the edge."""

    def __init__(self, http: httpx.Client) -> None:
        super().__init__(provider=ScimProvider([PersonWithMail, Group]))
        self.http = http

    def request(self, method: str, url: str, **kwargs: Any) -> httpx.Response:
        return self.http.request(method, "/scim/v2/" + url.removeprefix("/scim/v2").lstrip("/"), **kwargs)


def test_a_conformance_tester_finds_nothing_wrong(mesh: Mesh, provisioner: Provisioner) -> None:
    headers = {"authorization": f"Bearer {provisioner.key}"}
    with httpx.Client(base_url=f"http://{mesh.address}", headers=headers, timeout=20) as http:
        results = check_server(Client(http), include_tags={"crud"})

    assert len(results) >= 14
    problems = [each for each in results if each.status in (Status.ERROR, Status.CRITICAL, Status.DEVIATION)]
    # Queries by POST are not offered.
    assert [each for each in problems if each.title != "search_with_attributes"] == []


async def test_it_says_of_itself_what_it_does(provisioner: Provisioner) -> None:
    config = (await provisioner.call("GET", "ServiceProviderConfig")).json()
    schema = (await provisioner.call("GET", f"Schemas/{USER}")).json()
    unknown = await provisioner.call("GET", "ResourceTypes/Device")

    assert (config["patch"]["supported"], config["bulk"]["supported"], config["filter"]["maxResults"]) == (
        True,
        False,
        200,
    )
    assert {each["name"] for each in schema["attributes"]} >= {"userName", "emails", "active", "timezone"}
    assert error(unknown)[0] == 404


async def test_a_user_is_made_found_replaced_and_erased(
    provisioner: Provisioner, users: UsersStub, admin: Metadata, find: Find, mesh: Mesh
) -> None:
    word = secrets.token_hex(6)
    sent = {
        "schemas": [USER, ENTERPRISE],
        "externalId": f"external-{word}",
        "userName": f"{word}@corp.example.com",
        "name": {"givenName": "سارة", "familyName": "القحطاني"},
        "emails": [
            {"value": f"{word}@home.example.com", "type": "home"},
            {"value": f"{word}@mail.example.com", "type": "work", "primary": True},
        ],
        "locale": "en_us",
        "timezone": "Asia/Riyadh",
        "active": "True",
        "password": "Never-kept-1",
        "groups": [{"value": NOBODY}],
        "roles": [{"value": "administrator"}],
        ENTERPRISE: {"department": "News"},
    }

    answer = await provisioner.call("POST", "Users", sent)
    made = answer.json()
    path = f"Users/{made['id']}"
    user = await users.GetUser(GetUserRequest(id=made["id"]), metadata=admin, timeout=10)

    assert answer.status_code == 201
    assert answer.headers["location"] == made["meta"]["location"] == f"/scim/v2/{path}"
    assert answer.headers["etag"] == made["meta"]["version"]
    assert answer.headers["content-type"] == "application/scim+json"
    assert (made["userName"], made["externalId"], made["active"]) == (sent["userName"], sent["externalId"], True)
    assert made["emails"] == [{"value": f"{word}@mail.example.com", "type": "work", "primary": True}]
    assert not {"password", "groups", "roles", ENTERPRISE} & made.keys()
    assert (user.email, user.display_name) == (f"{word}@mail.example.com", "سارة القحطاني")
    assert (user.locale, user.time_zone, user.state) == ("en-us", "Asia/Riyadh", User.INVITED)
    assert list(user.roles) == ["reader"]
    assert mails_to(mesh, user.email) == []

    body = {"schemas": [USER], "userName": f"new-{word}@corp.example.com", "displayName": "سارة", "active": True}
    stale = await provisioner.call("PUT", path, body, if_match='"99"')
    replaced = await provisioner.call("PUT", path, body, if_match=made["meta"]["version"])
    assert error(stale)[0] == 412
    assert replaced.status_code == 200
    assert "name" not in replaced.json()
    assert "externalId" not in replaced.json()
    assert replaced.json()["emails"][0]["value"] == body["userName"]
    assert replaced.json()["meta"]["version"] != made["meta"]["version"]
    assert replaced.json()["meta"]["lastModified"] > made["meta"]["lastModified"]

    gone = await provisioner.call("DELETE", path)
    assert (gone.status_code, gone.content) == (204, b"")
    assert error(await provisioner.call("GET", path))[0] == 404
    left = await users.GetUser(GetUserRequest(id=made["id"]), metadata=admin, timeout=10)
    assert (left.state, left.email, left.display_name) == (User.DELETED, "", "")
    actions = [event.action for event in await find(f'target = "user/{made["id"]}"')]
    assert actions == ["user.deleted", "user.updated", "user.created"]


# Words of a filter, and whether it finds the one user it is about.
FILTERS = {
    'userName eq "{userName}"': True,
    'USERNAME EQ "{upper}"': True,
    'urn:ietf:params:scim:schemas:core:2.0:User:userName eq "{userName}"': True,
    'externalId eq "{externalId}"': True,
    'emails.value eq "{userName}"': True,
    'externalId eq "{externalId}" and active eq true': True,
    'userName eq "{userName}" and active eq false': False,
    'id eq "{id}"': True,
    'id eq "\' OR true --"': False,
}


async def test_a_filter_finds_what_it_says_page_by_page(provisioner: Provisioner) -> None:
    word = f"filter-{secrets.token_hex(6)}"
    user = await provisioner.user(externalId=word, displayName=word)
    await provisioner.user(displayName=word)
    values = {**user, "upper": user["userName"].upper()}

    for filter, finds in FILTERS.items():
        found = await provisioner.found("Users", filter.format(**values))
        assert [each["id"] for each in found["Resources"]] == [user["id"]] * finds, filter

    named = f'displayName eq "{word}"'
    second = await provisioner.found("Users", named, startIndex="2", count="1", attributes="userName")
    number = await provisioner.found("Users", named, count="0")
    assert (second["totalResults"], second["startIndex"], second["itemsPerPage"]) == (2, 2, 1)
    assert second["Resources"][0].keys() == {"schemas", "id", "userName"}
    assert (number["totalResults"], number["Resources"]) == (2, [])


# A request that cannot be: what of it is wrong, as scimType and words of the detail.
WRONG: dict[str, tuple[str, str, object, str, str]] = {
    "an operator": ("GET", 'Users?filter=userName sw "a"', None, "invalidFilter", "userName sw"),
    "an attribute": ("GET", 'Users?filter=title eq "a"', None, "invalidFilter", "title"),
    "or": ("GET", 'Users?filter=id eq "a" or id eq "b"', None, "invalidFilter", "filter"),
    "words": ("GET", "Users?filter=userName eq", None, "invalidFilter", "filter"),
    "NUL": ("GET", 'Groups?filter=displayName eq "\\u0000"', None, "invalidFilter", "displayName"),
    "depth": ("GET", f"Users?filter={'(' * 900}id pr{')' * 900}", None, "invalidFilter", "filter"),
    "no JSON": ("POST", "Users", "text", "invalidValue", "object"),
    "no name": ("POST", "Users", {"schemas": [USER]}, "invalidValue", "userName"),
    "no address": ("POST", "Users", {"schemas": [USER], "userName": "sara"}, "invalidValue", "userName"),
    "a language": (
        "POST",
        "Users",
        {"schemas": [USER], "userName": "a@b.com", "locale": "??"},
        "invalidValue",
        "locale",
    ),
    "a zone": (
        "POST",
        "Users",
        {"schemas": [USER], "userName": "a@b.com", "timezone": "X"},
        "invalidValue",
        "timezone",
    ),
    "a long name": ("POST", "Groups", {"schemas": [GROUP], "displayName": "x" * 201}, "invalidValue", "displayName"),
    "no member": (
        *("POST", "Groups", {"schemas": [GROUP], "displayName": "?", "members": [{"value": NOBODY}]}),
        *("invalidValue", "members.value"),
    ),
}


@pytest.mark.parametrize("case", WRONG)
async def test_what_is_wrong_is_named(provisioner: Provisioner, case: str) -> None:
    method, path, body, scim_type, words = WRONG[case]

    status, kind, detail = error(await provisioner.call(method, path, body))

    assert (status, kind) == (400, scim_type)
    assert words in detail


async def test_a_name_is_taken_once(provisioner: Provisioner) -> None:
    user, group = await provisioner.user(), await provisioner.group()

    same_user = await provisioner.call("POST", "Users", {"schemas": [USER], "userName": user["userName"].upper()})
    same_group = await provisioner.call(
        "POST", "Groups", {"schemas": [GROUP], "displayName": group["displayName"].upper()}, accept_language="ar"
    )
    other = await provisioner.user()
    renamed = await provisioner.patch(
        f"Users/{other['id']}", {"op": "replace", "path": "userName", "value": user["userName"]}
    )

    assert error(same_user)[:2] == error(same_group)[:2] == error(renamed)[:2] == (409, "uniqueness")
    assert "مجموعة" in error(same_group)[2]


# What Entra ID and Okta send, and what of the user it changes.
OPERATIONS: list[tuple[Json, Json]] = [
    ({"op": "Replace", "path": "active", "value": "False"}, {"active": False}),
    ({"op": "replace", "value": {"active": True}}, {"active": True}),
    ({"op": "Add", "path": 'emails[type eq "work"].value', "value": "{word}@new.com"}, {"address": "{word}@new.com"}),
    (
        {"op": "Replace", "value": {"displayName": "ن", "name.familyName": "F"}},
        {"displayName": "ن", "name": {"familyName": "F"}},
    ),
    ({"op": "add", "path": "name.givenName", "value": "G"}, {"name": {"familyName": "F", "givenName": "G"}}),
    ({"op": "Remove", "path": "name"}, {"name": None}),
    ({"op": "add", "path": f"{ENTERPRISE}:department", "value": "x"}, {"department": None}),
    ({"op": "REPLACE", "path": "externalId", "value": "e"}, {"externalId": "e"}),
]


async def test_a_user_is_patched_as_entra_and_okta_do(provisioner: Provisioner) -> None:
    user = await provisioner.user()
    path, word = f"Users/{user['id']}", user["id"]

    for operation, expected in OPERATIONS:
        now = await provisioner.patched(path, json.loads(json.dumps(operation).replace("{word}", word)))
        now["address"] = now["emails"][0]["value"]
        assert {name: now.get(name) for name in expected} == json.loads(json.dumps(expected).replace("{word}", word))

    before = (await provisioner.call("GET", path)).json()
    refused = await provisioner.patch(
        path,
        {"op": "replace", "path": "externalId", "value": "f"},
        {"op": "replace", "path": "active", "value": "often"},
    )
    assert error(refused)[:2] == (400, "invalidValue")
    assert "active" in error(refused)[2]
    assert (await provisioner.call("GET", path)).json() == before


async def test_a_group_is_patched_as_entra_and_okta_do(provisioner: Provisioner) -> None:
    ids = sorted([(await provisioner.user())["id"] for _ in range(4)])
    path = f"Groups/{(await provisioner.group(ids[0]))['id']}"

    async def left(operation: Json) -> list[str]:
        return [each["value"] for each in (await provisioner.patched(path, operation)).get("members", [])]

    entries = [{"$ref": None, "value": each} for each in ids[1:3]]
    assert await left({"op": "Add", "path": "members", "value": entries}) == ids[:3]
    assert await left({"op": "Remove", "path": f'members[value eq "{ids[0]}"]'}) == ids[1:3]
    assert await left({"op": "Remove", "path": "members", "value": entries[:1]}) == ids[2:3]
    assert await left({"op": "replace", "value": {"displayName": f"Renamed {ids[0]}"}}) == ids[2:3]
    assert await left({"op": "replace", "path": "members", "value": [{"value": ids[3]}]}) == ids[3:]
    assert await left({"op": "replace", "value": {"members": [{"value": ids[0]}]}}) == ids[:1]
    member = f'members.value eq "{ids[0]}" and displayName eq "renamed {ids[0]}"'
    (group,) = (await provisioner.found("Groups", member, excludedAttributes="members"))["Resources"]
    assert "members" not in group
    assert (await provisioner.call("GET", f"Users/{ids[0]}")).json()["groups"][0]["value"] == group["id"]
    assert await left({"op": "remove", "path": "members"}) == []


async def test_a_program_calls_it_over_grpc(edge: grpc.aio.Channel, provisioner: Provisioner) -> None:
    body = {"schemas": [USER], "userName": f"grpc-{secrets.token_hex(6)}@example.com"}
    request = CreateScimUserRequest(resource=HttpBody(data=json.dumps(body).encode()))

    made = await ScimServiceStub(edge).CreateScimUser(request, metadata=bearer(provisioner.key), timeout=10)

    assert made.content_type == "application/scim+json"
    assert json.loads(made.data)["userName"] == body["userName"]


# What it means here.


async def test_who_is_made_inactive_is_out_at_once(
    provisioner: Provisioner, auth: AuthStub, users: UsersStub, admin: Metadata, enter: Any
) -> None:
    user = await provisioner.user()
    tokens = await enter(user["userName"])
    path, off, on = (
        f"Users/{user['id']}",
        *({"op": "replace", "path": "active", "value": each} for each in (False, True)),
    )

    async def refused() -> grpc.StatusCode:
        try:
            await auth.GetMe(GetMeRequest(), metadata=bearer(tokens.access_token), timeout=10)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    await provisioner.patched(path, off)
    await eventually(refused, lambda code: code is grpc.StatusCode.UNAUTHENTICATED)
    with pytest.raises(grpc.aio.AioRpcError):
        await auth.RefreshTokens(RefreshTokensRequest(refresh_token=tokens.refresh_token), timeout=10)
    with pytest.raises(grpc.aio.AioRpcError):
        await sign_in(auth, user["userName"])
    await provisioner.patched(path, on)
    await sign_in(auth, user["userName"])
    await provisioner.patched(path, off)
    await users.DisableUser(DisableUserRequest(id=user["id"]), metadata=admin, timeout=10)

    assert (await provisioner.call("GET", path)).json()["active"] is False
    assert error(await provisioner.patch(path, on))[0] == 403  # an administrator closed it


async def test_members_have_the_roles_that_an_administrator_gave_their_group(
    provisioner: Provisioner, rest: httpx.AsyncClient, enter: Any, as_admin: Any, find: Find
) -> None:
    user = await provisioner.user()
    group = await provisioner.group(user["id"])
    path = f"/v1/groups/{group['id']}"
    asked = {"permissions": ["content.publish"]}

    async def may_publish(tokens: Tokens) -> bool:
        headers = {"authorization": f"Bearer {tokens.access_token}"}
        answer = await rest.post("/v1/auth:testPermissions", json=asked, headers=headers)
        assert answer.status_code == 200, answer.text
        return bool(answer.json()["decisions"][0]["allowed"])

    async def is_out(tokens: Tokens) -> bool:
        async def status() -> int:
            answer = await rest.get("/v1/me", headers={"authorization": f"Bearer {tokens.access_token}"})
            return answer.status_code

        return await eventually(status, lambda code: code == 401) == 401

    tokens = await enter(user["userName"])
    assert not await may_publish(tokens)

    given = await as_admin("PATCH", path, {"roles": ["publisher"]})
    assert (given.json()["roles"], given.json()["memberCount"]) == (["publisher"], 1)
    assert await is_out(tokens)
    tokens = await enter_again(rest, user)
    assert await may_publish(tokens)
    told = await as_admin("POST", "/v1/auth:testPermissions", {**asked, "userId": user["id"]})
    assert told.json()["decisions"][0]["role"] == "publisher"
    shown = (await as_admin("GET", f"/v1/users/{user['id']}")).json()
    assert (shown["roles"], shown["groupRoles"]) == (["reader"], ["publisher"])

    await provisioner.patched(f"Groups/{group['id']}", {"op": "remove", "path": f'members[value eq "{user["id"]}"]'})
    assert await is_out(tokens)
    assert not await may_publish(await enter_again(rest, user))
    await provisioner.patched(
        f"Groups/{group['id']}", {"op": "add", "path": "members", "value": [{"value": user["id"]}]}
    )
    tokens = await enter_again(rest, user)
    assert (await provisioner.call("DELETE", f"Groups/{group['id']}")).status_code == 204
    assert await is_out(tokens)
    assert not await may_publish(await enter_again(rest, user))

    actions = [event.action for event in await find(f'target = "group/{group["id"]}"')]
    assert actions == ["group.deleted", *["group.updated"] * 3, "group.created"]
    changes = [
        event.details["roles"] for event in await find(f'target = "user/{user["id"]}" AND action = "user.updated"')
    ]
    assert changes == ["reader", "reader publisher", "reader", "reader publisher"]


async def enter_again(rest: httpx.AsyncClient, user: Json) -> Tokens:
    answer = await rest.post("/v1/auth:login", json={"email": user["userName"], "password": PASSWORD})
    return Tokens(access_token=answer.json()["accessToken"])


async def test_a_role_that_is_deleted_is_gone_from_groups(provisioner: Provisioner, as_admin: Any) -> None:
    role = f"desk-{secrets.token_hex(4)}"
    await as_admin(
        "POST", "/v1/roles", {"id": role, "name": {"en": "Desk"}, "grants": [{"permission": "content.review"}]}
    )
    user = await provisioner.user()
    group = await provisioner.group(user["id"])
    await as_admin("PATCH", f"/v1/groups/{group['id']}", {"roles": [role]})

    in_use = await as_admin("DELETE", f"/v1/roles/{role}")
    deleted = await as_admin("DELETE", f"/v1/roles/{role}?force=true")

    assert (in_use.status_code, deleted.status_code) == (400, 200)
    assert (await as_admin("GET", f"/v1/groups/{group['id']}")).json()["roles"] == []
    assert (await as_admin("GET", f"/v1/users/{user['id']}")).json()["groupRoles"] == []


# What a provisioner cannot do.


async def test_whom_nobody_provisioned_is_not_there(provisioner: Provisioner, as_admin: Any) -> None:
    me = (await as_admin("GET", "/v1/me")).json()
    path = f"Users/{me['id']}"
    group = await provisioner.group()
    body = {"schemas": [USER], "userName": me["email"]}

    answers = [
        await provisioner.call("GET", path),
        await provisioner.call("PUT", path, body),
        await provisioner.patch(path, {"op": "replace", "path": "active", "value": False}),
        await provisioner.call("DELETE", path),
    ]
    member = await provisioner.patch(
        f"Groups/{group['id']}", {"op": "add", "path": "members", "value": [{"value": me["id"]}]}
    )

    assert [error(each)[0] for each in answers] == [404] * 4
    assert error(await provisioner.call("POST", "Users", body))[:2] == (409, "uniqueness")
    assert error(member)[:2] == (400, "invalidValue")
    assert (await provisioner.found("Users", f'userName eq "{me["email"]}"'))["totalResults"] == 0


async def test_a_provisioner_gives_nobody_power(
    provisioner: Provisioner, rest: httpx.AsyncClient, as_admin: Any, users: UsersStub, admin: Metadata
) -> None:
    user = await provisioner.user()
    editor = UpdateUserRequest(user=User(id=user["id"], roles=["editor"]))
    await users.UpdateUser(editor, metadata=admin, timeout=10)
    group = await provisioner.group(user["id"])
    with_key = {"authorization": f"Bearer {provisioner.key}"}

    moved = await provisioner.patch(
        f"Users/{user['id']}", {"op": "replace", "path": 'emails[type eq "work"].value', "value": "thief@example.com"}
    )
    roles = await provisioner.patched(
        f"Users/{user['id']}", {"op": "add", "path": "roles", "value": [{"value": "administrator"}]}
    )
    mapped = await rest.patch(f"/v1/groups/{group['id']}", json={"roles": ["administrator"]}, headers=with_key)
    group_roles = await provisioner.patched(
        f"Groups/{group['id']}", {"op": "add", "path": "roles", "value": ["administrator"]}
    )

    assert error(moved)[0] == 403
    assert mapped.status_code == 403
    assert "roles" not in roles
    assert "roles" not in group_roles
    shown = (await as_admin("GET", f"/v1/users/{user['id']}")).json()
    assert (shown["roles"], shown["groupRoles"], shown["email"]) == (["editor"], [], user["userName"])
    assert (await provisioner.patched(f"Users/{user['id']}", {"op": "replace", "value": {"active": False}}))[
        "active"
    ] is False


async def test_without_the_permission_there_is_nothing(rest: httpx.AsyncClient, auth: AuthStub, make_user: Any) -> None:
    tokens = await sign_in(auth, (await make_user(roles=("editor",))).email)

    nobody = await rest.get("/scim/v2/ServiceProviderConfig")
    editor = await rest.get("/scim/v2/Users", headers={"authorization": f"Bearer {tokens.access_token}"})

    assert error(nobody)[0] == 401
    assert error(editor)[0] == 403


async def test_two_groups_that_change_at_once_lose_no_role(provisioner: Provisioner, as_admin: Any) -> None:
    user = await provisioner.user()
    groups = [await provisioner.group() for _ in range(4)]
    for group, role in zip(groups, ("author", "editor", "publisher", "reviewer"), strict=True):
        await as_admin("PATCH", f"/v1/groups/{group['id']}", {"roles": [role]})

    joined = {"op": "add", "path": "members", "value": [{"value": user["id"]}]}
    await asyncio.gather(*(provisioner.patched(f"Groups/{group['id']}", joined) for group in groups))

    shown = (await as_admin("GET", f"/v1/users/{user['id']}")).json()
    assert shown["groupRoles"] == ["author", "editor", "publisher", "reviewer"]
