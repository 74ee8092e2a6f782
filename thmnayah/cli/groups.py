"""Groups that an identity provider provisions, and the roles that they give."""

from typing import Annotated

import typer
from google.protobuf.field_mask_pb2 import FieldMask

from thmnayah.auth.v1.groups_pb2 import Group, ListGroupsRequest, UpdateGroupRequest
from thmnayah.cli.session import connect_as_user
from thmnayah.cli.terminal import DEFAULT_LOCALE, DEFAULT_SERVER, AsJson, Locale, Server, out, print_json
from thmnayah.client import pages

Id = Annotated[str, typer.Argument(help="The group's id, as `thmnayah group list` shows it.")]
Roles = Annotated[list[str] | None, typer.Argument(help="All that it is to give; none takes them away.")]


async def list_(*, server: Server = DEFAULT_SERVER, locale: Locale = DEFAULT_LOCALE, as_json: AsJson = False) -> None:
    """List the groups, the newest first."""
    async with connect_as_user(server, locale) as mesh:
        async for page in pages(mesh.groups.ListGroups, ListGroupsRequest(page_size=200)):
            for group in page.groups:
                _print(group, as_json=as_json)


async def set_roles(
    group: Id,
    roles: Roles = None,
    *,
    server: Server = DEFAULT_SERVER,
    locale: Locale = DEFAULT_LOCALE,
    as_json: AsJson = False,
) -> None:
    """Give a group other roles, which ends the sessions of its members."""
    request = UpdateGroupRequest(group=Group(id=group, roles=roles), update_mask=FieldMask(paths=["roles"]))
    async with connect_as_user(server, locale) as mesh:
        _print(await mesh.groups.UpdateGroup(request), as_json=as_json)


def _print(group: Group, *, as_json: bool) -> None:
    if as_json:
        print_json(group)
    else:
        roles = " ".join(group.roles) or "-"
        out.print(f"{group.id}  {roles}  {group.member_count}  {group.display_name}", markup=False)
