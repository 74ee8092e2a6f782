"""Accounts of people."""

import os
from typing import Annotated

import typer
from google.protobuf.field_mask_pb2 import FieldMask
from rich.table import Column, Table
from rich.text import Text

from thmnayah.auth.v1.auth_pb2 import CreateUserRequest, User
from thmnayah.auth.v1.oidc_pb2 import DeleteUserIdentityRequest, ListUserIdentitiesRequest
from thmnayah.auth.v1.users_pb2 import (
    ChangeUserEmailRequest,
    DeleteUserRequest,
    DisableUserRequest,
    EnableUserRequest,
    GetUserRequest,
    InviteUserRequest,
    ListUsersRequest,
    RequestPasswordResetRequest,
    SetPasswordRequest,
    UpdateUserRequest,
)
from thmnayah.cli.session import Who, connect_as_user, read_password, user_id
from thmnayah.cli.terminal import (
    DEFAULT_LOCALE,
    DEFAULT_SERVER,
    AsJson,
    Locale,
    Server,
    out,
    print_json,
)
from thmnayah.client import connect, pages


async def create(
    email: Annotated[str, typer.Argument(help="The address the person will sign in with.")],
    *,
    role: Annotated[list[str], typer.Option(help="Such as editor; once for each role.")],
    name: Annotated[str, typer.Option(help="How the person is named to others.")] = "",
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
    as_json: AsJson = False,
) -> None:
    """Add an account.

    Its password is asked for, or read from THMNAYAH_PASSWORD or from standard input.
    """
    password = read_password(f"Password for {email}", confirm=True)
    request = CreateUserRequest(email=email, password=password, display_name=name, roles=role)
    async with connect_as_user(server, locale) as mesh:
        user = await mesh.auth.CreateUser(request)
    _print(user, as_json=as_json)


async def invite(
    email: Annotated[str, typer.Argument(help="The address the invitation goes to.")],
    *,
    role: Annotated[list[str], typer.Option(help="admin, editor or reader; once for each role.")],
    name: Annotated[str, typer.Option(help="How the person is named to others.")] = "",
    language: Annotated[str, typer.Option(help="The person's, such as ar or en, which mails follow.")] = "ar",
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
    as_json: AsJson = False,
) -> None:
    """Add an account and mail its owner a code to set a password with."""
    request = InviteUserRequest(email=email, display_name=name, roles=role, locale=language)
    async with connect_as_user(server, locale) as mesh:
        _print(await mesh.users.InviteUser(request), as_json=as_json)


async def list_(
    *,
    filter: Annotated[str, typer.Option(help="Such as 'state = DISABLED AND roles:editor'.")] = "",
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
    as_json: AsJson = False,
) -> None:
    """List accounts, the newest first."""
    table = Table(
        Column("id", no_wrap=True), "e-mail", "name", "roles", "state", box=None, header_style="bold", pad_edge=False
    )
    async with connect_as_user(server, locale) as mesh:
        async for page in pages(mesh.users.ListUsers, ListUsersRequest(filter=filter)):
            for user in page.users:
                if as_json:
                    print_json(user)
                else:
                    name = Text(user.display_name)
                    table.add_row(user.id, user.email, name, " ".join(user.roles), User.State.Name(user.state))
    if not as_json:
        out.print(table if table.row_count else "no accounts")


async def show(
    who: Who, *, server: Server = DEFAULT_SERVER, locale: Locale = DEFAULT_LOCALE, as_json: AsJson = False
) -> None:
    """Show an account."""
    async with connect_as_user(server, locale) as mesh:
        _print(await mesh.users.GetUser(GetUserRequest(id=await user_id(mesh, who))), as_json=as_json)


async def disable(
    who: Who, *, server: Server = DEFAULT_SERVER, locale: Locale = DEFAULT_LOCALE, as_json: AsJson = False
) -> None:
    """Close an account and end its sessions."""
    async with connect_as_user(server, locale) as mesh:
        _print(await mesh.users.DisableUser(DisableUserRequest(id=await user_id(mesh, who))), as_json=as_json)


async def enable(
    who: Who, *, server: Server = DEFAULT_SERVER, locale: Locale = DEFAULT_LOCALE, as_json: AsJson = False
) -> None:
    """Open a closed account."""
    async with connect_as_user(server, locale) as mesh:
        _print(await mesh.users.EnableUser(EnableUserRequest(id=await user_id(mesh, who))), as_json=as_json)


async def delete(
    who: Who,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
    as_json: AsJson = False,
) -> None:
    """Erase an account. What the person made stays; there is no way back."""
    if not yes:
        typer.confirm(f"Erase the account of {who} for good?", abort=True, err=True)
    async with connect_as_user(server, locale) as mesh:
        _print(await mesh.users.DeleteUser(DeleteUserRequest(id=await user_id(mesh, who))), as_json=as_json)


async def set_roles(
    who: Who,
    roles: Annotated[list[str], typer.Argument(metavar="ROLE...", help="All that the person has from now on.")],
    *,
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
    as_json: AsJson = False,
) -> None:
    """Give an account other roles; its owner signs in again."""
    async with connect_as_user(server, locale) as mesh:
        user = User(id=await user_id(mesh, who), roles=roles)
        request = UpdateUserRequest(user=user, update_mask=FieldMask(paths=["roles"]))
        _print(await mesh.users.UpdateUser(request), as_json=as_json)


async def set_email(
    who: Who,
    email: Annotated[str, typer.Argument(help="The address that the person signs in with from now on.")],
    *,
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
    as_json: AsJson = False,
) -> None:
    """Give an account another address, which you vouch for; its owner signs in again."""
    async with connect_as_user(server, locale) as mesh:
        request = ChangeUserEmailRequest(id=await user_id(mesh, who), email=email)
        _print(await mesh.users.ChangeUserEmail(request), as_json=as_json)


async def identities(
    who: Who, *, server: Server = DEFAULT_SERVER, locale: Locale = DEFAULT_LOCALE, as_json: AsJson = False
) -> None:
    """List a person's identities at OpenID Connect providers."""
    async with connect_as_user(server, locale) as mesh:
        request = ListUserIdentitiesRequest(user_id=await user_id(mesh, who))
        for identity in (await mesh.oidc.ListUserIdentities(request)).identities:
            if as_json:
                print_json(identity)
            else:
                used = identity.use_time.ToJsonString() if identity.HasField("use_time") else "never"
                out.print(f"{identity.id}  {identity.issuer}  {identity.subject}  used {used}", markup=False)


async def unlink(
    who: Who,
    identity: Annotated[str, typer.Argument(help="The identity's id, as `user identities` shows it.")],
    *,
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
) -> None:
    """Take an identity from a person and end their sessions."""
    async with connect_as_user(server, locale) as mesh:
        await mesh.oidc.DeleteUserIdentity(DeleteUserIdentityRequest(user_id=await user_id(mesh, who), id=identity))
    out.print(f"{identity}  unlinked", markup=False)


async def reset_password(
    email: Annotated[str, typer.Argument(help="The address that a code is mailed to, where it has an account.")],
    *,
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
) -> None:
    """Mail somebody a code to set a new password with, or another invitation."""
    async with connect(server, locale=locale) as mesh:
        await mesh.users.RequestPasswordReset(RequestPasswordResetRequest(email=email))
    out.print(f"If {email} has an account, a code is on its way.", markup=False)


async def set_password(*, server: Server = DEFAULT_SERVER, locale: Locale = DEFAULT_LOCALE) -> None:
    """Set a password with a code that was mailed.

    The code is asked for, or read from THMNAYAH_CODE. The password is asked for, or read from THMNAYAH_PASSWORD or
    from standard input.
    """
    code = os.environ.get("THMNAYAH_CODE") or str(typer.prompt("Code", hide_input=True, err=True))
    request = SetPasswordRequest(code=code, password=read_password("New password", confirm=True))
    async with connect(server, locale=locale) as mesh:
        await mesh.users.SetPassword(request)
    out.print("The password is set; `thmnayah login` signs you in.", markup=False)


def _print(user: User, *, as_json: bool) -> None:
    if as_json:
        print_json(user)
        return
    state = "" if user.state == User.ACTIVE else f" {User.State.Name(user.state)}"
    out.print(f"{user.id}  {user.email} ({', '.join(user.roles)}){state}", markup=False)
