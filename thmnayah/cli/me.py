"""One's own account."""

import os
from typing import Annotated

import typer

from thmnayah.auth.v1.auth_pb2 import GetMeRequest
from thmnayah.auth.v1.users_pb2 import BeginEmailChangeRequest, DeleteMeRequest, FinishEmailChangeRequest
from thmnayah.cli.session import connect_as_user, stored_session
from thmnayah.cli.terminal import DEFAULT_LOCALE, DEFAULT_SERVER, Locale, Server, out


async def change_email(
    email: Annotated[str, typer.Argument(help="The address you want to sign in with; a code is mailed there.")],
    *,
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
) -> None:
    """Ask for another e-mail address, within 5 minutes of signing in."""
    async with connect_as_user(server, locale) as mesh:
        await mesh.users.BeginEmailChange(BeginEmailChangeRequest(email=email))
    out.print(f"A mail is on its way to {email}; `thmnayah me confirm-email` takes its code.", markup=False)


async def confirm_email(*, server: Server = DEFAULT_SERVER, locale: Locale = DEFAULT_LOCALE) -> None:
    """Confirm your new e-mail address; your other sessions end.

    The code that was mailed there is asked for, or read from THMNAYAH_CODE.
    """
    code = os.environ.get("THMNAYAH_CODE") or str(typer.prompt("Code", hide_input=True, err=True))
    async with connect_as_user(server, locale) as mesh:
        user = await mesh.users.FinishEmailChange(FinishEmailChangeRequest(code=code))
    out.print(f"You sign in as {user.email} from now on.", markup=False)


async def delete(
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
) -> None:
    """Erase your account, within 5 minutes of signing in. What you made stays; there is no way back."""
    async with connect_as_user(server, locale) as mesh:
        email = (await mesh.auth.GetMe(GetMeRequest())).email
        if not yes:
            typer.confirm(f"Erase your account {email} for good?", abort=True, err=True)
        await mesh.users.DeleteMe(DeleteMeRequest(email=email))
    await stored_session(server).end()
    out.print(f"The account {email} is erased.", markup=False)
