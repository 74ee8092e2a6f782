"""The page at /docs is whole and asks no other host for anything."""

import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from typing import TypeAlias

import grpc
import pytest

from libs import identity, rpc
from services.gateway.service import GatewayService
from thmnayah.gateway.v1 import gateway_pb2, gateway_pb2_grpc

Gateway: TypeAlias = "gateway_pb2_grpc.GatewayServiceAsyncStub"


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    """A stub of a running gateway service, with no mesh behind it."""
    async with rpc.channel("127.0.0.1:1") as auth:
        server = grpc.aio.server(interceptors=[rpc.Boundary(identity.Verifier.asking(auth), 10)])
        gateway_pb2_grpc.add_GatewayServiceServicer_to_server(GatewayService({}), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with rpc.channel(f"127.0.0.1:{port}") as channel:
            yield gateway_pb2_grpc.GatewayServiceStub(channel)
        await server.stop(None)


class _Links(HTMLParser):
    """What a page loads, and the policy it sets itself."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.policy = ""
        self.inline: list[str] = []
        self._script = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.urls += [url for name in ("src", "href") if (url := values.get(name))]
        self._script = tag in ("script", "style")
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"] or ""

    def handle_data(self, data: str) -> None:
        if self._script and data.strip():
            self.inline.append(data)


async def test_every_file_of_the_page_is_served(gateway: Gateway) -> None:
    page = await gateway.GetDocs(gateway_pb2.GetDocsRequest())
    links = _Links(page.data.decode())

    assert page.content_type == "text/html; charset=utf-8"
    assert {"/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css", "/docs/init.js"} <= set(links.urls)
    for url in links.urls:
        file = await gateway.GetDocs(gateway_pb2.GetDocsRequest(asset=url.removeprefix("/docs/")))
        assert file.data
        assert file.content_type.partition(";")[0] in ("text/javascript", "text/css", "image/png")


async def test_the_page_asks_no_other_host(gateway: Gateway) -> None:
    links = _Links((await gateway.GetDocs(gateway_pb2.GetDocsRequest())).data.decode())
    style = (await gateway.GetDocs(gateway_pb2.GetDocsRequest(asset="swagger-ui.css"))).data.decode()
    script = (await gateway.GetDocs(gateway_pb2.GetDocsRequest(asset="init.js"))).data.decode()

    assert all(url.startswith("/docs/") for url in links.urls)
    assert not re.search(r"""url\(["']?(?!["']?data:)|@import""", style)
    assert '"/openapi.json"' in script
    assert "//" not in script


async def test_the_page_s_policy_refuses_what_it_does_not_need(
    gateway: Gateway,
) -> None:
    links = _Links((await gateway.GetDocs(gateway_pb2.GetDocsRequest())).data.decode())
    policy = dict(directive.strip().split(" ", 1) for directive in links.policy.split(";"))

    assert policy["default-src"] == "'none'"
    assert {source for sources in policy.values() for source in sources.split()} == {"'none'", "'self'", "data:"}
    assert links.inline == []


async def test_an_unknown_file_is_not_found(gateway: Gateway) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await gateway.GetDocs(gateway_pb2.GetDocsRequest(asset="swagger-editor-bundle.js"))

    assert raised.value.code() == grpc.StatusCode.NOT_FOUND
    details = dict(raised.value.trailing_metadata())["grpc-status-details-bin"]
    assert "DOCS_ASSET_NOT_FOUND" in str(details)


async def test_the_document_is_served_as_json(gateway: Gateway) -> None:
    document = await gateway.GetOpenApi(gateway_pb2.GetOpenApiRequest())

    assert document.content_type == "application/json"
    assert document.data.startswith(b'{"openapi": "3.1.0"')
