"""RoleService: each RPC's transaction, its function and its event."""

from google.protobuf.message import Message

from libs import etags, outbox, rpc
from libs.db import Pool, connection, transaction
from libs.identity import caller
from libs.roles import Roles
from libs.rpc import Context
from libs.text import nfc
from services.auth import audit, roles, users
from thmnayah.auth.v1 import roles_pb2, roles_pb2_grpc
from thmnayah.auth.v1.roles_pb2 import Role


class RoleService(roles_pb2_grpc.RoleServiceServicer):
    """The servicer of thmnayah.auth.v1.RoleService, where each RPC is described."""

    def __init__(self, db: Pool, known: Roles) -> None:
        """Args:
        known: what this process decides by.
        """
        self.db = db
        self.known = known

    async def CreateRole(self, request: roles_pb2.CreateRoleRequest, context: Context) -> Role:
        _compose(request, request.role)
        async with transaction(self.db) as conn:
            role = await roles.create(conn, request.role, by=caller.get())
            await outbox.add(conn, roles_pb2.RoleCreated(role=role), about=role.id)
            await audit.record(conn, "role.created", target=f"role/{role.id}")
        return await self._changed(role, context)

    async def GetRole(self, request: roles_pb2.GetRoleRequest, context: Context) -> Role:
        async with connection(self.db) as conn:
            return await etags.tagged(await roles.get(conn, request.id), context)

    async def ListRoles(self, request: roles_pb2.ListRolesRequest, context: Context) -> roles_pb2.ListRolesResponse:
        async with connection(self.db) as conn:
            return await roles.list_page(conn, page_size=request.page_size, page_token=request.page_token)

    async def UpdateRole(self, request: roles_pb2.UpdateRoleRequest, context: Context) -> Role:
        _compose(request, request.role)
        request.role.etag = etags.given(request.role.etag)
        async with transaction(self.db) as conn:
            role = await roles.update(conn, request.role, paths=request.update_mask.paths, by=caller.get())
            if role is not None:
                await outbox.add(conn, roles_pb2.RoleUpdated(role=role), about=role.id)
                await audit.record(conn, "role.updated", target=f"role/{role.id}")
            else:
                role = await roles.get(conn, request.role.id)
        return await self._changed(role, context)

    async def DeleteRole(self, request: roles_pb2.DeleteRoleRequest, context: Context) -> Role:
        etag = etags.given(request.etag)
        async with transaction(self.db) as conn:
            role = await roles.delete(conn, request.id, etag=etag, force=request.force)
            await outbox.add(conn, roles_pb2.RoleDeleted(role=role), about=role.id)
            await audit.record(conn, "role.deleted", target=f"role/{role.id}")
        return await self._changed(role, context)

    async def TestPermissions(
        self, request: roles_pb2.TestPermissionsRequest, context: Context
    ) -> roles_pb2.TestPermissionsResponse:
        who = caller.get()
        resource = request.resource if request.HasField("resource") else None
        async with connection(self.db) as conn:
            of, user_id = list(who.roles), request.user_id or who.user_id
            if user_id != who.user_id:
                who.require("roles.read")
                found = await conn.fetchval("SELECT roles || group_roles FROM users WHERE id = $1", user_id)
                if found is None:
                    raise users.not_found(user_id)
                of = found
            return await roles.test(conn, of, user_id, request.permissions, resource)

    async def GetRoleSnapshot(
        self, request: roles_pb2.GetRoleSnapshotRequest, context: Context
    ) -> roles_pb2.RoleSnapshot:
        async with connection(self.db) as conn:
            return await roles.snapshot(conn, request.version)

    async def _changed(self, role: Role, context: Context) -> Role:
        """A role after its change, which this process knows of from now on."""
        await self.known.refresh()
        return await etags.tagged(role, context)


def _compose(request: Message, role: Role) -> None:
    """Put the texts into the form they are stored in, in which they may be longer than the contract allows."""
    for texts in (role.name, role.description):
        for locale, said in texts.items():
            texts[locale] = nfc(said)
    for each in role.grants:
        each.categories[:] = dict.fromkeys(map(nfc, each.categories))
    rpc.validate(request)
