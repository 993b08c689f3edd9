"""Damaged, truncated and hostile manifests end in one message, or say what is left of them."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from scenarios.importers.facts import ImportOptions, ImportSourceError, SourceFacts
from scenarios.importers.manifests import KINDS, linked
from scenarios.importers.source import Kind, Source
from tests.hostile_texts import HOSTILE_TEXTS
from tests.scenarios.importers.manifest_texts import (
    CASE,
    DEPLOYMENT,
    DYNAMO_MODEL,
    GRAPHS,
    KSERVE,
    LITELLM,
    MODELS,
    POOLS,
    ROUTES,
    VALUES,
)

TABLE = {
    "base_model": "m",
    "servers": {"lorapack-g0": {"gpu": 0, "address": "h:1"}, "lorapack-g1": {"gpu": 1}},
    "routes": {"fr": {"lorapack-g0": 0.5, "lorapack-g1": 0.5}},
}
TEXTS = {
    "aibrix": (CASE / "aibrix.yaml").read_text(),
    "production-stack": (CASE / "production_stack.yaml").read_text(),
    "syncer": (CASE / "gie_configmap.yaml").read_text(),
    "kserve": KSERVE,
    "dynamo model": DYNAMO_MODEL,
    "dynamo graph": GRAPHS["v1alpha1"],
    "dynamo graph, newer": GRAPHS["v1beta1"],
    "deployment": DEPLOYMENT,
    "chart values": VALUES,
    "litellm": LITELLM,
    "http route": ROUTES,
    "pools": POOLS,
    "model map": MODELS,
    "our routes": json.dumps(TABLE, indent=1),
}
HOSTILE = (*HOSTILE_TEXTS, "a\nb", "x" * 200, "\u202eabc", "\x1b[31m", "\0")
WRONG: tuple[object, ...] = (
    None,
    True,
    7,
    -1,
    0,
    1.5,
    10**30,
    1e308,
    "",
    [],
    {},
    [1],
    [None],
    [[]],
    {"a": 1},
)


def kind_of(text: str, tmp_path: Path) -> Kind:
    path = tmp_path / "whole"
    path.write_text(text, encoding="utf-8")
    return next(kind for kind in KINDS if kind.fits(Source(path)))


def ends(kind: Kind, content: bytes, path: Path) -> SourceFacts | ImportSourceError:
    """What a file says, or the one message about it; anything else that is raised fails the test."""
    path.write_bytes(content)
    try:
        facts = kind.read(Source(path), ImportOptions())
    except ImportSourceError as caught:
        error = caught
    else:
        linked([facts])
        return facts
    assert str(error).startswith(f"{path}: ")
    assert str(error).isprintable()
    assert len(str(error)) < 1200
    return error


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all values within a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def changed(documents: list[Any], path: tuple[Any, ...], value: object) -> bytes:
    """Documents with another value in one place, each as JSON, which is YAML."""
    other = copy.deepcopy(documents)
    inner: Any = other
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return "\n---\n".join(["", *(json.dumps(one) for one in other)]).encode()


@pytest.mark.parametrize("name", TEXTS)
def test_whole_it_is_read(name: str, tmp_path: Path) -> None:
    kind = kind_of(TEXTS[name], tmp_path)
    assert isinstance(ends(kind, TEXTS[name].encode(), tmp_path / "f"), SourceFacts)


@pytest.mark.parametrize("name", TEXTS)
def test_truncated_anywhere_it_ends_in_one_message_or_less(name: str, tmp_path: Path) -> None:
    content = TEXTS[name].encode()
    kind = kind_of(TEXTS[name], tmp_path)
    found = [ends(kind, content[: len(content) * k // 40], tmp_path / "f") for k in range(40)]
    assert sum(isinstance(one, ImportSourceError) for one in found) >= 5


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("turn", range(4))
def test_a_wrong_value_anywhere_ends_in_one_message_or_is_not_read(
    name: str, turn: int, tmp_path: Path
) -> None:
    documents = list(yaml.safe_load_all(TEXTS[name]))
    kind = kind_of(TEXTS[name], tmp_path)
    for k, path in enumerate(places(documents)):
        ends(kind, changed(documents, path, WRONG[(k + 4 * turn) % len(WRONG)]), tmp_path / "f")


@pytest.mark.parametrize("name", TEXTS)
def test_hostile_texts_anywhere_are_texts(name: str, tmp_path: Path) -> None:
    documents = list(yaml.safe_load_all(TEXTS[name]))
    kind = kind_of(TEXTS[name], tmp_path)
    for k, path in enumerate(places(documents)):
        for text in (HOSTILE[k % len(HOSTILE)], HOSTILE[(7 * k + 3) % len(HOSTILE)]):
            ends(kind, changed(documents, path, text), tmp_path / "f")


NEEDED = [
    ("aibrix", (0, "metadata", "name")),
    ("aibrix", (0, "spec", "artifactURL")),
    ("production-stack", (0, "spec", "baseModel")),
    ("production-stack", (0, "spec", "adapterSource", "adapterName")),
    ("kserve", (0, "metadata", "name")),
    ("kserve", (0, "spec", "model", "lora", "adapters", 0, "name")),
    ("dynamo model", (0, "spec", "modelName")),
    ("dynamo model", (0, "spec", "baseModelName")),
    ("deployment", (0, "metadata", "name")),
    ("chart values", (0, "servingEngineSpec", "modelSpec", 0, "name")),
    ("chart values", (0, "servingEngineSpec", "modelSpec", 0, "modelURL")),
    ("chart values", (0, "loraAdapters", 0, "adapterSource", "adapterName")),
    ("litellm", (0, "model_list", 0, "model_name")),
    ("litellm", (0, "model_list", 0, "litellm_params", "model")),
    ("http route", (0, "spec", "rules", 0, "backendRefs", 0, "name")),
    ("pools", (0, "metadata", "name")),
]


@pytest.mark.parametrize(("name", "path"), NEEDED)
@pytest.mark.parametrize("wrong", [None, True, 7, "", [], {}], ids=str)
def test_what_every_object_has_must_be_there(
    name: str, path: tuple[Any, ...], wrong: object, tmp_path: Path
) -> None:
    documents = list(yaml.safe_load_all(TEXTS[name]))
    told = ends(kind_of(TEXTS[name], tmp_path), changed(documents, path, wrong), tmp_path / "f")
    assert isinstance(told, ImportSourceError)
    assert str(path[-1]) in str(told)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("aibrix", (0, "spec", "replicas")),
        ("production-stack", (0, "spec", "loraAdapterDeploymentConfig", "replicas")),
        ("kserve", (0, "spec", "model", "lora", "maxRank")),
        ("kserve", (0, "spec", "replicas")),
        ("deployment", (0, "spec", "replicas")),
        ("dynamo graph", (0, "spec", "services", "worker", "replicas")),
        ("chart values", (0, "servingEngineSpec", "modelSpec", 0, "replicaCount")),
        ("litellm", (0, "model_list", 0, "litellm_params", "weight")),
        ("http route", (0, "spec", "rules", 0, "backendRefs", 0, "weight")),
    ],
)
@pytest.mark.parametrize("wrong", [True, "3", -10_000_000_000, 10**30, [3]], ids=str)
def test_numbers_are_numbers_and_no_truth_values(
    name: str, path: tuple[Any, ...], wrong: object, tmp_path: Path
) -> None:
    documents = list(yaml.safe_load_all(TEXTS[name]))
    told = ends(kind_of(TEXTS[name], tmp_path), changed(documents, path, wrong), tmp_path / "f")
    assert isinstance(told, ImportSourceError)
    assert str(path[-1]) in str(told)


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\1\2\3",
        b"\xff\xfe\xfa",
        b"[" * 3000,
        b"{a: " * 100 + b"1" + b"}" * 100,
        b"&a [*a]",
        b"a: &a [x, x]\nb: &b [*a, *a]\n" + b"c: [*b, *b, *b]\n",
        b"!!python/object/apply:os.system ['touch x']",
        b"a: 1\na: 2\n",
        b"- 1\n- 2\n",
        b"7",
        b"apiVersion: v9/v9\nkind: Nothing\n",
        b"{{ range }}",
        b"a:\n\t- b",
    ],
    ids=lambda content: repr(content[:14]),
)
def test_what_is_something_else_ends_in_one_message(name: str, content: bytes, tmp_path: Path) -> None:
    told = ends(kind_of(TEXTS[name], tmp_path), content, tmp_path / "f")
    assert isinstance(told, ImportSourceError) or not told.adapters


def test_a_packed_file_that_is_cut_ends_in_one_message(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml.gz"
    path.write_bytes(gzip.compress(TEXTS["aibrix"].encode())[:-9])
    with pytest.raises(ImportSourceError, match=r"m\.yaml\.gz: "):
        any(kind.fits(Source(path)) for kind in KINDS)


def test_a_mistake_in_a_later_document_is_told_with_its_line(tmp_path: Path) -> None:
    text = TEXTS["aibrix"] + "---\nkind: [\n"
    line = text.count("\n") + 1
    told = ends(kind_of(TEXTS["aibrix"], tmp_path), text.encode(), tmp_path / "f")
    assert isinstance(told, ImportSourceError)
    assert f"line {line}" in str(told)
    double = TEXTS["aibrix"] + "---\nkind: a\nkind: b\n"
    told = ends(kind_of(TEXTS["aibrix"], tmp_path), double.encode(), tmp_path / "f")
    assert f"line {double.count(chr(10))}" in str(told)
    assert "twice" in str(told)


def test_aliases_that_grow_are_bounded(tmp_path: Path) -> None:
    lines = ["apiVersion: v1", "kind: Pod", "a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, 9)]
    told = ends(kind_of(TEXTS["aibrix"], tmp_path), "\n".join(lines).encode(), tmp_path / "f")
    assert isinstance(told, ImportSourceError)
    assert "values" in str(told)
