"""Roles of one's own, from files."""

import json
from pathlib import Path

from tests.cli.conftest import Cli


async def test_a_role_from_its_making_to_its_end(cli: Cli, tmp_path: Path, word: str) -> None:
    file, name = tmp_path / "role.json", f"desk-{word}"
    role = {"id": name, "name": {"ar": "مكتب", "en": "Desk"}, "grants": [{"permission": "content.create"}]}
    file.write_text(json.dumps(role, ensure_ascii=False), encoding="utf-8")

    created = await cli("role", "create", file)
    shown = await cli("role", "show", name)
    listed = await cli("role", "list", "--locale", "ar")

    assert created.status == 0, created.err
    assert shown.lines == created.lines
    assert {**shown.lines[0], **role} == shown.lines[0]
    assert f"{name}  مكتب" in listed.out.splitlines()

    # What `show` prints can be changed and given to `update`, once.
    file.write_text(json.dumps({**shown.lines[0], "name": {"en": "Sports"}}), encoding="utf-8")
    updated = await cli("role", "update", file)
    late = await cli("role", "update", file)

    assert (updated.status, updated.lines[0]["name"]) == (0, {"en": "Sports"}), updated.err
    assert updated.lines[0]["grants"] == role["grants"]
    assert (late.status, "ETAG_MISMATCH" in late.err) == (1, True)

    assert (await cli("role", "delete", name, "--force")).status == 0
    assert "ROLE_NOT_FOUND" in (await cli("role", "show", name)).err


async def test_a_file_that_holds_no_role_is_named(stranger: Cli, tmp_path: Path) -> None:
    file = tmp_path / "role.json"
    file.write_text('{"grants": 1}')

    ended = await stranger("role", "create", file)

    assert ended.status == 1
    assert "role.json holds no role" in ended.err
