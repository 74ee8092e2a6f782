"""A service that has stopped answering holds nobody up for longer than they said."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator

import grpc
import httpx
import pytest

from deploy.local.mesh import Mesh
from tests.conftest import eventually
from tests.gateway.corpus import problem
from thmnayah.search.v1.search_pb2 import SearchRequest
from thmnayah.search.v1.search_pb2_grpc import SearchServiceStub

# Other work may keep the machine from answering on time; without a deadline it would be never.
DEFAULT_SECONDS = (4.5, 10)
SHORT_SECONDS = (0.25, 3)


@pytest.fixture
async def frozen(mesh: Mesh, rest: httpx.AsyncClient) -> AsyncIterator[None]:
    """The search service holds still, with its connections open."""
    assert (await rest.get("/v1/search?query=word")).status_code == 200  # it was connected to
    process = mesh.supervisor.pids()["search"]
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)
    await eventually(lambda: _status(rest, "/v1/search?query=word"), lambda status: status == 200)
    await eventually(lambda: _status(rest, "/readyz"), lambda status: status == 200)


async def _status(rest: httpx.AsyncClient, path: str) -> int:
    return (await rest.get(path)).status_code


@pytest.mark.usefixtures("frozen")
async def test_a_frozen_service_keeps_no_caller_waiting(mesh: Mesh, rest: httpx.AsyncClient) -> None:
    async def over_rest(within: tuple[float, float], **headers: str) -> None:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        started = time.monotonic()
        answer = await rest.get("/v1/search?query=word", headers=sent)
        assert within[0] < time.monotonic() - started < within[1]
        assert answer.status_code == 504
        error = problem(answer.status_code, answer.headers, answer.content)
        assert (error.reason, error.code) == ("DEADLINE_EXCEEDED", 4)
        assert error.locale == headers.get("accept_language", "en")

    async def over_grpc(within: tuple[float, float], seconds: float | None) -> None:
        async with grpc.aio.insecure_channel(mesh.address) as channel:
            started = time.monotonic()
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await SearchServiceStub(channel).Search(SearchRequest(query="word"), timeout=seconds)
        assert within[0] < time.monotonic() - started < within[1]
        assert refused.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED

    async def others_answer() -> None:
        for _ in range(20):
            assert await _status(rest, "/v1/contents") == 200
        answer = await rest.get("/readyz")
        assert answer.status_code == 503
        error = problem(answer.status_code, answer.headers, answer.content)
        assert error.reason == "MESH_NOT_READY"
        assert list(error.metadata) == ["search"]

    await asyncio.gather(
        over_rest(DEFAULT_SECONDS),
        over_rest(DEFAULT_SECONDS, accept_language="ar"),
        over_rest(SHORT_SECONDS, grpc_timeout="300m"),
        over_rest(SHORT_SECONDS, grpc_timeout="1S"),
        over_grpc(DEFAULT_SECONDS, None),
        over_grpc(SHORT_SECONDS, 0.3),
        others_answer(),
    )
