"""Manifests for Kubernetes and Compose: valid by their schemas, no secret inside, nothing open that need not be."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "infra" / "kubernetes"
SCHEMAS = Path(__file__).parent / "schemas"
PLACEHOLDER = "fill-in"
[RAY_VERSION] = re.findall(r"^ray==(\S+)", (ROOT / "constraints.txt").read_text(), re.M)

DEFINITIONS = {name: json.loads((SCHEMAS / f"{name}.json").read_text()) for name in ("kubernetes", "kuberay")}
REGISTRY: Registry[Any] = Registry().with_resources(
    [(schema["$id"], Resource.from_contents(schema)) for schema in DEFINITIONS.values()]
)

Manifest = dict[str, Any]

RIGHTS = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}


def manifests() -> list[Manifest]:
    private = ("kustomization.yaml", "secrets.yaml")
    files = sorted(path for path in KUBERNETES.glob("*.yaml") if path.name not in private)
    return [document for path in files for document in yaml.safe_load_all(path.read_text())]


def name_of(manifest: Manifest) -> str:
    metadata = manifest["metadata"]
    return f"{manifest['kind']}-{metadata.get('name', metadata.get('generateName'))}"


def schema_of(manifest: Manifest) -> str:
    """Where the schema of a manifest's kind is. KeyError: there is none, and the manifest is unchecked."""
    group, _, version = manifest["apiVersion"].rpartition("/")
    if group == "ray.io":
        return f"{DEFINITIONS['kuberay']['$id']}#/$defs/{manifest['kind']}"
    name = f"io.k8s.api.{group.partition('.')[0] or 'core'}.{version}.{manifest['kind']}"
    assert name in DEFINITIONS["kubernetes"]["$defs"], f"no schema for {name}"
    return f"{DEFINITIONS['kubernetes']['$id']}#/$defs/{name}"


def problems(manifest: Manifest) -> list[str]:
    """What the published schema has against a manifest; unknown fields and nulls included."""
    validator = Draft202012Validator({"$ref": schema_of(manifest)}, registry=REGISTRY)
    found = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]
    return found + [f"{place}: null" for place, value in places(manifest) if value is None]


def places(node: Any, path: str = "$") -> Iterator[tuple[str, Any]]:
    """Every value in a document with its path."""
    yield path, node
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in pairs:
        yield from places(value, f"{path}.{key}")


def pods(manifest: Manifest) -> list[Manifest]:
    """The specs of all pods that a manifest makes."""
    return [value for _, value in places(manifest) if isinstance(value, dict) and "containers" in value]


def containers(manifest: Manifest) -> list[Manifest]:
    return [container for pod in pods(manifest) for container in [*pod["containers"], *pod.get("initContainers", [])]]


def named(name: str) -> Manifest:
    return next(manifest for manifest in manifests() if name_of(manifest) == name)


def test_all_that_a_team_needs_is_there() -> None:
    kinds = [manifest["kind"] for manifest in manifests()]
    assert {"RayCluster", "RayJob", "StatefulSet", "Deployment", "NetworkPolicy", "Secret", "Job"} <= set(kinds)
    listed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    there = {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml", "secrets.example.yaml"}
    assert there - {"ray-job.yaml", "secrets.yaml"} == set(listed) - {"secrets.yaml"}


@pytest.mark.parametrize("manifest", manifests(), ids=name_of)
def test_manifest_is_valid_by_the_published_schema(manifest: Manifest) -> None:
    assert problems(manifest) == []


@pytest.mark.parametrize("manifest", manifests(), ids=name_of)
def test_a_misspelt_field_anywhere_is_refused(manifest: Manifest) -> None:
    """Every object of a manifest gets a field that its schema does not know, one after another."""
    free_form = re.compile(r"\.(labels|annotations|limits|requests|matchLabels|data|stringData|rayStartParams)$")
    paths = [path for path, value in places(manifest) if isinstance(value, dict) and not free_form.search(path)]
    assert paths
    for path in paths:
        mutant = copy.deepcopy(manifest)
        dict(places(mutant))[path]["misspelt"] = 1
        assert problems(mutant), f"an unknown field in {path} went through"


@pytest.mark.parametrize(
    ("name", "path", "wrong"),
    [
        ("RayCluster-lth-ray", "spec.workerGroupSpecs.1.maxReplicas", "four"),
        ("RayCluster-lth-ray", "spec.headGroupSpec.rayStartParams.num-cpus", 0),
        ("RayCluster-lth-ray", "spec.authOptions.mode", "password"),
        ("RayJob-lth-job-", "spec.ttlSecondsAfterFinished", "10m"),
        ("RayJob-lth-job-", "spec.rayClusterSpec.workerGroupSpecs.0.template.spec.containers.0.resources.limits", 4),
        ("StatefulSet-postgres", "spec.replicas", "1"),
        ("Deployment-prefect-server", "spec.template.spec.containers.0.ports.0.containerPort", "4200"),
        ("NetworkPolicy-nothing-comes-in", "spec.policyTypes", "Ingress"),
        ("ConfigMap-lth-settings", "data.PREFECT_FLOWS_HEARTBEAT_FREQUENCY", 30),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(name: str, path: str, wrong: object) -> None:
    mutant = copy.deepcopy(named(name))
    *parents, last = path.split(".")
    dict(places(mutant))[".".join(["$", *parents])][int(last) if last.isdigit() else last] = wrong
    assert problems(mutant)


def test_a_missing_field_is_refused() -> None:
    mutant = copy.deepcopy(named("RayCluster-lth-ray"))
    del mutant["spec"]["workerGroupSpecs"][0]["maxReplicas"]
    assert problems(mutant)


def test_secrets_are_placeholders_and_come_from_nowhere_else() -> None:
    secrets = [manifest for manifest in manifests() if manifest["kind"] == "Secret"]
    assert all(PLACEHOLDER in value for secret in secrets for value in secret["stringData"].values())
    known = {(secret["metadata"]["name"], key) for secret in secrets for key in secret["stringData"]}
    asked = set()
    for manifest in manifests():
        for container in containers(manifest):
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {}).get("secretKeyRef")
                if reference:
                    asked.add((reference["name"], reference["key"]))
                elif re.search("PASSWORD|TOKEN|SECRET|AUTH_STRING|ACCESS_KEY", variable["name"]):
                    pytest.fail(f"{name_of(manifest)} states {variable['name']} itself")
            for source in container.get("envFrom", []):
                if "secretRef" in source:
                    asked |= {pair for pair in known if pair[0] == source["secretRef"]["name"]}
    assert asked == known  # none missing, none that nobody reads


def test_kustomize_puts_it_together(tmp_path: Path) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    folder = shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    (folder / "secrets.yaml").unlink(missing_ok=True)
    command = [kubectl, "kustomize", str(folder)]
    assert subprocess.run(command, capture_output=True).returncode != 0  # not before the secrets are filled in
    shutil.copy(folder / "secrets.example.yaml", folder / "secrets.yaml")
    built = list(yaml.safe_load_all(subprocess.run(command, capture_output=True, check=True, text=True).stdout))
    assert {manifest["metadata"].get("namespace") for manifest in built} == {"lth", None}
    ours = {container["image"] for manifest in built for container in containers(manifest)}
    assert ours == {"registry.example.com/lth:0.1.0", "postgres:17.6-bookworm"}
    assert all(problems(manifest) == [] for manifest in built)


def test_every_pod_of_ours_has_one_image_one_environment_and_few_rights() -> None:
    for manifest in manifests():
        for pod in pods(manifest):
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(manifest):
            assert container["securityContext"] == RIGHTS
            assert set(container["resources"]["requests"]) >= {"cpu", "memory"} <= set(container["resources"]["limits"])
            if container["name"] != "postgres":
                assert container["image"] == "lth"
                assert {"configMapRef": {"name": "lth-settings"}} in container["envFrom"]


def test_what_containers_write_goes_to_volumes_of_limited_size() -> None:
    """Their root file systems are read-only: each that runs for long has a /tmp of its own, which ends with the pod."""
    found = 0
    for manifest in manifests():
        for pod in pods(manifest):
            empty = {volume["name"]: volume["emptyDir"] for volume in pod.get("volumes", []) if "emptyDir" in volume}
            for container in pod["containers"]:
                mounted = {mount["mountPath"]: mount["name"] for mount in container.get("volumeMounts", [])}
                assert empty[mounted["/tmp"]]["sizeLimit"], (name_of(manifest), container["name"])
                found += 1
            declared = {volume["name"] for volume in pod.get("volumes", [])}
            claims = {claim["metadata"]["name"] for claim in manifest["spec"].get("volumeClaimTemplates", [])}
            for container in [*pod["containers"], *pod.get("initContainers", [])]:
                assert {mount["name"] for mount in container.get("volumeMounts", [])} <= declared | claims
    assert found == 11
    for cluster in clusters().values():
        autoscaler = cluster["autoscalerOptions"]
        assert autoscaler["securityContext"] == RIGHTS
        assert autoscaler["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]


def clusters() -> dict[str, Manifest]:
    return {
        "RayCluster": named("RayCluster-lth-ray")["spec"],
        "RayJob": named("RayJob-lth-job-")["spec"]["rayClusterSpec"],
    }


@pytest.mark.parametrize("kind", ["RayCluster", "RayJob"])
def test_ray_nodes_agree_and_are_shut(kind: str) -> None:
    cluster = clusters()[kind]
    assert cluster["rayVersion"] == RAY_VERSION
    assert cluster["authOptions"] == {"mode": "token", "secretName": "ray-auth"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert "enableIngress" not in cluster["headGroupSpec"]
    loopback = cluster["headGroupSpec"]["rayStartParams"]["dashboard-host"] == "127.0.0.1"
    assert loopback == (kind == "RayCluster")  # jobs come in through the dashboard
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    nodes = [group["template"]["spec"]["containers"][0] for group in groups]
    storage = [(node["volumeMounts"], node["envFrom"]) for node in nodes]
    assert all(here == storage[0] for here in storage)
    assert all(group["rayStartParams"]["disable-usage-stats"] == "true" for group in groups)
    assert all(
        [check["name"] for check in group["template"]["spec"]["initContainers"]] == ["refuse-placeholders"]
        for group in groups
    )
    assert cluster["enableInTreeAutoscaling"] is True
    for group in cluster["workerGroupSpecs"]:
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"] <= 100
    [gpus] = [group for group in cluster["workerGroupSpecs"] if group["groupName"] == "gpu"]
    assert gpus["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_a_job_leaves_nothing_behind() -> None:
    job = named("RayJob-lth-job-")["spec"]
    assert job["shutdownAfterJobFinishes"] is True
    assert 0 < job["ttlSecondsAfterFinished"] <= 3600


def test_only_named_traffic_comes_in() -> None:
    policies = [manifest["spec"] for manifest in manifests() if manifest["kind"] == "NetworkPolicy"]
    assert {"podSelector": {}, "policyTypes": ["Ingress"]} in policies
    for service in (manifest for manifest in manifests() if manifest["kind"] == "Service"):
        assert service["spec"].get("type", "ClusterIP") == "ClusterIP"
    labels = [
        value
        for manifest in manifests()
        for path, value in places(manifest)
        if path.lower().endswith("template.metadata.labels")
    ]
    for policy in policies:  # a policy that selects nobody protects nobody
        wanted = {
            key: value
            for key, value in policy["podSelector"].get("matchLabels", {}).items()
            if not key.startswith("ray.io/")
        }  # KubeRay's own
        assert any(wanted.items() <= given.items() for given in labels), wanted


def test_telemetry_is_off_and_runs_report() -> None:
    settings = named("ConfigMap-lth-settings")["data"]
    assert settings["DO_NOT_TRACK"] == "1"
    assert settings["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert settings["RAY_USAGE_STATS_ENABLED"] == "0"
    assert int(settings["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"]) == 30  # Prefect sends none more often
