"""Plans with step costs that nobody measured: the end at which they are judged, the band, what is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import optimizer
import scenarios
import twin
from optimizer.search.derived.ends import Capacity, at_end, capacities, expected_of, scaled
from optimizer.search.preparation import learned_regions
from optimizer.step_costs import StepCosts
from scenarios import UNLIMITED, Scenario
from twin import EngineProfile, GPUContent, TwinJudge
from twin.profile import Derivation, ScaledTerm

Lorapack = Callable[..., tuple[int, str, str]]
SHARE = 0.06


@pytest.fixture(scope="module")
def derived_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profile with the costs that were measured, as if they were derived: its regions are shipped."""
    measured = twin.find_profile("llama-3.1-8b-instruct", "H100-64GB")
    terms = {term.name: SHARE for term in measured.step.terms}
    derived = measured.model_copy(
        update={
            "name": "as-if-derived",
            "uncertainty": measured.uncertainty.model_copy(update={"shares": terms}),
            "derived": Derivation(
                source=measured.name,
                model=measured.model,
                device="another GPU",
                engine_version="0.8.5",
                terms=tuple(ScaledTerm(name=name, factor=1.0, part="all", cause="test") for name in terms),
            ),
        }
    )
    path = tmp_path_factory.mktemp("profiles") / "derived.json"
    twin.write_profile(derived, path)
    return path


@pytest.fixture(scope="module")
def derived(derived_file: Path) -> Scenario:
    return scenarios.read("mixed_ranks", [f"devices=[{{name: H100-64GB, profile: {derived_file}}}]"])


def test_a_gpu_must_keep_up_at_the_pessimistic_end(derived: Scenario) -> None:
    (pessimistic,) = twin.profiles_of(derived).values()
    assert (pessimistic.end, pessimistic.name) == ("pessimistic", "as-if-derived.pessimistic")
    expected = scenarios.override(derived, "derived_costs=expected")
    (usual,) = twin.profiles_of(expected).values()
    assert usual.end == "expected"
    assert pessimistic.at("expected") == usual
    by_paper = scenarios.override(derived, "acceptance=paper")
    assert twin.profiles_of(by_paper)["H100-64GB"].end == "expected"
    for costly, cheap in zip(pessimistic.step.terms, usual.step.terms, strict=True):
        assert costly.seconds == pytest.approx(cheap.seconds * 1.1037, rel=1e-3)  # exp(1.645 * 0.06)


def test_derived_costs_can_be_refused(derived: Scenario) -> None:
    with pytest.raises(twin.UnknownProfileError, match="derived_costs is"):
        twin.profiles_of(scenarios.override(derived, "derived_costs=refused"))
    other = scenarios.read("mixed_ranks", ["devices=L40S", "derived_costs=refused"])
    with pytest.raises(twin.UnknownProfileError, match="no engine profile is shipped"):
        twin.profiles_of(other)
    assert twin.profiles_of(scenarios.override(other, "derived_costs=expected"))["L40S"].derived is not None


def test_what_can_be_derived_is_not_missing() -> None:
    def missing(model: str, device: str, *, derive: bool) -> list[object]:
        return list(twin.missing_profiles(model, [(0, scenarios.Device(name=device))], derive=derive))

    assert not missing("mistral-7b-instruct-v0.3", "A100-80GB", derive=True)
    assert missing("mistral-7b-instruct-v0.3", "A100-80GB", derive=False)
    assert missing("mistral-7b-instruct-v0.3", "abacus", derive=True)
    assert missing("no-such-model", "A100-80GB", derive=True)
    assert not missing("llama-3.1-8b-instruct", "H100-64GB", derive=False)


@pytest.mark.slow
def test_rows_are_scaled_by_what_a_gpu_takes_there(derived: Scenario) -> None:
    judge = TwinJudge(derived, twin.profiles_of(derived))
    expected = expected_of(judge)
    assert expected.profiles["H100-64GB"].end == "expected"
    (there,) = capacities(expected, judge, UNLIMITED).values()
    assert (there.slots[0], there.slots[-1]) == (8, 96)  # the fewest, and one for each adapter
    # All costs are 10.4 % higher: 0.906, by a few percent of luck.
    assert 0.8 < min(there.least) <= max(there.most) < 0.98
    (usual,) = learned_regions(expected).values()
    (less,) = learned_regions(judge).values()
    assert less == scaled(usual, there)
    for before, after in zip(usual.inner.options, less.inner.options, strict=True):
        assert after.bounds == pytest.approx(there.inner(before.max_loras) * before.bounds)
    for before, after in zip(usual.outer.options, less.outer.options, strict=True):
        assert after.bounds == pytest.approx(there.outer(before.max_loras) * before.bounds)
    assert less.latency == usual.latency
    measured = scenarios.read("mixed_ranks")
    plain = TwinJudge(measured, twin.profiles_of(measured))
    assert expected_of(plain) is plain
    assert capacities(plain, plain, UNLIMITED) == {"H100-64GB": Capacity()}


def test_inner_rows_hold_for_the_least_that_was_found_and_outer_ones_for_the_most(
    derived: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: dict[int, list[float]] = {}

    class Growth:
        """At the pessimistic end contents take ever more of what they take at the expected costs."""

        def __init__(
            self, _: Scenario, profiles: dict[str, EngineProfile], *__: object, **___: object
        ) -> None:
            self.end = profiles["H100-64GB"].end

        def growth_factors(self, contents: list[GPUContent], _: object) -> list[float | None]:
            if self.end == "expected":
                return [2.0] * (len(contents) - 1) + [None]  # of the last nothing is known
            for k, content in enumerate(contents[:-1]):
                taken.setdefault(content.option.max_loras, []).append(0.5 + 0.05 * k)
            return [1.0 + 0.1 * k for k in range(len(contents))]

    judge = TwinJudge(derived, twin.profiles_of(derived))
    expected = expected_of(judge)
    monkeypatch.setattr("optimizer.search.derived.ends.TwinJudge", Growth)
    (there,) = capacities(expected, judge, UNLIMITED).values()
    assert there.slots == tuple(sorted(taken))
    assert there.least == pytest.approx([min(taken[slots]) for slots in there.slots])
    assert there.most == pytest.approx([max(taken[slots]) for slots in there.slots])
    assert any(len(shares) > 1 for shares in taken.values())


def test_the_share_that_a_gpu_takes_goes_with_its_slots() -> None:
    there = Capacity((8, 32), (0.7, 0.6), (0.72, 0.62))
    assert [there.inner(s) for s in (4, 8, 16, 32, 64)] == pytest.approx([0.7, 0.7, 0.65, 0.6, 0.6])
    assert [there.outer(s) / 1.02 for s in (4, 8, 16, 32, 64)] == pytest.approx(
        [0.72, 0.72, 0.67, 0.62, 0.62]
    )
    assert (Capacity().inner(8), Capacity().outer(8)) == (1.0, 1.0)


@pytest.mark.slow
def test_the_result_has_the_gpus_at_each_end(derived: Scenario) -> None:
    result = optimizer.solve(derived, "exact", objective="gpus", time_limit_s=30, workers=2)
    assert result.accepted
    costs = result.step_costs
    assert costs is not None
    assert costs.end == "pessimistic"
    assert costs.gpus["pessimistic"] == result.gpus
    assert costs.gpus["expected"] == 4  # as with measured costs
    numbers = [costs.gpus[end] for end in ("optimistic", "expected", "pessimistic")]
    assert numbers == sorted(numbers, key=lambda gpus: gpus or 0)
    text = result.summary()
    assert "step times are derived, not measured" in " ".join(text.split())
    assert optimizer.Result.model_validate_json(result.model_dump_json()).step_costs == costs
    assert optimizer.solve(scenarios.read("mixed_ranks"), "bfd", objective="gpus").step_costs is None


def test_the_sentence_says_what_is_not_known() -> None:
    costs = StepCosts(
        end="expected", derived={"L4": "scaled"}, gpus={"pessimistic": None, "expected": 2, "optimistic": 1}
    )
    assert "(L4: scaled); judged at their expected end; by end: pessimistic no plan" in costs.sentence
    assert "expected 2 GPUs, optimistic 1 GPU" in costs.sentence
    assert "approximate" not in costs.sentence
    pessimistic = StepCosts(end="pessimistic", derived={"L4": "scaled"})
    assert pessimistic.sentence.endswith("judged at their pessimistic end, where bounds are approximate")


def test_profiles_at_an_end_leave_measured_ones() -> None:
    measured = twin.profiles_of(scenarios.read("mixed_ranks"))
    assert at_end(measured, "optimistic") == measured


def test_the_command_says_that_costs_are_derived(lorapack: Lorapack, derived_file: Path) -> None:
    given = ("mixed_ranks", "--set", f"devices=[{{name: H100-64GB, profile: {derived_file}}}]")
    code, _, said = lorapack("scenarios", "check", *given)
    assert code == 0
    assert "step times of H100-64GB are derived, not measured: scaled from llama-3.1-8b-instruct" in said
    code, _, said = lorapack("solve", *given, "--measured-only", "--method", "bfd", "--quiet")
    assert code == 2
    assert "derived" in said
    code, _, said = lorapack("solve", *given, "--measured-only", "--expected")
    assert code == 2
    assert "exclude each other" in said


def test_what_an_answer_tells_of_derived_costs_is_not_told_before_it(
    derived_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from optimizer.cli.options import scenario_in

    changes = [f"devices=[{{name: H100-64GB, profile: {derived_file}}}]"]
    scenario_in("mixed_ranks", changes, told_in_answer=True)
    assert "derived" not in capsys.readouterr().err
    scenario_in("mixed_ranks", changes)
    assert "derived, not measured" in capsys.readouterr().err
