from __future__ import annotations

import pytest

import learn
from learn import Plan, Space
from learn.design import compositions, no_option
from optimizer.cli import main
from scenarios import Scenario, ScenarioError
from scenarios.files import override
from twin.profile import EngineProfile


@pytest.fixture(scope="module")
def cramped(scenario: Scenario, profile: EngineProfile) -> Space:
    """A space on a GPU that holds no engine."""
    small = override(scenario, ["devices[0].memory_gib=5"])
    return learn.space_for(small, small.devices[0], profile)


# --- memory that holds no engine -------------------------------------------------------------------


def test_a_gpu_without_room_for_an_engine_says_which_and_what_to_do(cramped: Space) -> None:
    assert not cramped.options
    text = str(no_option(cramped))
    for part in ("memory_gib is 5 on H100-64GB", "8 slots of rank 16", "use a GPU with more memory"):
        assert part in text


def test_a_space_without_options_cannot_be_sampled(cramped: Space) -> None:
    with pytest.raises(ScenarioError, match=r"memory_gib is 5 .* fits"):
        learn.sample(cramped, Plan(compositions=4, round_size=4))
    with pytest.raises(ScenarioError, match="more memory"):
        compositions(cramped, 0, 1, 0)


def test_fitting_a_scenario_without_room_ends_as_solving_it_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("mixed_ranks", "--set", "devices[0].memory_gib=5", "--quiet")
    for command in ("solve", "fit"):
        monkeypatch.setattr("sys.argv", ["lorapack", command, *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 3
        shown = capsys.readouterr()
        assert "with 8 slots" in shown.out + shown.err
        assert ("no engine configuration fits" in shown.err) == (command == "fit")
