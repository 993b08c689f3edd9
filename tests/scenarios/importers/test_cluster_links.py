"""Objects of a cluster in several files: which server holds which adapter, and who gets whose requests."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import scenarios
from scenarios.importers.facts import ImportOptions, ImportSourceError, RouteFacts, SourceFacts
from scenarios.importers.manifests import KINDS, linked, told_apart
from scenarios.importers.source import Source
from tests.scenarios.importers.manifest_texts import LITELLM, MODELS, POOLS, ROUTES

ENGINE = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  template:
    metadata: {{labels: {labels}}}
    spec:
      containers:
        - {{name: vllm, command: [vllm, serve, org/base], args: [--enable-lora, --max-loras, "2"]}}
"""


def engine(name: str, labels: str, replicas: int = 1) -> str:
    return ENGINE.format(name=name, labels=labels, replicas=replicas)


def aibrix(name: str, labels: str, more: str = "") -> str:
    return (
        f"apiVersion: model.aibrix.ai/v1alpha1\nkind: ModelAdapter\nmetadata: {{name: {name}}}\n"
        f"spec: {{baseModel: base, artifactURL: hf://org/{name}, "
        f"podSelector: {{matchLabels: {labels}}}{more}}}\n"
    )


def facts(tmp_path: Path, **texts: str) -> list[SourceFacts]:
    """What each of some files says; a double underscore in a name is a dot."""
    found = []
    for name, text in texts.items():
        path = tmp_path / name.replace("__", ".")
        path.write_text(text, encoding="utf-8")
        source = Source(path)
        kind = next(kind for kind in KINDS if kind.fits(source))
        found.append(kind.read(source, ImportOptions()))
    return found


def held(told: SourceFacts) -> dict[str, tuple[str, ...]]:
    return {one.name: one.adapters for one in told.servers}


def weights(routes: tuple[RouteFacts, ...]) -> dict[str, dict[str, float]]:
    return {route.served_name: dict(route.weights) for route in routes}


def test_adapters_are_on_the_servers_with_their_labels_whatever_file_says_them(tmp_path: Path) -> None:
    engines = engine("g0", "{m: base, group: g0, both: yes-}") + "---" + engine("g1", "{m: base, both: yes-}")
    adapters = aibrix("fr", "{m: base, group: g0}") + "---\n" + aibrix("de", "{both: yes-}")
    told = linked(facts(tmp_path, a__yaml=adapters, e__yaml=engines))
    assert held(told) == {"g0": ("fr", "de"), "g1": ("de",)}
    assert not told.adapters  # their base model is a label, and the engines tell it
    assert not told.notes


def test_adapters_that_no_server_has_keep_their_base_model_and_are_told_of(tmp_path: Path) -> None:
    told = linked(facts(tmp_path, a__yaml=aibrix("fr", "{m: other}"), e__yaml=engine("g0", "{m: base}")))
    assert not held(told)
    (one,) = told.adapters
    assert one.base_model is not None
    assert one.base_model.value == "base"
    assert told.notes == ("No server of the sources has the labels that hold fr.",)


@pytest.mark.parametrize(
    ("more", "expected"),
    [("", {"g0": ("fr",)}), (", replicas: 3", {"g0": ("fr",)}), (", replicas: 1", {})],
)
def test_an_adapter_on_some_of_several_pods_is_on_none_that_is_known(
    more: str, expected: dict[str, tuple[str, ...]], tmp_path: Path
) -> None:
    told = linked(
        facts(tmp_path, a__yaml=aibrix("fr", "{m: b}", more), e__yaml=engine("g0", "{m: b}", replicas=3))
    )
    assert held(told) == expected
    assert bool(told.notes) == (not expected)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("{key: m, operator: Exists}", ["g0", "g1"]),
        ("{key: m, operator: DoesNotExist}", ["g2"]),
        ("{key: m, operator: In, values: [a, c]}", ["g0"]),
        ("{key: m, operator: NotIn, values: [a, c]}", ["g1", "g2"]),
        ("{key: m, operator: In, values: [a, b]}, {key: m, operator: NotIn, values: [a]}", ["g1"]),
    ],
)
def test_a_selector_of_expressions_is_followed_as_kubernetes_does(
    expression: str, expected: list[str], tmp_path: Path
) -> None:
    engines = "---".join(engine(f"g{k}", labels) for k, labels in enumerate(("{m: a}", "{m: b}", "{n: a}")))
    text = aibrix("fr", "{m: b}").replace("matchLabels: {m: b}", f"matchExpressions: [{expression}]")
    told = linked(facts(tmp_path, a__yaml=text, e__yaml=engines))
    assert sorted(held(told)) == expected


def test_labels_and_expressions_both_count(tmp_path: Path) -> None:
    engines = engine("g0", "{m: a, n: x}") + "---" + engine("g1", "{m: a, n: y}")
    more = "matchLabels: {m: a}, matchExpressions: [{key: n, operator: NotIn, values: [x]}]"
    text = aibrix("fr", "{m: b}").replace("matchLabels: {m: b}", more)
    assert held(linked(facts(tmp_path, a__yaml=text, e__yaml=engines))) == {"g1": ("fr",)}


def test_a_selector_that_asks_for_nothing_means_nobody_and_is_told(tmp_path: Path) -> None:
    found = facts(tmp_path, a__yaml=aibrix("fr", "{}"), e__yaml=engine("g0", "{m: b}"))
    assert found[0].adapters[0].notes == ("Which pods load it is not said by labels.",)
    assert not held(linked(found))


@pytest.mark.parametrize(
    "expression",
    [
        "{key: m, operator: Equals}", "{key: m, operator: in, values: [a]}", "{key: m, operator: In}",
        "{key: m, operator: In, values: []}", "{key: m, operator: Exists, values: [a]}", "{key: m}",
        "{operator: Exists}", "{key: 3, operator: Exists}", "{key: m, operator: In, values: a}",
        "{key: m, operator: In, values: {a: 1}}", "{key: m, operator: In, values: [[a]]}", "m", "3", "null",
        "{key: m, operator: [In], values: [a]}", "{key: '', operator: Exists}",
        "{key: m, operator: NotIn, values: [true]}", "{key: m, operator: DoesNotExist, values: [a]}",
    ],
)  # fmt: skip
def test_wrong_expressions_end_in_one_message(expression: str, tmp_path: Path) -> None:
    text = aibrix("fr", "{m: b}").replace("matchLabels: {m: b}", f"matchExpressions: [{expression}]")
    with pytest.raises(ImportSourceError, match=r"a\.yaml: document 1, spec\.podSelector\.matchExpressions"):
        facts(tmp_path, a__yaml=text)


def within(text: str, namespace: str) -> str:
    """Objects of a text, in a namespace."""
    return re.sub(r"metadata: \{name: (\S+?)\}", rf"metadata: {{name: \1, namespace: {namespace}}}", text)


def test_servers_of_one_name_in_two_namespaces_are_two(tmp_path: Path) -> None:
    blue = within(engine("g0", "{m: b}") + "---\n" + aibrix("fr", "{m: b}"), "blue")
    green = within(engine("g0", "{m: b}", replicas=2) + "---\n" + aibrix("de", "{m: b}"), "green")
    apart = told_apart(facts(tmp_path, b__yaml=blue, g__yaml=green))
    assert held(linked(apart)) == {"blue/g0": ("fr",), "green/g0": ("de",)}
    assert [(one.name, one.replicas) for facts in apart for one in facts.servers] == [
        ("blue/g0", 1),
        ("green/g0", 2),
    ]


def test_a_selector_reaches_no_other_namespace(tmp_path: Path) -> None:
    engines = within(engine("g0", "{m: b}"), "blue") + "---\n" + within(engine("g1", "{m: b}"), "green")
    told = linked(
        told_apart(facts(tmp_path, e__yaml=engines, a__yaml=within(aibrix("fr", "{m: b}"), "green")))
    )
    assert held(told) == {"g1": ("fr",)}
    anywhere = linked(facts(tmp_path, e__yaml=engines, a__yaml=aibrix("fr", "{m: b}")))
    assert held(anywhere) == {"g0": ("fr",), "g1": ("fr",)}


def test_an_object_without_a_namespace_is_the_same_as_one_with(tmp_path: Path) -> None:
    found = told_apart(
        facts(tmp_path, a__yaml=engine("g0", "{m: b}"), b__yaml=within(engine("g0", "{m: b}"), "blue"))
    )
    assert [one.name for facts in found for one in facts.servers] == ["g0", "g0"]


def test_routes_of_two_namespaces_divide_as_their_pods(tmp_path: Path) -> None:
    blue = "---\n".join(
        (engine("g0", '{g: "0", all: "1"}'), engine("g1", '{g: "1", all: "1"}'), POOLS, ROUTES)
    )
    green = "---\n".join(
        (engine("g0", '{g: "0", all: "1"}', replicas=3), engine("g1", '{g: "1", all: "1"}'), POOLS, ROUTES)
    )
    told = linked(
        told_apart(
            facts(tmp_path, b__yaml=within(blue, "blue"), g__yaml=within(green, "green"), m__yaml=MODELS)
        )
    )
    assert weights(told.routes)["fr"] == pytest.approx(
        {"blue/g0": 1.5, "blue/g1": 0.5, "green/g0": 3.0, "green/g1": 1.0}
    )
    assert "several namespaces" in told.notes[-1]


def test_a_route_may_name_a_backend_of_another_namespace(tmp_path: Path) -> None:
    route = within(ROUTES, "front").replace("kind: InferencePool,", "kind: InferencePool, namespace: blue,")
    assert "namespace: blue" in route
    engines = engine("g0", '{g: "0", all: "1"}') + "---" + engine("g1", '{g: "1", all: "1"}')
    told = linked(
        facts(tmp_path, b__yaml=within(engines + "---\n" + POOLS, "blue"), m__yaml=MODELS, r__yaml=route)
    )
    assert weights(told.routes)["fr"] == {"g0": 3.0, "g1": 1.0}


def test_a_fleet_of_two_namespaces_is_placed_on_the_servers_of_both(tmp_path: Path) -> None:
    for space in ("blue", "green"):
        text = engine("lorapack-g0", "{m: b}") + "---\n" + aibrix("fr", "{m: b}")
        (tmp_path / f"{space}.yaml").write_text(within(text, space))
    told = scenarios.import_fleet(tmp_path, ["devices=H100-80GB"])
    assert [gpu.shares for gpu in told.placement().gpus] == [{"fr": 0.5}, {"fr": 0.5}]
    assert any("namespace blue and green" in note for note in told.notes), told.notes


def test_adapters_of_production_stack_are_on_the_entry_of_their_base_model(tmp_path: Path) -> None:
    values = (
        "servingEngineSpec:\n  modelSpec:\n"
        "    - {name: base-g0, modelURL: org/base, replicaCount: 1}\n"
        "    - {name: base-g1, modelURL: org/base, replicaCount: 2}\n"
    )
    adapters = "---\n".join(
        "apiVersion: production-stack.vllm.ai/v1alpha1\nkind: LoraAdapter\nmetadata: {name: x}\n"
        f"spec: {{baseModel: {base}, adapterSource: {{type: local, adapterName: {name}}}, "
        f"loraAdapterDeploymentConfig: {config}}}\n"
        for name, base, config in (
            ("fr", "base-g0", "{replicas: 1}"),
            ("de", "base-g1", "{}"),
            ("it", "base-g1", "{replicas: 1}"),
        )
    )
    told = linked(facts(tmp_path, values__yaml=values, a__yaml=adapters))
    assert held(told) == {"base-g0": ("fr",), "base-g1": ("de",)}
    assert "Only some pods load it" in told.notes[0]


def cluster(tmp_path: Path, models: str = MODELS, routes: str = ROUTES) -> SourceFacts:
    engines = engine("g0", '{g: "0", all: "1"}') + "---" + engine("g1", '{g: "1", all: "1"}', replicas=3)
    return linked(facts(tmp_path, e__yaml=engines, m__yaml=models, p__yaml=POOLS, r__yaml=routes))


def test_names_that_a_header_stands_for_go_to_the_servers_of_weighted_pools(tmp_path: Path) -> None:
    told = cluster(tmp_path)
    assert [one.served_name for one in told.adapters] == ["fr", "de: 1"]
    assert weights(told.routes) == {
        "fr": {"g0": 3.0, "g1": 1.0},
        "de: 1": {"g0": 3.0, "g1": 1.0},
        "it": {"g0": 0.25, "g1": 0.75},  # of a service all pods alike
    }


def test_a_header_that_is_the_base_model_is_a_name_itself(tmp_path: Path) -> None:
    models, routes = (text.replace("class-0", "org/base") for text in (MODELS, ROUTES))
    assert weights(cluster(tmp_path, models, routes).routes)["org/base"] == {"g0": 3.0, "g1": 1.0}


def test_members_of_a_group_of_kserve_share_what_they_both_serve(tmp_path: Path) -> None:
    text = "---\n".join(
        "apiVersion: serving.kserve.io/v1alpha1\nkind: LLMInferenceService\n"
        f"metadata: {{name: {name}}}\nspec:\n  router: {{route: {{group: g, weight: {weight}}}}}\n"
        f"  model: {{name: base, lora: {{adapters: [{{name: fr}}, {{name: {name}-own}}]}}}}\n"
        for name, weight in (("a", 9), ("b", 1))
    )
    told = linked(facts(tmp_path, k__yaml=text))
    assert weights(told.routes)["fr"] == weights(told.routes)["base"] == {"a": 9.0, "b": 1.0}
    assert weights(told.routes)["a-own"] == {"a": 9.0}


def test_entries_of_litellm_are_routes_by_address_without_keys(tmp_path: Path) -> None:
    (told,) = facts(tmp_path, c__yaml=LITELLM)
    assert weights(told.routes) == {"fr": {"http://g0:8000": 3.0, "http://g1:8000": 1.0}}
    assert "passed over gpt and far" in told.notes[-1]
    assert not any(secret in str(told) for secret in ("sk-1", "pw@"))


def test_our_own_routes_say_servers_adapters_and_shares(tmp_path: Path) -> None:
    table = {
        "base_model": "org/base",
        "servers": {"lorapack-g0": {"gpu": 0, "address": "g0:8000"}, "lorapack-g1": {"gpu": 1}},
        "routes": {"fr": {"lorapack-g0": 0.25, "lorapack-g1": 0.75}, "org/base": {"lorapack-g0": 1}},
    }
    (told,) = facts(tmp_path, r__json=json.dumps(table))
    assert held(told) == {"lorapack-g0": ("fr",), "lorapack-g1": ("fr",)}
    assert [one.address for one in told.servers] == ["http://g0:8000", ""]
    assert weights(told.routes)["fr"] == {"lorapack-g0": 0.25, "lorapack-g1": 0.75}
    assert told.base_names == ("org/base",)


@pytest.mark.parametrize(
    "change",
    [
        {"routes": {"fr": {"lorapack-g9": 1}}},
        {"routes": {"fr": {"lorapack-g0": -1}}},
        {"routes": {"fr": {"lorapack-g0": True}}},
        {"routes": {"fr": {"lorapack-g0": "1"}}},
        {"routes": {"fr": {"lorapack-g0": 0}}},
        {"routes": {"fr": []}},
        {"routes": []},
        {"servers": []},
        {"servers": {"lorapack-g0": 3}},
        {"servers": {"lorapack-g0": {"address": 80}}},
        {"base_model": None},
        {"base_model": 7},
    ],
)
def test_wrong_routes_end_in_one_message(change: dict[str, object], tmp_path: Path) -> None:
    table = {"base_model": "m", "servers": {"lorapack-g0": {}}, "routes": {"fr": {"lorapack-g0": 1}}}
    with pytest.raises(ImportSourceError, match=r"r\.json: "):
        facts(tmp_path, r__json=json.dumps(table | change))


def test_a_split_adapter_comes_back_with_its_shares(tmp_path: Path) -> None:
    engines = engine("lorapack-g0", '{g: "0"}') + "---" + engine("lorapack-g1", '{g: "1"}')
    for name, text in {"e": engines, "m": MODELS, "p": POOLS, "r": ROUTES}.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    told = scenarios.import_fleet(tmp_path, ["devices=H100-80GB"])
    first, second = told.placement().gpus
    assert first.shares["fr"] == 0.75
    assert second.shares["fr"] == 0.25
    assert first.max_loras == second.max_loras == 2
