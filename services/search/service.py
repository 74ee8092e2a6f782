"""SearchService: each RPC's query and its reply."""

from libs.db import Pool, connection
from libs.rpc import Context
from services.search import analysis, documents, highlights
from thmnayah.search.v1 import search_pb2, search_pb2_grpc


class SearchService(search_pb2_grpc.SearchServiceServicer):
    """The servicer of thmnayah.search.v1.SearchService, where each RPC is described."""

    def __init__(self, db: Pool) -> None:
        self.db = db

    async def Search(self, request: search_pb2.SearchRequest, context: Context) -> search_pb2.SearchResponse:
        async with connection(self.db) as conn:
            hits, total, token = await documents.search(
                conn,
                query=request.query,
                locale=request.locale,
                filter=request.filter,
                page_size=request.page_size,
                page_token=request.page_token,
            )
        terms = {term for term, _, _ in analysis.terms(request.query)}
        response = search_pb2.SearchResponse(total_size=total, next_page_token=token)
        for hit in hits:
            result = response.results.add(
                score=hit.score, highlights=highlights.find(hit.content, terms, request.locale)
            )
            hit.content.ClearField("body")
            result.content.CopyFrom(hit.content)
        return response
