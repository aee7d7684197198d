"""What is sent to Kubernetes: valid, closed, and in agreement with the services' own settings."""

from __future__ import annotations

import ipaddress
import re
import shutil
import tempfile
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from reaas_encoder.settings import EncoderSettings
from reaas_f2i.settings import F2ISettings
from reaas_pretrain.service.settings import PretrainSettings
from reaas_runtime import ServerSettings
from reaas_runtime.health import LIVE

from scripts.dashboards.__main__ import rendered as rendered_dashboards
from scripts.operator_rules import rendered as rendered_rules
from tests.deploy.rendered import (
    COMPONENTS,
    K8S,
    OVERLAYS,
    ROOT,
    SERVICES,
    Object,
    base_with,
    built,
    combinations,
    environment,
    needs_kubectl,
    of_kind,
    overlay,
    pod_of,
    services_of,
)

pytestmark = needs_kubectl
KUBERNETES = "1.32"
# Kinds of other projects: Kubernetes itself has no schema of them.
FOREIGN = {
    "ServiceMonitor",
    "PrometheusRule",
    "Certificate",
    "ScaledObject",
    "Gateway",
    "GRPCRoute",
}
SETTINGS: dict[str, type[ServerSettings]] = {
    "encoder": EncoderSettings,
    "f2i": F2ISettings,
    "pretrain": PretrainSettings,
}
# Each service of each overlay: dev is without pre-training, which nobody could use there.
DEPLOYED = (
    [(name, service) for name in OVERLAYS for service in services_of(overlay(name))]
    if (shutil.which("kubectl"))
    else []
)


def check_schema(objects: tuple[Object, ...]) -> None:
    for item in objects:
        if item["kind"] not in FOREIGN:
            kubernetes_validate.validate(item, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", OVERLAYS)
def test_overlays_are_valid(name: str) -> None:
    check_schema(overlay(name))


@pytest.mark.slow
@pytest.mark.parametrize("component", COMPONENTS)
def test_components_are_valid(component: str) -> None:
    check_schema(base_with((component,)))


@pytest.mark.slow
def test_all_combinations_of_components_are_valid() -> None:
    for chosen in combinations():
        check_schema(base_with(chosen))


@pytest.mark.parametrize(("name", "service"), DEPLOYED)
def test_pods_meet_the_restricted_standard(name: str, service: str) -> None:
    pod = pod_of(overlay(name), service)
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        context = container["securityContext"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert {"cpu", "memory"} <= set(container["resources"]["limits"])
    namespace = of_kind(overlay(name), "Namespace")["reaas"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize(("name", "service"), DEPLOYED)
def test_settings_are_those_of_the_service(
    name: str, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every REAAS_ variable is a setting, and the service would start with all of them."""
    fields = set(SETTINGS[service].model_fields)
    foreign = {f for other in SETTINGS.values() for f in other.model_fields}
    given = environment(overlay(name), service) | {"REAAS_HOST": "0.0.0.0"}
    for variable, value in given.items():
        field = variable.removeprefix("REAAS_").lower().split("__")[0]
        assert field in fields | foreign, variable
        monkeypatch.setenv(variable, value)
    settings = SETTINGS[service](_cli_parse_args=[])  # type: ignore[call-arg]
    pod = pod_of(overlay(name), service)
    assert settings.drain_seconds + settings.grace_seconds < pod["terminationGracePeriodSeconds"]
    assert settings.tls == (name != "dev")
    assert settings.allow_anonymous == (name == "dev")


@pytest.mark.parametrize("service", SERVICES)
def test_probes_ask_what_they_mean(service: str) -> None:
    container = pod_of(overlay("prod"), service)["containers"][0]
    port = int(environment(overlay("prod"), service)["REAAS_HEALTH_PORT"])
    assert container["startupProbe"]["grpc"] == {"port": port}
    assert container["readinessProbe"]["grpc"] == {"port": port}
    assert container["livenessProbe"]["grpc"] == {"port": port, "service": LIVE}


@pytest.mark.parametrize("name", OVERLAYS)
def test_services_select_their_own_pods(name: str) -> None:
    deployments = of_kind(overlay(name), "Deployment").values()
    for service, found in of_kind(overlay(name), "Service").items():
        assert found["spec"]["clusterIP"] == "None", "clients balance over pods themselves"
        selector = found["spec"]["selector"].items()
        matched = [
            d["metadata"]["name"]
            for d in deployments
            if selector <= d["spec"]["template"]["metadata"]["labels"].items()
        ]
        expected = [] if service == "reaas-pretrain-workers" else [service]
        assert matched == expected


def test_only_pretraining_may_talk_to_the_api_server() -> None:
    for service in SERVICES:
        pod = pod_of(overlay("prod"), service)
        assert pod["automountServiceAccountToken"] == (service == "pretrain")
    role = of_kind(overlay("prod"), "Role")["reaas-pretrain"]
    allowed = {
        (resource, verb)
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    jobs = {("jobs", verb) for verb in ("create", "get", "delete")}
    assert allowed == jobs | {
        ("pods", "list"),
        ("pods/log", "get"),
        ("events", "list"),
        ("networkpolicies", "create"),
    }
    assert not of_kind(overlay("prod"), "ClusterRole")


def test_networks_are_closed_but_for_the_flows_there_are() -> None:
    policies = of_kind(overlay("prod"), "NetworkPolicy")
    closed = policies.pop("default-deny")["spec"]
    assert closed == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert set(policies) == {
        "clients-to-encoder",
        "clients-to-f2i",
        "operators-to-pretrain",
        "prometheus-to-metrics",
        "pretrain-to-api-server",
        "dns",
    }
    for policy in policies.values():
        assert policy["spec"]["podSelector"], "a policy for all pods opens more than one flow"


@pytest.mark.parametrize("name", OVERLAYS)
def test_dashboards_and_rules_are_those_of_one_machine(name: str) -> None:
    maps = of_kind(overlay(name), "ConfigMap")
    boards = maps["reaas-dashboards"]["data"]
    assert boards == {f"reaas-{file}": text for file, text in rendered_dashboards().items()}
    rules = ROOT / "deploy/observability/prometheus/rules"
    assert maps["reaas-rules"]["data"] == {f.name: f.read_text() for f in rules.glob("*.yml")}


def test_generated_files_are_current() -> None:
    committed = ROOT / "deploy/observability/grafana/dashboards"
    assert {f.name: f.read_text() for f in committed.glob("*.json")} == rendered_dashboards()
    assert (K8S / "components/prometheus-operator/rules.yaml").read_text() == rendered_rules()


def test_prod_survives_nodes_and_deployments() -> None:
    objects = overlay("prod")
    for service in ("encoder", "f2i"):
        name = f"reaas-{service}"
        deployment = of_kind(objects, "Deployment")[name]["spec"]
        assert "replicas" not in deployment, "the autoscaler owns it"
        assert of_kind(objects, "HorizontalPodAutoscaler")[name]["spec"]["minReplicas"] >= 2
        assert of_kind(objects, "PodDisruptionBudget")[name]["spec"]["maxUnavailable"] == 1
        assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        pod = pod_of(objects, service)
        assert pod["topologySpreadConstraints"]
        assert pod["priorityClassName"] == "reaas-serving"
    for claim in of_kind(objects, "PersistentVolumeClaim").values():
        assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_prod_describes_nothing_to_strangers() -> None:
    config = of_kind(overlay("prod"), "ConfigMap")["reaas-config"]
    assert config["data"]["REAAS_REFLECTION"] == "false"


def test_every_image_is_built_from_a_target() -> None:
    dockerfile = (ROOT / "deploy/docker/Dockerfile").read_text()
    for service in SERVICES:
        pod = pod_of(overlay("prod"), service)
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            target = container["image"].removeprefix("reaas-").split(":")[0]
            assert re.search(rf"^FROM (base|scratch) AS {target}$", dockerfile, re.MULTILINE)


def test_an_overlays_image_names_reach_every_container() -> None:
    """Of a registry: nothing names the images but where kustomize's `images:` changes them."""
    with tempfile.TemporaryDirectory(dir=K8S, prefix=".test-") as directory:
        names = [f"reaas-{target}" for target in (*SERVICES, "models")]
        content = {
            "resources": ["../overlays/prod"],
            "images": [
                {"name": name, "newName": f"registry.example/{name}", "newTag": "9"}
                for name in names
            ],
        }
        (Path(directory) / "kustomization.yaml").write_text(yaml.safe_dump(content))
        objects = built(Path(directory))
    text = yaml.safe_dump_all(objects)
    for name in names:
        assert f"registry.example/{name}:9" in text
        assert f"{name}:0" not in text


def test_pretraining_asks_for_the_api_server_and_dns_only() -> None:
    policies = of_kind(overlay("prod"), "NetworkPolicy")
    [rule] = policies["pretrain-to-api-server"]["spec"]["egress"]
    blocks = [ipaddress.ip_network(peer["ipBlock"]["cidr"]) for peer in rule["to"]]
    assert all(block.is_private or str(block) == "100.64.0.0/10" for block in blocks)
    [rule] = policies["dns"]["spec"]["egress"]
    assert {"ipBlock": {"cidr": "169.254.0.0/16"}} in rule["to"], "caches on nodes"


@pytest.mark.parametrize(("name", "service"), DEPLOYED)
def test_kubectl_looks_at_the_services_container(name: str, service: str) -> None:
    template = of_kind(overlay(name), "Deployment")[f"reaas-{service}"]["spec"]["template"]
    chosen = template["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"]
    assert chosen == template["spec"]["containers"][0]["name"] == service


@pytest.mark.parametrize("component", ["gateway", "ingress"])
def test_the_way_in_leads_to_the_two_services_only(component: str) -> None:
    objects = base_with(("pretrain", component))
    services = {s for s in of_kind(objects, "Service") if s != "reaas-pretrain-workers"}
    if component == "gateway":
        routes = of_kind(objects, "GRPCRoute").values()
        rules = [rule for route in routes for rule in route["spec"]["rules"]]
        ways = {
            (rule["matches"][0]["method"]["service"], rule["backendRefs"][0]["name"])
            for rule in rules
        }
    else:
        [found] = of_kind(objects, "Ingress")["reaas"]["spec"]["rules"]
        ways = {
            (path["path"].strip("/"), path["backend"]["service"]["name"])
            for path in found["http"]["paths"]
        }
    assert ways == {
        ("reaas.v1.EncoderService", "reaas-encoder"),
        ("reaas.v1.F2IService", "reaas-f2i"),
    }
    assert {backend for _, backend in ways} < services


def test_no_file_of_the_build_is_left_behind() -> None:
    assert not [path for path in Path(K8S).iterdir() if path.name.startswith(".test-")]
