"""ReferenceService: who refers to an item."""

from libs.db import Pool, connection
from libs.identity import caller
from libs.permissions import READ_DRAFTS
from libs.rpc import Context
from services.content import access, referrers
from thmnayah.content.v1 import references_pb2, references_pb2_grpc


class ReferenceService(references_pb2_grpc.ReferenceServiceServicer):
    """The servicer of thmnayah.content.v1.ReferenceService, where each RPC is described."""

    def __init__(self, db: Pool) -> None:
        self.db = db

    async def ListReferences(
        self, request: references_pb2.ListReferencesRequest, context: Context
    ) -> references_pb2.ListReferencesResponse:
        async with connection(self.db) as conn:
            scope = await access.scope(conn)
            drafts = caller.get().may(READ_DRAFTS)
            if scope is not None and drafts:
                drafts = await access.visible(conn, request.id)
            return await referrers.list_page(
                conn,
                request.id,
                drafts=drafts,
                scope=scope,
                page_size=request.page_size,
                page_token=request.page_token,
            )
