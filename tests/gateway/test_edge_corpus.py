"""The edge as it stands to the network: golden answers to requests sent byte by byte."""

import asyncio

import h2.config
import h2.connection
import hpack
import pytest
from hyperframe.frame import Frame, GoAwayFrame, HeadersFrame, RstStreamFrame

from deploy.local.mesh import Mesh
from tests.gateway.corpus import CASES, SMUGGLING, Case, http, problem, send, send_all


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_request_gets_its_golden_answer(mesh: Mesh, case: Case) -> None:
    answer = await send(mesh.address, case.request)

    assert answer.status == case.status, answer.body
    assert answer.headers["server"] == "thmnayah"
    if case.reason:
        assert problem(answer.status, answer.headers, answer.body).reason == case.reason


@pytest.mark.parametrize("case", SMUGGLING, ids=lambda case: case.name)
async def test_a_second_request_cannot_hide_in_a_first(mesh: Mesh, case: Case) -> None:
    answers = await send_all(mesh.address, case.request)

    assert [answer.status for answer in answers] == [case.status]
    assert problem(answers[0].status, answers[0].headers, answers[0].body).reason == case.reason


async def test_two_requests_in_one_packet_are_two(mesh: Mesh) -> None:
    first = http("/healthz").replace(b"Connection: close\r\n", b"")

    answers = await send_all(mesh.address, first + http("/v1/me"))

    assert [answer.status for answer in answers] == [200, 401]


async def test_an_answer_to_head_has_no_body(mesh: Mesh) -> None:
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection(*mesh.address.split(":"))
        writer.write(http("/v1/me", method="HEAD"))
        answer = await reader.read()
        writer.close()

    assert answer.startswith(b"HTTP/1.1 401 ")
    assert answer.endswith(b"\r\n\r\n")


# HTTP/2 without TLS, as gRPC clients begin it: the headers that differ from GET /healthz, and the outcome.
# "reset" is a stream that is given up, "gone" a connection.
HTTP2: dict[str, tuple[dict[str, str | None], str]] = {
    "a public address": ({}, "200"),
    "a protected address": ({":path": "/v1/me"}, "401"),
    "traversal": ({":path": "/docs/../v1/me"}, "401"),
    "an encoded slash": ({":path": "/v1%2fme"}, "400"),
    "NUL in the path": ({":path": "/healthz\0"}, "gone"),
    "a space in the path": ({":path": "/healthz x"}, "gone"),
    "an empty path": ({":path": ""}, "gone"),
    "a path without a slash": ({":path": "healthz"}, "gone"),
    "a tunnel": ({":method": "CONNECT", ":path": None, ":scheme": None}, "403"),
    "no method": ({":method": None}, "gone"),
    "an unknown pseudo-header": ({":status": "200"}, "gone"),
    "a name in upper case": ({"X-A": "1"}, "gone"),
    "a line break in a value": ({"x-a": "1\r\nx-b: 2"}, "gone"),
    "NUL in a value": ({"x-a": "1\0"}, "gone"),
    "an underscore in a name": ({"x_user_id": "1"}, "reset"),
    "a framing of HTTP/1.1": ({"transfer-encoding": "chunked"}, "gone"),
    "a connection of HTTP/1.1": ({"connection": "keep-alive"}, "gone"),
    "a length that is not kept": ({"content-length": "5"}, "gone"),
    "a large header": ({"x-large": "a" * 9000}, "reset"),
    "many headers": ({f"x-{number}": "1" for number in range(70)}, "reset"),
}


@pytest.mark.parametrize("name", HTTP2)
async def test_a_request_over_http2_gets_its_golden_answer(mesh: Mesh, name: str) -> None:
    changes, outcome = HTTP2[name]
    usual: dict[str, str | None] = {":method": "GET", ":scheme": "http", ":path": "/healthz", ":authority": "edge.test"}

    assert await _http2(mesh.address, usual | changes) == outcome


async def _http2(address: str, headers: dict[str, str | None]) -> str:
    """How one request without a body ends: its status, "reset" or "gone"."""
    client = h2.connection.H2Connection(
        h2.config.H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
    )
    client.initiate_connection()
    pairs = [(name.encode(), value.encode()) for name, value in headers.items() if value is not None]
    client.send_headers(1, pairs, end_stream=True)
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection(*address.split(":"))
        try:
            writer.write(client.data_to_send())
            # Read frame by frame: what a server says after a polite GOAWAY counts, which h2 overlooks.
            while head := await _exactly(reader, 9):
                frame, length = Frame.parse_frame_header(memoryview(head))
                frame.parse_body(memoryview(await _exactly(reader, length)))
                if isinstance(frame, HeadersFrame):
                    return dict(hpack.Decoder().decode(frame.data, raw=True))[b":status"].decode()
                if isinstance(frame, RstStreamFrame):
                    return "reset"
                if isinstance(frame, GoAwayFrame) and frame.error_code:
                    return "gone"
            return "gone"
        finally:
            writer.close()


async def _exactly(reader: asyncio.StreamReader, count: int) -> bytes:
    """So many bytes; none when the connection ends."""
    try:
        return await reader.readexactly(count)
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""
