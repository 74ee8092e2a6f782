"""What has ended is refused everywhere within 5 s, and within 10 s without NATS; who hears nothing changes nothing."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import grpc
import httpx
import jwt
import pytest
from google.protobuf.message import Message

from deploy.local.mesh import Mesh
from libs import db
from services.auth import revocations
from tests.auth.conftest import PASSWORD, MakeUser
from tests.conftest import (
    ADMIN_EMAIL,
    ADMIN_PASSWORD,
    AuthStub,
    Metadata,
    bearer,
    eventually,
    free_port,
    mesh_settings,
)
from thmnayah.auth.v1.auth_pb2 import GetMeRequest, LoginRequest, LogoutRequest, RefreshTokensRequest, Tokens
from thmnayah.auth.v1.auth_pb2_grpc import AuthServiceStub
from thmnayah.auth.v1.sessions_pb2 import ListRevocationsRequest
from thmnayah.content.v1.content_pb2 import Content, CreateContentRequest, ListContentsRequest
from thmnayah.content.v1.content_pb2_grpc import ContentServiceStub
from thmnayah.gateway.v1.gateway_pb2 import GetHealthRequest
from thmnayah.gateway.v1.gateway_pb2_grpc import GatewayServiceStub
from thmnayah.search.v1.search_pb2 import SearchRequest
from thmnayah.search.v1.search_pb2_grpc import SearchServiceStub

LOGIN = LoginRequest(email=ADMIN_EMAIL, password=ADMIN_PASSWORD)
REFUSED = grpc.StatusCode.UNAUTHENTICATED
SECONDS, SECONDS_WITHOUT_NATS = 5, 10
SLACK = 5  # the machine is shared; the figure of the last run is printed

Probe = Callable[[Metadata], Awaitable[grpc.StatusCode]]


def grpc_probe(channel: grpc.aio.Channel, stub: Any, name: str, request: Message) -> Probe:
    async def ask(metadata: Metadata) -> grpc.StatusCode:
        try:
            await getattr(stub(channel), name)(request, metadata=metadata, timeout=5)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    return ask


def rest_probe(rest: httpx.AsyncClient, path: str) -> Probe:
    async def ask(metadata: Metadata) -> grpc.StatusCode:
        answer = await rest.get(path, headers=dict(metadata))
        return REFUSED if answer.status_code == 401 else grpc.StatusCode.OK

    return ask


@contextlib.asynccontextmanager
async def probing(mesh: Mesh) -> AsyncIterator[dict[str, Probe]]:
    """A call of each service, over REST, over gRPC and past the edge."""
    calls: list[tuple[str, Any, str, Message]] = [
        ("auth", AuthServiceStub, "GetMe", GetMeRequest()),
        ("content", ContentServiceStub, "ListContents", ListContentsRequest()),
        ("search", SearchServiceStub, "Search", SearchRequest(query="x")),
        ("gateway", GatewayServiceStub, "GetHealth", GetHealthRequest()),
    ]
    async with contextlib.AsyncExitStack() as stack:
        rest = await stack.enter_async_context(httpx.AsyncClient(base_url=f"http://{mesh.address}", timeout=10))
        edge = await stack.enter_async_context(grpc.aio.insecure_channel(mesh.address))
        probes = {f"REST {path}": rest_probe(rest, path) for path in ("/v1/me", "/v1/contents", "/v1/search?query=x")}
        for service, stub, name, request in calls:
            direct = await stack.enter_async_context(grpc.aio.insecure_channel(mesh.service_address(service)))
            probes |= {
                f"gRPC {name}": grpc_probe(edge, stub, name, request),
                f"direct {name}": grpc_probe(direct, stub, name, request),
            }
        yield probes


async def until_refused(mesh: Mesh, end: Callable[[], Awaitable[object]], tokens: Tokens, *, seconds: float) -> float:
    """The time from the end to the last call that was still served; fails when one is served for longer."""
    metadata = bearer(tokens.access_token)
    async with probing(mesh) as probes:
        before = {name: await probe(metadata) for name, probe in probes.items()}
        assert set(before.values()) == {grpc.StatusCode.OK}, before
        await end()
        ended = time.monotonic()

        async def watch(name: str, probe: Probe) -> float:
            served = 0.0

            async def ask() -> grpc.StatusCode:
                nonlocal served
                code = await probe(metadata)
                if code is grpc.StatusCode.OK:
                    served = time.monotonic() - ended
                return code

            await eventually(ask, lambda code: code is REFUSED, seconds=seconds)
            # What was refused once stays so.
            assert [await probe(metadata) for _ in range(3)] == [REFUSED] * 3, name
            return served

        return max(await asyncio.gather(*(watch(*each) for each in probes.items())))


async def sign_in(mesh: Mesh) -> Tokens:
    async with grpc.aio.insecure_channel(mesh.address) as channel:
        return await AuthServiceStub(channel).Login(LOGIN, timeout=10)


async def sign_out(mesh: Mesh, tokens: Tokens) -> None:
    async with grpc.aio.insecure_channel(mesh.address) as channel:
        await AuthServiceStub(channel).Logout(LogoutRequest(refresh_token=tokens.refresh_token), timeout=10)


@pytest.fixture(scope="module")
async def own_mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    """A mesh of this file's own, whose parts are stopped and frozen."""
    mesh = Mesh(mesh_settings(tmp_path_factory.mktemp("revocation")), print)
    try:
        await mesh.start()
        yield mesh
    finally:
        await mesh.stop()


@contextlib.contextmanager
def frozen(mesh: Mesh, *names: str) -> Any:
    pids = [mesh.supervisor.pids()[name] for name in names]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("trials", [3, pytest.param(50, marks=pytest.mark.fault)])
async def test_a_session_that_ended_opens_nothing_within_5_s(mesh: Mesh, trials: int) -> None:
    taken = []
    for _ in range(trials):
        tokens = await sign_in(mesh)
        end = lambda tokens=tokens: sign_out(mesh, tokens)  # noqa: E731 — of this round
        taken.append(await until_refused(mesh, end, tokens, seconds=SECONDS + SLACK))
    print(f"the last call was served {max(taken):.2f} s after the end, at the most of {trials} trials")


@pytest.mark.parametrize("trials", [1, pytest.param(50, marks=pytest.mark.fault)])
async def test_nor_within_10_s_while_nats_is_frozen(own_mesh: Mesh, trials: int) -> None:
    taken = []
    with frozen(own_mesh, "nats"):
        for _ in range(trials):
            tokens = await sign_in(own_mesh)
            end = lambda tokens=tokens: sign_out(own_mesh, tokens)  # noqa: E731 — of this round
            taken.append(await until_refused(own_mesh, end, tokens, seconds=SECONDS_WITHOUT_NATS + SLACK))
    print(f"without NATS the last call was served {max(taken):.2f} s after the end, at the most of {trials} trials")


async def test_a_changed_users_tokens_open_nothing_and_are_renewed(
    mesh: Mesh, auth: AuthStub, make_user: MakeUser
) -> None:
    user = await make_user()
    tokens = await auth.Login(LoginRequest(email=user.email, password=PASSWORD), timeout=10)
    pool = await db.connect(mesh.database_url("auth"), service="tests", size=1)
    before = await pool.fetchval("SELECT epoch FROM users WHERE id = $1", user.id)

    async def outdate() -> None:
        async with db.transaction(pool) as conn:
            await revocations.outdate(conn, [user.id])

    await until_refused(mesh, outdate, tokens, seconds=SECONDS + SLACK)

    renewed = await auth.RefreshTokens(RefreshTokensRequest(refresh_token=tokens.refresh_token), timeout=10)
    assert jwt.decode(renewed.access_token, options={"verify_signature": False})["epoch"] == before + 1
    assert await auth.GetMe(GetMeRequest(), metadata=bearer(renewed.access_token), timeout=10)
    await pool.close()


async def test_a_service_that_hears_nothing_changes_nothing(own_mesh: Mesh) -> None:
    tokens = await sign_in(own_mesh)
    metadata = bearer(tokens.access_token)
    article = CreateContentRequest(content=Content(type="article", title={"en": "Heard"}))
    async with grpc.aio.insecure_channel(own_mesh.service_address("content")) as channel:
        create = grpc_probe(channel, ContentServiceStub, "CreateContent", article)
        list_ = grpc_probe(channel, ContentServiceStub, "ListContents", ListContentsRequest())
        assert await create(metadata) is grpc.StatusCode.OK

        with frozen(own_mesh, "auth"):  # NATS would still tell
            assert await list_(metadata) is grpc.StatusCode.OK
            with frozen(own_mesh, "nats"):
                unavailable = grpc.StatusCode.UNAVAILABLE
                await eventually(lambda: create(metadata), lambda code: code is unavailable, seconds=60)
                assert await list_(()) is await list_(metadata) is grpc.StatusCode.OK

        await eventually(lambda: create(metadata), lambda code: code is grpc.StatusCode.OK, seconds=30)


async def test_a_service_that_starts_reads_what_was_revoked_before(own_mesh: Mesh) -> None:
    tokens = await sign_in(own_mesh)
    await sign_out(own_mesh, tokens)
    port = free_port()
    environ = own_mesh._service("content").environ  # noqa: SLF001 — what the mesh's own is told
    process = await asyncio.create_subprocess_exec(
        *own_mesh._service("content").argv,  # noqa: SLF001
        env={**os.environ, **environ, "THMNAYAH_PORT": f"{port}", "THMNAYAH_METRICS_PORT": "0"},
    )
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = ContentServiceStub(channel).ListContents(
                ListContentsRequest(), metadata=bearer(tokens.access_token), timeout=30, wait_for_ready=True
            )
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
        assert refused.value.code() is REFUSED
    finally:
        process.terminate()
        await process.wait()


async def test_the_list_is_paged_and_forgets_what_has_ended(own_mesh: Mesh) -> None:
    conn = await asyncpg.connect(own_mesh.database_url("auth"))
    await conn.execute(
        """
        INSERT INTO revocations (id, session_id, expire_time)
        SELECT gen_random_uuid(), gen_random_uuid(),
               now() + CASE WHEN number <= $1 THEN interval '1 hour' ELSE interval '-1 s' END
        FROM generate_series(1, $2) AS number
        """,
        2 * revocations.PAGE,
        2 * revocations.PAGE + 500,
    )
    await conn.close()
    pool = await db.connect(own_mesh.database_url("auth"), service="tests", size=1)
    found: set[str] = set()
    request = ListRevocationsRequest()
    async with db.connection(pool) as each:
        while (answer := await revocations.list_since(each, request)).more:
            assert len(answer.revocations) == revocations.PAGE
            found |= {one.session_id for one in answer.revocations}
            request.since_time.CopyFrom(answer.next_since_time)
        found |= {one.session_id for one in answer.revocations}
        assert len(found) >= 2 * revocations.PAGE
        held = await each.fetchval("SELECT count(*) FROM revocations WHERE session_id = ANY($1)", list(found))
        await revocations.forget_expired(each)
        assert await each.fetchval("SELECT count(*) FROM revocations WHERE expire_time < now()") == 0
        assert await each.fetchval("SELECT count(*) FROM revocations WHERE session_id = ANY($1)", list(found)) == held
    await pool.close()
