"""RichTextService: rich text from and to its other forms, in a thread of its own."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from libs.rpc import Context
from services.content.rich_text import blocks, diffs, html, markdown
from thmnayah.content.v1 import rich_text_pb2_grpc
from thmnayah.content.v1.rich_text_pb2 import (
    DiffRichTextRequest,
    DiffRichTextResponse,
    ParseRichTextRequest,
    RenderRichTextRequest,
    RenderRichTextResponse,
    RichText,
)

T = TypeVar("T")

_WRITERS = {
    RenderRichTextRequest.HTML: html.to_html,
    RenderRichTextRequest.MARKDOWN: markdown.to_markdown,
    RenderRichTextRequest.PLAIN: blocks.plain_text,
}


class RichTextService(rich_text_pb2_grpc.RichTextServiceServicer):
    """The servicer of thmnayah.content.v1.RichTextService, where each RPC is described."""

    def __init__(self) -> None:
        # The longest texts take half a second. One thread, since two would only take turns.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rich-text")

    async def ParseRichText(self, request: ParseRichTextRequest, context: Context) -> RichText:
        return await self._apart(lambda: _parse(request))

    async def RenderRichText(self, request: RenderRichTextRequest, context: Context) -> RenderRichTextResponse:
        return await self._apart(lambda: _render(request))

    async def DiffRichText(self, request: DiffRichTextRequest, context: Context) -> DiffRichTextResponse:
        return await self._apart(lambda: _diff(request))

    async def _apart(self, work: Callable[[], T]) -> T:
        """Do work beside the event loop, which goes on serving others."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _parse(request: ParseRichTextRequest) -> RichText:
    if request.HasField("html"):
        return html.from_html(request.html, locale=request.locale)
    return markdown.from_markdown(request.markdown, locale=request.locale)


def _render(request: RenderRichTextRequest) -> RenderRichTextResponse:
    blocks.check(request.rich_text, "richText")
    blocks.normalize(request.rich_text, locale=request.locale)
    return RenderRichTextResponse(text=_WRITERS[request.format](request.rich_text))


def _diff(request: DiffRichTextRequest) -> DiffRichTextResponse:
    for name in ("before", "after"):
        rich_text = getattr(request, name)
        blocks.check(rich_text, name)
        blocks.normalize(rich_text)
    return DiffRichTextResponse(blocks=diffs.compare(request.before, request.after))
