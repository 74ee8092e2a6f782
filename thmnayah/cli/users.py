"""Accounts of people."""

from typing import Annotated

import typer

from thmnayah.auth.v1.auth_pb2 import CreateUserRequest
from thmnayah.cli.session import connect_as_user, read_password
from thmnayah.cli.terminal import DEFAULT_LOCALE, DEFAULT_SERVER, AsJson, Locale, Server, out, print_json


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
    if as_json:
        print_json(user)
    else:
        out.print(f"{user.id}  {user.email} ({', '.join(user.roles)})", markup=False)
