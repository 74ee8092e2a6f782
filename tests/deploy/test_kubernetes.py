"""The manifests are valid, as restricted as Kubernetes allows, and fit the services they run."""

import base64
import importlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, get_type_hints

import kubernetes_validate  # type: ignore[import-untyped]  # it ships no types
import pytest
import yaml

from libs import rpc
from libs.config import Settings
from services.gateway import envoy
from services.gateway.settings import GatewaySettings

Json = dict[str, Any]

DEPLOY = Path(__file__).parents[2] / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
OLDEST_VERSION = "1.34"


def documents(folder: Path) -> list[Json]:
    return [
        document
        for path in sorted(folder.rglob("*.yaml"))
        if path.name != "kustomization.yaml"
        for document in yaml.safe_load_all(path.read_text())
    ]


def named(document: Json) -> str:
    return f"{document['kind']}/{document['metadata']['name']}"


MANIFESTS = documents(KUBERNETES)
MESH_POLICIES = [each for each in documents(DEPLOY / "istio") if each["kind"] == "NetworkPolicy"]
POLICIES = [*(each for each in MANIFESTS if each["kind"] == "NetworkPolicy"), *MESH_POLICIES]
DEPLOYMENTS = {each["metadata"]["name"]: each for each in MANIFESTS if each["kind"] == "Deployment"}
PODS = {named(each): each["spec"]["template"]["spec"] for each in MANIFESTS if each["kind"] in {"Deployment", "Job"}}
CONTAINERS = {
    f"{owner}/{container['name']}": container
    for owner, pod in PODS.items()
    for container in (*pod.get("initContainers", ()), *pod["containers"])
}
SHARED_SETTINGS = dict(
    literal.split("=", 1)
    for generator in yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["configMapGenerator"]
    for literal in generator["literals"]
)


def environment(container: Json) -> dict[str, str]:
    """What a container finds in its environment, with stand-ins for the secrets."""
    stand_in = base64.b64encode(bytes(32)).decode()
    shared = SHARED_SETTINGS if container.get("envFrom") else {}
    return {**shared, **{each["name"]: each.get("value", stand_in) for each in container.get("env", ())}}


@pytest.mark.parametrize("document", [*MANIFESTS, *MESH_POLICIES], ids=named)
def test_every_manifest_is_valid(document: Json) -> None:
    kubernetes_validate.validate(document, OLDEST_VERSION, strict=True)


@pytest.mark.parametrize(
    "folder", [KUBERNETES, KUBERNETES / "migrations", DEPLOY / "istio"], ids=lambda path: path.name
)
def test_every_file_is_part_of_its_kustomization(folder: Path) -> None:
    resources = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]

    files = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
    assert {each for each in resources if each.endswith(".yaml")} == files


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_pods_run_as_nobody_special(pod: Json) -> None:
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert min(context["runAsUser"], context["runAsGroup"]) >= 10_000
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] in {
        each["metadata"]["name"] for each in MANIFESTS if each["kind"] == "ServiceAccount"
    }


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_containers_can_change_nothing_and_take_no_more_than_their_share(container: Json) -> None:
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    for kind, resource in product(("requests", "limits"), ("cpu", "memory")):
        assert container["resources"][kind][resource]
    image, _, tag = container["image"].rpartition(":")
    assert image
    assert tag not in {"", "latest"}


@pytest.mark.parametrize("account", [each for each in MANIFESTS if each["kind"] == "ServiceAccount"], ids=named)
def test_service_accounts_bring_no_token(account: Json) -> None:
    assert account["automountServiceAccountToken"] is False


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_every_service_is_probed_spread_and_kept_available(name: str) -> None:
    deployment, pod = DEPLOYMENTS[name], DEPLOYMENTS[name]["spec"]["template"]
    labels = pod["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    for container in pod["spec"]["containers"]:
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()
    for spread in pod["spec"]["topologySpreadConstraints"]:
        assert spread["labelSelector"]["matchLabels"].items() <= labels.items()
    kinds = {each["kind"]: each for each in MANIFESTS if each["metadata"]["name"] == name}
    assert kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert kinds["Service"]["spec"]["selector"].items() <= labels.items()
    replicas = deployment["spec"].get("replicas") or kinds["HorizontalPodAutoscaler"]["spec"]["minReplicas"]
    assert replicas >= 2


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_liveness_asks_for_the_process_and_never_for_what_it_depends_on(name: str) -> None:
    for container in DEPLOYMENTS[name]["spec"]["template"]["spec"]["containers"]:
        if "services" not in str(container["command"]):
            continue
        assert container["livenessProbe"]["grpc"]["service"] == "live"
        assert container["startupProbe"]["grpc"]["service"] == "live"
        assert "service" not in container["readinessProbe"]["grpc"]


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_pod_is_given_the_time_to_drain(name: str) -> None:
    pod = DEPLOYMENTS[name]["spec"]["template"]["spec"]
    before = max(
        container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        for container in pod["containers"]
    )
    drain = Settings.model_fields["drain_seconds"].default

    assert pod["terminationGracePeriodSeconds"] > before + drain + rpc.STOP_SECONDS


def test_the_edge_is_drained_by_a_script_that_compiles() -> None:
    containers = {each["name"]: each for each in DEPLOYMENTS["gateway"]["spec"]["template"]["spec"]["containers"]}
    python, option, script = containers["gateway"]["lifecycle"]["preStop"]["exec"]["command"]
    assert (python, option) == ("python", "-c")
    compile(script, "preStop", "exec")
    assert f"time.sleep({containers['envoy']['lifecycle']['preStop']['sleep']['seconds']})" in script


@pytest.mark.parametrize(
    "container",
    [each for each in CONTAINERS.values() if "services." in str(each["command"])],
    ids=lambda each: each["name"],
)
def test_every_service_has_the_settings_it_requires(container: Json, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(
        next(word for word in " ".join(container["command"]).split() if "services." in word) + ".__main__"
    )
    for setting, value in environment(container).items():
        monkeypatch.setenv(setting, value)

    settings = get_type_hints(module.serve)["settings"]()

    assert isinstance(settings, Settings)


def test_envoy_is_configured_for_its_pod_and_finds_every_service(monkeypatch: pytest.MonkeyPatch) -> None:
    init, *_ = DEPLOYMENTS["gateway"]["spec"]["template"]["spec"]["initContainers"]
    for setting, value in environment(init).items():
        monkeypatch.setenv(setting, value)

    config = envoy.bootstrap(GatewaySettings())

    listener = config["static_resources"]["listeners"][0]["address"]["socket_address"]
    assert listener == {"address": SHARED_SETTINGS["THMNAYAH_HTTP_HOST"], "port_value": 8080}
    ports = {
        each["metadata"]["name"]: each["spec"]["ports"][0]["port"] for each in MANIFESTS if each["kind"] == "Service"
    }
    upstreams = {
        address["address"]: address["port_value"]
        for address in _find(config["static_resources"]["clusters"], "socket_address")
    }
    assert upstreams.pop("127.0.0.1") == 50051
    assert upstreams == {name: port for name, port in ports.items() if name != "gateway"}


def test_envoy_needs_no_other_file_than_its_configuration() -> None:
    assert not list(_find(envoy.bootstrap(GatewaySettings()), "proto_descriptor")), "its container has no file of ours"


def _find(value: Any, key: str) -> Iterator[Any]:
    if isinstance(value, dict):
        if key in value:
            yield value[key]
        for each in value.values():
            yield from _find(each, key)
    elif isinstance(value, list):
        for each in value:
            yield from _find(each, key)


@pytest.mark.parametrize("service", [each for each in MANIFESTS if each["kind"] == "Service"], ids=named)
def test_ports_say_what_is_spoken_on_them(service: Json) -> None:
    for port in service["spec"]["ports"]:
        assert port["name"].startswith(("grpc-", "http2-"))


def test_pods_talk_along_listed_edges_alone() -> None:
    """What one side may send, the other may receive; and everything else is denied."""
    deny_all = next(each for each in POLICIES if each["metadata"]["name"] == "deny-all")
    assert deny_all["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    sent, received = set(_edges("egress")), set(_edges("ingress"))
    assert (
        sent
        == received
        == {
            ("gateway", "auth", 50051),
            ("gateway", "content", 50051),
            ("gateway", "search", 50051),
            ("content", "auth", 50051),
            ("search", "auth", 50051),
        }
    )


def _edges(direction: str) -> Iterator[tuple[str, str, int]]:
    """(from, to, port) of each rule between two of our own pods."""
    for policy in POLICIES:
        own = policy["spec"]["podSelector"].get("matchLabels", {}).get("app.kubernetes.io/name", "")
        for rule in policy["spec"].get(direction, ()):
            for peer, port in product(rule.get("to" if direction == "egress" else "from", ()), rule["ports"]):
                other = peer.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/name")
                if other:
                    yield (own, other, port["port"]) if direction == "egress" else (other, own, port["port"])
