"""ContentTypeService: each RPC's transaction, its function and its event."""

import json

from google.api.httpbody_pb2 import HttpBody

from libs import etags, outbox
from libs.db import Pool, connection, transaction
from libs.rpc import Context
from services.content import schemas, translations, types
from services.content.caches import Caches
from thmnayah.content.v1 import types_pb2, types_pb2_grpc
from thmnayah.content.v1.types_pb2 import ContentType


class ContentTypeService(types_pb2_grpc.ContentTypeServiceServicer):
    """The servicer of thmnayah.content.v1.ContentTypeService, where each RPC is described."""

    def __init__(self, db: Pool, caches: Caches) -> None:
        self.db = db
        self.caches = caches

    async def CreateContentType(self, request: types_pb2.CreateContentTypeRequest, context: Context) -> ContentType:
        async with transaction(self.db) as conn:
            kind = await types.create(conn, request.content_type)
            await outbox.add(conn, types_pb2.ContentTypeCreated(content_type=kind), about=kind.id)
        await self.caches.type_changed(kind.id)
        return await etags.tagged(kind, context)

    async def GetContentType(self, request: types_pb2.GetContentTypeRequest, context: Context) -> ContentType:
        async with connection(self.db) as conn:
            return await etags.tagged(await types.get(conn, request.id), context)

    async def ListContentTypes(
        self, request: types_pb2.ListContentTypesRequest, context: Context
    ) -> types_pb2.ListContentTypesResponse:
        async with connection(self.db) as conn:
            return await types.list_page(conn, page_size=request.page_size, page_token=request.page_token)

    async def UpdateContentType(self, request: types_pb2.UpdateContentTypeRequest, context: Context) -> ContentType:
        given = request.content_type
        async with transaction(self.db) as conn:
            current = await types.get(conn, given.id, lock=not request.validate_only)
            etags.check(etags.given(given.etag), current.version)
            kind = await types.changed(conn, current, given, paths=request.update_mask.paths)
            if kind == current:
                return await etags.tagged(current, context)
            hold = kind.fields != current.fields and not request.validate_only
            breaks = await types.breakages(conn, current, kind, hold=hold)
            if not request.validate_only:
                if not request.allow_breaking:
                    types.raise_if_breaking(breaks)
                kind = await types.store(conn, current, kind)
                localized = {each.id: each.localized for each in current.fields}
                if turned := [each.id for each in kind.fields if localized.get(each.id) == (not each.localized)]:
                    await translations.refresh(conn, kind, turned)
                await outbox.add(conn, types_pb2.ContentTypeUpdated(content_type=kind), about=kind.id)
        if not request.validate_only:
            await self.caches.type_changed(kind.id)
        kind.breaks.extend(breaks)
        return await etags.tagged(kind, context)

    async def DeleteContentType(self, request: types_pb2.DeleteContentTypeRequest, context: Context) -> ContentType:
        async with transaction(self.db) as conn:
            kind = await types.get(conn, request.id, lock=True)
            etags.check(etags.given(request.etag), kind.version)
            await types.delete(conn, kind)
            await outbox.add(conn, types_pb2.ContentTypeDeleted(content_type=kind), about=kind.id)
        await self.caches.type_changed(kind.id)
        return kind

    async def GetContentTypeSchema(self, request: types_pb2.GetContentTypeSchemaRequest, context: Context) -> HttpBody:
        async with connection(self.db) as conn:
            kind = await types.get(conn, request.id)
        described = json.dumps(schemas.schema(kind), ensure_ascii=False)
        return HttpBody(content_type="application/schema+json", data=described.encode())
