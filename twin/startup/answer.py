"""How many adapters fit, and does it start: one question, answered with how sure the answer is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from scenarios import EngineConfig, StartupLog, find_gpu, read_startup_log
from scenarios.result_view import ResultView
from scenarios.text.tables import Part
from twin.architectures import ModelArchitecture
from twin.memory import MemoryModel, MemoryPlan, memory_model, plan_memory
from twin.memory.defaults import default_arguments
from twin.memory.launch import version_of
from twin.memory.versions import NEWEST_READ
from twin.profile import shipped_profiles
from twin.startup.from_log import arguments_of, corrected
from twin.startup.question import (
    architecture_of,
    asked_slots,
    check_model,
    check_slots,
    checked_gib,
    memory_of,
)
from twin.startup.remarks import remarks, usual_error
from twin.startup.unmodelled import unmodelled_arguments

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Basis = Literal["measured", "from your log", "derived"]
"""How sure an answer is: from constants measured with this model, GPU and release; from the start of the
user's own server; or from constants of other start-ups."""

NEWEST = ".".join(map(str, NEWEST_READ))
"""Newest release of vLLM whose rules were read."""


@dataclass(frozen=True)
class MemoryAnswer(ResultView):
    """Where the memory of an engine goes, whether it starts, and how sure that is.

    ``plot`` draws the parts of the GPU's memory.

    Parameters
    ----------
    model, device, engine_version
        What it is about; no device where only the memory of the GPU was given.
    model_longest
        Tokens of the longest sequence that the model is made for.
    engine, max_loras, max_lora_rank
        Arguments of the engine.
    plan
        Memory of one of its GPUs.
    basis
        How sure it is.
    usual_error
        How far such answers are off, in words.
    assumed
        Arguments that nobody gave and no log told: vLLM's own defaults.
    remarks
        What is known to make engines of this release differ, and arguments that are not modelled.
    host_memory_gib
        Memory of the host, if it was given.
    """

    model: str
    device: str | None
    engine_version: str
    model_longest: int
    engine: EngineConfig
    max_loras: int
    max_lora_rank: int
    plan: MemoryPlan
    basis: Basis
    usual_error: str
    assumed: tuple[str, ...]
    remarks: tuple[str, ...]
    host_memory_gib: float | None = None

    @property
    def starts(self) -> bool:
        """Whether the engine starts."""
        return self.plan.starts

    @property
    def host_gib(self) -> float:
        """What the engine keeps in the host's memory for its GPUs: adapters, and offloaded weights."""
        gpus = self.engine.tensor_parallel_size * self.engine.pipeline_parallel_size
        return gpus * (self.plan.cpu_loras_gib + self.plan.offloaded_gib)

    def _draw(self, ax: Axes | None) -> Figure:
        from twin.plots.memory import draw_memory

        return draw_memory([self], ax)

    def _shown(self) -> Iterable[Part]:
        from twin.startup.text import answer_parts

        return answer_parts(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as ``lorapack memory --json`` writes them."""
        plan = self.plan
        parts = (
            "weights_gib",
            "slots_gib",
            "activation_gib",
            "graph_gib",
            "other_gib",
            "uncounted_gib",
            "kv_gib",
        )
        return {
            "model": self.model,
            "device": self.device,
            "gpu_memory_gib": plan.gpu_gib,
            "engine_version": self.engine_version,
            "engine": self.engine.model_dump(mode="json", exclude={"max_loras", "max_lora_rank", "slots"}),
            "max_loras": self.max_loras,
            "max_lora_rank": self.max_lora_rank,
            "starts": plan.starts,
            "failure": plan.failure,
            "kv_cache_tokens": plan.kv_cache_tokens,
            **{name: round(getattr(plan, name), 4) for name in parts},
            "offloaded_gib": round(plan.offloaded_gib, 4),
            "cpu_loras_gib": round(plan.cpu_loras_gib, 4),
            "host_gib": round(self.host_gib, 4),
            "host_memory_gib": self.host_memory_gib,
            "num_gpu_blocks": plan.num_blocks,
            "max_concurrency": round(plan.max_concurrency, 2),
            "largest_max_loras": plan.largest_max_loras,
            "largest_max_model_len": plan.largest_max_model_len,
            "remedies": list(plan.remedies),
            "basis": self.basis,
            "usual_error": self.usual_error,
            "assumed": list(self.assumed),
            "remarks": list(self.remarks),
        }


def ask_memory(
    model: str | Path | ModelArchitecture,
    *,
    device: str | None = None,
    gpu_memory_gib: float | None = None,
    engine_version: str | None = None,
    max_loras: int | None = None,
    max_lora_rank: int | None = None,
    arguments: Mapping[str, Any] | None = None,
    startup_log: str | Path | StartupLog | None = None,
    host_memory_gib: float | None = None,
) -> MemoryAnswer:
    """Memory of an engine: where it goes, whether it starts, how many adapters fit.

    What is not given is taken from the log, and what that does not tell is vLLM's default.

    Parameters
    ----------
    model
        Name of a shipped model, its config.json or the folder that holds it, or its facts.
    device
        Name of a GPU of the catalogue.
    gpu_memory_gib
        Memory of the GPU in GiB as the engine sees it; absent: the catalogue's, or the log's.
    engine_version
        Release of vLLM; absent: the log's, or the newest that is known.
    max_loras, max_lora_rank
        Adapter slots and their rank; 0 slots is an engine without LoRA; absent: vLLM's defaults, 1 and 16.
    arguments
        Other arguments of the engine, in vLLM's names.
    startup_log
        Log of a start of the user's own server, of which the parts are taken.
    host_memory_gib
        Memory of the host in GiB, to be told beside what the engine keeps there.

    Raises
    ------
    MemoryQuestionError
        If neither a device nor its memory is known, or it asks for what no engine takes.
    ArchitectureError, StartupLogError, EngineVersionError, ScenarioError, TensorParallelError
        If the model, the log, the release or an argument is wrong.
    """
    log = startup_log if isinstance(startup_log, StartupLog | None) else read_startup_log(startup_log)
    architecture = architecture_of(model)
    if log is not None:
        check_model(architecture, log)
    gpu = None if device is None else find_gpu(device)
    told = {} if log is None else arguments_of(log)
    memory_gib = memory_of(gpu_memory_gib, gpu, log)
    checked_gib("host_memory_gib", host_memory_gib)
    release = engine_version
    if release is None:
        release = (log.engine_version if log else None) or NEWEST
    version = version_of(release)
    name = gpu.name if gpu else ""
    slots, rank = asked_slots(max_loras, max_lora_rank, told, of_a_log=log is not None)
    check_slots(slots, rank, version)
    memory, basis = _model_of(architecture, name, release, log)
    if gpu is not None:
        memory = memory.on_gpu(gpu.compute_capability)
    given = told | {key: value for key, value in (arguments or {}).items() if value is not None}

    def defaults_beside(known: Mapping[str, Any], loras: int) -> dict[str, Any]:
        of: dict[str, Any] = {"given": known, "max_loras": loras, "v1": memory.v1}
        return default_arguments(architecture, version, memory_gib, name, **of)

    def engine_with(known: Mapping[str, Any], loras: int) -> EngineConfig:
        asked = {"max_loras": loras} if loras else {"slots": (1,)}
        return EngineConfig(**{**asked, **defaults_beside(known, loras), **known})

    defaults = defaults_beside(given, slots)
    engine = engine_with(given, slots)
    if log is not None:
        was = asked_slots(None, None, arguments_of(log), of_a_log=True)
        then = engine_with(told, was[0])
        memory = corrected(memory, then, log.gpu_total_gib or memory_gib, *was, log)
    memory = memory.of_engine(engine, slots)
    plan = plan_memory(memory, engine, memory_gib, slots, rank)
    return MemoryAnswer(
        model=architecture.name,
        device=gpu.name if gpu else None,
        engine_version=release,
        model_longest=architecture.max_position_embeddings,
        engine=engine,
        max_loras=slots,
        max_lora_rank=rank,
        plan=plan,
        basis=basis,
        usual_error=usual_error(basis, memory, engine, log),
        assumed=tuple(f"{key} {defaults[key]:,}" for key in defaults if key not in given),
        remarks=(*remarks(memory, engine, plan, slots, rank), *unmodelled_arguments(engine)),
        host_memory_gib=host_memory_gib,
    )


def _model_of(
    architecture: ModelArchitecture, device: str, release: str, log: StartupLog | None
) -> tuple[MemoryModel, Basis]:
    if log is not None:
        return memory_model(architecture, release, v1=log.v1), "from your log"
    for profile in shipped_profiles():
        if (profile.device, profile.engine_version, profile.memory.architecture) == (
            device,
            release,
            architecture,
        ):
            return profile.memory, "measured"
    return memory_model(architecture, release), "derived"
