"""SessionService: each RPC's transaction and its function."""

from google.protobuf.empty_pb2 import Empty

from libs.db import Pool, connection, transaction
from libs.identity import caller
from libs.rpc import Context
from services.auth import audit, revocations, sessions
from thmnayah.auth.v1 import sessions_pb2, sessions_pb2_grpc

MANAGE = "sessions.manage"


class SessionService(sessions_pb2_grpc.SessionServiceServicer):
    """The servicer of thmnayah.auth.v1.SessionService, where each RPC is described."""

    def __init__(self, db: Pool) -> None:
        self.db = db

    async def ListSessions(
        self, request: sessions_pb2.ListSessionsRequest, context: Context
    ) -> sessions_pb2.ListSessionsResponse:
        owner = _owner(request.user_id)
        async with connection(self.db) as conn:
            page = await sessions.list_page(conn, owner, page_size=request.page_size, page_token=request.page_token)
        for session in page.sessions:
            session.current = session.id == caller.get().session_id
        return page

    async def EndSession(self, request: sessions_pb2.EndSessionRequest, context: Context) -> Empty:
        async with transaction(self.db) as conn:
            owner = _owner(request.user_id)
            await sessions.end_one(conn, owner, request.id)
            await audit.record(conn, "session.ended", target=f"session/{request.id}", details={"user": owner})
        return Empty()

    async def EndSessions(
        self, request: sessions_pb2.EndSessionsRequest, context: Context
    ) -> sessions_pb2.EndSessionsResponse:
        current = caller.get().session_id if request.scope == sessions_pb2.EndSessionsRequest.OTHERS else None
        async with transaction(self.db) as conn:
            owner = _owner(request.user_id)
            count = await sessions.end_all(conn, owner, but=current)
            await audit.record(conn, "sessions.ended", target=f"user/{owner}", details={"count": str(count)})
        return sessions_pb2.EndSessionsResponse(count=count)

    async def ListRevocations(
        self, request: sessions_pb2.ListRevocationsRequest, context: Context
    ) -> sessions_pb2.ListRevocationsResponse:
        async with connection(self.db) as conn:
            return await revocations.list_since(conn, request)


def _owner(user_id: str) -> str:
    """Whose sessions a call is about. Raises: Forbidden for another's without the permission."""
    if user_id in ("", caller.get().user_id):
        return caller.get().user_id
    caller.get().require(MANAGE)
    return user_id
