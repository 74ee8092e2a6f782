"""One item at a time: list, get, create, publish, unpublish, delete."""

import sys
from collections.abc import Sequence
from itertools import chain
from typing import Annotated

import typer
from rich.table import Column, Table
from rich.text import Text

from thmnayah.cli.session import connect_as_user
from thmnayah.cli.terminal import (
    DEFAULT_LOCALE,
    DEFAULT_SERVER,
    AsJson,
    CommandError,
    Locale,
    Server,
    in_locale,
    out,
    print_json,
)
from thmnayah.content.v1 import content_pb2
from thmnayah.content.v1.content_pb2 import (
    Content,
    CreateContentRequest,
    DeleteContentRequest,
    GetContentRequest,
    ListContentsRequest,
    PublishContentRequest,
    UnpublishContentRequest,
)

PAGE_SIZE = 50

ContentId = Annotated[str, typer.Argument(metavar="ID", help="Id of the item, a UUID.")]
Locales = Annotated[list[str] | None, typer.Argument(metavar="LOCALE...", help="Such as ar en; all when left out.")]
AsPublished = Annotated[bool, typer.Option("--published", help="What readers see instead of the draft.")]
Texts = Annotated[list[str] | None, typer.Option(metavar="LOCALE=TEXT", help="Such as ar=مرحبا; once for each locale.")]


async def list_(
    *,
    filter: Annotated[str, typer.Option(help='Such as \'type = "episode" AND tags:"history"\'.')] = "",
    order_by: Annotated[str, typer.Option(help="create_time, update_time or publish_time, with desc or asc.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="At most so many items; 0 for all.")] = PAGE_SIZE,
    published: AsPublished = False,
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
    as_json: AsJson = False,
) -> None:
    """List items, the newest first."""
    request = ListContentsRequest(
        filter=filter, order_by=order_by, page_size=min(limit or PAGE_SIZE, PAGE_SIZE), view=_view(published=published)
    )
    table = Table(
        Column("id", no_wrap=True), "type", "title", "published", box=None, header_style="bold", pad_edge=False
    )
    shown = 0
    more = False
    async with connect_as_user(server, locale) as mesh:
        async for content in mesh.list_contents(request):
            if limit and shown == limit:
                more = True
                break
            shown += 1
            if as_json:
                print_json(content)
                continue
            readable = [each for each, status in sorted(content.locales.items()) if status.state == Content.PUBLISHED]
            table.add_row(content.id, content.type, Text(in_locale(content.title, locale)), " ".join(readable))
    if not as_json:
        out.print(table if shown else "no items")
        if more:
            out.print(f"[dim]the first {shown}; --limit 0 lists all[/dim]")


async def get(
    content_id: ContentId,
    *,
    published: AsPublished = False,
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
    as_json: AsJson = False,
) -> None:
    """Show an item with all its texts."""
    async with connect_as_user(server, locale) as mesh:
        content = await mesh.content.GetContent(GetContentRequest(id=content_id, view=_view(published=published)))
    _show([content], as_json=as_json)


async def create(
    *,
    type: Annotated[str, typer.Option(help="Kind of content, such as article or episode.")],
    title: Texts = None,
    description: Texts = None,
    body: Texts = None,
    slug: Texts = None,
    category: Annotated[str, typer.Option(help="Where the item is filed.")] = "",
    tag: Annotated[list[str] | None, typer.Option(help="Once for each tag.")] = None,
    external_id: Annotated[str, typer.Option(help="Its name in the system it comes from.")] = "",
    publish: Annotated[bool, typer.Option("--publish", help="Publish it in every locale it has.")] = False,
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
    as_json: AsJson = False,
) -> None:
    """Make an item.

    Example: thmnayah content create --type article --title ar=مرحبا --title en=Hello --publish
    """
    content = Content(
        type=type,
        title=_texts("--title", title),
        description=_texts("--description", description),
        body=_texts("--body", body),
        slug=_texts("--slug", slug),
        category=category,
        tags=tag,
        external_id=external_id,
    )
    async with connect_as_user(server, locale) as mesh:
        content = await mesh.content.CreateContent(CreateContentRequest(content=content))
        if publish:
            content = await mesh.content.PublishContent(PublishContentRequest(id=content.id))
    _show([content], as_json=as_json)


async def publish(
    content_id: ContentId,
    locales: Locales = None,
    *,
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
    as_json: AsJson = False,
) -> None:
    """Show the draft, as it is now, to every reader."""
    async with connect_as_user(server, locale) as mesh:
        content = await mesh.content.PublishContent(PublishContentRequest(id=content_id, locales=locales))
    _show([content], as_json=as_json, brief=True)


async def unpublish(
    content_id: ContentId,
    locales: Locales = None,
    *,
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
    as_json: AsJson = False,
) -> None:
    """Take an item from its readers; the draft stays."""
    async with connect_as_user(server, locale) as mesh:
        content = await mesh.content.UnpublishContent(UnpublishContentRequest(id=content_id, locales=locales))
    _show([content], as_json=as_json, brief=True)


async def delete(
    content_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of the items.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
    as_json: AsJson = False,
) -> None:
    """Delete items, drafts and all."""
    if not yes:
        if not sys.stdin.isatty():
            raise CommandError("--yes: is required where nobody can be asked")
        typer.confirm(f"Delete {len(content_ids)} item(s) for everyone?", abort=True, err=True)
    async with connect_as_user(server, locale) as mesh:
        deleted = [await mesh.content.DeleteContent(DeleteContentRequest(id=each)) for each in content_ids]
    _show(deleted, as_json=as_json, brief=True)


def _view(*, published: bool) -> content_pb2.View.ValueType:
    return content_pb2.PUBLISHED if published else content_pb2.VIEW_UNSPECIFIED


def _texts(option: str, given: Sequence[str] | None) -> dict[str, str]:
    texts = {}
    for each in given or ():
        locale, equals, text = each.partition("=")
        if not equals:
            raise CommandError(f"{option}: {each!r} is not LOCALE=TEXT, such as ar=مرحبا")
        texts[locale] = text
    return texts


def _show(contents: Sequence[Content], *, as_json: bool, brief: bool = False) -> None:
    for content in contents:
        if as_json:
            print_json(content)
        elif brief:
            state = "deleted" if content.HasField("delete_time") else Content.State.Name(content.state).lower()
            out.print(Text(f"{content.id}  {state}  ").append(_locales(content)))
        else:
            out.print(_card(content))


def _card(content: Content) -> Table:
    card = Table(box=None, show_header=False, pad_edge=False)
    card.add_column(style="bold")
    card.add_column(overflow="fold")
    for name in ("id", "type", "external_id", "category"):
        if getattr(content, name):
            card.add_row(name.replace("_", " "), Text(getattr(content, name)))
    if content.tags:
        card.add_row("tags", Text(", ".join(content.tags)))
    card.add_row("locales", _locales(content))
    card.add_row("version", f"{content.version}, {content.update_time.ToDatetime():%Y-%m-%d %H:%M} UTC")
    for locale in dict.fromkeys(chain(content.title, content.description, content.body)):
        for name, texts in (
            ("title", content.title),
            ("slug", content.slug),
            ("description", content.description),
            ("body", content.body),
        ):
            if texts.get(locale):
                card.add_row(f"{name} {locale}", Text(texts[locale]))
    return card


def _locales(content: Content) -> Text:
    """The locales of an item, those that are published in green."""
    text = Text()
    for locale in sorted(content.locales):
        is_published = content.locales[locale].state == Content.PUBLISHED
        text.append(f"{locale} {'published' if is_published else 'draft'} ", "green" if is_published else "dim")
    text.rstrip()
    return text
