"""Damaged scenario files: each ends soon, with one error that says where, what and what to do."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

import scenarios
from tests.scenario_schema import scenario_validator

GOOD = """\
name: good
model: llama-3.1-8b-instruct
adapters:
  - {name: a, rank: 8, rate: 0.5}
  - {name: b, rank: 16, rate: 0.25}
workload:
  prompt: 222
  output: 195
devices:
  - {name: H100-64GB, count: 4}
engine:
  max_model_len: 16384
"""


def changed(old: str, new: str) -> str:
    """Return the good file with one piece of text replaced."""
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


def nested(depth: int) -> str:
    return "name: " + "[" * depth + "]" * depth + "\n"


def billion_laughs() -> str:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 12)]
    return "\n".join(lines) + "\n"


def laughing_merges() -> str:
    lines = ["m0: &m0 {a: 1, b: 2}"]
    lines += [f"m{k}: &m{k} {{<<: [{', '.join([f'*m{k - 1}'] * 9)}], k{k}: 1}}" for k in range(1, 12)]
    return "\n".join(lines) + "\n"


def alias_ladder() -> str:
    return "\n".join(["a0: &a0 [x]", *(f"a{k}: &a{k} [*a{k - 1}]" for k in range(1, 100))]) + "\n"


def many_entries(count: int, entry: str) -> str:
    head, tail = GOOD.split("  - {name: a, rank: 8, rate: 0.5}\n  - {name: b, rank: 16, rate: 0.25}\n")
    return head + "".join(entry.format(k=k) for k in range(count)) + tail


Damage = str | bytes | Callable[[], str]

# id: (content, what the message must hold, what the JSON schema sees too)
DAMAGED: dict[str, tuple[Damage, list[str], bool]] = {
    # the file as such
    "empty": ("", ["the file is empty"], False),
    "only comments": ("# nothing\n\n", ["the file is empty"], False),
    "only a null": ("null\n", ["the file holds empty at its top", "write a mapping"], False),
    "a list at the top": ("- name: a\n", ["a list of 1 at its top", "name", "adapters"], False),
    "text at the top": ("hello\n", ['the text "hello" at its top'], False),
    "binary": (bytes(range(128, 256)) * 10, ["no UTF-8 text", "byte 0x80", "saved as UTF-8"], False),
    "png": (b"\x89PNG\r\n\x1a\n\x00\x00", ["no UTF-8 text"], False),
    "utf-16": (GOOD.encode("utf-16"), ["UTF-16", "save it as UTF-8"], False),
    "zero bytes": (b"name: a\x00b\n", ["line 1", "U+0000", "remove it"], False),
    "control characters": (b"name: ok\nmodel: a\x07b\n", ["line 2", "U+0007"], False),
    "cut in the middle": (GOOD[:150] + "{", ["line", "not valid YAML"], False),
    "tab for indentation": (
        changed("  prompt: 222", "\tprompt: 222"),
        ["line 7: the file is not valid YAML: a tab indents line 7; use spaces"],
        False,
    ),
    "unclosed quote": (changed("name: good", 'name: "good'), ["not valid YAML"], False),
    "colon inside text": (changed("name: good", "name: good: better"), ["line 1", "not valid YAML"], False),
    "two documents": (GOOD + "---\n" + GOOD, ["line 13", "second document"], False),
    "too large": (lambda: "# " + "x" * (65 * 2**20), ["MiB", "limit of 64 MiB"], False),
    # YAML's own traps
    "billion laughs": (billion_laughs, ["4,000,000 values", "aliases"], False),
    "laughing merges": (laughing_merges, ["4,000,000 values"], False),
    "alias ladder": (alias_ladder, ["levels deep"], False),
    "self-reference": ("name: &a [*a]\n", ["line 1", "name[0] is the alias *a", "inside"], False),
    "unknown alias": (changed("rate: 0.5", "rate: *half"), ["line 4", "*half", "names nothing"], False),
    "deep nesting": (nested(900), ["levels deep", "flatten"], False),
    "very deep nesting": (nested(200_000), ["levels deep"], False),
    "python object": (
        changed("name: good", "name: !!python/object/apply:os.getcwd []"),
        ["line 1: name has the tag", "os.getcwd", "remove it"],
        False,
    ),
    "own tag": (
        changed("rate: 0.5", "rate: !fast 0.5"),
        ["line 4: adapters[0].rate has the tag !fast"],
        False,
    ),
    "duplicate key": (
        changed("  output: 195", "  output: 195\n  prompt: 3"),
        ["line 9", 'workload has the key "prompt" twice, first on line 7', "remove one"],
        False,
    ),
    "duplicate section": (GOOD + "name: again\n", ['"name" twice, first on line 1'], False),
    "list as key": (changed("name: good", "[a, b]: good"), ["line 1", "not plain text"], False),
    "merge of a number": (
        changed("  prompt: 222", "  <<: 3\n  prompt: 222"),
        ["line 7", "no mapping"],
        False,
    ),
    # keys
    "missing model": (
        changed("model: llama-3.1-8b-instruct\n", ""),
        ["model is missing", "Base model"],
        True,
    ),
    "missing workload": (
        changed("workload:\n  prompt: 222\n  output: 195\n", ""),
        ["workload is missing; add it"],
        True,
    ),
    "misspelt key": (
        changed("max_model_len", "max_modle_len"),
        ["line 12: engine.max_modle_len", 'did you mean "max_model_len"?'],
        True,
    ),
    "hyphens for underscores": (
        changed("max_model_len", "max-model-len"),
        ['engine.max-model-len is not a key that exists here; did you mean "max_model_len"?'],
        True,
    ),
    "unknown key": (
        changed("rate: 0.5", "rate: 0.5, colour: red"),
        ["adapters[0].colour", "the keys are"],
        True,
    ),
    # types
    "rank is text": (
        changed("rank: 8", "rank: high"),
        ["line 4: adapters[0].rank", '"high"', "whole number"],
        True,
    ),
    "rank is large": (changed("rank: 8", "rank: 513"), ["adapters[0].rank is 513; give at most 512"], True),
    "rank is true": (changed("rank: 8", "rank: true"), ["adapters[0].rank is true"], True),
    "rank in a list is none": (changed("rank: 8", "rank: [8, 0]"), ["adapters[0].rank[1] is 0"], True),
    "no ranks": (changed("rank: 8", "rank: []"), ["adapters[0].rank is an empty list", "1 item"], True),
    "rate is text": (changed("rate: 0.5", "rate: '0.5'"), ['adapters[0].rate is the text "0.5"'], True),
    "count is a fraction": (changed("rate: 0.5", "rate: 1, count: 1.5"), ["count is 1.5", "whole"], True),
    "adapter is text": (
        changed("{name: a, rank: 8, rate: 0.5}", "a"),
        ["line 4: adapters[0]", "mapping"],
        True,
    ),
    "adapters is a mapping": ("name: a\nadapters: {name: a}\n", ["line 2: adapters", "give a list"], True),
    "no adapters": ("name: a\nadapters: []\n", ["line 2: adapters is an empty list; give at least 1"], True),
    "engine is empty": (
        changed("  max_model_len: 16384\n", ""),
        ["line 11: engine is empty", "remove"],
        True,
    ),
    "name is a number": (changed("name: good", "name: 3"), ["line 1: name is 3; give text"], True),
    "name with a blank": (changed("name: a,", "name: a b,"), ['adapters[0].name is the text "a b"'], True),
    "device is a number": (
        changed("  - {name: H100-64GB, count: 4}", "  - 7"),
        ["line 10: devices[0]"],
        True,
    ),
    "duration in words": (
        changed("  prompt: 222", "  duration_s: 1 hour\n  prompt: 222"),
        ['workload.duration_s is the text "1 hour"; give a number (Seconds'],
        True,
    ),
    # values
    "negative rate": (
        changed("rate: 0.5", "rate: -0.5"),
        ["line 4: adapters[0].rate is -0.5", "above 0"],
        True,
    ),
    "zero rate": (changed("rate: 0.5", "rate: [1, 0]"), ["adapters[0].rate[1] is 0"], True),
    "rate is NaN": (changed("rate: 0.5", "rate: .nan"), ["adapters[0].rate is nan", "finite"], False),
    "rate is infinite": (changed("rate: 0.5", "rate: .inf"), ["adapters[0].rate is inf", "finite"], False),
    "rate overflows": (changed("rate: 0.5", "rate: 1e999"), ["adapters[0].rate is inf", "finite"], False),
    "huge integer": (
        changed("max_model_len: 16384", "max_model_len: " + "9" * 300),
        ["line 12: engine.max_model_len is 9999", "at most 10,000,000"],
        True,
    ),
    "absurd integer": (
        changed("max_model_len: 16384", "max_model_len: " + "9" * 100_000),
        ["line 12: engine.max_model_len is a number of 100,000 characters"],
        False,
    ),
    "two million in one entry": (
        changed("rate: 0.5", "rate: 0.5, count: 2000000"),
        ["line 4: adapters[0].count is 2000000; give at most 1,000,000"],
        True,
    ),
    "a million and a half in five entries": (
        lambda: many_entries(5, "  - {{name: a{k}, rank: 8, rate: 1, count: 300000}}\n"),
        ["line 3: adapters are 1,500,000 in all, above the limit of 1,000,000 adapters"],
        False,
    ),
    "thirty thousand wrong entries": (
        lambda: many_entries(30_000, "  - {{name: a{k}, rank: 8, rate: -1}}\n"),
        ["line 4: adapters[0].rate is -1", "... and"],
        False,
    ),
    "lognormal without std": (
        changed("prompt: 222", "prompt: {mean: 222}"),
        ["line 7: workload.prompt.std is missing"],
        True,
    ),
    "mean outside min and max": (
        changed("prompt: 222", "prompt: {mean: 222, std: 5, max: 100}"),
        ["line 7: workload.prompt.mean is 222, not between min 1 and max 100"],
        False,
    ),
    "histogram does not fit": (
        changed("prompt: 222", "prompt: {edges: [1, 5, 3], weights: [1, -1, 1]}"),
        ["prompt.weights has 3 values", "prompt.edges[2] is 3", "prompt.weights[1] is -1", "3 problems"],
        False,
    ),
    "lengths in words": (
        changed("prompt: 222", "prompt: long"),
        ['prompt is the text "long"', "{mean"],
        True,
    ),
    "unknown distribution": (
        changed("prompt: 222", "prompt: {distribution: lognorm, mean: 3, std: 1}"),
        ["workload.prompt.distribution", 'did you mean "lognormal"?'],
        True,
    ),
    "unknown process": (
        changed("  prompt: 222", "  arrivals: poison\n  prompt: 222"),
        ['line 7: workload.arrivals is the text "poison"; did you mean "poisson"?'],
        True,
    ),
    "gamma without cv": (
        changed("  prompt: 222", "  arrivals: gamma\n  prompt: 222"),
        ["line 7: workload.arrivals.cv is missing", "Coefficient of variation"],
        True,
    ),
    "missing trace": (
        changed("  prompt: 222", "  arrivals: {process: trace, file: no.csv}\n  prompt: 222"),
        ['line 7: workload.arrivals.file is "no.csv", but there is no file', "correct the path"],
        False,
    ),
    "missing profile": (
        changed("count: 4}", "count: 4, profile: no.json}"),
        ['line 10: devices[0].profile is "no.json", but there'],
        False,
    ),
    "unknown objective": (
        GOOD + "objective: gpu\n",
        ['line 13: objective is the text "gpu"', '"gpus"?'],
        True,
    ),
    "objective twice": (GOOD + "objective: [gpus, gpus]\n", ["objective[1]", "as is objective[0]"], False),
    # parts that do not fit each other
    "rank above the engine's": (
        changed("max_model_len: 16384", "max_lora_rank: 8"),
        [
            "line 5: adapters[1].rank is 16, above engine.max_lora_rank 8; ",
            'raise max_lora_rank or drop adapter "b"',
        ],
        False,
    ),
    "duplicate names": (
        changed("name: b", "name: a"),
        ['line 5: adapters[1].name gives the name "a", which adapters[0] has too; rename'],
        False,
    ),
    "names that collide when numbered": (
        changed("{name: b,", "{name: x-2, rank: 8, rate: 1}\n  - {name: x, count: 3,"),
        ['line 6: adapters[2].name gives the name "x-2", which adapters[1] has too'],
        False,
    ),
    "longer than the engine takes": (
        changed("prompt: 222", "prompt: 20_000"),
        ["line 7: workload.prompt has 20000 tokens", "engine.max_model_len 16384"],
        False,
    ),
    "too long together": (
        changed("prompt: 222", "prompt: 16300"),
        ["line 6: workload has prompts and outputs of 16495 tokens together"],
        False,
    ),
    "fewer in CPU than slots": (
        changed("max_model_len: 16384", "max_loras: 8\n  max_cpu_loras: 4"),
        ["line 13: engine.max_cpu_loras is 4, below max_loras 8"],
        False,
    ),
    "more requests than tokens": (
        changed("max_model_len: 16384", "max_num_seqs: 4096"),
        ["engine.max_num_batched_tokens is 2048, below max_num_seqs 4096"],
        False,
    ),
    "warm-up for ever": (
        changed("  prompt: 222", "  warmup_s: 4000\n  prompt: 222"),
        ["line 7: workload.warmup_s is 4000, not below duration_s 3600"],
        False,
    ),
    "percentiles out of order": (
        GOOD + "service_levels:\n  itl_ms: {p50: 50, p99: 10}\n",
        ["line 14: service_levels.itl_ms.p99 is 10, below p50 50"],
        False,
    ),
    "p95 out of order": (
        GOOD + "service_levels:\n  ttft_ms: {p90: 50, p95: 10}\n",
        ["line 14: service_levels.ttft_ms.p95 is 10, below p90 50"],
        False,
    ),
    "end-to-end percentiles of an entry out of order": (
        changed("rate: 0.5}", "rate: 0.5, service_levels: {e2e_ms: {p50: 9, p90: 8}}}"),
        ["line 4: adapters[0].service_levels.e2e_ms.p90 is 8, below p50 9; raise p90 or lower p50"],
        False,
    ),
    "no limit on time per output token": (
        GOOD + "service_levels:\n  tpot_ms: {mean: 0}\n",
        ["line 14: service_levels.tpot_ms.mean is 0"],
        True,
    ),
    "misspelt required key": (
        changed("name: good", "nme: good"),
        ["1 problem\n", 'line 1: nme is not a key that exists here; did you mean "name"?'],
        True,
    ),
    "misspelt required section": (
        changed("workload:", "worklod:"),
        ["1 problem\n", 'line 6: worklod is not a key that exists here; did you mean "workload"?'],
        True,
    ),
    "misspelt required key inside": (
        changed("rate: 0.5", "rte: 0.5"),
        ["1 problem\n", "line 4: adapters[0].rte", 'did you mean "rate"?'],
        True,
    ),
    "misspelt process": (
        changed("  prompt: 222", "  arrivals: {proces: gamma, cv: 2}\n  prompt: 222"),
        ["1 problem\n", "line 7: workload.arrivals.proces is not a key", 'did you mean "process"?'],
        True,
    ),
    "misspelt optional key beside a missing one": (
        changed("rate: 0.5", "cout: 3"),
        [
            "2 problems",
            'adapters[0].cout is not a key that exists here; did you mean "count"?',
            "rate is missing",
        ],
        True,
    ),
    "objectives with commas": (
        GOOD + "objective: gpus, latency\n",
        ["1 problem\n", 'line 13: objective is the text "gpus, latency"; write [gpus, latency] ('],
        True,
    ),
    "objectives with commas in a list": (
        GOOD + "objective: ['gpus, latency']\n",
        ['line 13: objective[0] is the text "gpus, latency"; write [gpus, latency] ('],
        True,
    ),
    "ranks with commas": (
        changed("rank: 8", "rank: '8, 16'"),
        ['is the text "8, 16"; write [8, 16] ('],
        True,
    ),
    "rates with commas": (changed("rate: 0.5", "rate: '1,2'"), ['is the text "1,2"; write [1, 2] ('], True),
    "ranks without brackets": (
        changed("rank: 8", "rank: 8, 16"),
        ["adapters[0].16 is not a key that exists here; write lists in brackets, as [8, 16], and"],
        True,
    ),
    "one item for a list": (
        changed("max_model_len: 16384", "slots: 8"),
        ["line 12: engine.slots is 8; write [8] ("],
        True,
    ),
    "required key without a value": (
        changed("name: good", "name:"),
        ["line 1: name is empty; give it a value (Short name)"],
        True,
    ),
    "optional key without a value": (
        changed("max_model_len: 16384", "max_num_seqs:"),
        ["line 12: engine.max_num_seqs is empty; give it a value or remove the key ("],
        True,
    ),
    "devices of one name": (
        changed(
            "{name: H100-64GB, count: 4}", "{name: H100, memory_gib: 80}\n  - {name: H100, memory_gib: 94}"
        ),
        [
            'line 11: devices[1].name is "H100", as is devices[0]; remove one, or give it another name ',
            "and, as its profile, the file of its engine profile",
        ],
        False,
    ),
    "unknown percentile": (
        GOOD + "service_levels:\n  ttft_ms: {p75: 50}\n",
        ["line 14: service_levels.ttft_ms.p75", "the keys are mean, p50, p90, p95 and p99"],
        True,
    ),
    "several at once": (
        changed("rank: 8, rate: 0.5", "rank: -1, rate: -1, size: 3").replace("name: b", "name: b!"),
        ["4 problems", "adapters[0].rank", "adapters[0].rate", "adapters[0].size", "adapters[1].name"],
        True,
    ),
    "wrong value and clash at once": (
        changed("name: b", "name: a").replace("prompt: 222", "prompt: -2"),
        ["2 problems", "line 5: adapters[1].name", "line 7: workload.prompt is -2"],
        True,
    ),
}


def content(damage: Damage) -> bytes:
    text = damage() if callable(damage) else damage
    return text if isinstance(text, bytes) else text.encode()


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_ends_in_one_readable_error(case: str, tmp_path: Path) -> None:
    damage, expected, _ = DAMAGED[case]
    file = tmp_path / "damaged.yaml"
    file.write_bytes(content(damage))
    started = time.process_time()
    with pytest.raises(scenarios.ScenarioError) as caught:
        scenarios.read(file)
    assert time.process_time() - started < 20  # a few seconds at most; a busy machine is slower
    message = str(caught.value)
    for piece in expected:
        assert piece in message
    assert message.startswith(f"{file}: ")
    assert len(message) < 20_000
    assert all(len(line) < 500 for line in message.splitlines())
    assert not any(word in message for word in ("pydantic", "Traceback", "Input should", "validation error"))
    assert all(problem.path and problem.message and problem.remedy for problem in caught.value.problems)


def test_more_values_than_a_document_may_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scenarios.reading.yaml_reader.MAX_NODES", 1000)
    with pytest.raises(scenarios.ScenarioError, match="more than 1,000 values") as caught:
        scenarios.loads(many_entries(300, "  - {{name: a{k}, rank: 8, rate: 1}}\n"))
    assert "one entry with a count" in str(caught.value)


@pytest.mark.parametrize("case", [case for case, (*_, seen) in DAMAGED.items() if seen])
def test_the_schema_refuses_what_an_editor_can_see(case: str) -> None:
    from scenarios.reading.yaml_reader import parse

    damage, *_ = DAMAGED[case]
    assert not scenario_validator().is_valid(parse(content(damage).decode(), case))


def test_the_good_file_is_good(tmp_path: Path) -> None:
    file = tmp_path / "good.yaml"
    file.write_text(GOOD)
    assert scenarios.read(file).n_adapters == 2


def test_folders_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(scenarios.ScenarioError, match=r"folder.*name a file"):
        scenarios.read(tmp_path)
    with pytest.raises(scenarios.ScenarioError) as far:
        scenarios.read(tmp_path / "none.yaml")
    assert str(far.value).endswith(
        "does not exist; check its name and folder; `lorapack scenarios list` names the shipped scenarios"
    )
    with pytest.raises(scenarios.ScenarioError) as near:
        scenarios.read("mixd_ranks.yaml")
    assert str(near.value).endswith('does not exist; did you mean the shipped scenario "mixed_ranks"?')
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text(GOOD)
    for name in ("flet.yaml", "fleet", "fleet.yml"):
        with pytest.raises(scenarios.ScenarioError) as beside:
            scenarios.read(tmp_path / name)
        assert str(beside.value).endswith(f'does not exist; did you mean "{fleet}"?')


def test_one_error_holds_every_problem(tmp_path: Path) -> None:
    file = tmp_path / "damaged.yaml"
    file.write_bytes(content(DAMAGED["several at once"][0]))
    with pytest.raises(scenarios.ScenarioError) as caught:
        scenarios.read(file)
    found = {(problem.path, problem.line) for problem in caught.value.problems}
    assert found == {
        ("adapters[0].rank", 4),
        ("adapters[0].rate", 4),
        ("adapters[0].size", 4),
        ("adapters[1].name", 5),
    }
