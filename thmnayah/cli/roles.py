"""Roles and what they grant."""

from pathlib import Path
from typing import Annotated

import typer

from thmnayah.auth.v1.roles_pb2 import (
    CreateRoleRequest,
    DeleteRoleRequest,
    GetRoleRequest,
    ListRolesRequest,
    Role,
    UpdateRoleRequest,
)
from thmnayah.cli.session import connect_as_user
from thmnayah.cli.terminal import DEFAULT_LOCALE, DEFAULT_SERVER, AsJson, Locale, Server, out, print_json, read_json
from thmnayah.client import pages

File = Annotated[Path, typer.Argument(help="A role as JSON, as `thmnayah role show` prints it.")]
Id = Annotated[str, typer.Argument(help="Such as sports-desk.")]


async def list_(*, server: Server = DEFAULT_SERVER, locale: Locale = DEFAULT_LOCALE, as_json: AsJson = False) -> None:
    """List the roles."""
    async with connect_as_user(server, locale) as mesh:
        async for page in pages(mesh.roles.ListRoles, ListRolesRequest(page_size=200)):
            for role in page.roles:
                if as_json:
                    print_json(role)
                else:
                    out.print(f"{role.id}  {role.name.get(locale) or next(iter(role.name.values()), '')}", markup=False)


async def show(role: Id, *, server: Server = DEFAULT_SERVER, locale: Locale = DEFAULT_LOCALE) -> None:
    """Print a role as JSON."""
    async with connect_as_user(server, locale) as mesh:
        print_json(await mesh.roles.GetRole(GetRoleRequest(id=role)))


async def create(file: File, *, server: Server = DEFAULT_SERVER, locale: Locale = DEFAULT_LOCALE) -> None:
    """Define a role."""
    role = read_json(file, Role(), "role")
    async with connect_as_user(server, locale) as mesh:
        print_json(await mesh.roles.CreateRole(CreateRoleRequest(role=role)))


async def update(file: File, *, server: Server = DEFAULT_SERVER, locale: Locale = DEFAULT_LOCALE) -> None:
    """Make a role what a file says; with an `etag` in it, unless it changed meanwhile."""
    request = UpdateRoleRequest(role=read_json(file, Role(), "role"))
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
