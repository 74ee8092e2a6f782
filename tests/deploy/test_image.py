"""The image holds what the tests ran, and its health check and the probes ask what a service answers."""

import asyncio
import json
import os
import re
import sys
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.conftest import eventually, free_port

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()


def requirements(name: str) -> set[str]:
    """Each requirement of a lock with its hashes."""
    return set(re.split(r"\n(?=\w)", (ROOT / name).read_text().strip()))


def test_the_image_installs_what_the_tests_ran() -> None:
    in_the_image = requirements("requirements-server.lock")

    assert in_the_image - requirements("requirements.lock") == set()
    assert all("--hash=sha256:" in each for each in in_the_image)


def test_the_image_installs_every_package_a_service_imports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked_for = [
        re.split(r"[\[<>=~ ]", each)[0]
        for each in (*project["dependencies"], *project["optional-dependencies"]["server"])
    ]

    locked = {each.split("==")[0] for each in requirements("requirements-server.lock")}

    assert {each.lower() for each in asked_for} - locked == set()


def test_every_file_names_the_image_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    files = [path for path in (ROOT / "deploy").rglob("*") if path.suffix in {"", ".md", ".yaml"} and path.is_file()]

    named = {tag for path in files for tag in re.findall(r"\bthmnayah:(\d[\w.]+)", path.read_text())}

    assert named == {version}


def test_the_build_sees_what_it_needs_and_nothing_private() -> None:
    everything, *seen, caches = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")
    ]
    assert (everything, caches) == ("*", "**/__pycache__")
    for line in seen:
        assert line.startswith("!")
        assert (ROOT / line.removeprefix("!")).exists()


@pytest.fixture
async def service() -> AsyncIterator[int]:
    """A service as the image runs it; its port."""
    port = free_port()
    environ = os.environ | {"THMNAYAH_PORT": str(port), "THMNAYAH_DRAIN_SECONDS": "0"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.gateway", env=environ, stderr=asyncio.subprocess.DEVNULL
    )
    yield port
    process.terminate()
    assert await process.wait() == 0


async def test_the_health_check_succeeds_once_a_service_serves(service: int) -> None:
    (command,) = re.findall(r"^HEALTHCHECK .*?CMD (\[.+\])$", DOCKERFILE.replace("\\\n", ""), re.MULTILINE)
    python, *arguments = json.loads(command)
    assert python == "python"

    async def check(port: int) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            env=os.environ | {"THMNAYAH_PORT": str(port)},
            stderr=asyncio.subprocess.DEVNULL,
        )
        return await process.wait()

    assert await check(free_port()) != 0
    await eventually(lambda: check(service), lambda status: status == 0)


async def test_every_probe_asks_what_a_service_answers(service: int) -> None:
    probed = {
        probe["grpc"].get("service", "")
        for path in (ROOT / "deploy" / "kubernetes").glob("*.yaml")
        for document in yaml.safe_load_all(path.read_text())
        if document["kind"] == "Deployment"
        for container in document["spec"]["template"]["spec"]["containers"]
        for name, probe in container.items()
        if name.endswith("Probe") and "grpc" in probe
    }
    assert probed == {"", "live"}
    async with grpc.aio.insecure_channel(f"127.0.0.1:{service}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in probed:
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name), timeout=10, wait_for_ready=True)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
