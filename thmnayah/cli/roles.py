"""Roles and what they grant."""

from pathlib import Path
from typing import Annotated

import typer
from google.protobuf import json_format

from thmnayah.auth.v1.roles_pb2 import (
    CreateRoleRequest,
    DeleteRoleRequest,
    GetRoleRequest,
    ListRolesRequest,
    Role,
    UpdateRoleRequest,
)
from thmnayah.cli.session import connect_as_user
from thmnayah.cli.terminal import DEFAULT_LOCALE, DEFAULT_SERVER, AsJson, CommandError, Locale, Server, out, print_json

File = Annotated[Path, typer.Argument(help="A role as JSON, as `thmnayah role show` prints it.")]
Id = Annotated[str, typer.Argument(help="Such as sports-desk.")]


async def list_(*, server: Server = DEFAULT_SERVER, locale: Locale = DEFAULT_LOCALE, as_json: AsJson = False) -> None:
    """List the roles."""
    async with connect_as_user(server, locale) as mesh:
        request = ListRolesRequest(page_size=200)
        while True:
            page = await mesh.roles.ListRoles(request)
            for role in page.roles:
                if as_json:
                    print_json(role)
                else:
                    out.print(f"{role.id}  {role.name.get(locale) or next(iter(role.name.values()), '')}", markup=False)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token


async def show(role: Id, *, server: Server = DEFAULT_SERVER, locale: Locale = DEFAULT_LOCALE) -> None:
    """Print a role as JSON."""
    async with connect_as_user(server, locale) as mesh:
        print_json(await mesh.roles.GetRole(GetRoleRequest(id=role)))


async def create(file: File, *, server: Server = DEFAULT_SERVER, locale: Locale = DEFAULT_LOCALE) -> None:
    """Define a role."""
    role = _read(file)
    async with connect_as_user(server, locale) as mesh:
        print_json(await mesh.roles.CreateRole(CreateRoleRequest(role=role)))


async def update(file: File, *, server: Server = DEFAULT_SERVER, locale: Locale = DEFAULT_LOCALE) -> None:
    """Make a role what a file says; with an `etag` in it, unless it changed meanwhile."""
    request = UpdateRoleRequest(role=_read(file))
    request.update_mask.paths.extend(["name", "description", "grants"])
    async with connect_as_user(server, locale) as mesh:
        print_json(await mesh.roles.UpdateRole(request))


async def delete(
    role: Id,
    *,
    force: Annotated[bool, typer.Option("--force", help="Although users have it; they lose it.")] = False,
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
) -> None:
    """Delete a role."""
    async with connect_as_user(server, locale) as mesh:
        await mesh.roles.DeleteRole(DeleteRoleRequest(id=role, force=force))


def _read(file: Path) -> Role:
    try:
        return json_format.Parse(file.read_text(encoding="utf-8"), Role())
    except (json_format.ParseError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} holds no role: {error}") from None
