"""How a service is served and called: the boundary every request passes, health and shutdown.

The boundary gives each call its request id, deadline, identity and validation, turns exceptions
into statuses, and counts; so no method does any of it.
"""

import asyncio
import gc
import json
import signal
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast

import grpc
import protovalidate
import structlog
import uvloop
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_status import rpc_status
from opentelemetry import trace
from prometheus_client import Counter, Gauge, Histogram

from libs import contracts, identity, telemetry
from libs.config import Settings
from libs.errors import DeadlineExceeded, Exhausted, Failure, Forbidden, Internal, InvalidArgument, Unavailable
from libs.identity import Verifier

Context = grpc.aio.ServicerContext[Any, Any]
Metadata = Mapping[str, str]
Denied = Callable[[Failure, str], None]

# A caller that names no deadline gets this one; work that nobody waits for is not done.
DEFAULT_DEADLINE_SECONDS = 5.0
# Taken off a deadline, so that the caller hears the real error instead of its own time-out.
MARGIN_SECONDS = 0.02
STOP_SECONDS = 20.0
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
CHECK_SECONDS = 1.0

_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),
    ("grpc.max_connection_age_ms", 300_000),
    ("grpc.max_connection_age_grace_ms", 30_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
]

_seconds = Histogram(
    "rpc_seconds",
    "Time to answer a call",
    ["method", "code"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
_shed = Counter("rpc_shed_total", "Calls refused because too many were being served")
_ready = Gauge("dependency_ready", "1 while a dependency answers", ["dependency"])
_log = structlog.get_logger(__name__)

_metadata: ContextVar[Metadata] = ContextVar("metadata", default=MappingProxyType({}))


def request_header(name: str) -> str:
    """A header of the call being served, in lower case; "" when it was not sent."""
    return _metadata.get().get(name, "")


def take_headers(headers: Metadata) -> str:
    """Make these, named in lower case, the headers of the call being served; returns its request id."""
    _metadata.set(headers)
    request_id = headers.get("x-request-id", "")[:128] or str(uuid.uuid4())
    telemetry.request_id.set(request_id)
    return request_id


def client_address() -> str:
    """Where the call being served came from, as the edge saw it; "" for a call that passed it by."""
    return request_header("x-forwarded-for").rpartition(",")[2].strip()[:64]


@dataclass(frozen=True)
class Encoded:
    """An answer that is there as bytes: to parse a long one and write it again would take most of its time."""

    DESCRIPTOR: Descriptor
    """Of its message."""
    data: bytes


class Boundary(grpc.aio.ServerInterceptor):
    """What stands between the network and every method of ours."""

    def __init__(self, verifier: Verifier, concurrent_calls: int, denied: Denied | None = None) -> None:
        self._verifier = verifier
        self._denied = denied
        self._concurrent_calls = concurrent_calls
        self._running = 0
        self._rpcs = {rpc.path: rpc for rpc in contracts.rpcs()}
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["grpc.RpcMethodHandler[Any, Any] | None"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """Wrap the method once; calls that are not ours (health) pass as they are."""
        path = handler_call_details.method
        wrapped = self._handlers.get(path)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            rpc = self._rpcs.get(path)
            if handler is None or rpc is None:
                return handler
            wrapped = grpc.unary_unary_rpc_method_handler(
                self._guard(rpc, handler.unary_unary),
                request_deserializer=_parser(handler.request_deserializer),
                response_serializer=_serializer(handler.response_serializer),
            )
            self._handlers[path] = wrapped
        return wrapped

    def _guard(self, rpc: contracts.Rpc, method: Any) -> Any:
        name, answers = rpc.path, rpc.descriptor.output_type
        access, has_side_effects = rpc.access, rpc.has_side_effects
        # What people do with their own account and its credentials, a key of theirs does not.
        keyless = rpc.service == "auth" and has_side_effects and access.WhichOneof("rule") == "signed_in"
        succeeded = _seconds.labels(name, "OK")

        async def call(request: Message | None, context: Context) -> Message:
            started = time.perf_counter()
            sent = context.invocation_metadata() or ()
            metadata = {str(key): value for key, value in sent if isinstance(value, str)}
            if sum(key == "authorization" for key, _ in sent) > 1:  # whose word would hold?
                metadata["authorization"] = "several"
            request_id = take_headers(metadata)
            try:
                with _span(name, metadata):
                    reply = await self._call(
                        request, context, metadata, access, has_side_effects, method, keyless=keyless
                    )
                if getattr(reply, "DESCRIPTOR", None) is not answers:  # grpc would tell the caller what it was
                    _log.error("answer_of_another_type", method=name, type=type(reply).__name__)
                    raise Internal
            except Failure as failure:
                if self._denied is not None and isinstance(failure, Forbidden):
                    self._denied(failure, name)
                status = failure.status(language=_language(metadata), request_id=request_id)
                _seconds.labels(name, grpc_code(failure).name).observe(time.perf_counter() - started)
                await context.abort_with_status(rpc_status.to_status(status))
                raise  # not reached: abort raises
            succeeded.observe(time.perf_counter() - started)
            return reply

        return call

    async def _call(
        self,
        request: Message | None,
        context: Context,
        metadata: Metadata,
        access: Any,
        has_side_effects: bool,
        method: Callable[[Any, Context], Awaitable[Message]],
        *,
        keyless: bool,
    ) -> Message:
        if self._running >= self._concurrent_calls:
            _shed.inc()
            raise Exhausted("OVERLOADED", "too many calls at once", "طلبات كثيرة في وقت واحد", retry_seconds=1)
        self._running += 1
        try:
            seconds = context.time_remaining()
            if seconds is None:
                seconds = DEFAULT_DEADLINE_SECONDS
            if seconds < MARGIN_SECONDS:
                raise DeadlineExceeded
            async with asyncio.timeout(seconds - MARGIN_SECONDS) as deadline:
                await self._authorise(metadata, access, has_side_effects)
                if keyless and identity.caller.get().by_key:
                    raise Forbidden(
                        "API_KEY_REFUSED", "sign in for this; a key does not do", "سجّل الدخول لهذا؛ لا يكفي مفتاح"
                    )
                if request is None:
                    raise InvalidArgument({"request": "is not a message of this type in valid UTF-8"})
                validate(request)
                return await method(request, context)
        except Failure:
            raise
        except TimeoutError as error:
            if deadline.expired():
                raise DeadlineExceeded from error
            _log.exception("call_failed")
            raise Internal from error
        except Exception as error:
            _log.exception("call_failed")
            raise Internal from error
        finally:
            self._running -= 1

    async def _authorise(self, metadata: Metadata, access: Any, has_side_effects: bool) -> None:
        rule = access.WhichOneof("rule")
        caller = identity.ANONYMOUS
        authorization = metadata.get("authorization", "")
        if authorization and rule != "by_credentials":
            scheme, _, token = authorization.partition(" ")
            if scheme.lower() != "bearer" or not token:
                raise identity.token_invalid()
            caller = await self._verifier.verify(token)
            revocations = self._verifier.revocations
            if has_side_effects and revocations is not None and revocations.deaf:
                raise Unavailable(metadata={"dependency": "auth"})  # the token may be revoked; reads go on
        identity.caller.set(caller)
        if rule == "permission":
            caller.require(access.permission)
        elif rule == "signed_in" and not caller.user_id:
            raise identity.token_missing()
        elif rule is None:
            raise Forbidden("RPC_CLOSED", "this call is open to nobody", "هذا النداء مغلق")


def validate(request: Message) -> None:
    """Check a message against the rules of its .proto.

    Raises:
        InvalidArgument: naming every field that breaks one, by its JSON name.
    """
    violations: dict[str, str] = {}
    for violation in protovalidate.collect_violations(request):
        proto = violation.proto
        # A rule about two fields has no path; its id names the field to mend.
        field = _path(proto.field) if proto.field and proto.field.elements else _json_name(proto.rule_id)
        violations.setdefault(field, _description(proto))
    if violations:
        raise InvalidArgument(violations)


def _description(violation: Any) -> str:
    """What is wrong, in words where the rule is a pattern of what may not stand in a text."""
    if violation.rule_id == "string.pattern" and "`^[^" in violation.message:
        return "must not hold control characters" + (" or direction marks" if "202A" in violation.message else "")
    return str(violation.message or violation.rule_id)


def _path(path: Any) -> str:
    parts: list[str] = []
    for element in path.elements:
        parts.append(_json_name(element.field_name))
        if element.subscript is None:
            continue
        if element.subscript.field == "index":
            parts[-1] += f"[{element.subscript.value}]"
        else:
            parts.append(str(element.subscript.value))
    return ".".join(parts)


def _json_name(name: str) -> str:
    """external_id → externalId, part by part."""
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)


def _serializer(serialize: Any) -> Callable[[Message | Encoded], bytes]:
    return lambda reply: reply.data if isinstance(reply, Encoded) else serialize(reply)


def _parser(parse: Any) -> Callable[[bytes], Message | None]:
    """A message that cannot be read becomes None, which the boundary answers; grpc would say too much."""

    def parse_or_none(data: bytes) -> Message | None:
        try:
            return cast("Message", parse(data))
        except Exception:  # noqa: BLE001 — DecodeError is one of several that protobuf raises
            return None

    return parse_or_none


def _language(metadata: Metadata) -> str:
    """Arabic when the caller prefers it to English, otherwise English."""
    best, weight = "en", 0.0
    for choice in metadata.get("accept-language", "").split(","):
        tag, _, quality = choice.strip().partition(";q=")
        language = tag.split("-")[0].lower()
        try:
            asked = float(quality or 1)
        except ValueError:
            continue
        if language in ("ar", "en") and asked > weight:
            best, weight = language, asked
    return best


def _span(name: str, metadata: Metadata) -> AbstractContextManager[object]:
    if not telemetry.tracing() and "traceparent" not in metadata:
        return nullcontext()  # nobody looks: a span costs as much as validation and routing together
    return telemetry.tracer.start_as_current_span(
        name.lstrip("/"), context=telemetry.incoming_context(metadata), kind=trace.SpanKind.SERVER
    )


def grpc_code(failure: Failure) -> grpc.StatusCode:
    """The status of one of our errors, as grpc spells it."""
    return next(code for code in grpc.StatusCode if code.value[0] == failure.code)


Dependency = Callable[[], Awaitable[None]]
Task = Callable[[], Coroutine[Any, Any, None]]


async def serve(
    settings: Settings,
    *,
    verifier: Verifier,
    register: Callable[[grpc.aio.Server], None],
    needs: Mapping[str, Dependency],
    uses: Mapping[str, Dependency] | None = None,
    tasks: Sequence[Task] = (),
    denied: Denied | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return.

    Args:
        register: adds the servicers.
        needs: for each dependency, a check that raises while it is away. Readiness is that none does.
        uses: the same for dependencies without which calls can still be served.
        denied: hears of each call that is refused to its caller, and of which RPC.
        tasks: run beside the server; one that fails ends the process, and whoever runs it starts it again.

    On a signal: readiness says no at once, calls go on being accepted for `drain_seconds` while
    callers notice, then those being served may finish.
    """
    server = grpc.aio.server(
        interceptors=[Boundary(verifier, settings.concurrent_calls, denied)],
        options=_OPTIONS,
        maximum_concurrent_rpcs=None,
    )
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    await health.set("live", _status(serving=True))  # the process itself, whatever it depends on
    register(server)
    port = server.add_insecure_port(f"{settings.host}:{settings.port}")
    await _check(health, needs, uses or {})
    await server.start()
    _log.info("serving", port=port)

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)

    async def watch() -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            await _check(health, needs, uses or {})

    async def drain(running: Sequence[asyncio.Task[None]]) -> None:
        await stopping.wait()
        _log.info("draining")
        await health.enter_graceful_shutdown()
        await asyncio.sleep(settings.drain_seconds)
        await server.stop(STOP_SECONDS)
        for task in running:
            task.cancel()

    try:
        async with asyncio.TaskGroup() as group:
            kept_up = [watch, verifier.roles.follow]
            if verifier.revocations is not None:
                kept_up.append(verifier.revocations.poll)
            running = [group.create_task(task()) for task in (*kept_up, *tasks)]
            group.create_task(drain(running))
    finally:
        await server.stop(0)
    _log.info("stopped")


async def _check(health: HealthServicer, needs: Mapping[str, Dependency], uses: Mapping[str, Dependency]) -> None:
    """Set the health of each dependency, by name, and of the server (""), which needs some of them."""
    checks = {**needs, **uses}
    answers = dict(zip(checks, await asyncio.gather(*map(_answers, checks.values())), strict=True))
    for name, answered in answers.items():
        if not answered:
            _log.warning("dependency_away", dependency=name)
        _ready.labels(name).set(answered)
        await health.set(name, _status(answered))
    await health.set("", _status(all(answers[name] for name in needs)))


async def _answers(check: Dependency) -> bool:
    try:
        async with asyncio.timeout(CHECK_SECONDS * 2):
            await check()
    except Exception:  # noqa: BLE001 — away is away, for any reason
        return False
    return True


def _status(serving: bool) -> Any:
    return health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING


# New objects between two searches for cycles. Python's 700 are reached several times in a call, whose objects
# are nearly all gone at its end without a search.
_GARBAGE = 20_000


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a service's coroutine on uvloop."""
    gc.freeze()  # what modules made stays: no search looks at it
    gc.set_threshold(_GARBAGE)
    uvloop.run(main)


def channel(address: str) -> grpc.aio.Channel:
    """A channel to another service, which retries on UNAVAILABLE what may be repeated."""
    return grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS)


_SERVICE_CONFIG = json.dumps(
    {
        "methodConfig": [
            {
                "name": [
                    {"service": rpc.descriptor.containing_service.full_name, "method": rpc.descriptor.name}
                    for rpc in contracts.rpcs()
                    if not rpc.has_side_effects
                ],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "0.5s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
        "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
    }
)

# Without a bound, a channel waits up to two minutes before it looks for a service that was away.
_CHANNEL_OPTIONS = [("grpc.service_config", _SERVICE_CONFIG), ("grpc.max_reconnect_backoff_ms", 1000)]
