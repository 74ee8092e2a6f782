"""Groups on the command line."""

import json
import secrets

import httpx

from deploy.local.mesh import Mesh
from tests.cli.conftest import Cli
from tests.conftest import ADMIN_EMAIL, ADMIN_PASSWORD


async def test_administrators_list_groups_and_give_them_roles(cli: Cli, mesh: Mesh) -> None:
    name = f"Desk {secrets.token_hex(6)}"
    async with httpx.AsyncClient(base_url=f"http://{mesh.address}", timeout=20) as rest:
        tokens = await rest.post("/v1/auth:login", json={"email": ADMIN_EMAIL, "password": ADMIN_PASSWORD})
        headers = {"authorization": f"Bearer {tokens.json()['accessToken']}"}
        made = await rest.post("/scim/v2/Groups", content=json.dumps({"displayName": name}), headers=headers)
    group = made.json()["id"]

    given = await cli("group", "set-roles", group, "editor", "publisher", "--json")

    assert (given.status, given.lines[0]["roles"]) == (0, ["editor", "publisher"])
    assert f"{group}  editor publisher  0  {name}" in (await cli("group", "list")).out
    assert (await cli("group", "set-roles", group)).status == 0
    assert f"{group}  -  0  {name}" in (await cli("group", "list")).out
