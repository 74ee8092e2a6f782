"""Logs, metrics and traces, tied together by the request id and the trace id."""

import logging
import sys
from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.propagate import extract, inject
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import start_http_server

from libs.config import Settings

request_id: ContextVar[str] = ContextVar("request_id", default="")
tracer = trace.get_tracer("thmnayah")

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def start(service: str, settings: Settings) -> None:
    """Configure the process: JSON lines on standard error, metrics on their port, traces to the collector."""
    logging.basicConfig(stream=sys.stderr, level=_LEVELS[settings.log_level], format="%(message)s")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_ids,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[settings.log_level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    if settings.metrics_port:
        start_http_server(settings.metrics_port, settings.host)
    if settings.otlp_endpoint:
        _trace(service, settings.otlp_endpoint)


def tracing() -> bool:
    """Whether spans go anywhere."""
    return isinstance(trace.get_tracer_provider(), TracerProvider)


def stop() -> None:
    """Send what is still held back."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.shutdown()


def outgoing_headers() -> dict[str, str]:
    """The W3C trace context and the request id of the call being served, to send along."""
    headers: dict[str, str] = {}
    inject(headers)
    if request_id.get():
        headers["x-request-id"] = request_id.get()
    return headers


def incoming_context(headers: Mapping[str, str]) -> Any:
    """The OpenTelemetry context that `outgoing_headers` of the sender made."""
    return extract(headers)


def _add_ids(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if request_id.get():
        event["request_id"] = request_id.get()
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        event["trace_id"] = trace.format_trace_id(span.trace_id)
    return event


def _trace(service: str, endpoint: str) -> None:
    # Imported by those who trace: the exporter costs a start-up a third of a second.
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased  # noqa: PLC0415

    # Traces begin at the edge. Without this, the relay's looking for events would be most of them.
    sampler = ParentBased(ALWAYS_OFF)
    provider = TracerProvider(sampler, Resource.create({"service.name": f"thmnayah-{service}"}))
    exporter = OTLPSpanExporter(endpoint, insecure=endpoint.startswith("http:"))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    AsyncPGInstrumentor().instrument()  # type: ignore[no-untyped-call]  # the package types only its methods
