"""compose.yaml hangs together: its files, its dependencies, its settings and its secrets."""

import base64
import importlib
import re
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

from libs import rpc
from libs.config import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
TEXT = (DEPLOY / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: each for name, each in SERVICES.items() if "services." in str(each.get("command"))}


def test_it_refers_only_to_what_exists() -> None:
    for config in COMPOSE["configs"].values():
        assert (DEPLOY / config["file"]).is_file()
    for service in SERVICES.values():
        if "build" in service:
            context = DEPLOY / service["build"]["context"]
            assert (context / service["build"]["dockerfile"]).is_file()
        assert {each["source"] for each in service.get("configs", ())} <= COMPOSE["configs"].keys()
        assert {each.partition(":")[0] for each in service.get("volumes", ())} <= COMPOSE["volumes"].keys()
        assert set(service["networks"]) <= COMPOSE["networks"].keys()


def test_what_a_service_waits_for_can_happen() -> None:
    for service in SERVICES.values():
        for name, wait in service.get("depends_on", {}).items():
            if wait["condition"] == "service_completed_successfully":
                assert SERVICES[name]["restart"] == "no"
            else:
                assert wait["condition"] == "service_healthy"
                assert "healthcheck" in SERVICES[name] or name in OURS  # the image brings one
                assert not SERVICES[name].get("healthcheck", {}).get("disable")


def test_images_are_pinned() -> None:
    for service in SERVICES.values():
        image, _, tag = service["image"].rpartition(":")
        assert image
        assert tag not in {"", "latest"}


def test_our_containers_can_change_nothing() -> None:
    for name in (*OURS, "envoy"):
        service = SERVICES[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert int(service["user"].split(":")[0]) >= 10_000


def test_a_service_is_given_the_time_to_drain() -> None:
    for service in OURS.values():
        if service["restart"] != "no":
            assert int(service["stop_grace_period"].removesuffix("s")) > (
                Settings.model_fields["drain_seconds"].default + rpc.STOP_SECONDS
            )


def test_only_the_edge_is_reached_from_outside_and_from_this_machine_alone() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert list(published) == ["envoy"]
    assert all(port.startswith("127.0.0.1:") for port in published["envoy"])
    assert COMPOSE["networks"]["mesh"] == {"internal": True}
    assert all(service["networks"] == ["mesh"] for name, service in SERVICES.items() if name != "envoy")


@pytest.mark.parametrize("name", OURS)
def test_every_service_has_the_settings_it_requires(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (module,) = set(re.findall(r"services\.\w+", str(OURS[name]["command"])))
    stand_in = base64.b64encode(bytes(32)).decode()
    for setting, value in OURS[name]["environment"].items():
        monkeypatch.setenv(setting, re.sub(r"\${.+?}", stand_in, str(value)))

    settings = get_type_hints(importlib.import_module(f"{module}.__main__").serve)["settings"]()

    assert isinstance(settings, Settings)


def test_no_secret_is_in_the_repository() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|_URL|AUTH$", name):
                assert re.search(r"\${\w+:\?}", value), name


def test_the_readme_makes_every_secret_it_asks_for() -> None:
    readme = (DEPLOY / "README.md").read_text()
    script = readme[readme.index("umask 077") : readme.index("> var/compose.env")]
    (passwords,) = re.findall(r"for name in (.+?); do", script.replace("\\\n", ""), re.DOTALL)
    made = {f"{name}_PASSWORD" for name in passwords.split()} | set(re.findall(r"echo \"?([A-Z_]+)=", script))

    assert made == set(re.findall(r"\${(\w+):\?}", TEXT))
