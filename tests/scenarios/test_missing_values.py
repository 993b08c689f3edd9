"""What a scenario leaves open is told at once, and what many adapters lack in one line."""

from __future__ import annotations

import pytest

from scenarios import Device, ScenarioError, loads
from scenarios.reading.parsing import scenario_from
from scenarios.reading.yaml_reader import parse
from twin import missing_profiles

HEAD = "name: x\nmodel: llama-3.1-8b-instruct\ndevices: H100-64GB\nworkload: {}\nadapters:\n"


def refused(text: str) -> list[str]:
    with pytest.raises(ScenarioError) as error:
        loads(text)
    return [str(problem) for problem in error.value.problems]


def entries(n: int, rest: str) -> str:
    return "".join(f"  - {{name: a{k}, {rest}}}\n" for k in range(n))


def test_many_adapters_without_a_rate_are_one_problem_with_names_and_a_count() -> None:
    problems = refused(HEAD + entries(30, "rank: 8, rate: null, prompt: 10, output: 10"))
    assert len(problems) == 1
    assert "adapters[].rate is empty for a0, a1, a2, a3, a4 and 25 more; give it a value" in problems[0]
    assert problems[0].startswith("line 6: ")


def test_the_count_is_of_all_adapters_even_beyond_a_thousand() -> None:
    problems = refused(HEAD + entries(1500, "rank: 8, rate: null, prompt: 10, output: 10"))
    assert "and 1,495 more" in problems[0]


def test_few_adapters_without_a_rate_have_a_line_each() -> None:
    assert len(refused(HEAD + entries(5, "rank: 8, rate: null, prompt: 10, output: 10"))) == 5


def test_different_keys_are_told_apart() -> None:
    problems = refused(HEAD + entries(7, "rank: null, rate: null, prompt: 10, output: 10"))
    assert len(problems) == 2
    assert any("rank is empty for" in one for one in problems)


def test_lengths_are_told_beside_rates_that_all_adapters_lack() -> None:
    problems = refused(HEAD + entries(7, "rank: 8, rate: null"))
    assert any("workload.prompt is missing" in one for one in problems)
    assert any("workload.output is missing" in one for one in problems)
    assert sum("rate is empty" in one for one in problems) == 1


def test_lengths_that_all_adapters_have_are_not_asked_for() -> None:
    problems = refused(HEAD + entries(7, "rank: 8, rate: null, prompt: 10, output: 10"))
    assert not any("workload" in one for one in problems)


def test_names_that_would_be_obeyed_by_a_terminal_are_shown_only() -> None:
    text = HEAD + "".join('  - {name: "\\e[31mx", rank: 8, rate: null}\n' for _ in range(7))
    assert not any("\x1b" in one for one in refused(text))


@pytest.mark.parametrize(
    "model", ["llama-3.1-8b-instruct", "mistralai/Mistral-7B-Instruct-v0.3", "unheard-of"]
)
@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("A100-80GBx", 'is "A100-80GBx", a GPU that is not known; did you mean "A100-80GB"?'),
        ("A100", 'is "A100", which may be A100-40GB'),
        ("", "a GPU that is not known"),
    ],
)
def test_a_device_that_is_unknown_is_told_and_not_blamed_on_the_model(
    model: str, device: str, words: str
) -> None:
    found = list(missing_profiles(model, [(0, Device.model_construct(name=device, profile=None))]))
    assert [finding.loc for finding in found] == [("devices", 0)]
    assert words in f"{found[0].message}; {found[0].remedy}"


def test_a_device_of_a_file_is_told_with_its_line() -> None:
    text = HEAD.replace("devices: H100-64GB", "devices:\n  - name: H100-64GB\n  - name: H100-64GBx")
    root = parse(text + entries(1, "rank: 8, rate: 1, prompt: 10, output: 10"), "x.yaml")
    with pytest.raises(
        ScenarioError, match=r'line 5: devices\[1\].* is "H100-64GBx", a GPU that is not known'
    ):
        scenario_from(root, "x.yaml", missing_profiles)
