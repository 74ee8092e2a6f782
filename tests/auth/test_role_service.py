"""Roles that an administrator defines: what they may hold, who may give them, and what is said of them."""

import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from tests.auth.conftest import PASSWORD, MakeUser
from tests.conftest import AuthStub, Metadata, bearer
from tests.content.items import SECONDS, refused
from thmnayah.auth.v1 import roles_pb2
from thmnayah.auth.v1.auth_pb2 import CreateUserRequest, LoginRequest
from thmnayah.auth.v1.roles_pb2 import Grant, Resource, Role
from thmnayah.auth.v1.roles_pb2_grpc import RoleServiceStub

INVALID, DENIED = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED


class Roles:
    """Somebody's calls to RoleService."""

    def __init__(self, channel: grpc.aio.Channel, metadata: Metadata) -> None:
        self.stub: Any = RoleServiceStub(channel)
        self.call = {"metadata": metadata, "timeout": SECONDS}

    async def create(self, *grants: Grant, id: str = "", **fields: Any) -> Role:
        role = Role(id=id or f"role-{secrets.token_hex(6)}", grants=grants, **fields)
        made: Role = await self.stub.CreateRole(roles_pb2.CreateRoleRequest(role=role), **self.call)
        return made

    async def update(self, role_id: str, *paths: str, **fields: Any) -> Role:
        request = roles_pb2.UpdateRoleRequest(role=Role(id=role_id, **fields), update_mask=FieldMask(paths=paths))
        role: Role = await self.stub.UpdateRole(request, **self.call)
        return role

    async def delete(self, role_id: str, **how: Any) -> Role:
        role: Role = await self.stub.DeleteRole(roles_pb2.DeleteRoleRequest(id=role_id, **how), **self.call)
        return role

    async def get(self, role_id: str) -> Role:
        role: Role = await self.stub.GetRole(roles_pb2.GetRoleRequest(id=role_id), **self.call)
        return role

    async def test(self, *permissions: str, **question: Any) -> list[Any]:
        request = roles_pb2.TestPermissionsRequest(permissions=permissions, **question)
        return list((await self.stub.TestPermissions(request, **self.call)).decisions)


@pytest.fixture(scope="session")
def roles(edge: grpc.aio.Channel, admin: Metadata) -> Roles:
    return Roles(edge, admin)


@pytest.fixture(scope="session")
def having(
    edge: grpc.aio.Channel, auth: AuthStub, make_user: MakeUser, roles: Roles
) -> Callable[..., Awaitable[tuple[Roles, Metadata, str]]]:
    """Makes a user who has a new role with some grants: their calls, their metadata and their id."""

    async def make(*grants: Grant) -> tuple[Roles, Metadata, str]:
        role = await roles.create(*grants)
        user = await make_user(roles=(role.id,))
        tokens = await auth.Login(LoginRequest(email=user.email, password=PASSWORD), timeout=SECONDS)
        return Roles(edge, bearer(tokens.access_token)), bearer(tokens.access_token), user.id

    return make


async def test_a_role_is_made_changed_and_deleted(roles: Roles) -> None:
    made = await roles.create(Grant(permission="content.update", types=["article"], own=True), name={"ar": "دور"})

    assert (await roles.get(made.id)) == made
    assert (await refused(roles.create(id=made.id))).reason == "ROLE_EXISTS"
    changed = await roles.update(made.id, "name", name={"en": "Role"})
    assert (dict(changed.name), list(changed.grants), changed.version) == ({"en": "Role"}, list(made.grants), 2)
    assert await roles.update(made.id, name={"en": "Role"}) == changed
    assert (await refused(roles.update(made.id, etag=made.etag, name={"en": "x"}))).reason == "ETAG_MISMATCH"
    assert (await refused(roles.delete(made.id, etag=made.etag))).reason == "ETAG_MISMATCH"
    assert await roles.delete(made.id, etag=changed.etag) == changed
    for gone in (roles.get(made.id), roles.delete(made.id), roles.update(made.id, name={"en": "x"})):
        assert (await refused(gone)).reason == "ROLE_NOT_FOUND"


@pytest.mark.parametrize("role", ["editor", "admin"])
async def test_built_in_roles_stay_as_they_are(roles: Roles, role: str) -> None:
    assert (await roles.get(role)).built_in
    for call in (roles.update(role, name={"en": "x"}), roles.delete(role, force=True)):
        assert (await refused(call)).reason == "ROLE_BUILT_IN"
    assert (await refused(roles.create(id=role))).reason == "ROLE_EXISTS"
    assert (await refused(roles.update("x", "built_in"))).violations.keys() == {"updateMask"}


async def test_roles_are_listed_page_by_page(roles: Roles) -> None:
    made = await roles.create()
    found, request = [], roles_pb2.ListRolesRequest(page_size=4)
    while True:
        page = await roles.stub.ListRoles(request, **roles.call)
        found += [each.id for each in page.roles]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert found[:6] == ["administrator", "author", "editor", "publisher", "reader", "reviewer"]
    assert made.id in found[6:]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("grant", "wrong"),
    [
        (Grant(permission="content.fly"), "permission"),
        (Grant(permission="users.create", own=True), "own"),
        (Grant(permission="content.publish", fields=["body"]), "fields"),
        (Grant(permission="content.update", fields=["state"]), "fields[0]"),
        (Grant(permission="content.update", states=["ASLEEP"]), "states[0]"),
    ],
)
async def test_a_grant_that_means_nothing_is_refused(roles: Roles, grant: Grant, wrong: str) -> None:
    told = await refused(roles.create(grant))

    assert (told.code, [*told.violations]) == (INVALID, [f"role.grants[0].{wrong}"])


async def test_nobody_grants_more_than_they_hold(
    auth: AuthStub, having: Callable[..., Awaitable[tuple[Roles, Metadata, str]]]
) -> None:
    held = Grant(permission="content.update", types=["article", "page"], locales=["ar"])
    they, metadata, _ = await having(
        held, *(Grant(permission=each) for each in ("roles.create", "roles.update", "users.create"))
    )

    narrower = await they.create(Grant(permission="content.update", types=["page"], locales=["ar"], own=True))
    for more in (
        Grant(permission="content.update", types=["page"]),
        Grant(permission="content.update", types=["person"], locales=["ar"]),
        Grant(permission="content.update"),
        Grant(permission="roles.delete"),
    ):
        assert (await refused(they.create(more))).reason == "GRANT_NOT_HELD"
        assert (await refused(they.update(narrower.id, grants=[more]))).reason == "GRANT_NOT_HELD"
    for role in ("administrator", "admin", "editor"):
        request = CreateUserRequest(email=f"{secrets.token_hex(6)}@example.com", password=PASSWORD, roles=[role])
        told = await refused(auth.CreateUser(request, metadata=metadata, timeout=SECONDS))
        assert (told.code, told.reason) == (DENIED, "GRANT_NOT_HELD")


async def test_a_role_in_use_goes_by_force_and_from_its_users(roles: Roles, make_user: MakeUser) -> None:
    role = await roles.create()
    user = await make_user(roles=(role.id, "reader"))

    told = await refused(roles.delete(role.id))
    assert (told.reason, told.metadata) == ("ROLE_IN_USE", {"count": "1"})
    await roles.delete(role.id, force=True)
    assert (await roles.test("content.update", user_id=user.id))[0].role == ""


async def test_the_older_name_of_administrator_is_taken_and_shown_as_it_is_now(make_user: MakeUser) -> None:
    assert (await make_user(roles=("admin", "administrator"))).roles == ["administrator"]


async def test_what_somebody_may_do_is_said_with_its_reason(
    roles: Roles, having: Callable[..., Awaitable[tuple[Roles, Metadata, str]]]
) -> None:
    grant = Grant(permission="content.update", types=["article"], locales=["ar"], fields=["body"], states=["DRAFT"])
    they, _, user_id = await having(grant)

    def item(**other: Any) -> Resource:
        return Resource(**{"type": "article", "locale": "ar", "field": "body", **other})

    for resource, unmet in (
        (item(), ""),
        (item(type="page"), "types"),
        (item(locale="en"), "locales"),
        (item(field="title"), "fields"),
        (item(state="PUBLISHED"), "states"),
    ):
        for decision in await they.test("content.update", resource=resource) + await roles.test(
            "content.update", resource=resource, user_id=user_id
        ):
            assert (decision.allowed, decision.unmet, decision.grant) == (not unmet, unmet, grant)
    (nothing,) = await they.test("content.publish", resource=item())
    assert (nothing.allowed, nothing.role) == (False, "")
    assert (await refused(they.test("content.update", user_id="0190b0a0-0000-7000-8000-000000000000"))).code == DENIED
    assert (await refused(they.test("content.fly"))).violations.keys() == {"permissions[0]"}


async def test_a_role_over_rest(rest: httpx.AsyncClient, admin_token: str) -> None:
    headers = {"authorization": f"Bearer {admin_token}"}
    role_id = f"role-{secrets.token_hex(6)}"

    made = await rest.post("/v1/roles", json={"id": role_id, "name": {"en": "R"}}, headers=headers)
    stale = await rest.delete(f"/v1/roles/{role_id}", headers={**headers, "if-match": '"9"'})

    assert (made.status_code, made.headers["etag"]) == (200, '"1"')
    assert stale.status_code == 412
