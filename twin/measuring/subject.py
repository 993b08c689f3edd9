"""What is measured: a live server, with what it does not tell of itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from scenarios import EngineConfig, FrozenModel, LorapackError, Problem
from scenarios.base import MOST_GIB
from scenarios.errors import InputError
from scenarios.gpus.catalogue import find_gpu
from scenarios.importers.importing import read_fleet
from scenarios.importers.merging import Fleet
from scenarios.reading import overrides as changes
from scenarios.text.formatting import counted, listed
from twin.architectures import ArchitectureError, ModelArchitecture, find_architecture, read_architecture
from twin.live import ServerAnswers, ask_servers, checked_url
from twin.memory.defaults import default_arguments
from twin.memory.launch import version_of

ENGINE_KEYS = ("max_num_seqs", "max_num_batched_tokens", "max_loras", "max_lora_rank", "max_cpu_loras")
"""Arguments that no server tells, or not at once."""

VLLM_MAX_LORA_RANK = 16
"""vLLM's own ``max_lora_rank`` (vllm/config/lora.py, 0.6 to 0.32)."""


class SubjectError(InputError):
    """What is to be known of a server before it can be measured is not all known."""


class MeasuredAdapter(FrozenModel):
    """An adapter by the name that the server knows."""

    name: str
    """Name that requests ask for."""
    rank: Annotated[int, Field(ge=1)]
    """LoRA rank."""


class Subject(FrozenModel):
    """A live server that is measured, with all that its profile needs."""

    url: str
    """Its address."""
    base: str
    """Name by which it serves the base model."""
    model: str
    """Base model, as the profile will name it."""
    device: str
    """Kind of GPU, as scenarios name it."""
    gpu_memory_gib: Annotated[float, Field(gt=0, le=MOST_GIB)]
    """Memory of the GPU as the engine sees it, in GiB."""
    engine_version: str
    """Release of vLLM."""
    engine: EngineConfig
    """Its arguments, with slots, rank and adapters in CPU memory."""
    kv_cache_tokens: Annotated[int, Field(ge=1)]
    """KV cache in tokens, as it reports it."""
    adapters: Annotated[tuple[MeasuredAdapter, ...], Field(min_length=1)]
    """Adapters that are asked for."""
    origins: dict[str, str] = Field(default_factory=dict)
    """Who says what."""

    @property
    def max_loras(self) -> int:
        """Adapter slots."""
        assert self.engine.max_loras is not None
        return self.engine.max_loras

    @property
    def max_lora_rank(self) -> int:
        """Rank of every slot."""
        assert self.engine.max_lora_rank is not None
        return self.engine.max_lora_rank

    @property
    def max_cpu_loras(self) -> int:
        """Adapters in CPU memory."""
        return max(self.engine.max_cpu_loras or 0, self.max_loras)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the adapters, then that of the base model."""
        return (*(one.name for one in self.adapters), self.base)


@dataclass(frozen=True)
class About:
    """What is known of a server beside what it tells itself.

    Parameters
    ----------
    sources
        Files that `scenarios.import_fleet` reads: its command line, its start-up log, folders of adapters.
    model
        Base model; None: as files or the server name it.
    config
        Its ``config.json``, of a model that none of the shipped architectures is.
    device, gpu_memory_gib
        Kind of GPU, and its memory; of a GPU of the catalogue the memory is known.
    overrides
        Arguments of the engine, ``engine.max_num_seqs=256`` each; they win.
    """

    sources: Sequence[Path] = ()
    model: str | None = None
    config: Path | None = None
    device: str | None = None
    gpu_memory_gib: float | None = None
    overrides: Sequence[str] = ()


def ask_subject(url: str, about: About) -> Subject:
    """Ask a server what it is, as far as it tells; it is sent no request for tokens.

    Raises
    ------
    ServerError
        If it cannot be asked.
    SubjectError, ScenarioError, ImportSourceError
        As `subject_of`.
    """
    (told,) = ask_servers([checked_url(url)])
    return subject_of(told, about)


def subject_of(server: ServerAnswers, about: About) -> Subject:
    """What is measured, from what the server tells, what files say of it, and what is given.

    Raises
    ------
    SubjectError
        With everything that is missing.
    ScenarioError
        If an override cannot be applied.
    ImportSourceError
        If a file cannot be read.
    """
    fleet = read_fleet(about.sources) if about.sources else None
    problems: list[Problem] = []
    origins: dict[str, str] = {}
    named = about.model or _said_model(fleet) or (server.base[0] if server.base else None)
    architecture = _architecture(named, about.config, problems)
    memory = _memory(about, problems)
    if server.version is None:
        problems.append(Problem("/version", "is not told by the server", "measure a server of vLLM"))
    engine = _engine(server, fleet, architecture, memory, about, origins, problems)
    adapters = _adapters(server, fleet, problems)
    if server.kv_cache_tokens is None:
        what = "does not tell vllm:cache_config_info, the size of its KV cache"
        problems.append(Problem("/metrics", what, "serve them: without them no run can be simulated"))
    if problems or engine is None or architecture is None:
        raise SubjectError(problems)
    largest = max(one.rank for one in adapters)
    if engine.max_lora_rank is not None and largest > engine.max_lora_rank:
        what = f"is {engine.max_lora_rank}, below rank {largest} of an adapter that it serves"
        raise SubjectError([Problem("engine.max_lora_rank", what, "set it as the server has it")])
    return Subject(
        url=server.url,
        base=server.base[0] if server.base else architecture.name,
        model=about.model or architecture.name,
        device=about.device or "",
        gpu_memory_gib=memory,
        engine_version=server.version or "",
        engine=engine,
        kv_cache_tokens=server.kv_cache_tokens or 0,
        adapters=adapters,
        origins=origins,
    )


def _said_model(fleet: Fleet | None) -> str | None:
    return fleet.models[0].value if fleet is not None and fleet.models else None


def _architecture(
    named: str | None, config: Path | None, problems: list[Problem]
) -> ModelArchitecture | None:
    try:
        if config is not None:
            return read_architecture(config, named)
        if named is not None:
            return find_architecture(named)
    except ArchitectureError as error:
        remedy = "give its config.json: --config FILE" if config is None else "give the model's own"
        problems.append(Problem("model", f"cannot be known: {error}", remedy))
        return None
    problems.append(Problem("model", "is missing", "name it: --model NAME"))
    return None


def _memory(about: About, problems: list[Problem]) -> float:
    device, given = about.device, about.gpu_memory_gib
    if device is None:
        problems.append(Problem("device", "is missing: the kind of GPU", "name it: --device H100-80GB"))
    if given is not None:
        return given
    try:
        return find_gpu(device).memory_gib if device is not None else 1.0
    except LorapackError:
        remedy = "give the GiB that the engine sees: --gpu-memory-gib G"
        problems.append(Problem("device", f'is "{device}", no GPU of the catalogue', remedy))
        return 1.0


def _engine(
    server: ServerAnswers,
    fleet: Fleet | None,
    architecture: ModelArchitecture | None,
    memory: float,
    about: About,
    origins: dict[str, str],
    problems: list[Problem],
) -> EngineConfig | None:
    """Arguments of the engine: given, said by files, told by the server, and vLLM's defaults for the rest."""
    mine = _given_engine(about.overrides, problems)
    said = _said_engine(server, fleet, problems)
    told = {
        "max_model_len": server.max_model_len,
        "max_loras": server.max_loras,
        "block_size": server.block_size,
        "gpu_memory_utilization": server.gpu_memory_utilization,
        "enable_prefix_caching": server.enable_prefix_caching,
        "kv_cache_memory_bytes": server.kv_cache_memory_bytes,
    }
    values: dict[str, Any] = {key: value for key, value in told.items() if value is not None}
    origins |= dict.fromkeys(values, "the server")
    values |= {key: one.value for key, one in said.items()}
    origins |= {key: one.origin for key, one in said.items()}
    values |= mine
    origins |= dict.fromkeys(mine, "--set")
    if "max_loras" not in values:
        remedy = "give its command line or start-up log by --about, or --set engine.max_loras=N"
        problems.append(Problem("engine.max_loras", "is told by nobody", remedy))
    if architecture is None or problems:
        return None
    for key, value in _defaults(server, values, architecture, memory, about.device or "").items():
        if key not in values and value is not None:
            values[key], origins[key] = value, "vLLM's default"
    try:
        return EngineConfig(**values)
    except ValidationError as error:
        problems += [
            Problem("engine." + ".".join(map(str, one["loc"])), one["msg"], "set it as the server has it")
            for one in error.errors()
        ]
        return None


def _given_engine(overrides: Iterable[str], problems: list[Problem]) -> Mapping[str, Any]:
    given = changes.apply({}, overrides, "--set")
    if (
        not isinstance(given, dict)
        or set(given) - {"engine"}
        or not isinstance(given.get("engine", {}), dict)
    ):
        problems.append(Problem("--set", "sets what is no argument of the engine", "set engine.KEY=VALUE"))
        return {}
    engine: Mapping[str, Any] = given.get("engine", {})
    return engine


def _defaults(
    server: ServerAnswers,
    values: Mapping[str, Any],
    architecture: ModelArchitecture,
    memory: float,
    device: str,
) -> dict[str, Any]:
    release = version_of(server.version or "")
    known = ("max_num_seqs", "max_num_batched_tokens", "max_model_len")
    given = {key: values[key] for key in known if key in values}
    slots = values["max_loras"]
    own = default_arguments(architecture, release, memory, device, given=given, max_loras=slots)
    return {
        **{key: own[key] for key in (*known, "gpu_memory_utilization", "block_size")},
        "max_lora_rank": VLLM_MAX_LORA_RANK,
        "max_cpu_loras": slots,
    }


def _said_engine(server: ServerAnswers, fleet: Fleet | None, problems: list[Problem]) -> Mapping[str, Any]:
    """What files say of this server: the one of its address, or the only one."""
    servers = list(fleet.servers.values()) if fleet is not None else []
    mine = [one for one in servers if one.address and one.address == server.url] or servers
    if len(mine) > 1:
        names = listed([one.name for one in mine], 5)
        what = f"tells of {counted(len(mine), 'server')}, {names}, none of them at {server.url}"
        problems.append(Problem("--about", what, "give the files of this one alone"))
        return {}
    return mine[0].engine if mine else {}


def _adapters(
    server: ServerAnswers, fleet: Fleet | None, problems: list[Problem]
) -> tuple[MeasuredAdapter, ...]:
    ranks = {} if fleet is None else {name: one.rank for name, one in fleet.adapters.items()}
    unknown = [name for name in server.adapters if ranks.get(name) is None]
    if not server.adapters:
        problems.append(Problem("/v1/models", "lists no adapter", "start the server with --lora-modules"))
    if unknown:
        remedy = "give the folders of the adapters by --about"
        problems.append(Problem("ranks", f"of {listed(unknown, 5)} are told by nobody", remedy))
    return tuple(
        MeasuredAdapter(name=name, rank=said.value)
        for name in server.adapters
        if (said := ranks.get(name)) is not None
    )
