"""Settings: read from the environment, refused with a line each, never printed when secret."""

import os
import subprocess
import sys

import pytest
from pydantic import ValidationError

from libs.config import StoreSettings

SECRET = "canary-of-settings"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> StoreSettings:
    for name in [name for name in os.environ if name.startswith("THMNAYAH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("THMNAYAH_DATABASE_URL", f"postgresql://user:{SECRET}@127.0.0.1/db")
    monkeypatch.setenv("THMNAYAH_NATS_URL", f"nats://{SECRET}@127.0.0.1")
    monkeypatch.setenv("THMNAYAH_POOL_SIZE", "3")
    monkeypatch.setenv("THMNAYAH_UNHEARD_OF", "x")
    return StoreSettings.load()


def start(service: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a service with these settings alone."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("THMNAYAH_")}
    return subprocess.run(
        [sys.executable, "-m", f"services.{service}"],
        env={**kept, **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_settings_come_from_the_environment(settings: StoreSettings) -> None:
    assert settings.database_url.get_secret_value() == f"postgresql://user:{SECRET}@127.0.0.1/db"
    assert settings.pool_size == 3


def test_settings_do_not_change(settings: StoreSettings) -> None:
    with pytest.raises(ValidationError):
        settings.pool_size = 4  # type: ignore[misc]  # the point of the test


def test_secrets_are_not_printed(settings: StoreSettings) -> None:
    for text in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert SECRET not in text


@pytest.mark.parametrize("service", ["auth", "content", "search"])
def test_every_setting_that_is_missing_is_named_on_a_line(service: str) -> None:
    ended = start(service)

    missing = ["THMNAYAH_DATABASE_URL: Field required"]
    if service == "auth":
        missing.append("THMNAYAH_SECRET_KEY: Field required")
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == missing


def test_every_setting_that_is_wrong_is_named_without_its_value() -> None:
    ended = start(
        "auth",
        THMNAYAH_DATABASE_URL="postgresql://127.0.0.1/db",
        THMNAYAH_SECRET_KEY=SECRET,
        THMNAYAH_PORT="70000",
        THMNAYAH_LOG_LEVEL="loud",
        THMNAYAH_POOL_SIZE="none",
    )

    assert ended.returncode == 2
    assert SECRET not in ended.stderr
    assert {line.partition(":")[0] for line in ended.stderr.splitlines()} == {
        "THMNAYAH_PORT",
        "THMNAYAH_LOG_LEVEL",
        "THMNAYAH_POOL_SIZE",
        "THMNAYAH_SECRET_KEY",
    }
