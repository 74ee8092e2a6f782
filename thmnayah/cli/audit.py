"""The record of what was done and refused: looked at, taken away, and checked."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from thmnayah.auth.v1.audit_pb2 import AuditEvent, ListAuditEventsRequest, VerifyAuditEventsRequest
from thmnayah.cli.session import connect_as_user
from thmnayah.cli.terminal import (
    DEFAULT_LOCALE,
    DEFAULT_SERVER,
    AsJson,
    CommandError,
    Locale,
    Server,
    err,
    out,
    print_json,
)
from thmnayah.client import pages

Filter = Annotated[str, typer.Option(help="As of the API, such as 'action = \"session.started\"'.")]
Since = Annotated[datetime | None, typer.Option(help="From this time on, in UTC.")]


async def list_(
    *,
    filter: Filter = "",
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many at most.")] = 50,
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
    as_json: AsJson = False,
) -> None:
    """Show what is on record, newest first."""
    async with connect_as_user(server, locale) as mesh:
        page = await mesh.audit.ListAuditEvents(ListAuditEventsRequest(filter=_filter(filter, since), page_size=limit))
    for event in page.audit_events:
        if as_json:
            print_json(event)
        else:
            outcome = AuditEvent.Outcome.Name(event.outcome)
            told = (event.event_time.ToJsonString(), outcome, event.action, event.actor or "-", event.target)
            out.print("  ".join(told), markup=False)


async def export(
    *,
    filter: Filter = "",
    since: Since = None,
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
) -> None:
    """Print all that is on record as JSON Lines, newest first; a file that was cut short has no last line `{}`."""
    async with connect_as_user(server, locale) as mesh:
        request = ListAuditEventsRequest(filter=_filter(filter, since), page_size=200)
        async for page in pages(mesh.audit.ListAuditEvents, request):
            for event in page.audit_events:
                print_json(event)
    print_json({})


async def verify(
    *,
    head: Annotated[str, typer.Option(help="What this command printed once: the chain must lead through it.")] = "",
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
) -> None:
    """Check the chain of the record, and print its head: note it where nobody can change it."""
    reached = ""
    async with connect_as_user(server, locale) as mesh:
        async for page in pages(mesh.audit.VerifyAuditEvents, VerifyAuditEventsRequest(head=head)):
            if page.problem:
                raise CommandError(f"the chain is broken: {page.problem}")
            reached = page.head
    err.print("The chain holds.")
    typer.echo(reached)


def _filter(text: str, since: datetime | None) -> str:
    if since is None:
        return text
    # Typer reads a time without a zone.
    after = f'event_time >= "{since.replace(tzinfo=UTC).isoformat()}"'
    return f"({text}) AND {after}" if text else after
