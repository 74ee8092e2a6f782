"""Finding out what is wrong, and what to do about it."""

import asyncio
import json
import os
import platform
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse
from importlib.metadata import version
from urllib.parse import parse_qs, urlsplit

import typer
from rich.text import Text

from thmnayah.auth.v1.auth_pb2 import GetMeRequest
from thmnayah.cli.session import stored_session
from thmnayah.cli.terminal import (
    DEFAULT_LOCALE,
    DEFAULT_SERVER,
    AsJson,
    CommandError,
    Locale,
    Server,
    describe,
    out,
    print_json,
)
from thmnayah.client import ApiError, connect, endpoint
from thmnayah.content.v1 import content_pb2
from thmnayah.content.v1.content_pb2 import ListContentsRequest

TIMEOUT_SECONDS = 5.0
SKEW_SECONDS = 5.0  # more, and the services may refuse a token as not valid yet

# Components that the environment may name, and their ports when it does not name those.
COMPONENTS = (
    ("PostgreSQL", "THMNAYAH_POSTGRES_URL", 5432),
    ("Redis", "THMNAYAH_REDIS_URL", 6379),
    ("NATS", "THMNAYAH_NATS_URL", 4222),
)


@dataclass(frozen=True)
class Check:
    """What was looked at and found."""

    name: str
    ok: bool
    found: str
    advice: str = ""
    """What to do, when it is not ok."""


@dataclass(frozen=True)
class Answer:
    """An answer over HTTP; status 0 when there was none, and the body says why."""

    status: int
    body: str
    date: str = ""
    received: float = 0
    """When it was here, by this machine's clock."""


async def doctor(*, server: Server = DEFAULT_SERVER, locale: Locale = DEFAULT_LOCALE, as_json: AsJson = False) -> None:
    """Check every part of the way to the mesh, and say what to do about what fails."""
    failed = False
    async for check in _checks(server, locale):
        failed |= not check.ok
        if as_json:
            print_json(asdict(check))
            continue
        mark = Text("ok      ", "green") if check.ok else Text("failed  ", "bold red")
        out.print(mark.append(f"{check.name:<12}{check.found}", "default"), soft_wrap=True)
        if check.advice:
            out.print(Text(f"{'':<20}→ {check.advice}", "yellow"), soft_wrap=True)
    if failed:
        raise typer.Exit(1)


async def _checks(server: str, locale: str) -> AsyncIterator[Check]:
    try:
        target, secure = endpoint(server)
    except ValueError as error:
        raise CommandError(f"--server: {error}") from None
    base = f"{'https' if secure else 'http'}://{target}"
    health, ready, document = await asyncio.gather(
        *(asyncio.to_thread(_http, f"{base}{path}") for path in ("/healthz", "/readyz", "/openapi.json"))
    )
    yield _edge(base, health)
    yield _readiness(ready)
    yield await _grpc(server, locale)
    yield await _sign_in(server, locale)
    if health.status:
        yield _clock(health)
    yield _versions(document)
    for name, setting, default_port in COMPONENTS:
        for host, port in addresses(os.environ.get(setting, ""), default_port):
            yield await _component(name, setting, host, port)


def _http(url: str) -> Answer:
    try:
        # `endpoint` leaves no other schemes than http and https.
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
            return _answer(answer)
    except urllib.error.HTTPError as error:
        return _answer(error)
    except (OSError, ValueError, HTTPException) as error:
        return Answer(0, str(getattr(error, "reason", error)))


def _answer(answer: HTTPResponse | urllib.error.HTTPError) -> Answer:
    received = time.time()
    body = answer.read().decode("utf-8", "replace")
    return Answer(answer.status or 0, body, answer.headers.get("date", ""), received)


def _edge(base: str, answer: Answer) -> Check:
    if answer.status == 200:
        return Check("edge", True, f"{base} answers")
    found = f"{base}/healthz answers {answer.status}" if answer.status else f"{base} does not answer: {answer.body}"
    return Check("edge", False, found, "start the mesh with `make run`, or name another with --server")


def _readiness(answer: Answer) -> Check:
    services = _services(answer.body)
    if answer.status == 200:
        return Check("services", True, f"{', '.join(sorted(services)) or 'all'} serve")
    away = sorted(name for name, status in services.items() if status != "SERVING")
    if away:
        return Check("services", False, f"not serving: {', '.join(away)}", "read their logs, which `make run` names")
    found = f"/readyz answers {answer.status}" if answer.status else "nobody answers for them"
    return Check("services", False, found, "see the edge first, then the gateway's log")


def _services(body: str) -> dict[str, str]:
    """The services and their states in the body of an answer, good or bad, of /readyz."""
    try:
        answer = json.loads(body)
        if "services" in answer:
            return dict(answer["services"])
        return {name: str(state) for detail in answer["details"] for name, state in detail.get("metadata", {}).items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


async def _grpc(server: str, locale: str) -> Check:
    try:
        async with connect(server, locale=locale, deadline_seconds=TIMEOUT_SECONDS) as mesh:
            began = time.perf_counter()
            await mesh.content.ListContents(ListContentsRequest(page_size=1, view=content_pb2.PUBLISHED))
            taken = time.perf_counter() - began
    except ApiError as error:
        return Check("gRPC", False, describe(error), "if all above is ok, something in between does not pass HTTP/2 on")
    return Check("gRPC", True, f"a list took {taken * 1000:.0f} ms")


async def _sign_in(server: str, locale: str) -> Check:
    try:
        session = stored_session(server)
        if not session.tokens.refresh_token:
            return Check("sign-in", True, "nobody is signed in")
        async with connect(server, session=session, locale=locale, deadline_seconds=TIMEOUT_SECONDS) as mesh:
            user = await mesh.auth.GetMe(GetMeRequest())
    except ApiError as error:
        return Check("sign-in", False, describe(error), "if all above is ok, sign in again")
    return Check("sign-in", True, f"{user.email} ({', '.join(user.roles)})")


def _clock(answer: Answer) -> Check:
    try:
        skew = answer.received - parsedate_to_datetime(answer.date).timestamp()
    except ValueError:
        return Check("clock", False, f"the answer has the date {answer.date!r}", "look for a proxy that changes it")
    if abs(skew) <= SKEW_SECONDS:
        return Check("clock", True, "as the server's")
    found = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the server"
    return Check("clock", False, found, "set the clocks of both by NTP: tokens are judged by the time")


def _versions(document: Answer) -> Check:
    ours = version("thmnayah")
    found = f"thmnayah {ours}, Python {platform.python_version()}, grpcio {version('grpcio')}"
    try:
        theirs = str(json.loads(document.body)["info"]["version"])
    except (ValueError, KeyError, TypeError):
        return Check("versions", True, f"{found}; the server does not tell its own")
    if theirs == ours:
        return Check("versions", True, f"{found}; the server has {theirs}")
    return Check("versions", False, f"{found}; the server has {theirs}", f"pip install thmnayah=={theirs}")


def addresses(url: str, default_port: int) -> Iterator[tuple[str, int]]:
    """The hosts and ports of a URL, of which NATS and PostgreSQL may list several; none for a socket in a file."""
    for each in filter(None, url.split(",")):
        parts = urlsplit(each if "://" in each else f"//{each}")
        host = parts.hostname or parse_qs(parts.query).get("host", [""])[0]
        if host and not host.startswith("/"):
            yield host, parts.port or default_port


async def _component(name: str, setting: str, host: str, port: int) -> Check:
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError) as error:
        return Check(name, False, f"{host}:{port}: {str(error) or 'no answer'}", f"start it, or correct {setting}")
    writer.close()
    return Check(name, True, f"{host}:{port} accepts connections")
