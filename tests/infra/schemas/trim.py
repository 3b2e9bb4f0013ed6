"""Cut the published Kubernetes and Compose schemas down to what our manifests use, from the wheels that carry them:

    pip download --no-deps kubernetes-validate==1.37.0 check-jsonschema==0.39.0
    python tests/infra/schemas/trim.py kubernetes_validate-*.whl check_jsonschema-*.whl

Descriptions and hints for other tools are left out; no constraint is.
"""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

KUBERNETES = "kubernetes_validate/kubernetes-json-schema/v1.34.0-local-strict/_definitions.json"
COMPOSE = "check_jsonschema/builtin_schemas/vendor/compose-spec.json"
KINDS = [
    "apps.v1.Deployment",
    "apps.v1.StatefulSet",
    "batch.v1.Job",
    "core.v1.ConfigMap",
    "core.v1.Namespace",
    "core.v1.PersistentVolumeClaim",
    "core.v1.Secret",
    "core.v1.Service",
    "networking.v1.NetworkPolicy",
]


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].rpartition("/")[2]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def without_prose(node: Any, names: bool = False) -> Any:
    """`names`: the keys of this object are names of properties or definitions, all of them meant."""
    if isinstance(node, dict):
        return {
            key: without_prose(value, not names and key in ("properties", "patternProperties", "$defs", "definitions"))
            for key, value in node.items()
            if names or not (key == "description" or key.startswith("x-kubernetes-"))
        }
    return [without_prose(value) for value in node] if isinstance(node, list) else node


def main(kubernetes: str, compose: str) -> None:
    folder = Path(__file__).parent
    published = json.loads(zipfile.ZipFile(kubernetes).read(KUBERNETES))
    wanted, kept = [f"io.k8s.api.{kind}" for kind in KINDS], {}
    while wanted:
        name = wanted.pop()
        if name not in kept:
            kept[name] = without_prose(published["$defs"][name])
            wanted += references(kept[name])
    published["$defs"] = dict(sorted(kept.items()))
    write(folder / "kubernetes.json", published)
    write(folder / "compose-spec.json", without_prose(json.loads(zipfile.ZipFile(compose).read(COMPOSE))))


def write(path: Path, schema: dict[str, Any]) -> None:
    path.write_text(json.dumps(schema, separators=(",", ":")).replace('"io.k8s', '\n"io.k8s') + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
