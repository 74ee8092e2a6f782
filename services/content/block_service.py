"""BlockService: changes of single blocks."""

from functools import partial

from libs import etags, rpc
from libs.db import Pool
from libs.identity import caller
from libs.permissions import UPDATE
from libs.rpc import Context
from services.content import block_edits
from services.content.service import change
from thmnayah.content.v1 import blocks_pb2_grpc
from thmnayah.content.v1.blocks_pb2 import EditBlocksRequest
from thmnayah.content.v1.content_pb2 import Content


class BlockService(blocks_pb2_grpc.BlockServiceServicer):
    """The servicer of thmnayah.content.v1.BlockService, where each RPC is described."""

    def __init__(self, db: Pool) -> None:
        self.db = db

    async def EditBlocks(self, request: EditBlocksRequest, context: Context) -> Content:
        step = partial(
            block_edits.edit,
            field=request.field,
            locale=request.locale,
            edits=request.edits,
            etag=request.etag or rpc.request_header("if-match"),
            merge=bool(request.etag),  # If-Match is about the whole item (RFC 9110)
            author=caller.get().user_id,
            note=request.note,
            autosave=request.autosave,
        )
        path = ".".join(filter(None, ("fields", request.field, request.locale)))
        changed = await change(self.db, request.id, None, step, UPDATE, writes=(Content(), [path]))
        return await etags.tagged(changed, context)
