"""AuditService: each RPC's connection and its function."""

from libs.db import Pool, connection
from libs.rpc import Context
from services.auth import audit
from services.auth.audit import Head
from thmnayah.auth.v1 import audit_pb2, audit_pb2_grpc

# Well within a call's deadline.
VERIFIED_AT_ONCE = 5000


class AuditService(audit_pb2_grpc.AuditServiceServicer):
    """The servicer of thmnayah.auth.v1.AuditService, where each RPC is described."""

    def __init__(self, db: Pool) -> None:
        self.db = db

    async def ListAuditEvents(
        self, request: audit_pb2.ListAuditEventsRequest, context: Context
    ) -> audit_pb2.ListAuditEventsResponse:
        async with connection(self.db) as conn:
            return await audit.list_events(
                conn, text=request.filter, page_size=request.page_size, page_token=request.page_token
            )

    async def VerifyAuditEvents(
        self, request: audit_pb2.VerifyAuditEventsRequest, context: Context
    ) -> audit_pb2.VerifyAuditEventsResponse:
        after, noted = Head.parse(request.page_token), Head.parse(request.head)
        async with connection(self.db) as conn:
            head, problem, more = await audit.verify(conn, after, noted=noted, limit=VERIFIED_AT_ONCE)
        return audit_pb2.VerifyAuditEventsResponse(
            head=str(head), problem=problem, next_page_token=str(head) if more else ""
        )
