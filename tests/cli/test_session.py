"""A sign-in that is kept in a file."""

import stat
from pathlib import Path

import pytest

from thmnayah.auth.v1.auth_pb2 import Tokens
from thmnayah.cli.session import StoredSession

TOKENS = Tokens(access_token="access", refresh_token="refresh", expires_in=1800)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions" / "server.json"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def files(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(text)


async def test_a_session_outlives_its_process(path: Path) -> None:
    await StoredSession(path).begin(TOKENS)

    found = StoredSession(path)

    assert (found.tokens.access_token, found.tokens.refresh_token) == ("access", "refresh")
    assert not found.ends_soon


async def test_only_its_owner_can_read_a_session(path: Path) -> None:
    await StoredSession(path).begin(TOKENS)

    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    assert files(path.parent) == {"server.json", "server.json.lock"}


async def test_signing_out_leaves_no_tokens(path: Path) -> None:
    session = StoredSession(path)
    await session.begin(TOKENS)

    await session.end()

    assert files(path.parent) == {"server.json.lock"}
    assert not session.tokens.refresh_token


@pytest.mark.parametrize("stored", ["", "{", "[]", "{}", '{"accessToken": 1, "refreshToken": 2, "expireTime": 3}'])
async def test_a_broken_file_is_nobody_signed_in(path: Path, stored: str) -> None:
    write(path, stored)

    session = StoredSession(path)
    assert not session.tokens.refresh_token

    await session.begin(TOKENS)
    assert StoredSession(path).tokens.refresh_token == "refresh"
