"""How commands end that fail before a mesh is needed."""

from pathlib import Path

import pytest

from thmnayah.cli.app import main


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A server that is not there, and a user without a past."""
    monkeypatch.setenv("THMNAYAH_SERVER", "127.0.0.1:1")
    monkeypatch.setenv("THMNAYAH_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("THMNAYAH_STATE_DIR", str(tmp_path / "state"))


def status(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("content", "list"), "the server does not answer"),
        (("content", "list", "--server", "ftp://x"), "--server: 'ftp://x' is not an address"),
        (("content", "create", "--type", "article", "--title", "مرحبا"), "--title: 'مرحبا' is not LOCALE=TEXT"),
        (("content", "import", "-", "--map", "id"), "--map: 'id' is not NAME=VALUE"),
        (("content", "import", "-", "--set", "kind=article"), "kind: is not a field"),
        (("content", "import", "no such file.jsonl"), "no such file.jsonl: No such file"),
        (("content", "delete", "018f0000-0000-7000-8000-000000000001"), "--yes: is required"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_wrong_is_told_in_one_line(
    arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(*arguments) == 1

    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {told}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [("content", "get"), ("nothing",), ("content", "import", "-", "--parallel", "0")])
def test_wrong_usage_has_a_status_of_its_own(arguments: tuple[str, ...]) -> None:
    assert status(*arguments) == 2


@pytest.mark.parametrize("command", [("login",), ("user", "create"), ("user", "set-password")])
def test_no_command_takes_a_password_as_an_argument(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(*command, "--help") == 0

    told = capsys.readouterr().out
    assert "THMNAYAH_PASSWORD" in told
    assert "--password" not in told


def test_the_doctor_says_what_fails_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("THMNAYAH_NATS_URL", "nats://127.0.0.1:1")

    assert status("doctor") == 1

    told = capsys.readouterr().out
    assert "failed  edge" in told
    assert "make run" in told
    assert "correct THMNAYAH_NATS_URL" in told


def test_an_export_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl"
    file.write_text("old")

    assert status("content", "export", str(file)) == 1

    assert file.read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"items.jsonl"}
