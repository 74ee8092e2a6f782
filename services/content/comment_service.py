"""CommentService: each RPC's transaction, its function and its event."""

from libs import etags, outbox, rpc
from libs.db import Connection, Pool, connection, transaction
from libs.identity import caller
from libs.permissions import COMMENT
from libs.rpc import Context
from libs.text import nfc
from services.content import access, comments, stages
from thmnayah.content.v1 import comments_pb2, comments_pb2_grpc
from thmnayah.content.v1.comments_pb2 import Comment

MODERATE = "content.moderate_comments"


class CommentService(comments_pb2_grpc.CommentServiceServicer):
    """The servicer of thmnayah.content.v1.CommentService, where each RPC is described."""

    def __init__(self, db: Pool) -> None:
        self.db = db

    async def CreateComment(self, request: comments_pb2.CreateCommentRequest, context: Context) -> Comment:
        _compose(request)
        async with transaction(self.db) as conn:
            about = request.comment
            await _check(conn, about.content_id, about.thread_id, stages.locale_of(about.field))
            comment = await comments.create(conn, request.comment, author=caller.get().user_id)
            await outbox.add(conn, comments_pb2.CommentCreated(comment=comment), about=comment.id)
        return await etags.tagged(comment, context)

    async def GetComment(self, request: comments_pb2.GetCommentRequest, context: Context) -> Comment:
        async with connection(self.db) as conn:
            comment = await comments.get(conn, request.content_id, request.id, scope=await access.scope(conn))
        return await etags.tagged(comment, context)

    async def ListComments(
        self, request: comments_pb2.ListCommentsRequest, context: Context
    ) -> comments_pb2.ListCommentsResponse:
        async with connection(self.db) as conn:
            if request.content_id:
                await access.sees(conn, request.content_id)
            return await comments.list_page(
                conn,
                scope=await access.scope(conn),
                content_id=request.content_id,
                filter=request.filter,
                page_size=request.page_size,
                page_token=request.page_token,
            )

    async def UpdateComment(self, request: comments_pb2.UpdateCommentRequest, context: Context) -> Comment:
        _compose(request)
        given = request.comment
        async with transaction(self.db) as conn:
            await _check(conn, given.content_id, given.id)
            comment = await comments.update(
                conn,
                given,
                paths=request.update_mask.paths,
                etag=etags.given(given.etag),
                author=caller.get().user_id,
            )
            if comment is None:
                comment = await comments.get(conn, given.content_id, given.id)
            else:
                await outbox.add(conn, comments_pb2.CommentUpdated(comment=comment), about=comment.id)
        return await etags.tagged(comment, context)

    async def DeleteComment(self, request: comments_pb2.DeleteCommentRequest, context: Context) -> Comment:
        async with transaction(self.db) as conn:
            await _check(conn, request.content_id, request.id)
            comment = await comments.delete(
                conn,
                request.content_id,
                request.id,
                etag=etags.given(request.etag),
                author=caller.get().user_id,
                may_moderate=caller.get().may(MODERATE),
            )
            await outbox.add(conn, comments_pb2.CommentDeleted(comment=comment), about=comment.id)
        return comment

    async def ResolveComment(self, request: comments_pb2.ResolveCommentRequest, context: Context) -> Comment:
        async with transaction(self.db) as conn:
            await _check(conn, request.content_id, request.id)
            comment, changed = await comments.resolve(
                conn,
                request.content_id,
                request.id,
                etag=etags.given(request.etag),
                resolved_by=caller.get().user_id,
            )
            if changed:
                await outbox.add(conn, comments_pb2.CommentResolved(comment=comment), about=comment.id)
        return await etags.tagged(comment, context)

    async def ReopenComment(self, request: comments_pb2.ReopenCommentRequest, context: Context) -> Comment:
        async with transaction(self.db) as conn:
            await _check(conn, request.content_id, request.id)
            comment, changed = await comments.resolve(
                conn, request.content_id, request.id, etag=etags.given(request.etag), resolved_by=None
            )
            if changed:
                await outbox.add(conn, comments_pb2.CommentReopened(comment=comment), about=comment.id)
        return await etags.tagged(comment, context)


async def _check(conn: Connection, content_id: str, comment_id: str, locale: str = "") -> None:
    """Check that the caller may comment on an item, and sees the comment that it is about, if there is one."""
    if await access.check(conn, content_id, COMMENT, [locale] if locale else ()) is not None and comment_id:
        await comments.get(conn, content_id, comment_id, scope=await access.scope(conn))


def _compose(request: comments_pb2.CreateCommentRequest | comments_pb2.UpdateCommentRequest) -> None:
    """Put the texts into the form they are stored in, in which they may be longer than the contract allows."""
    request.comment.text, request.comment.quote = nfc(request.comment.text), nfc(request.comment.quote)
    rpc.validate(request)
