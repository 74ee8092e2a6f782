"""Finding what is published."""

import html
import re
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.text import Text

from thmnayah.cli.session import connect_as_user
from thmnayah.cli.terminal import DEFAULT_SERVER, AsJson, Server, in_locale, out, print_json
from thmnayah.search.v1.search_pb2 import Highlight, SearchRequest


async def search(
    query: Annotated[str, typer.Argument(help="Words or a whole question, in any language.")],
    *,
    locale: Annotated[str, typer.Option(help="Look only at texts in this locale, such as ar.")] = "",
    filter: Annotated[str, typer.Option(help='Such as \'type = "article" AND category = "history"\'.')] = "",
    limit: Annotated[int, typer.Option(min=1, max=200, help="At most so many results.")] = 10,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Search what is published, the best first."""
    request = SearchRequest(query=query, locale=locale, filter=filter, page_size=limit)
    async with connect_as_user(server, locale or "en") as mesh:
        answer = await mesh.search.Search(request)
    for result in answer.results:
        if as_json:
            print_json(result)
            continue
        title = Text(in_locale(result.content.title, locale or _locale_of(result.highlights)), style="bold")
        about = f"{result.content.type} {result.content.id} {result.score:.2f}"
        out.print(title, Text(about, style="dim"), soft_wrap=True)
        for highlight in result.highlights[:2]:
            out.print(Text("  ").append(f"{highlight.locale} ", "dim").append(marked(highlight.text)), soft_wrap=True)
    if not as_json:
        out.print(f"[dim]{len(answer.results)} of {answer.total_size}[/dim]" if answer.results else "nothing found")


def marked(text: str) -> Text:
    """The HTML of a highlight for the terminal, the words that matched standing out."""
    shown = Text()
    for position, piece in enumerate(re.split("</?mark>", text)):
        shown.append(" ".join(html.unescape(piece).splitlines()), "bold yellow" if position % 2 else "")
    return shown


def _locale_of(highlights: Sequence[Highlight]) -> str:
    return highlights[0].locale if highlights else ""
