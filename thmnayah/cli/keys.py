"""API keys, one's own and those of service accounts."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from thmnayah.auth.v1.api_keys_pb2 import (
    ApiKey,
    CreateApiKeyRequest,
    DeleteApiKeyRequest,
    ListApiKeysRequest,
    RotateApiKeyRequest,
)
from thmnayah.cli.session import connect_as_user, user_id
from thmnayah.cli.terminal import DEFAULT_LOCALE, DEFAULT_SERVER, AsJson, Locale, Server, err, out, print_json
from thmnayah.client import pages

KeyId = Annotated[str, typer.Argument(help="The key's id.")]
Days = Annotated[int, typer.Option(min=0, help="Days until it ends; 0: never, for service accounts.")]


async def create(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    *,
    scope: Annotated[list[str], typer.Option(help="A permission, such as content.create; once for each.")],
    days: Days = 90,
    service_account: Annotated[str, typer.Option(help="The id of a service account that it acts as.")] = "",
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
    as_json: AsJson = False,
) -> None:
    """Make a key. It is printed now and never shown again."""
    request = CreateApiKeyRequest(display_name=name, scopes=scope, service_account_id=service_account)
    if days:
        request.expire_time.FromDatetime(datetime.now(UTC) + timedelta(days=days))
    async with connect_as_user(server, locale) as mesh:
        _show_secret(await mesh.api_keys.CreateApiKey(request), as_json=as_json)


async def list_(
    *,
    owner: Annotated[
        str, typer.Option(help="A user's e-mail address, or the id of a user or service account; - for all.")
    ] = "",
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
    as_json: AsJson = False,
) -> None:
    """Show your keys, or those of others that you may see."""
    async with connect_as_user(server, locale) as mesh:
        request = ListApiKeysRequest(owner_id=await user_id(mesh, owner), page_size=200)
        async for page in pages(mesh.api_keys.ListApiKeys, request):
            for key in page.api_keys:
                if as_json:
                    print_json(key)
                    continue
                ends = key.expire_time.ToJsonString() if key.HasField("expire_time") else "never"
                used = key.last_used_time.ToJsonString() if key.HasField("last_used_time") else "never"
                told = f"{key.id}  {key.prefix}…  {key.display_name}  {' '.join(key.scopes)}  ends {ends}  used {used}"
                out.print(told, markup=False)


async def revoke(key: KeyId, *, server: Server = DEFAULT_SERVER, locale: Locale = DEFAULT_LOCALE) -> None:
    """End a key."""
    async with connect_as_user(server, locale) as mesh:
        await mesh.api_keys.DeleteApiKey(DeleteApiKeyRequest(id=key))
    out.print(f"{key}  revoked", markup=False)


async def rotate(
    key: KeyId,
    *,
    overlap_hours: Annotated[int, typer.Option(min=0, max=168, help="Hours the old secret goes on working.")] = 24,
    days: Annotated[int | None, typer.Option(min=1, help="Days until the key ends; as before when not said.")] = None,
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
    as_json: AsJson = False,
) -> None:
    """Give a key a new secret. It is printed now and never shown again."""
    request = RotateApiKeyRequest(id=key)
    request.overlap.FromTimedelta(timedelta(hours=overlap_hours))
    if days is not None:
        request.expire_time.FromDatetime(datetime.now(UTC) + timedelta(days=days))
    async with connect_as_user(server, locale) as mesh:
        _show_secret(await mesh.api_keys.RotateApiKey(request), as_json=as_json)


def _show_secret(key: ApiKey, *, as_json: bool) -> None:
    if as_json:
        print_json(key)
        return
    err.print(f"{key.id}  {key.display_name}: keep this where only the program reads it", markup=False)
    typer.echo(key.secret)
