"""SearchService: each RPC's query and its reply."""

from libs.db import Pool, connection
from libs.rpc import Context
from services.search import analysis, highlights
from services.search.index import Index
from thmnayah.search.v1 import search_pb2, search_pb2_grpc


class SearchService(search_pb2_grpc.SearchServiceServicer):
    """The servicer of thmnayah.search.v1.SearchService, where each RPC is described."""

    def __init__(self, db: Pool, index: Index) -> None:
        self.db = db
        self.index = index

    async def Search(self, request: search_pb2.SearchRequest, context: Context) -> search_pb2.SearchResponse:
        async with connection(self.db) as conn:
            hits, total, token = await self.index.search(
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
            found = highlights.find(hit.content, terms, hit.locale, hit.places)
            result = response.results.add(score=hit.score, highlights=found)
            hit.content.ClearField("body")
            result.content.CopyFrom(hit.content)
        return response
