"""The boundary of a service: deadlines, cancellation, errors that tell nothing, the load limit, health and drain."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import jwt
import pytest
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from deploy.local.mesh import Mesh
from libs import config, contracts, identity, rpc, telemetry
from libs.errors import Conflict, Unavailable
from libs.roles import Roles
from libs.rpc import Boundary, Context
from tests.conftest import Metadata, eventually, free_port
from thmnayah.auth.v1 import auth_pb2, auth_pb2_grpc
from thmnayah.auth.v1.auth_pb2 import JsonWebKeySet
from thmnayah.auth.v1.roles_pb2 import GetRoleSnapshotRequest, RoleSnapshot
from thmnayah.content.v1.content_pb2 import Content, CreateContentRequest, GetContentRequest, UpdateContentRequest
from thmnayah.gateway.v1 import gateway_pb2_grpc
from thmnayah.gateway.v1.gateway_pb2 import GetDocsRequest, GetHealthRequest, Health

SERVING = Health(status=Health.SERVING)
GET_DOCS = "/thmnayah.gateway.v1.GatewayService/GetDocs"

Behaviour = Callable[[Context], Awaitable[Any]]


async def _serve(_: Context) -> Health:
    return SERVING


class Scratch:
    """A service that does what a test wants."""

    def __init__(self) -> None:
        self.behave: Behaviour = _serve
        self.calls = 0

    def register(self, server: grpc.aio.Server) -> None:
        _register(server, "GetHealth", self.get_health)
        _register(server, "GetDocs", self.get_docs)
        _register(server, "Login", self.login)

    async def get_health(self, _: object, context: Context) -> Any:
        self.calls += 1
        return await self.behave(context)

    async def get_docs(self, request: GetDocsRequest, _: Context) -> HttpBody:
        return HttpBody(content_type="text/plain", data=request.asset.encode())

    async def login(self, _: object, context: Context) -> auth_pb2.Tokens:
        self.calls += 1
        await self.behave(context)
        return auth_pb2.Tokens()


def _register(server: grpc.aio.Server, name: str, method: Callable[[Any, Context], Awaitable[Any]]) -> None:
    """Serve one RPC of the contracts, as the generated code does it for all of a service."""
    (described,) = [each.descriptor for each in contracts.rpcs() if each.descriptor.name == name]
    handler = grpc.unary_unary_rpc_method_handler(
        method,
        request_deserializer=GetMessageClass(described.input_type).FromString,
        response_serializer=GetMessageClass(described.output_type).SerializeToString,
    )
    service = described.containing_service.full_name
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: handler}),))


async def _no_keys() -> JsonWebKeySet:
    return JsonWebKeySet()


async def _no_roles(_: GetRoleSnapshotRequest) -> RoleSnapshot:
    return RoleSnapshot(version=1)


@asynccontextmanager
async def serving(scratch: Scratch, *, concurrent_calls: int = 8) -> AsyncIterator[str]:
    """The address of a server with the boundary before it."""
    server = grpc.aio.server(interceptors=[Boundary(identity.Verifier(_no_keys, Roles(_no_roles)), concurrent_calls)])
    scratch.register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)


@pytest.fixture
def scratch() -> Scratch:
    return Scratch()


@pytest.fixture
async def channel(scratch: Scratch) -> AsyncIterator[grpc.aio.Channel]:
    async with serving(scratch) as address, grpc.aio.insecure_channel(address) as channel:
        yield channel


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> Any:
    return gateway_pb2_grpc.GatewayServiceStub(channel)


async def refusal(call: Awaitable[object]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value


def details(error: grpc.aio.AioRpcError) -> tuple[status_pb2.Status, dict[str, Any]]:
    """The google.rpc.Status of an error, and its details by their names."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # takes whatever has code, details and trailers
    assert status is not None, error
    found: dict[str, Any] = {}
    for packed in status.details:
        name = packed.TypeName().rpartition(".")[2]
        found[name] = getattr(error_details_pb2, name)()
        assert packed.Unpack(found[name])
    return status, found


# R-RPC-1: deadlines.


async def test_a_call_without_a_deadline_gets_one(scratch: Scratch, stub: Any) -> None:
    ended = asyncio.Event()

    async def wait_for_ever(context: Context) -> Health:
        assert context.time_remaining() is None
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return SERVING

    scratch.behave = wait_for_ever
    started = time.monotonic()

    error = await refusal(stub.GetHealth(GetHealthRequest()))

    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert details(error)[1]["ErrorInfo"].reason == "DEADLINE_EXCEEDED"
    assert ended.is_set()
    assert rpc.DEFAULT_DEADLINE_SECONDS - 0.1 < time.monotonic() - started < rpc.DEFAULT_DEADLINE_SECONDS + 3


async def test_work_ends_with_the_callers_deadline(scratch: Scratch, stub: Any) -> None:
    ended = asyncio.Event()

    async def wait_for_ever(_: Context) -> Health:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return SERVING

    scratch.behave = wait_for_ever
    started = time.monotonic()

    error = await refusal(stub.GetHealth(GetHealthRequest(), timeout=0.3))

    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    async with asyncio.timeout(3):
        await ended.wait()
    assert time.monotonic() - started < 3


async def test_work_that_could_not_end_in_time_is_not_begun(scratch: Scratch, stub: Any) -> None:
    error = await refusal(stub.GetHealth(GetHealthRequest(), timeout=rpc.MARGIN_SECONDS * 0.7))

    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert scratch.calls == 0


async def test_a_timeout_of_our_own_is_not_called_the_callers(scratch: Scratch, stub: Any) -> None:
    async def time_out(_: Context) -> Health:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()
        return SERVING

    scratch.behave = time_out

    assert (await refusal(stub.GetHealth(GetHealthRequest(), timeout=10))).code() == grpc.StatusCode.INTERNAL


# R-RPC-2: cancellation.


async def test_cancelled_calls_leave_nothing_behind(scratch: Scratch) -> None:
    running = 0

    async def wait_for_ever(_: Context) -> Health:
        nonlocal running
        running += 1
        try:
            await asyncio.Event().wait()
        finally:
            running -= 1
        return SERVING

    async with serving(scratch, concurrent_calls=20) as address, grpc.aio.insecure_channel(address) as channel:
        stub: Any = gateway_pb2_grpc.GatewayServiceStub(channel)
        for _ in range(10):
            scratch.behave = wait_for_ever
            calls = [stub.GetHealth(GetHealthRequest()) for _ in range(20)]
            await eventually(lambda: _count(lambda: running), lambda count: count == 20)
            for call in calls:
                call.cancel()
            await eventually(lambda: _count(lambda: running), lambda count: count == 0)
            scratch.behave = _serve
            # Each of the places is free again.
            await asyncio.gather(*(stub.GetHealth(GetHealthRequest(), timeout=5) for _ in range(20)))


async def test_more_calls_than_the_limit_are_told_to_wait(scratch: Scratch) -> None:
    go = asyncio.Event()
    running = 0

    async def wait(_: Context) -> Health:
        nonlocal running
        running += 1
        await go.wait()
        return SERVING

    scratch.behave = wait
    async with serving(scratch, concurrent_calls=4) as address, grpc.aio.insecure_channel(address) as channel:
        stub: Any = gateway_pb2_grpc.GatewayServiceStub(channel)
        admitted = [stub.GetHealth(GetHealthRequest(), timeout=30) for _ in range(4)]
        await eventually(lambda: _count(lambda: running), lambda count: count == 4)

        for _ in range(20):
            _, found = details(await refusal(stub.GetHealth(GetHealthRequest(), timeout=30)))
            assert found["ErrorInfo"].reason == "OVERLOADED"
            assert found["RetryInfo"].retry_delay.ToMilliseconds() == 1000
        assert running == 4

        go.set()
        assert [await call for call in admitted] == [SERVING] * 4
        assert await stub.GetHealth(GetHealthRequest(), timeout=30) == SERVING


async def _count(count: Callable[[], int]) -> int:
    return count()


async def test_cancelled_calls_leave_no_transaction_open(
    mesh: Mesh,
    content: Any,
    editor: Metadata,
    content_db: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    item = await content.CreateContent(
        CreateContentRequest(content=Content(type="article", title={"en": "Title"})), metadata=editor, timeout=10
    )

    observer = await asyncpg.connect(mesh.database_url("content"))

    async def held() -> int:
        """How many of the service's connections are in a transaction, beside one that sends events."""
        count: int = await observer.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'thmnayah-content'"
            " AND state <> 'idle' AND query NOT LIKE '%outbox%'"
        )
        return count

    async with grpc.aio.insecure_channel(mesh.service_address("content")) as channel:
        stub: Any = type(content)(channel)
        async with content_db.transaction():
            await content_db.execute("SELECT FROM contents WHERE id = $1 FOR UPDATE", item.id)  # all wait for us
            for _ in range(4):
                calls = [
                    stub.UpdateContent(
                        UpdateContentRequest(content=Content(id=item.id, category=f"{number}")), metadata=editor
                    )
                    for number in range(50)
                ]
                await eventually(held, lambda count: count >= 6)
                for call in calls:
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)
        await eventually(held, lambda count: count == 0)
    await observer.close()

    read = await content.GetContent(GetContentRequest(id=item.id), metadata=editor, timeout=10)
    assert read.version == item.version
    changed = await content.UpdateContent(
        UpdateContentRequest(content=Content(id=item.id, category="history")), metadata=editor, timeout=10
    )
    assert changed.version == item.version + 1


# R-RPC-3: what goes wrong here is not told there.

SECRET = "hunter2"


class _Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError(SECRET)


def _caused() -> Exception:
    error = LookupError("nothing")
    error.__cause__ = RuntimeError(f"postgres://thmnayah:{SECRET}@db/thmnayah")
    error.add_note(SECRET)
    return error


SECRETS: dict[str, BaseException] = {
    "an address of a database": RuntimeError(f"dsn=postgres://thmnayah:{SECRET}@db/thmnayah"),
    "a value": ValueError(f"invalid literal for int() with base 10: '{SECRET}'"),
    "a key": KeyError(SECRET),
    "a file": FileNotFoundError(2, "No such file or directory", f"/run/secrets/{SECRET}"),
    "a host": ConnectionRefusedError(111, f"Connect call failed ('{SECRET}.internal', 5432)"),
    "a row": asyncpg.UniqueViolationError(f'duplicate key value violates unique constraint "{SECRET}"'),
    "a statement": asyncpg.PostgresSyntaxError(f'syntax error at or near "{SECRET}"'),
    "bytes": UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, SECRET),
    "a document": json.JSONDecodeError(SECRET, SECRET, 0),
    "a message": DecodeError(SECRET),
    "a token": jwt.InvalidTokenError(SECRET),
    "an assertion": AssertionError(SECRET),
    "a time-out": TimeoutError(SECRET),
    "a group": ExceptionGroup(SECRET, [RuntimeError(SECRET)]),
    "a cause and a note": _caused(),
    "the name of a class": type(f"Password{SECRET}", (Exception,), {})(),
    "an error that cannot be written": _Unspeakable(),
    "an exhausted iterator": StopAsyncIteration(SECRET),
    "memory": MemoryError(SECRET),
    "a status of grpc's": grpc.aio.UsageError(SECRET),
    "another service's error": grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE,
        grpc.aio.Metadata(("password", SECRET)),
        grpc.aio.Metadata(("password", SECRET)),
        details=SECRET,
        debug_error_string=f"ipv4:10.0.0.7:{SECRET}",
    ),
}


@pytest.mark.parametrize("name", SECRETS)
async def test_an_error_nobody_expected_tells_the_caller_nothing(scratch: Scratch, stub: Any, name: str) -> None:
    async def fail(_: Context) -> Health:
        raise SECRETS[name]

    scratch.behave = fail

    error = await refusal(stub.GetHealth(GetHealthRequest(), metadata=(("x-request-id", "asked"),), timeout=10))

    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "internal error")
    status, found = details(error)
    assert found.keys() == {"ErrorInfo", "LocalizedMessage", "RequestInfo"}
    assert found["ErrorInfo"] == error_details_pb2.ErrorInfo(reason="INTERNAL", domain="thmnayah")
    assert found["RequestInfo"].request_id == "asked"
    _assert_nothing_told(error, status)


@pytest.mark.parametrize("reply", [None, SECRET, SECRET.encode(), RuntimeError(SECRET)], ids=repr)
async def test_an_answer_that_is_none_tells_the_caller_nothing(scratch: Scratch, stub: Any, reply: object) -> None:
    async def answer(_: Context) -> object:
        return reply

    scratch.behave = answer

    error = await refusal(stub.GetHealth(GetHealthRequest(), timeout=10))

    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "internal error")
    _assert_nothing_told(error, details(error)[0])


def _assert_nothing_told(error: grpc.aio.AioRpcError, status: status_pb2.Status) -> None:
    told = " ".join(
        (
            error.details() or "",
            repr(error.trailing_metadata()),
            repr(error.initial_metadata()),
            str(status),
        )
    )
    for word in (SECRET, "Traceback", "Error", "Exception", ".py", "<class", "postgres"):
        assert word not in told.replace("ErrorInfo", ""), told


async def test_an_error_on_purpose_tells_the_caller_what_it_means(scratch: Scratch, stub: Any) -> None:
    async def conflict(_: Context) -> Health:
        raise Conflict("ETAG_MISMATCH", "it changed", "تغيّر", metadata={"etag": "2"}, retry_seconds=1.5)

    scratch.behave = conflict

    error = await refusal(stub.GetHealth(GetHealthRequest(), metadata=(("accept-language", "ar"),), timeout=10))

    assert (error.code(), error.details()) == (grpc.StatusCode.ABORTED, "it changed")
    _, found = details(error)
    assert found["ErrorInfo"].metadata == {"etag": "2"}
    assert (found["LocalizedMessage"].locale, found["LocalizedMessage"].message) == ("ar", "تغيّر")
    assert found["RetryInfo"].retry_delay.ToMilliseconds() == 1500
    assert len(found["RequestInfo"].request_id) == 36  # made up for who sent none


UNREADABLE = {
    "malformed UTF-8": b"\x0a\x01\xff",
    "a surrogate": b"\x0a\x03\xed\xa0\x80",
    "a length beyond the end": b"\x0a\x7f",
    "a field of number 0": b"\x02\x00",
    "an endless varint": b"\x0a" + b"\xff" * 11,
    "a group that does not end": b"\x0b",
    "no message": b"\xff" * 100,
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_a_message_that_cannot_be_read_is_the_callers_error(channel: grpc.aio.Channel, name: str) -> None:
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(GET_DOCS)

    error = await refusal(call(UNREADABLE[name], timeout=10))

    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    status, found = details(error)
    assert found["ErrorInfo"].reason == "INVALID_REQUEST"
    _assert_nothing_told(error, status)


async def test_a_message_that_breaks_a_rule_is_the_callers_error(stub: Any) -> None:
    error = await refusal(stub.GetDocs(GetDocsRequest(asset="A" * 101), timeout=10))

    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert [each.field for each in details(error)[1]["BadRequest"].field_violations] == ["asset"]


async def test_fields_of_a_newer_client_are_no_error(channel: grpc.aio.Channel) -> None:
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(GET_DOCS)

    assert HttpBody.FromString(await call(b"\x0a\x01a\xfa\x3e\x03new", timeout=10)).data == b"a"


# Calls of other services.


@pytest.mark.parametrize(("failures", "answered"), [(0, True), (2, True), (3, False)])
async def test_a_call_without_effect_is_repeated_while_a_service_is_away(
    scratch: Scratch, failures: int, *, answered: bool
) -> None:
    async def fail_first(_: Context) -> Health:
        if scratch.calls <= failures:
            raise Unavailable
        return SERVING

    scratch.behave = fail_first
    async with serving(scratch) as address, rpc.channel(address) as channel:
        call = gateway_pb2_grpc.GatewayServiceStub(channel).GetHealth(GetHealthRequest(), timeout=10)
        if answered:
            assert await call == SERVING
        else:
            assert (await refusal(call)).code() == grpc.StatusCode.UNAVAILABLE

    assert scratch.calls == min(failures + 1, 3)


async def test_a_call_with_an_effect_is_never_repeated(scratch: Scratch) -> None:
    async def fail(_: Context) -> Health:
        raise Unavailable

    scratch.behave = fail
    async with serving(scratch) as address, rpc.channel(address) as channel:
        request = auth_pb2.LoginRequest(email="a@example.com", password="x")
        error = await refusal(auth_pb2_grpc.AuthServiceStub(channel).Login(request, timeout=10))

    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert scratch.calls == 1


# A process of its own: health, the load limit, drain. It runs `main` below.


class Waiting:
    """GetDocs answers once the file exists that it asks for; GetHealth fails."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def register(self, server: grpc.aio.Server) -> None:
        _register(server, "GetDocs", self.get_docs)
        _register(server, "GetHealth", self.get_health)

    async def get_docs(self, request: GetDocsRequest, _: Context) -> HttpBody:
        await eventually(lambda: _exists(self.folder / request.asset), seconds=60)
        return HttpBody(data=b"done")

    async def get_health(self, _: object, __: Context) -> Health:
        raise RuntimeError(f"the password is {SECRET}")


async def _exists(path: Path) -> bool:
    return path.exists()  # noqa: ASYNC240 — one look takes microseconds


def main() -> None:
    """The process: everything as a service has it, but for what it serves."""
    folder = Path(sys.argv[1])
    settings = config.Settings.load()
    telemetry.start("scratch", settings)

    async def needed() -> None:
        if (folder / "needed-is-away").exists():
            raise Unavailable

    async def used() -> None:
        if (folder / "used-is-away").exists():
            raise Unavailable

    rpc.run(
        rpc.serve(
            settings,
            verifier=identity.Verifier(_no_keys, Roles(_no_roles)),
            register=Waiting(folder).register,
            needs={"needed": needed},
            uses={"used": used},
        )
    )


class Process:
    """A running service."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path, port: int) -> None:
        self.process = process
        self.folder = folder
        self.address = f"127.0.0.1:{port}"

    def touch(self, name: str) -> None:
        (self.folder / name).touch()

    def remove(self, name: str) -> None:
        (self.folder / name).unlink()


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Process]:
    port = free_port()
    environ = {**os.environ, "THMNAYAH_DRAIN_SECONDS": "3", "THMNAYAH_PORT": str(port)}
    with (folder / "log").open("wb") as log:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "from tests.libs.test_rpc import main; main()", str(folder)),
            stdout=log,
            stderr=log,
            env=environ,
        )
    process = Process(child, folder, port)
    try:
        await eventually(lambda: _serves(process.address), seconds=60)
        yield process
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


@pytest.fixture(scope="module")
async def process(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Process]:
    async with running(tmp_path_factory.mktemp("process")) as process:
        yield process


@pytest.fixture
async def mortal(tmp_path: Path) -> AsyncIterator[Process]:
    """A process that a test may stop."""
    async with running(tmp_path) as process:
        yield process


@pytest.fixture
async def outside(process: Process) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(process.address) as channel:
        yield channel


@pytest.fixture
def waiting(outside: grpc.aio.Channel) -> Any:
    return gateway_pb2_grpc.GatewayServiceStub(outside)


async def _serves(address: str) -> bool:
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            return await health(channel) == "SERVING"
        except grpc.aio.AioRpcError:
            return False


async def health(channel: grpc.aio.Channel, name: str = "") -> str:
    stub: Any = health_pb2_grpc.HealthStub(channel)  # whose type names no methods
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


async def test_health_follows_what_a_service_needs(process: Process, outside: grpc.aio.Channel) -> None:
    assert [await health(outside, name) for name in ("", "needed", "used")] == ["SERVING"] * 3

    process.touch("needed-is-away")
    await eventually(lambda: health(outside), lambda status: status == "NOT_SERVING")
    assert await health(outside, "needed") == "NOT_SERVING"
    # So that nobody restarts a process for what another lacks.
    assert [await health(outside, name) for name in ("live", "used")] == ["SERVING"] * 2

    process.remove("needed-is-away")
    await eventually(lambda: health(outside), lambda status: status == "SERVING")


async def test_health_outlives_what_a_service_only_uses(process: Process, outside: grpc.aio.Channel) -> None:
    process.touch("used-is-away")

    await eventually(lambda: health(outside, "used"), lambda status: status == "NOT_SERVING")
    assert await health(outside) == "SERVING"

    process.remove("used-is-away")
    await eventually(lambda: health(outside, "used"), lambda status: status == "SERVING")


async def test_a_service_that_is_stopped_finishes_what_it_began(mortal: Process) -> None:
    async with grpc.aio.insecure_channel(mortal.address) as channel:
        waiting: Any = gateway_pb2_grpc.GatewayServiceStub(channel)
        begun = asyncio.ensure_future(waiting.GetDocs(GetDocsRequest(asset="go"), timeout=60))
        assert await health(channel) == "SERVING"
        mortal.touch("at-once")

        mortal.process.send_signal(signal.SIGTERM)

        # At first it only says so, while its callers look elsewhere.
        await eventually(lambda: health(channel), lambda status: status == "NOT_SERVING", seconds=2.5)
        assert (await waiting.GetDocs(GetDocsRequest(asset="at-once"), timeout=5)).data == b"done"
        # Then it takes no new calls.
        await eventually(lambda: _is_turned_away(mortal.address))
        assert mortal.process.returncode is None
        assert not begun.done()

        mortal.touch("go")
        assert (await begun).data == b"done"
        async with asyncio.timeout(10):
            assert await mortal.process.wait() == 0


async def _is_turned_away(address: str) -> bool:
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            await gateway_pb2_grpc.GatewayServiceStub(channel).GetDocs(GetDocsRequest(asset="at-once"), timeout=2)
        except grpc.aio.AioRpcError as error:
            return error.code() == grpc.StatusCode.UNAVAILABLE
    return False


async def test_an_idle_service_stops_soon(mortal: Process) -> None:
    mortal.process.send_signal(signal.SIGINT)

    async with asyncio.timeout(10):
        assert await mortal.process.wait() == 0


async def test_the_cause_of_an_internal_error_is_in_the_log_under_its_request(process: Process, waiting: Any) -> None:
    await refusal(waiting.GetHealth(GetHealthRequest(), metadata=(("x-request-id", "asked"),), timeout=5))

    entries = [json.loads(line) for line in (process.folder / "log").read_text().splitlines() if line[:1] == "{"]
    (entry,) = [entry for entry in entries if entry["event"] == "call_failed"]
    assert entry["request_id"] == "asked"
    assert entry["service"] == "scratch"
    assert f"RuntimeError: the password is {SECRET}" in entry["exception"]


async def test_a_message_beyond_the_largest_is_refused(process: Process, waiting: Any) -> None:
    error = await refusal(waiting.GetDocs(GetDocsRequest(asset="a" * (rpc.MAX_MESSAGE_BYTES + 1)), timeout=10))

    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert process.process.returncode is None
