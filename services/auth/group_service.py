"""GroupService: each RPC's transaction and its function."""

from libs import etags
from libs.db import Pool, connection, transaction
from libs.rpc import Context
from services.auth import groups
from thmnayah.auth.v1 import groups_pb2, groups_pb2_grpc


class GroupService(groups_pb2_grpc.GroupServiceServicer):
    """The servicer of thmnayah.auth.v1.GroupService, where each RPC is described."""

    def __init__(self, db: Pool) -> None:
        self.db = db

    async def GetGroup(self, request: groups_pb2.GetGroupRequest, context: Context) -> groups_pb2.Group:
        async with connection(self.db) as conn:
            return await etags.tagged(await groups.get(conn, request.id), context)

    async def ListGroups(
        self, request: groups_pb2.ListGroupsRequest, context: Context
    ) -> groups_pb2.ListGroupsResponse:
        async with connection(self.db) as conn:
            return await groups.list_page(conn, page_size=request.page_size, page_token=request.page_token)

    async def UpdateGroup(self, request: groups_pb2.UpdateGroupRequest, context: Context) -> groups_pb2.Group:
        etag = etags.given(request.group.etag)
        async with transaction(self.db) as conn:
            group = await groups.update(conn, request.group, paths=request.update_mask.paths, etag=etag)
        return await etags.tagged(group, context)
