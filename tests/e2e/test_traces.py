"""One trace through everything that a change sets in motion, from the edge to the index."""

import re
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from deploy.local.mesh import Mesh
from tests.conftest import ADMIN_EMAIL, ADMIN_PASSWORD, bearer, eventually, free_port, mesh_settings

SQL = "opentelemetry.instrumentation.asyncpg"
# Envoy sends what it has every five seconds.
SECONDS = 30


@dataclass(frozen=True)
class Seen:
    """A span, and who sent it."""

    service: str
    library: str
    span: Span

    @property
    def trace_id(self) -> str:
        return self.span.trace_id.hex()

    @property
    def attributes(self) -> dict[str, str]:
        return {each.key: each.value.string_value for each in self.span.attributes}


@dataclass
class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """An OpenTelemetry collector that keeps what it is sent."""

    spans: list[Seen] = field(default_factory=list)

    async def Export(  # noqa: N802 — as in its .proto
        self,
        request: trace_service_pb2.ExportTraceServiceRequest,
        context: object,  # noqa: ARG002
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            names = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [Seen(names["service.name"], scope.scope.name, span) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    async def of(self, trace_id: str) -> list[Seen]:
        return [seen for seen in self.spans if seen.trace_id == trace_id]


@pytest.fixture(scope="module")
def collector() -> Collector:
    return Collector()


@pytest.fixture(scope="module")
async def client(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    """An administrator at a mesh that sends its traces to the collector."""
    address = f"127.0.0.1:{free_port()}"
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("THMNAYAH_OTLP_ENDPOINT", f"http://{address}")
        environ.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")  # milliseconds
        mesh = Mesh(mesh_settings(tmp_path_factory.mktemp("traced")), print)
        server = grpc.aio.server()
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
        server.add_insecure_port(address)
        try:
            await mesh.start()
            await server.start()
            async with httpx.AsyncClient(base_url=f"http://{mesh.address}", timeout=20) as client:
                credentials = {"email": ADMIN_EMAIL, "password": ADMIN_PASSWORD}
                signed_in = await client.post("/v1/auth:login", json=credentials)
                client.headers.update(dict(bearer(signed_in.json()["accessToken"])))
                yield client
        finally:
            await mesh.stop()
            await server.stop(0)


@dataclass(frozen=True)
class Traced:
    """What was published, under which trace, and the spans of it."""

    trace_id: str
    parent_id: str
    word: str
    spans: Sequence[Seen]

    def one(self, service: str, pattern: str) -> Seen:
        found = [seen for seen in self.spans if seen.service == service and re.search(pattern, seen.span.name)]
        assert len(found) == 1, [(seen.service, seen.span.name) for seen in self.spans]
        return found[0]

    def under(self, parent: Seen, library: str = "") -> list[Seen]:
        return [
            seen
            for seen in self.spans
            if seen.span.parent_span_id == parent.span.span_id and (not library or seen.library == library)
        ]


def traceparent(trace_id: str, parent_id: str = "") -> dict[str, str]:
    """What a caller sends who traces too."""
    return {"traceparent": f"00-{trace_id}-{parent_id or secrets.token_hex(8)}-01"}


@pytest.fixture(scope="module")
async def published(client: httpx.AsyncClient, collector: Collector) -> Traced:
    """An item, published by a caller who traces too."""
    word = "w" + secrets.token_hex(6)
    made = await client.post("/v1/contents", json={"type": "article", "title": {"en": f"About {word}"}})
    trace_id, parent_id = secrets.token_hex(16), secrets.token_hex(8)

    answer = await client.post(
        f"/v1/contents/{made.json()['id']}:publish",
        json={},
        headers=traceparent(trace_id, parent_id),
    )

    assert answer.status_code == 200
    spans = await eventually(
        lambda: collector.of(trace_id),
        lambda spans: (
            "thmnayah-content" in {seen.service for seen in spans}
            # The edge sends a few spans at a time, a call's own after those of what it called.
            and any(seen.service == "thmnayah-edge" and seen.span.kind == Span.SPAN_KIND_SERVER for seen in spans)
            and any(
                seen.service == "thmnayah-search" and seen.library == SQL and "COMMIT" in seen.span.name
                for seen in spans
            )
        ),
        seconds=SECONDS,
    )
    return Traced(trace_id, parent_id, word, spans)


async def test_a_change_is_one_trace_from_the_edge_to_the_index(published: Traced) -> None:
    edge = [seen for seen in published.spans if seen.service == "thmnayah-edge"]
    first = [seen for seen in edge if seen.span.kind == Span.SPAN_KIND_SERVER]
    called = published.one("thmnayah-content", r"^thmnayah\.content\.v1\.ContentService/PublishContent$")
    consumed = published.one("thmnayah-search", "^search consume$")

    assert [seen.span.parent_span_id.hex() for seen in first] == [published.parent_id]
    assert called.span.parent_span_id in {seen.span.span_id for seen in edge}
    assert called.span.kind == Span.SPAN_KIND_SERVER
    assert consumed.span.parent_span_id == called.span.span_id
    assert consumed.span.kind == Span.SPAN_KIND_CONSUMER


async def test_the_statements_of_both_services_are_in_it(published: Traced) -> None:
    called = published.one("thmnayah-content", "PublishContent$")
    consumed = published.one("thmnayah-search", "^search consume$")

    for parent in (called, consumed):
        statements = published.under(parent, SQL)
        assert any("INSERT" in seen.attributes.get("db.statement", "") for seen in statements)
        assert all(seen.service == parent.service for seen in statements)
    assert any("outbox" in seen.attributes["db.statement"] for seen in published.under(called, SQL))
    # The index takes a transaction; what is published is one statement.
    assert {"BEGIN", "COMMIT"} <= {seen.span.name.rstrip(";") for seen in published.under(consumed, SQL)}


async def test_no_span_holds_what_was_written_or_who_wrote_it(
    published: Traced, client: httpx.AsyncClient, collector: Collector
) -> None:
    token = client.headers["authorization"].split(" ")[1]

    for seen in collector.spans:
        for value in seen.attributes.values():
            assert published.word not in value, (seen.service, seen.span.name)
            assert token.rpartition(".")[2] not in value
            assert ADMIN_PASSWORD not in value


async def test_a_call_without_a_trace_begins_one(client: httpx.AsyncClient, collector: Collector) -> None:
    request_id = secrets.token_hex(8)

    await client.get("/v1/me", headers={"x-request-id": request_id})

    spans = await _trace_of(collector, request_id, "thmnayah-auth")
    assert [seen.span.parent_span_id for seen in spans if seen.span.kind == Span.SPAN_KIND_SERVER].count(b"") == 1


async def test_the_request_id_of_a_caller_is_kept_and_hides_no_trace(
    client: httpx.AsyncClient, collector: Collector
) -> None:
    request_ids = [
        "from the caller",
        "publish-42",
        "6ba7b810-9dad-41d1-80b4-00c04fd430c8",
        "01a20925-295b-7121-8bf9-60edd00a9fcb",
    ]
    traces = {each: secrets.token_hex(16) for each in request_ids}

    for request_id, trace_id in traces.items():
        answer = await client.get("/v1/contents", headers={**traceparent(trace_id), "x-request-id": request_id})
        assert answer.headers["x-request-id"] == request_id

    # Waited for together: the edge sends its spans every few seconds.
    async def services() -> list[set[str]]:
        return [{seen.service for seen in await collector.of(each)} for each in traces.values()]

    await eventually(
        services, lambda found: all({"thmnayah-edge", "thmnayah-content"} <= each for each in found), seconds=SECONDS
    )


async def test_what_people_search_for_is_in_no_span(client: httpx.AsyncClient, collector: Collector) -> None:
    word, request_id = "w" + secrets.token_hex(6), secrets.token_hex(8)

    await client.get("/v1/search", params={"query": word}, headers={"x-request-id": request_id})

    for seen in await _trace_of(collector, request_id, "thmnayah-search"):
        assert word not in str(seen.span), (seen.service, seen.span.name)


async def _trace_of(collector: Collector, request_id: str, service: str) -> list[Seen]:
    """The trace of a request, once the service has sent its part."""

    async def at_the_edge() -> list[Seen]:
        return [seen for seen in collector.spans if seen.attributes.get("guid:x-request-id") == request_id]

    (first, *_) = await eventually(at_the_edge, seconds=SECONDS)
    return await eventually(
        lambda: collector.of(first.trace_id),
        lambda spans: {"thmnayah-edge", service} <= {seen.service for seen in spans},
        seconds=SECONDS,
    )


async def test_a_call_that_fails_says_so_in_its_span(client: httpx.AsyncClient, collector: Collector) -> None:
    trace_id = secrets.token_hex(16)

    answer = await client.get("/v1/contents?orderBy=title", headers=traceparent(trace_id))

    assert answer.status_code == 400
    spans: list[Any] = await eventually(
        lambda: collector.of(trace_id),
        lambda spans: "thmnayah-content" in {seen.service for seen in spans},
        seconds=SECONDS,
    )
    (called,) = [seen for seen in spans if seen.span.name.endswith("ListContents")]
    assert called.span.status.code == Status.STATUS_CODE_ERROR


@pytest.mark.usefixtures("client")
async def test_work_that_nobody_asked_for_fills_no_collector(collector: Collector) -> None:
    """Relays, health checks and clean-up look at their databases many times a second."""
    began = time.time_ns()
    await eventually(_now, lambda now: now > began + 3 * 10**9)

    asked = {seen.trace_id for seen in collector.spans if seen.library != SQL}
    adrift = [seen for seen in collector.spans if seen.span.start_time_unix_nano > began and seen.trace_id not in asked]
    assert adrift == [], {(seen.service, seen.attributes.get("db.statement", "")[:80]) for seen in adrift}


async def _now() -> int:
    return time.time_ns()
