"""OpenID Connect providers on the command line."""

import json
import secrets
from pathlib import Path

from tests.cli.conftest import Cli


async def test_administrators_add_list_and_remove_providers(cli: Cli, tmp_path: Path) -> None:
    name, file = f"company-{secrets.token_hex(6)}", tmp_path / "company.json"
    file.write_text(
        json.dumps(
            {
                "id": name,
                "issuer": "https://login.example.com",
                "clientId": "thmnayah",
                "clientSecret": "Canary7-of-the-command-line",
                "redirectUris": ["https://studio.example.com/callback"],
            }
        )
    )

    added = await cli("oidc", "add", file)

    assert (added.status, added.lines[0]["id"]) == (0, name)
    assert "Canary7" not in added.out
    assert f"{name}  disabled  https://login.example.com" in (await cli("oidc", "list")).out
    assert name in [line["id"] for line in (await cli("oidc", "list", "--json")).lines]
    assert (await cli("oidc", "remove", name)).status == 0
    assert name not in (await cli("oidc", "list")).out


async def test_a_file_that_holds_no_provider_is_named(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "company.json"
    file.write_text("nothing")

    added = await cli("oidc", "add", file)

    assert added.status == 1
    assert "company.json holds no provider" in added.err
