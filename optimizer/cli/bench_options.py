"""Options for what a result of ``vllm bench serve`` does not say of its engine, in vLLM's words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import TYPE_CHECKING, Annotated, get_type_hints

import typer

if TYPE_CHECKING:
    from twin import BenchEngine

PANEL = "For results of vllm bench serve"
"""Heading of these options in the help."""


def _option(flag: str, metavar: str, text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(flag, metavar=metavar, help=text, rich_help_panel=PANEL)
    return option


OPTIONS: dict[str, object] = {
    "max_loras": Annotated[
        int | None, _option("--max-loras", "N", "Adapter slots of the engine; 0: no LoRA.")
    ],
    "max_lora_rank": Annotated[
        int | None,
        _option("--max-lora-rank", "RANK", "Rank of the slots; absent: the least that holds --ranks."),
    ],
    "adapters": Annotated[int | None, _option("--adapters", "N", "Adapters that the requests were for.")],
    "ranks": Annotated[
        str | None, _option("--ranks", "R,R", "LoRA ranks, as 8,16, dealt to the adapters in turn.")
    ],
    "rates": Annotated[
        str | None,
        _option("--rates", "X,X", "Requests/s, as 0.1,0.05, dealt to the adapters in turn; absent: equal."),
    ],
    "max_cpu_loras": Annotated[
        int | None,
        _option("--max-cpu-loras", "N", "Adapters in CPU memory; absent: vLLM's, as --max-loras."),
    ],
    "max_num_seqs": Annotated[
        int | None, _option("--max-num-seqs", "N", "Most requests in a batch; absent: the profile's.")
    ],
    "max_num_batched_tokens": Annotated[
        int | None,
        _option("--max-num-batched-tokens", "TOKENS", "Token budget of a step; absent: the profile's."),
    ],
    "max_model_len": Annotated[
        int | None, _option("--max-model-len", "TOKENS", "Longest sequence; absent: the profile's.")
    ],
    "gpu_memory_utilization": Annotated[
        float | None,
        _option("--gpu-memory-utilization", "SHARE", "Share of GPU memory used; absent: the profile's."),
    ],
    "kv_cache_tokens": Annotated[
        int | None,
        _option("--kv-cache-tokens", "TOKENS", "KV cache, as the server's log tells; absent: computed."),
    ],
}
"""Types of the options, by the name of what each says."""


def with_bench_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command with these options too, whose values it gets by name as ``engine``."""

    @wraps(command)
    def run(**given: object) -> None:
        engine = {name: given.pop(name) for name in OPTIONS}
        command(**given, engine=engine)

    hints = get_type_hints(command, include_extras=True) | OPTIONS
    own = [p for name, p in signature(command).parameters.items() if name != "engine"]
    added = [Parameter(name, Parameter.KEYWORD_ONLY, default=None) for name in OPTIONS]
    run.__annotations__ = {name: hint for name, hint in hints.items() if name != "engine"}
    run.__signature__ = Signature(  # type: ignore[attr-defined]
        [p.replace(annotation=hints[p.name], kind=Parameter.KEYWORD_ONLY) for p in [*own, *added]]
    )
    return run


def bench_engine(model: str | None, given: Mapping[str, object]) -> BenchEngine:
    """The engine behind results, from the values of the options; lists are texts with commas.

    Raises
    ------
    ScenarioError
        If a value is none that vLLM takes.
    """
    from scenarios import params_from
    from twin import BenchEngine

    values = {name: value for name, value in given.items() if value is not None}
    for name in ("ranks", "rates"):
        if name in values:
            values[name] = [_number(text) for text in str(values[name]).split(",")]
    return params_from(values | ({} if model is None else {"model": model}), BenchEngine, "options")


def _number(text: str) -> int | float | str:
    """A number of a list; what is none stays text, which the check of the values refuses with its place."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def refuse_bench_options(given: Mapping[str, object], what: str) -> None:
    """Refuse options for results where there is none.

    Raises
    ------
    BadParameter
        With every option that was given.
    """
    flags = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]
    if flags:
        verb = "is" if len(flags) == 1 else "are"
        raise typer.BadParameter(f"{', '.join(flags)} {verb} for results of `vllm bench serve`; {what}")
