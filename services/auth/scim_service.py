"""ScimService: each RPC's transaction, its functions and its event."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.api.httpbody_pb2 import HttpBody
from google.protobuf.empty_pb2 import Empty
from scim2_models import Group, Meta, Resource

from libs import etags, outbox
from libs.db import Pool, connection, transaction
from libs.errors import NotFound
from libs.rpc import Context
from services.auth import audit, groups, people, provisioned_users, scim
from services.auth.scim import Shown, User
from thmnayah.auth.v1 import auth_pb2, scim_pb2, scim_pb2_grpc
from thmnayah.auth.v1.users_pb2 import UserDeleted, UserDisabled


class ScimService(scim_pb2_grpc.ScimServiceServicer):
    """The servicer of thmnayah.auth.v1.ScimService, where each RPC is described."""

    def __init__(self, db: Pool) -> None:
        self.db = db

    async def GetScimServiceProviderConfig(
        self, request: scim_pb2.GetScimServiceProviderConfigRequest, context: Context
    ) -> HttpBody:
        return scim.described(scim.CONFIG)

    async def ListScimResourceTypes(self, request: scim_pb2.ListScimResourceTypesRequest, context: Context) -> HttpBody:
        return scim.described_all(scim.RESOURCE_TYPES)

    async def GetScimResourceType(self, request: scim_pb2.GetScimResourceTypeRequest, context: Context) -> HttpBody:
        return scim.described(_known(scim.RESOURCE_TYPES, request.name))

    async def ListScimSchemas(self, request: scim_pb2.ListScimSchemasRequest, context: Context) -> HttpBody:
        return scim.described_all(scim.SCHEMAS)

    async def GetScimSchema(self, request: scim_pb2.GetScimSchemaRequest, context: Context) -> HttpBody:
        return scim.described(_known(scim.SCHEMAS, request.urn))

    async def CreateScimUser(self, request: scim_pb2.CreateScimUserRequest, context: Context) -> HttpBody:
        shown = Shown(User, request.attributes, request.excluded_attributes)
        given = scim.read(User, request.resource, new=True)
        async with transaction(self.db) as conn:
            made = await provisioned_users.create(conn, given)
            await outbox.add(conn, auth_pb2.UserCreated(user=made.user), about=made.user.id)
            await audit.record(conn, "user.created", target=f"user/{made.user.id}", details={"by": "scim"})
        return await _answer(made.resource, shown, context, new=True)

    async def GetScimUser(self, request: scim_pb2.GetScimUserRequest, context: Context) -> HttpBody:
        shown = Shown(User, request.attributes, request.excluded_attributes)
        async with connection(self.db) as conn:
            found = await provisioned_users.get(conn, request.id)
        return await _answer(found.resource, shown, context)

    async def ListScimUsers(self, request: scim_pb2.ListScimUsersRequest, context: Context) -> HttpBody:
        shown = Shown(User, request.attributes, request.excluded_attributes)
        start, count = _page(request)
        async with connection(self.db) as conn:
            found, total = await provisioned_users.list_page(conn, request.filter, start=start, count=count)
        return shown.page(found, total, start)

    async def ReplaceScimUser(self, request: scim_pb2.ReplaceScimUserRequest, context: Context) -> HttpBody:
        given = scim.read(User, request.resource, new=False)
        return await self._change_user(request, lambda _: given, context)

    async def PatchScimUser(self, request: scim_pb2.PatchScimUserRequest, context: Context) -> HttpBody:
        patch = scim.read_patch(User, request.operations)
        return await self._change_user(request, lambda before: scim.patched(before, patch), context)

    async def DeleteScimUser(self, request: scim_pb2.DeleteScimUserRequest, context: Context) -> Empty:
        async with transaction(self.db) as conn:
            found = await provisioned_users.get(conn, request.id)
            etags.check(etags.given(""), *etags.versions(found.user.etag), what=provisioned_users.WHAT)
            user = await people.delete(conn, request.id)
            await outbox.add(conn, UserDeleted(user=user), about=user.id)
            await audit.record(conn, "user.deleted", target=f"user/{user.id}", details={"by": "scim"})
        return Empty()

    async def CreateScimGroup(self, request: scim_pb2.CreateScimGroupRequest, context: Context) -> HttpBody:
        shown = Shown(Group, request.attributes, request.excluded_attributes)
        given = scim.read(Group, request.resource, new=True)
        async with transaction(self.db) as conn:
            group, member_ids = await groups.create(conn, given)
        return await _answer(group, shown, context, member_ids if shown.members() else (), new=True)

    async def GetScimGroup(self, request: scim_pb2.GetScimGroupRequest, context: Context) -> HttpBody:
        shown = Shown(Group, request.attributes, request.excluded_attributes)
        async with connection(self.db) as conn:
            group, member_ids = await groups.find(conn, request.id, members=shown.members())
        return await _answer(group, shown, context, member_ids)

    async def ListScimGroups(self, request: scim_pb2.ListScimGroupsRequest, context: Context) -> HttpBody:
        shown = Shown(Group, request.attributes, request.excluded_attributes)
        start, count = _page(request)
        async with connection(self.db) as conn:
            found, total = await groups.list_resources(
                conn, request.filter, start=start, count=count, members=shown.members()
            )
        return shown.page_of_groups(found, total, start)

    async def ReplaceScimGroup(self, request: scim_pb2.ReplaceScimGroupRequest, context: Context) -> HttpBody:
        given = scim.read(Group, request.resource, new=False)
        return await self._change_group(request, lambda _: given, context)

    async def PatchScimGroup(self, request: scim_pb2.PatchScimGroupRequest, context: Context) -> HttpBody:
        patch = scim.read_patch(Group, request.operations)
        named = scim.members_named(patch)
        return await self._change_group(request, lambda before: scim.patched(before, patch), context, members=named)

    async def DeleteScimGroup(self, request: scim_pb2.DeleteScimGroupRequest, context: Context) -> Empty:
        async with transaction(self.db) as conn:
            await groups.delete(conn, request.id, etag=etags.given(""))
        return Empty()

    async def _change_user(
        self,
        request: scim_pb2.ReplaceScimUserRequest | scim_pb2.PatchScimUserRequest,
        changed: Callable[[User], User],
        context: Context,
    ) -> HttpBody:
        shown = Shown(User, request.attributes, request.excluded_attributes)
        async with transaction(self.db) as conn:
            result, event = await provisioned_users.change(conn, request.id, changed, etag=etags.given(""))
            if event is not None:
                await outbox.add(conn, event, about=result.user.id)
                action = "user.disabled" if isinstance(event, UserDisabled) else "user.updated"
                await audit.record(conn, action, target=f"user/{result.user.id}", details={"by": "scim"})
        return await _answer(result.resource, shown, context)

    async def _change_group(
        self,
        request: scim_pb2.ReplaceScimGroupRequest | scim_pb2.PatchScimGroupRequest,
        changed: Callable[[Group], Group],
        context: Context,
        *,
        members: set[str] | None = None,
    ) -> HttpBody:
        shown = Shown(Group, request.attributes, request.excluded_attributes)
        async with transaction(self.db) as conn:
            group, member_ids = await groups.change(conn, request.id, changed, members=members, etag=etags.given(""))
        return await _answer(group, shown, context, member_ids if shown.members() else ())


def _page(request: scim_pb2.ListScimUsersRequest | scim_pb2.ListScimGroupsRequest) -> tuple[int, int]:
    """From which one on, and how many at most."""
    count = request.count if request.HasField("count") else scim.DEFAULT_PAGE
    return max(1, request.start_index), min(max(0, count), scim.LARGEST_PAGE)


def _known(described: Mapping[str, Resource[Any]], name: str) -> Resource[Any]:
    if name not in described:
        raise NotFound("SCIM_NOT_FOUND", f"no {name}", f"لا يوجد {name}")
    return described[name]


async def _answer(
    resource: Resource[Any], shown: Shown, context: Context, member_ids: Sequence[str] = (), *, new: bool = False
) -> HttpBody:
    """A resource, with its version and, when it is new, its address as headers."""
    meta = resource.meta or Meta()
    headers = [("etag", str(meta.version))]
    if new:
        headers.append(("location", str(meta.location)))
    await context.send_initial_metadata(tuple(headers))
    return shown.one(resource, member_ids)
