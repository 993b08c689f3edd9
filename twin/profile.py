"""Engine profiles: what is known of one model on one GPU under one engine version, as data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from scenarios import (
    Device,
    EngineConfig,
    HistogramLengths,
    LorapackError,
    ScenarioError,
    visible,
    write_whole,
)
from scenarios.base import MOST_GIB
from scenarios.errors import spelled_out
from scenarios.reading.error_messages import problems
from scenarios.reading.findings import Finding
from scenarios.reading.syntax.json_text import JsonTextError, json_value
from scenarios.reading.text_files import text_of
from scenarios.reading.yaml_reader import problem_of
from scenarios.text.formatting import bracketed, choice, shortened, suggestion
from twin.engine.rules import SchedulerRules
from twin.memory import MemoryModel
from twin.step_cost import Batch, LoadCost, StepCost


class ProfileError(LorapackError, ValueError):
    """An engine profile could not be read."""


class UnknownProfileError(LorapackError, LookupError):
    """No shipped profile is for the model and device asked for."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class MetricsScrape(_Part):
    """How long the HTTP server stands still while a monitor reads its metrics, and how often."""

    pause_s: float = Field(gt=0, description="Seconds from the end of a reading to the next.")
    least_s: float = Field(default=0.0, ge=0, description="Stall at the first reading, in seconds.")
    label_set_s: float = Field(
        ge=0, description="Seconds for each pair (running adapters, waiting adapters) that ever occurred."
    )
    label_name_s: float = Field(ge=0, description="Seconds for each adapter named in such a pair.")
    busy_s_per_token: float = Field(
        default=0.0, ge=0, description="Seconds of the server for each token sent, which slow a reading."
    )


class Frontend(_Part):
    """What a client waits for outside the engine's steps: HTTP server, tokeniser, network."""

    first_token_s: float = Field(
        default=0.0, ge=0, description="Added to the time to first token of every request, in seconds."
    )
    merge_outputs: int = Field(
        default=128, ge=0, description="Most requests in a step whose held-back tokens are sent as one chunk."
    )
    scrape: MetricsScrape | None = Field(
        default=None, description="Metrics readings during the measurements; used to replay them only."
    )

    def unread(self) -> Frontend:
        """The same server while nobody reads its metrics."""
        return self.model_copy(update={"scrape": None})


class ServedLengths(_Part):
    """Lengths of the requests behind the measurements; rescaled to the mean lengths of a run."""

    prompt: HistogramLengths = Field(description="Shape of the prompt lengths.")
    output: HistogramLengths = Field(description="Shape of the lengths asked of the answers.")
    rank_correlation: float = Field(
        default=0.0, gt=-1, lt=1, description="Correlation of prompt and answer (of a normal copula)."
    )
    max_total_tokens: int = Field(ge=2, description="Most tokens of prompt and answer together.")
    stop_per_token: float = Field(
        default=0.0, ge=0, lt=1, description="Chance at every token that the answer ends early."
    )


class GroupError(_Part):
    """Error on one group of runs that the fit did not see; usual SMAPE in percent, factor 2."""

    group: str = Field(description="Group of measured runs, left out of the fit as a whole.")
    quality: str = Field(description="Quality of the runs: clean, or saturated by the client's cap.")
    runs: int = Field(ge=1, description="Runs compared.")
    throughput_smape: float | None = Field(default=None, ge=0, description="Total throughput.")
    itl_smape: float | None = Field(default=None, ge=0, description="Mean inter-token latency.")
    tpot_smape: float | None = Field(default=None, ge=0, description="Mean time per output token.")
    ttft_smape: float | None = Field(
        default=None, ge=0, description="Mean time to first token of completed requests."
    )
    starvation_wrong: int = Field(default=0, ge=0, description="Runs whose starvation was foretold wrongly.")


class Provenance(_Part):
    """Where a profile's numbers come from."""

    source: str = Field(description="The measurements.")
    command: str = Field(description="Command that makes the profile.")
    runs: int = Field(ge=0, description="Whole runs in the fit.")
    probes: int = Field(ge=0, description="Probes of single steps, fixed batches and memory in the fit.")
    groups: tuple[str, ...] = Field(default=(), description="Groups of runs in the fit.")
    left_out_errors: tuple[GroupError, ...] = Field(
        default=(), description="Errors on each group when the fit is made from the other groups."
    )
    note: str = Field(default="", description="Remarks.")


class Uncertainty(_Part):
    """How far the fitted numbers may be off."""

    residual_share: float | None = Field(
        default=None, ge=0, description="Standard deviation of log(measured/fitted) mean step time of a run."
    )
    standard_errors_s: dict[str, float] = Field(
        default_factory=dict, description="Standard error of each term of the step cost, in its own unit."
    )
    shares: dict[str, Annotated[float, Field(ge=0, le=3)]] = Field(
        default_factory=dict,
        description="Standard uncertainty of the log of derived terms, and of loads as loads.FIELD.",
    )


class ScaledTerm(_Part):
    """How one term of a derived profile came about."""

    name: str = Field(description="The term, or loads.FIELD.")
    factor: float | None = Field(
        default=None, ge=0, description="What the measured term was multiplied by; null: it is new."
    )
    part: str = Field(description="The common factor that it errs with.")
    cause: str = Field(description="What it is made of, and so scaled by.")


class Derivation(_Part):
    """Which measured profile a derived one was scaled from, and how."""

    source: str = Field(description="Name of the measured profile.")
    model: str = Field(description="Model that was measured.")
    device: str = Field(description="GPU that was measured.")
    engine_version: str = Field(description="Release of the engine whose step cost was measured.")
    tensor_parallel_size: int = Field(default=1, ge=1, description="GPUs of the derived engine.")
    terms: tuple[ScaledTerm, ...] = Field(default=(), description="Every term and load.")
    note: str = Field(default="", description="What was not counted.")


End = Literal["pessimistic", "expected", "optimistic"]
"""An end of what a derived profile may be, or its middle."""

USUAL = Batch(decodes=64, context=64 * 400, adapters=16, max_loras=16, max_lora_rank=16, served=16)
"""A step by which the ends of a derived profile are set."""

_QUANTILE = 1.645
"""Standard uncertainties between the middle of a normal distribution and each end of its middle 90 %."""


class EngineProfile(_Part):
    """One model on one kind of GPU under one engine version: rules, memory and costs, with provenance."""

    name: str = Field(min_length=1, description="Name of the profile.")
    model: str = Field(min_length=1, description="Base model, in lower case, without the organisation.")
    device: str = Field(min_length=1, description="Kind of GPU, as in a scenario: H100-64GB.")
    gpu_memory_gib: float = Field(
        gt=0, le=MOST_GIB, description="Memory of the GPU that the engine sees, in GiB."
    )
    engine: Literal["vllm"] = "vllm"
    engine_version: str = Field(min_length=1, description="Version of the engine that was measured.")
    rules: SchedulerRules = SchedulerRules()
    measured: EngineConfig = Field(description="Configuration of the engines that were measured.")
    memory: MemoryModel
    step: StepCost
    loads: LoadCost
    frontend: Frontend = Frontend()
    lengths: ServedLengths
    first_read_s: float = Field(
        default=0.0,
        ge=0,
        description="Seconds to read an adapter at its first use in the measured runs, whose engines started "
        "with none in memory; used to replay them only.",
    )
    uncertainty: Uncertainty = Uncertainty()
    provenance: Provenance
    derived: Derivation | None = Field(
        default=None, description="What the costs were scaled from; absent: they were measured."
    )
    _expected: EngineProfile | None = PrivateAttr(default=None)
    _end: End = PrivateAttr(default="expected")

    def __repr__(self) -> str:
        return f"<EngineProfile: {visible(self.name)}>"

    def __str__(self) -> str:
        return repr(self)

    def memory_of(self, device: Device) -> float:
        """Memory of a GPU in GiB: what a scenario says, else what was measured."""
        return device.memory_gib or self.gpu_memory_gib

    def at(self, end: End) -> EngineProfile:
        """The profile at an end of the middle 90 % of its costs, under its name and the end; or itself.

        Terms are multiplied by exp(±1.645 · share · joint). Terms of one part (`Derivation.terms`) err
        together, by one common factor, and the parts independently of each other: all at their own ends at
        once would be far further out than 90 %. So all go the same share of the way, ``joint``, with
        which the cost of a usual step is at its end. What was measured has no shares and no ends.
        """
        if self._expected is not None:
            return self._expected.at(end)
        if end == "expected":
            return self
        sign = (_QUANTILE if end == "pessimistic" else -_QUANTILE) * self.joint
        shares = self.uncertainty.shares
        terms = tuple(
            term.model_copy(update={"seconds": term.seconds * math.exp(sign * shares.get(term.name, 0.0))})
            for term in self.step.terms
        )
        loads = {
            name: value * math.exp(sign * shares.get(f"loads.{name}", 0.0))
            for name, value in self.loads.model_dump().items()
        }
        there = self.model_copy(
            update={
                "name": f"{self.name}.{end}",
                "step": self.step.model_copy(update={"terms": terms}),
                "loads": LoadCost(**loads),
            }
        )
        there._expected, there._end = self, end
        return there

    @property
    def joint(self) -> float:
        """Root of the sum of squares over the sum, of what each part's uncertainty adds to a usual step."""
        parts = {} if self.derived is None else {term.name: term.part for term in self.derived.terms}
        added: dict[str, float] = {}
        for term in self.step.terms:
            part = parts.get(term.name, term.name)
            off = self.uncertainty.shares.get(term.name, 0.0) * term.of_batch(USUAL)
            added[part] = added.get(part, 0.0) + off
        total = math.fsum(added.values())
        return math.sqrt(math.fsum(off * off for off in added.values())) / total if total > 0 else 1.0

    @property
    def end(self) -> End:
        """At which end of its costs it is; what was measured has none but the expected."""
        return self._end

    @property
    def how_sure(self) -> str:
        """From what its costs are derived, and how far a step may be off; empty if they are measured."""
        if self.derived is None:
            return ""
        if self._expected is not None:
            return self._expected.how_sure
        usual = math.fsum(term.of_batch(USUAL) for term in self.step.terms)
        ends: tuple[End, ...] = ("optimistic", "pessimistic")
        costs = [math.fsum(term.of_batch(USUAL) for term in self.at(end).step.terms) for end in ends]
        least, most = (cost / usual - 1 for cost in costs)
        source = self.derived
        text = f"scaled from {source.model} on {source.device}, vLLM {source.engine_version}"
        return f"{text}; a step may be {least:+.0%} to {most:+.0%} off" if most else text


def read_profile(path: str | Path) -> EngineProfile:
    """Read a profile from a JSON file.

    Raises
    ------
    ProfileError
        If the file cannot be read or is no profile; the message names the file and every fault.
    """
    source = str(path)
    try:
        text = text_of(Path(path), source)
    except ScenarioError as error:
        raise ProfileError(str(error)) from error
    profile = _parse(text, source)
    _refuse_a_renamed_copy(profile, source)
    return profile


def _refuse_a_renamed_copy(profile: EngineProfile, source: str) -> None:
    """Refuse step costs of a shipped profile under the name of another GPU or model, unless it says so
    itself.

    Raises
    ------
    ProfileError
        If they are; the message says where they were measured.
    """
    if profile.derived is not None:
        return  # scaled by 1: a model of the same shapes
    for shipped in shipped_profiles():
        same = (profile.step, profile.loads) == (shipped.step, shipped.loads)
        if same and (profile.model, profile.device) != (shipped.model, shipped.device):
            raise ProfileError(
                f"{source}: is for {profile.model} on {profile.device}, but its step costs and loads were "
                f"measured with {shipped.model} on {shipped.device}; calibrate a profile of {profile.model} "
                f"on {profile.device}, or ask `lorapack memory` for what needs no measurement"
            )


def write_profile(profile: EngineProfile, path: str | Path) -> None:
    """Write a profile as JSON; the same profile gives the same bytes.

    Raises
    ------
    OutputFileError
        If the file cannot be written.
    """
    write_whole(path, profile.model_dump_json(indent=2) + "\n")


@cache
def shipped_profiles() -> tuple[EngineProfile, ...]:
    """Profiles that come with lorapack, by name."""
    folder = resources.files("twin") / "profiles"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".json")), key=lambda f: f.name)
    return tuple(_parse(f.read_text(encoding="utf-8"), f.name) for f in files)


def find_profile(model: str, device: str | None) -> EngineProfile:
    """The shipped profile of a model on a device.

    Parameters
    ----------
    model
        Base model, with or without its organisation, in any case: ``meta-llama/Llama-3.1-8B-Instruct``.
    device
        Kind of GPU, in any case; None: the only one that a profile of the model is shipped for.

    Raises
    ------
    UnknownProfileError
        If there is none, or more than one; the message lists those that exist.
    """
    profiles = [p for p in shipped_profiles() if p.model == _plain(model)]
    if device is not None:
        profiles = [p for p in profiles if p.device.lower() == device.strip().lower()]
    if len(profiles) == 1:
        return profiles[0]
    known = ", ".join(f'model "{p.model}" on device "{p.device}"' for p in shipped_profiles())
    where = "" if device is None else f' on device "{device}"'
    count = "no" if not profiles else "more than one"
    raise UnknownProfileError(
        f'{count} engine profile is shipped for model "{shortened(model)}"{where}; there are: {known}. '
        f"Name one of these, or calibrate a profile of your own and name its file"
    )


def unshipped(model: str, devices: Iterable[tuple[int, Device]]) -> Iterator[Finding]:
    """Yield the model, or each device with its index, for which no profile is shipped and none is named."""
    models = sorted({profile.model for profile in shipped_profiles()})
    known = [profile.device for profile in shipped_profiles() if profile.model == _plain(model)]
    own = "or calibrate an engine profile and name its file as the device's profile"
    for k, device in devices:
        if device.profile is not None or device.name.strip().lower() in map(str.lower, known):
            continue
        if not known:
            remedy = f"{suggestion(_plain(model), models)} use {choice(models)}, {own}".lstrip()
            yield Finding(("model",), f'is "{model}", for which no engine profile is shipped', remedy)
            return
        is_list = "," in device.name
        remedy = f"write {bracketed(device.name)}" if is_list else f"use {choice(known)}, {own}"
        message = f'is "{device.name}", for which no engine profile of {model} is shipped'
        yield Finding(("devices", k), message, remedy)


def _plain(model: str) -> str:
    return model.strip().lower().rstrip("/").rsplit("/", 1)[-1]


def _parse(text: str, source: str) -> EngineProfile:
    try:
        return EngineProfile.model_validate_json(text)
    except ValidationError as error:
        try:
            faults = problems(error.errors(include_url=False), EngineProfile, json_value(text))
        except JsonTextError as wrong:
            faults = [problem_of(wrong)]
        lines = "\n".join([f"{source}: not an engine profile", *spelled_out(faults)])
        raise ProfileError(lines) from error
