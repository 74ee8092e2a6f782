"""The Python client, spoken to the real mesh through the edge."""

import asyncio
import time

import grpc
import pytest

from deploy.local.mesh import Mesh
from tests.conftest import ADMIN_EMAIL, ADMIN_PASSWORD, free_port
from thmnayah.auth.v1.auth_pb2 import GetMeRequest, LogoutRequest, Tokens
from thmnayah.client import ApiError, connect, pages
from thmnayah.content.v1.content_pb2 import (
    Content,
    CreateContentRequest,
    GetContentRequest,
    ListContentsRequest,
    PublishContentRequest,
)
from thmnayah.search.v1.search_pb2 import SearchRequest

UNKNOWN = "018f0000-0000-7000-8000-000000000001"


async def test_the_first_call_signs_in(mesh: Mesh, word: str) -> None:
    async with connect(mesh.address, email=ADMIN_EMAIL, password=ADMIN_PASSWORD) as client:
        draft = Content(type="article", title={"ar": f"مرحبا {word}"})
        item = await client.content.CreateContent(CreateContentRequest(content=draft))

    assert item.title == draft.title


async def test_nobody_needs_to_sign_in_to_read(mesh: Mesh, word: str) -> None:
    async with connect(mesh.address) as client:
        assert [result async for result in client.search_contents(SearchRequest(query=word))] == []
        with pytest.raises(ApiError) as refused:
            await client.auth.GetMe(GetMeRequest())

    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_many_calls_at_once_renew_a_session_once(mesh: Mesh) -> None:
    async with connect(mesh.address, email=ADMIN_EMAIL, password=ADMIN_PASSWORD) as client:
        await client.auth.GetMe(GetMeRequest())
        issued = client.session.tokens
    async with connect(mesh.address, tokens=issued) as client:
        client.session.keep(issued, expire_time=time.time())
        await asyncio.gather(*(client.auth.GetMe(GetMeRequest()) for _ in range(20)))
        renewed = client.session.tokens
        client.session.keep(renewed, expire_time=time.time())
        # Had the refresh token been used twice, its session would have ended.
        await client.auth.GetMe(GetMeRequest())

    assert len({issued.refresh_token, renewed.refresh_token, client.session.tokens.refresh_token}) == 3


async def test_a_token_that_is_refused_is_renewed(mesh: Mesh) -> None:
    async with connect(mesh.address, email=ADMIN_EMAIL, password=ADMIN_PASSWORD) as client:
        await client.auth.GetMe(GetMeRequest())
        tokens = client.session.tokens
        refused = f"{tokens.access_token[:-8]}AAAAAAAA"
        client.session.keep(Tokens(access_token=refused, refresh_token=tokens.refresh_token, expires_in=1800))

        assert (await client.auth.GetMe(GetMeRequest())).email == ADMIN_EMAIL


async def test_a_caller_that_gives_up_does_not_lose_the_session(mesh: Mesh) -> None:
    async with connect(mesh.address, email=ADMIN_EMAIL, password=ADMIN_PASSWORD) as client:
        await client.auth.GetMe(GetMeRequest())
        issued = client.session.tokens
    async with connect(mesh.address, tokens=issued) as client:
        client.session.keep(issued, expire_time=time.time())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await client.auth.GetMe(GetMeRequest())

        assert (await client.auth.GetMe(GetMeRequest())).email == ADMIN_EMAIL


async def test_a_session_that_ended_begins_again_with_the_password(mesh: Mesh) -> None:
    async with connect(mesh.address, email=ADMIN_EMAIL, password=ADMIN_PASSWORD) as client:
        await client.auth.GetMe(GetMeRequest())
        await client.auth.Logout(LogoutRequest(refresh_token=client.session.tokens.refresh_token))
        client.session.keep(client.session.tokens, expire_time=time.time())

        assert (await client.auth.GetMe(GetMeRequest())).email == ADMIN_EMAIL


async def test_without_a_password_an_ended_session_is_told(mesh: Mesh) -> None:
    async with connect(mesh.address, tokens=Tokens(refresh_token="nobody's")) as client:
        with pytest.raises(ApiError) as refused:
            await client.auth.GetMe(GetMeRequest())

    assert refused.value.reason == "REFRESH_TOKEN_INVALID"


async def test_an_error_tells_programs_and_people(mesh: Mesh) -> None:
    async with connect(mesh.address, email=ADMIN_EMAIL, password=ADMIN_PASSWORD, locale="ar") as client:
        with pytest.raises(ApiError) as missing:
            await client.content.GetContent(GetContentRequest(id=UNKNOWN))
        with pytest.raises(ApiError) as invalid:
            await client.content.CreateContent(CreateContentRequest(content=Content(type="article", title={"ar": ""})))

    assert missing.value.code() == grpc.StatusCode.NOT_FOUND
    assert missing.value.reason == "CONTENT_NOT_FOUND"
    assert missing.value.message == f"لا يوجد محتوى {UNKNOWN}"
    assert missing.value.details() == f"no content {UNKNOWN}"
    assert missing.value.request_id
    assert list(invalid.value.violations) == ["content.title.ar"]


async def test_a_call_ends_at_its_deadline() -> None:
    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(5)
        writer.close()

    async with await asyncio.start_server(hang, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        began = time.monotonic()
        async with connect(f"127.0.0.1:{port}", deadline_seconds=0.3) as client:
            with pytest.raises(ApiError) as late:
                await client.content.GetContent(GetContentRequest(id=UNKNOWN))

    assert late.value.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
    assert time.monotonic() - began < 3


async def test_a_server_that_is_away_is_told(word: str) -> None:
    async with connect(f"127.0.0.1:{free_port()}") as client:
        with pytest.raises(ApiError) as away:
            await client.search.Search(SearchRequest(query=word))

    assert (away.value.code(), away.value.reason) == (grpc.StatusCode.UNAVAILABLE, "")


async def test_lists_are_read_to_their_end(mesh: Mesh, word: str) -> None:
    async with connect(mesh.address, email=ADMIN_EMAIL, password=ADMIN_PASSWORD) as client:
        made = []
        for number in range(5):
            draft = Content(type="article", title={"en": f"{word} {number}"}, category=word)
            made.append((await client.content.CreateContent(CreateContentRequest(content=draft))).id)
            await client.content.PublishContent(PublishContentRequest(id=made[-1]))
        request = ListContentsRequest(filter=f"category = {word}", order_by="create_time", page_size=2)

        assert [item.id async for item in client.list_contents(request)] == made
        assert [len(page.contents) async for page in pages(client.content.ListContents, request)] == [2, 2, 1]
        assert request.page_token == ""
        search = SearchRequest(query=word, page_size=2)
        async with asyncio.timeout(10):
            while True:
                found = [result.content.id async for result in client.search_contents(search)]
                if len(found) == 5:
                    break
                await asyncio.sleep(0.05)
        assert sorted(found) == sorted(made)
