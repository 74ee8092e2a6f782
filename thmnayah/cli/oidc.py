"""OpenID Connect providers that people sign in by."""

from pathlib import Path
from typing import Annotated

import typer

from thmnayah.auth.v1.oidc_pb2 import (
    CreateOidcProviderRequest,
    DeleteOidcProviderRequest,
    ListOidcProvidersRequest,
    OidcProvider,
)
from thmnayah.cli.session import connect_as_user
from thmnayah.cli.terminal import DEFAULT_LOCALE, DEFAULT_SERVER, AsJson, Locale, Server, out, print_json, read_json

File = Annotated[Path, typer.Argument(help="A provider as JSON, as docs/oidc.md shows one.")]
Id = Annotated[str, typer.Argument(help="Such as company.")]


async def list_(*, server: Server = DEFAULT_SERVER, locale: Locale = DEFAULT_LOCALE, as_json: AsJson = False) -> None:
    """List the providers."""
    async with connect_as_user(server, locale) as mesh:
        for provider in (await mesh.oidc.ListOidcProviders(ListOidcProvidersRequest())).oidc_providers:
            if as_json:
                print_json(provider)
            else:
                state = "enabled" if provider.enabled else "disabled"
                out.print(f"{provider.id}  {state}  {provider.issuer}", markup=False)


async def add(file: File, *, server: Server = DEFAULT_SERVER, locale: Locale = DEFAULT_LOCALE) -> None:
    """Define a provider."""
    provider = read_json(file, OidcProvider(), "provider")
    async with connect_as_user(server, locale) as mesh:
        print_json(await mesh.oidc.CreateOidcProvider(CreateOidcProviderRequest(oidc_provider=provider)))


async def remove(provider: Id, *, server: Server = DEFAULT_SERVER, locale: Locale = DEFAULT_LOCALE) -> None:
    """Remove a provider; identities and sessions stay."""
    async with connect_as_user(server, locale) as mesh:
        await mesh.oidc.DeleteOidcProvider(DeleteOidcProviderRequest(id=provider))
