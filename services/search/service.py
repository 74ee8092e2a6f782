"""SearchService: each RPC's query and its reply."""

from libs.db import Pool, connection
from libs.memory import Memory
from libs.rpc import Context
from services.search import analysis, highlights
from services.search.index import Index
from thmnayah.search.v1 import search_pb2, search_pb2_grpc


class SearchService(search_pb2_grpc.SearchServiceServicer):
    """The servicer of thmnayah.search.v1.SearchService, where each RPC is described."""

    def __init__(self, db: Pool, index: Index, *, answers_bytes: int) -> None:
        """Args:
        answers_bytes: how much this process keeps of what it answered, for as long as the index stays the same.
        """
        self.db = db
        self.index = index
        self.answers = Memory[bytes, tuple[int, bytes]](answers_bytes)

    async def Search(self, request: search_pb2.SearchRequest, context: Context) -> search_pb2.SearchResponse:
        question = request.SerializeToString(deterministic=True)
        async with connection(self.db) as conn:
            version = await self.index.version(conn)
            answered = self.answers.get(question)
            if answered is not None and answered[0] == version:
                return search_pb2.SearchResponse.FromString(answered[1])
            hits, total, token = await self.index.search(
                conn,
                version=version,
                query=request.query,
                locale=request.locale,
                filter=request.filter,
                page_size=request.page_size,
                page_token=request.page_token,
            )
        terms = {term for term, _, _ in analysis.terms(request.query)}
        response = search_pb2.SearchResponse(total_size=total, next_page_token=token)
        for hit in hits:
            response.results.add(content=hit.content, score=hit.score, highlights=highlights.find(hit, terms))
        answer = response.SerializeToString()
        self.answers.put(question, (version, answer), 500 + len(question) + len(answer))
        return response
