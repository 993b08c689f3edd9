"""Hold exported files against published definitions of Kubernetes' resources, which are given by path.

    python benchmarks/validate_manifests.py --crds DIR --manifests DIR

``--crds`` holds CustomResourceDefinitions as their projects publish them (``*.yaml``); none belongs to this
repository. Every document of ``--manifests`` whose kind is defined there is checked by openAPIV3Schema,
fields that it does not know included; what is defined nowhere is listed. The exit status is 1 where a
document is wrong, 2 where nothing was checked.

Takes some seconds.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

Key = tuple[object, object]


def documents(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the documents of a folder's YAML files."""
    for path in sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")]):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if isinstance(document, dict):
                yield path, document


def definitions(folder: Path) -> dict[Key, dict[str, Any]]:
    """The schemas of a folder's definitions by apiVersion and kind."""
    found = {}
    for _, document in documents(folder):
        if document.get("kind") != "CustomResourceDefinition":
            continue
        spec = document["spec"]
        for version in spec["versions"]:
            key = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
            found[key] = strict(version["schema"]["openAPIV3Schema"], top=True)
    return found


def strict(rule: Any, *, top: bool = False) -> Any:
    """A schema of Kubernetes as JSON Schema that takes no unknown fields, as the server prunes them.

    ``metadata`` of the object itself is the server's own, and ``x-kubernetes-preserve-unknown-fields`` keeps
    what is below open (kubernetes.io, extend the Kubernetes API with CustomResourceDefinitions).
    """
    if not isinstance(rule, dict):
        return rule
    made = {key: value for key, value in rule.items() if not key.startswith("x-") and key != "format"}
    properties = rule.get("properties", {})
    if properties:
        made["properties"] = {
            name: {"type": "object"} if top and name == "metadata" else strict(inner)
            for name, inner in properties.items()
        }
        if "additionalProperties" not in rule and not rule.get("x-kubernetes-preserve-unknown-fields"):
            made["additionalProperties"] = False
    for key in ("items", "additionalProperties"):
        if isinstance(rule.get(key), dict):
            made[key] = strict(rule[key])
    if rule.get("x-kubernetes-int-or-string"):
        made["type"] = ["integer", "string"]
    if made.pop("nullable", False) and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    return made


def main() -> int:
    """Check the files named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--crds", type=Path, required=True)
    parser.add_argument("--manifests", type=Path, required=True)
    arguments = parser.parse_args()
    known = definitions(arguments.crds)
    checked: Counter[Key] = Counter()
    unknown: Counter[Key] = Counter()
    wrong = 0
    for path, document in documents(arguments.manifests):
        key = (document.get("apiVersion"), document.get("kind"))
        if key not in known:
            unknown[key] += 1
            continue
        checked[key] += 1
        for error in Draft202012Validator(known[key]).iter_errors(document):
            wrong += 1
            print(f"{path}: {document['metadata']['name']}: {error.json_path}: {error.message}")
    for key, number in checked.items():
        print(f"checked {number:>4}  {key[0]} {key[1]}")
    for key, number in unknown.items():
        print(f"no CRD  {number:>4}  {key[0]} {key[1]}")
    print(f"{sum(checked.values())} documents checked, {wrong} problems")
    return 1 if wrong else 0 if checked else 2


if __name__ == "__main__":
    sys.exit(main())
