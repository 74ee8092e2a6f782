"""Accounts of programs, which `thmnayah key create --service-account` makes keys for."""

from typing import Annotated

import typer

from thmnayah.auth.v1.api_keys_pb2 import (
    CreateServiceAccountRequest,
    DeleteServiceAccountRequest,
    DisableServiceAccountRequest,
    EnableServiceAccountRequest,
    ListServiceAccountsRequest,
    ServiceAccount,
)
from thmnayah.cli.session import connect_as_user
from thmnayah.cli.terminal import DEFAULT_LOCALE, DEFAULT_SERVER, AsJson, Locale, Server, out, print_json
from thmnayah.client import pages

Id = Annotated[str, typer.Argument(metavar="ID", help="The account's id, as `service-account list` shows it.")]


async def create(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    *,
    role: Annotated[list[str], typer.Option(help="Such as editor; once for each role.")],
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
    as_json: AsJson = False,
) -> None:
    """Add an account."""
    request = CreateServiceAccountRequest(display_name=name, roles=role)
    async with connect_as_user(server, locale) as mesh:
        _print(await mesh.service_accounts.CreateServiceAccount(request), as_json=as_json)


async def list_(*, server: Server = DEFAULT_SERVER, locale: Locale = DEFAULT_LOCALE, as_json: AsJson = False) -> None:
    """List the accounts, the newest first."""
    async with connect_as_user(server, locale) as mesh:
        request = ListServiceAccountsRequest(page_size=200)
        async for page in pages(mesh.service_accounts.ListServiceAccounts, request):
            for account in page.service_accounts:
                _print(account, as_json=as_json)


async def disable(
    account: Id, *, server: Server = DEFAULT_SERVER, locale: Locale = DEFAULT_LOCALE, as_json: AsJson = False
) -> None:
    """Have an account's keys refused until it is enabled again."""
    request = DisableServiceAccountRequest(id=account)
    async with connect_as_user(server, locale) as mesh:
        _print(await mesh.service_accounts.DisableServiceAccount(request), as_json=as_json)


async def enable(
    account: Id, *, server: Server = DEFAULT_SERVER, locale: Locale = DEFAULT_LOCALE, as_json: AsJson = False
) -> None:
    """Have an account's keys taken again."""
    request = EnableServiceAccountRequest(id=account)
    async with connect_as_user(server, locale) as mesh:
        _print(await mesh.service_accounts.EnableServiceAccount(request), as_json=as_json)


async def delete(account: Id, *, server: Server = DEFAULT_SERVER, locale: Locale = DEFAULT_LOCALE) -> None:
    """Remove an account and its keys."""
    async with connect_as_user(server, locale) as mesh:
        await mesh.service_accounts.DeleteServiceAccount(DeleteServiceAccountRequest(id=account))
    out.print(f"{account}  deleted", markup=False)


def _print(account: ServiceAccount, *, as_json: bool) -> None:
    if as_json:
        print_json(account)
        return
    state = " DISABLED" if account.disabled else ""
    out.print(f"{account.id}  {account.display_name} ({', '.join(account.roles)}){state}", markup=False)
