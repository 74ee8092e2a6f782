"""The keys that access tokens are signed with."""

from typing import Annotated

import typer

from thmnayah.auth.v1.signing_keys_pb2 import (
    ListSigningKeysRequest,
    RemoveSigningKeyRequest,
    RotateSigningKeysRequest,
    SigningKey,
)
from thmnayah.cli.session import connect_as_user
from thmnayah.cli.terminal import DEFAULT_LOCALE, DEFAULT_SERVER, AsJson, Locale, Server, out, print_json


async def list_(*, server: Server = DEFAULT_SERVER, locale: Locale = DEFAULT_LOCALE, as_json: AsJson = False) -> None:
    """List the keys whose tokens may live, the newest first."""
    async with connect_as_user(server, locale) as mesh:
        answer = await mesh.signing_keys.ListSigningKeys(ListSigningKeysRequest())
    for key in answer.keys:
        _show(key, as_json=as_json)


async def rotate(
    *,
    remove: Annotated[str, typer.Option(help="Withdraw this key at once: it is no longer secret.")] = "",
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
    as_json: AsJson = False,
) -> None:
    """Publish a new key, which is used as soon as everybody knows it."""
    async with connect_as_user(server, locale) as mesh:
        if remove:
            key = await mesh.signing_keys.RemoveSigningKey(RemoveSigningKeyRequest(kid=remove))
        else:
            key = await mesh.signing_keys.RotateSigningKeys(RotateSigningKeysRequest())
    _show(key, as_json=as_json)


def _show(key: SigningKey, *, as_json: bool) -> None:
    if as_json:
        print_json(key)
    else:
        state = SigningKey.State.Name(key.state).lower().replace("_", " ")
        out.print(f"{key.kid}  {state}  used from {key.use_time.ToJsonString()}", markup=False)
