"""ParseRichText and RenderRichText through the edge, over REST and gRPC."""

import asyncio
import time

import grpc
import httpx
import pytest

from tests.conftest import Metadata, RichTextStub, bearer
from tests.content.items import refused
from tests.gateway.corpus import problem
from thmnayah.content.v1.rich_text_pb2 import (
    Block,
    ParseRichTextRequest,
    RenderRichTextRequest,
    RichText,
)

SECONDS = 10


async def test_what_is_parsed_is_rendered_over_rest(rest: httpx.AsyncClient, editor_token: str) -> None:
    headers = dict(bearer(editor_token))
    source = "# عنوان\n\nفقرة **مهمة** و[رابط](https://example.com/)."

    parsed = await rest.post("/v1/richText:parse", json={"markdown": source, "locale": "ar"}, headers=headers)
    assert parsed.status_code == 200
    heading, paragraph = parsed.json()["blocks"]
    assert (heading["heading"]["level"], heading["dir"]) == (1, "RTL")
    span = paragraph["paragraph"]["spans"][1]
    assert (span["text"], span["bold"], span["italic"]) == ("مهمة", True, False)

    rendered = {}
    for form in ("HTML", "MARKDOWN", "PLAIN"):
        body = {"richText": parsed.json(), "format": form}
        answer = await rest.post("/v1/richText:render", json=body, headers=headers)
        assert answer.status_code == 200
        rendered[form] = answer.json()["text"]
    assert rendered["MARKDOWN"] == source
    assert rendered["PLAIN"] == "عنوان\nفقرة مهمة ورابط."
    again = await rest.post("/v1/richText:parse", json={"html": rendered["HTML"]}, headers=headers)
    assert again.json() == parsed.json()


async def test_a_text_as_deep_as_may_be_passes_the_edge(rest: httpx.AsyncClient, editor_token: str) -> None:
    headers = dict(bearer(editor_token))
    for source in ("- " * 19 + "x", "> " * 19 + "x", "- " * 19 + "| a |\n" + " " * 38 + "| --- |"):
        parsed = await rest.post("/v1/richText:parse", json={"markdown": source}, headers=headers)
        assert parsed.status_code == 200
        body = {"richText": parsed.json(), "format": "MARKDOWN"}
        answer = await rest.post("/v1/richText:render", json=body, headers=headers)
        assert answer.json()["text"] == source


async def test_html_is_parsed_over_grpc(rich_text: RichTextStub, editor: Metadata) -> None:
    request = ParseRichTextRequest(html="<p onclick=alert(1)>Hello <script>alert(1)</script><b>you</b></p>")
    text = await rich_text.ParseRichText(request, metadata=editor, timeout=SECONDS)

    assert [span.text for span in text.blocks[0].paragraph.spans] == ["Hello ", "you"]


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (RichText(blocks=[Block()]), "richText.blocks[0].kind"),
        (RichText(blocks=[Block(heading=Block.Heading(level=7))]), "richText.blocks[0].heading.level"),
        (RichText(blocks=[Block(embed=Block.Embed(url="http://a.example/"))]), "richText.blocks[0].embed.url"),
        (RichText(blocks=[Block(image=Block.Image(url="data:x"))]), "richText.blocks[0].image.url"),
        (
            RichText(blocks=[Block(id="a", divider=Block.Divider()), Block(id="a", divider=Block.Divider())]),
            "richText.blocks[1].id",
        ),
        (RichText(blocks=[Block(code=Block.Code(text="x" * 100_001))] * 2), "richText"),
        (RichText(blocks=[Block(list=Block.List())]), "richText.blocks[0].items"),
        (
            RichText(
                blocks=[Block(divider=Block.Divider(), items=[Block.Item(blocks=[Block(divider=Block.Divider())])])]
            ),
            "richText.blocks[0].items",
        ),
    ],
)
async def test_a_text_that_breaks_a_limit_is_refused_by_its_path(
    rich_text: RichTextStub, reader: Metadata, text: RichText, field: str
) -> None:
    request = RenderRichTextRequest(rich_text=text, format=RenderRichTextRequest.HTML)
    refusal = await refused(rich_text.RenderRichText(request, metadata=reader, timeout=SECONDS))

    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert list(refusal.violations) == [field]


async def test_a_text_that_is_too_long_or_missing_is_refused(rest: httpx.AsyncClient, editor_token: str) -> None:
    headers = dict(bearer(editor_token))
    for body, field in (({"markdown": "ع" * 200_001}, "markdown"), ({}, "source")):
        answer = await rest.post("/v1/richText:parse", json=body, headers=headers)
        assert answer.status_code == 400
        assert list(problem(400, answer.headers, answer.content).violations) == [field]


async def test_who_may_not_write_renders_and_does_not_parse(rich_text: RichTextStub, reader: Metadata) -> None:
    request = ParseRichTextRequest(markdown="x")
    assert (await refused(rich_text.ParseRichText(request, metadata=reader))).code == grpc.StatusCode.PERMISSION_DENIED
    rendering = RenderRichTextRequest(rich_text=RichText(), format=RenderRichTextRequest.PLAIN)
    assert (await rich_text.RenderRichText(rendering, metadata=reader, timeout=SECONDS)).text == ""
    assert (await refused(rich_text.RenderRichText(rendering))).code == grpc.StatusCode.UNAUTHENTICATED


async def test_others_are_served_while_a_long_text_is_parsed(rich_text: RichTextStub, editor: Metadata) -> None:
    source = ("كان **بيت الحكمة** في بغداد. " * 10 + "\n\n") * 600
    long = asyncio.ensure_future(
        rich_text.ParseRichText(ParseRichTextRequest(markdown=source), metadata=editor, timeout=SECONDS)
    )
    await asyncio.sleep(0.05)
    refusals = 0
    started = time.monotonic()
    while not long.done():
        await refused(rich_text.RenderRichText(RenderRichTextRequest(), metadata=editor, timeout=SECONDS))
        refusals += 1

    assert len((await long).blocks) == 600
    assert refusals >= 3, f"in {time.monotonic() - started} s"
