"""The mesh lets our services say to each other what the contracts allow, and nothing else."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from libs import contracts, identity

Json = dict[str, Any]

ISTIO = Path(__file__).parents[2] / "deploy" / "istio"
HEALTH = "/grpc.health.v1.Health/Check"
CHECK = "/envoy.service.auth.v3.Authorization/Check"
KEYS = "/thmnayah.auth.v1.AuthService/GetJwks"
REVOCATIONS = "/thmnayah.auth.v1.SessionService/ListRevocations"
ROLES = "/thmnayah.auth.v1.RoleService/GetRoleSnapshot"

DOCUMENTS: list[Json] = [
    document
    for path in sorted(ISTIO.glob("*.yaml"))
    if path.name != "kustomization.yaml"
    for document in yaml.safe_load_all(path.read_text())
]


def of_kind(kind: str) -> dict[str, Json]:
    return {each["metadata"]["name"]: each["spec"] for each in DOCUMENTS if each["kind"] == kind}


def app(spec: Json) -> str:
    return str(spec["selector"]["matchLabels"]["app.kubernetes.io/name"])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda each: f"{each['kind']}/{each['metadata']['name']}")
def test_every_document_is_of_a_known_kind_and_version(document: Json) -> None:
    assert document.keys() == {"apiVersion", "kind", "metadata", "spec"}
    assert document["kind"] in {
        "security.istio.io/v1": {"AuthorizationPolicy", "PeerAuthentication", "RequestAuthentication"},
        "networking.istio.io/v1": {"DestinationRule", "Gateway", "VirtualService"},
        "networking.k8s.io/v1": {"NetworkPolicy"},
    }.get(document["apiVersion"], set())


def test_the_way_in_is_tls_and_nothing_else() -> None:
    """No plain port, not even one that redirects: a program that sends its token there would go unnoticed."""
    (gateway,) = of_kind("Gateway").values()
    (server,) = gateway["servers"]

    assert (server["port"]["number"], server["port"]["protocol"]) == (443, "HTTPS")
    assert (server["tls"]["mode"], server["tls"]["minProtocolVersion"]) == ("SIMPLE", "TLSV1_2")
    assert of_kind("VirtualService")["public"]["gateways"] == ["public"]


def test_nothing_is_said_in_the_clear() -> None:
    assert [spec["mtls"]["mode"] for spec in of_kind("PeerAuthentication").values()] == ["STRICT"]
    assert [spec["trafficPolicy"]["tls"]["mode"] for spec in of_kind("DestinationRule").values()] == ["ISTIO_MUTUAL"]


def test_nothing_is_allowed_but_what_is_listed() -> None:
    policies = of_kind("AuthorizationPolicy")
    assert policies.pop("allow-nothing") == {}
    for policy in policies.values():
        assert policy["action"] == "ALLOW"
        for rule in policy["rules"]:
            assert all(each["source"]["principals"] for each in rule["from"])
            assert all(each["operation"]["ports"] for each in rule["to"])


def test_the_listed_calls_are_those_of_the_contracts() -> None:
    """Every pair of a caller and a method: the edge reaches what is public, others keys, roles and revocations."""
    allowed: dict[tuple[str, str], list[str]] = defaultdict(list)
    for policy in of_kind("AuthorizationPolicy").values():
        if policy and app(policy) != "gateway":
            for rule in policy["rules"]:
                for source in rule["from"]:
                    for principal in source["source"]["principals"]:
                        caller = principal.removeprefix("cluster.local/ns/thmnayah/sa/")
                        allowed[caller, app(policy)] += [path for to in rule["to"] for path in to["operation"]["paths"]]

    expected: dict[tuple[str, str], list[str]] = defaultdict(list)
    for rpc in contracts.rpcs():
        if rpc.service != "gateway" and rpc.access.WhichOneof("rule") not in (None, "internal"):
            expected["gateway", rpc.service].append(rpc.path)
    for (_, service), paths in expected.items():
        assert service in {"auth", "content", "search"}
        paths.append(HEALTH)
    expected["content", "auth"] = expected["search", "auth"] = [KEYS, REVOCATIONS, ROLES]
    expected["gateway", "auth"] += [REVOCATIONS, ROLES]  # its own service verifies tokens too
    expected["gateway", "auth"].append(CHECK)
    assert {pair: sorted(paths) for pair, paths in allowed.items()} == {
        pair: sorted(paths) for pair, paths in expected.items()
    }


def test_only_the_ingress_gateway_reaches_the_edge() -> None:
    (rule,) = of_kind("AuthorizationPolicy")["gateway"]["rules"]
    (source,), (to,) = rule["from"], rule["to"]
    assert source == {
        "source": {"principals": ["cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account"]}
    }
    assert to == {"operation": {"ports": ["8080"]}}


def test_tokens_are_checked_as_the_services_check_them_and_passed_on() -> None:
    policies = of_kind("RequestAuthentication")
    # A call of auth may bring a token that has ended, to be exchanged.
    assert {app(policy) for policy in policies.values()} == {"content", "search"}
    for policy in policies.values():
        (rule,) = policy["jwtRules"]
        assert (rule["issuer"], rule["audiences"]) == (identity.ISSUER, [identity.AUDIENCE])
        assert rule["forwardOriginalToken"] is True
        assert rule["jwksUri"].endswith("/.well-known/jwks.json")


def test_the_mesh_repeats_no_call_on_its_own() -> None:
    routes = of_kind("VirtualService")
    called = {rpc.service for rpc in contracts.rpcs()} - {"gateway"}
    assert {host for spec in routes.values() for host in spec["hosts"]} == {*called, "thmnayah.example"}
    for spec in routes.values():
        assert [route["retries"] for route in spec["http"]] == [{"attempts": 0}]


def test_one_host_stands_for_the_installations_everywhere() -> None:
    hosts = [host for server in of_kind("Gateway")["public"]["servers"] for host in server["hosts"]]
    assert hosts == of_kind("VirtualService")["public"]["hosts"] == ["thmnayah.example"]
    for policy in of_kind("RequestAuthentication").values():
        assert policy["jwtRules"][0]["jwksUri"].startswith("https://thmnayah.example/")
