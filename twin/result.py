"""Result of a simulation: the records of a run with the metrics that follow from them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from scenarios.result_view import ResultView
from scenarios.text.formatting import counted
from scenarios.text.tables import Part, cell_text, figures, render, table
from twin import metrics
from twin.engine.records import SERIES, RunRecords
from twin.gpu_table import held
from twin.metrics import AdapterMetrics, GPUMetrics, Latency, Window

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class SimulationResult(ResultView):
    """One run of one GPU.

    ``plot`` draws what runs and waits over time, the use of the KV cache, and how TTFT is distributed.

    Parameters
    ----------
    records
        Request records, loads and time series of the run.
    names
        Names of the adapters, in the order of the records' indices.
    max_loras, max_lora_rank
        Slots and rank of every slot.
    kv_cache_tokens
        Tokens that the KV cache holds.
    usable_blocks
        KV blocks without the one that the engine reserves.
    warmup_s
        Seconds at the start that the metrics leave out.
    frontend_s
        Seconds that the server in front of the engine adds to the time to first token.
    seed
        Seed of the run.
    cut_requests
        Requests that were cut, as the engine's ``max_model_len`` does not admit all of their tokens.
    base
        How many of the names stand for the base model itself, which takes no slot.
    """

    records: RunRecords
    names: tuple[str, ...]
    max_loras: int
    max_lora_rank: int
    kv_cache_tokens: int
    usable_blocks: int
    warmup_s: float = 0.0
    frontend_s: float = 0.0
    seed: int | None = None
    cut_requests: int = 0
    base: int = 0

    @cached_property
    def window(self) -> Window:
        """The part of the run that the metrics look at."""
        return metrics.window(self.records, self.warmup_s)

    @cached_property
    def gpu(self) -> GPUMetrics:
        """Metrics of the GPU."""
        return metrics.gpu_metrics(self.window, self.usable_blocks, self.frontend_s)

    @cached_property
    def adapters(self) -> AdapterMetrics:
        """Metrics of every adapter, as arrays."""
        return metrics.adapter_metrics(self.window, self.frontend_s)

    def to_frame(self) -> pd.DataFrame:
        """One row per adapter."""
        import pandas as pd

        m = self.adapters
        columns: dict[str, Any] = {
            "adapter": self.names,
            "requests": m.requests,
            "completed": m.completed,
            "offered_tok_per_s": m.offered_tok_per_s,
            "served_tok_per_s": m.served_tok_per_s,
            "served_share": m.served_share,
        }
        for kind in ("ttft", "tpot", "e2e", "queueing"):
            latency: dict[str, Any] = getattr(m, kind)
            columns |= {f"{kind}_{name}": values for name, values in latency.items()}
        columns |= {"preemptions": m.preemptions, "gpu_loads": m.gpu_loads, "disk_loads": m.disk_loads}
        return pd.DataFrame(columns)

    def request_frame(self) -> pd.DataFrame:
        """One row per request; times in seconds from the start, nan where the horizon came first."""
        import pandas as pd

        r = self.records
        return pd.DataFrame(
            {
                "adapter": np.array(self.names, dtype=object)[r.requests.adapter],
                "arrival_s": r.requests.arrival_s,
                "sent_s": r.sent_s,
                "prompt_tokens": r.requests.prompt_tokens,
                "output_tokens": r.requests.output_tokens,
                "generated_tokens": r.generated_tokens,
                "first_scheduled_s": r.first_scheduled_s,
                "first_token_s": r.first_token_s,
                "finish_s": r.finish_s,
                "preemptions": r.preemptions,
            }
        )

    def time_series(self) -> pd.DataFrame:
        """The run on a fixed grid: rates per second, and time averages of batch, queue, blocks, adapters."""
        import pandas as pd

        r = self.records
        width = r.series_width_s if np.isfinite(r.series_width_s) else max(r.end_s, 1e-12)
        start = np.arange(len(r.series)) * width
        columns = {name: r.series[:, k] / width for k, name in enumerate(SERIES)}
        columns = {name.removesuffix("_s"): values for name, values in columns.items()}
        columns["kv_use"] = columns.pop("blocks") / self.usable_blocks
        return pd.DataFrame({"start_s": start, **columns})

    def to_dict(self) -> dict[str, Any]:
        """Metrics of the GPU and of its adapters as plain values; None where nothing was measured."""
        frame = self.to_frame()
        result = {
            "seed": self.seed,
            "max_loras": self.max_loras,
            "max_lora_rank": self.max_lora_rank,
            "kv_cache_tokens": self.kv_cache_tokens,
            "warmup_s": self.warmup_s,
            "cut_requests": self.cut_requests,
            "gpu": asdict(self.gpu),
            "adapters": frame.to_dict(orient="records"),
        }
        plain: dict[str, Any] = _plain(result)
        return plain

    def to_json(self, indent: int | None = 2) -> str:
        """The same as JSON text."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def summary(self) -> str:
        """A few lines for a terminal."""
        return render(figures(self._lines()))

    def __repr__(self) -> str:
        served = f"{self.gpu.served_share:.1%} of the offered tokens served"
        return f"<SimulationResult: {self._adapters}, {served}>"

    def __str__(self) -> str:
        return self.summary()

    @property
    def _adapters(self) -> str:
        adapters = held(len(self.names) - self.base, len(self.names))
        return f"{adapters} in {counted(self.max_loras, 'slot')}"

    def _draw(self, ax: Axes | None) -> Figure:
        from twin.plots.runs import draw_run

        return draw_run(self, ax)

    def _shown(self) -> Iterable[Part]:
        return [f"One run of one GPU: {self._adapters}", table(("figure", "value"), self._lines())]

    def _lines(self) -> list[tuple[str, str]]:
        g = self.gpu
        cut = f"{self.cut_requests:,}, to what max_model_len admits"
        return [
            ("adapters", f"{self._adapters} of rank {self.max_lora_rank}"),
            ("KV cache", f"{self.kv_cache_tokens:,} tokens, {100 * g.kv_use:.1f} % in use"),
            ("requests", f"{g.requests:,} in {g.duration_s:,.0f} s, {g.completed:,} completed"),
            ("served", f"{cell_text(g.served_tok_per_s)} of {cell_text(g.offered_tok_per_s)} tok/s offered"),
            ("served share", f"{100 * g.served_share:.1f} %" if g.requests else "no request came"),
            ("TTFT", _milliseconds(g.ttft)),
            ("ITL", _milliseconds(g.itl)),
            ("TPOT", _milliseconds(g.tpot)),
            ("end to end", _milliseconds(g.e2e)),
            ("queueing", _milliseconds(g.queueing)),
            ("batch", f"{cell_text(g.running)} requests of {cell_text(g.adapters)} adapters, mean over time"),
            ("queue", f"{cell_text(g.waiting)} requests, mean over time"),
            ("preemptions", f"{g.preemptions:,}"),
            ("adapter copies", f"{g.gpu_loads:,} into slots, {g.disk_loads:,} from disk"),
            *([("requests cut", cut)] if self.cut_requests else []),
        ]


def _milliseconds(latency: Latency) -> str:
    if math.isnan(latency.mean_s):
        return "no completed request"
    seconds = (latency.mean_s, latency.p50_s, latency.p90_s, latency.p99_s)
    mean, p50, p90, p99 = (cell_text(1e3 * s) for s in seconds)
    return f"mean {mean} ms, p50 {p50} ms, p90 {p90} ms, p99 {p99} ms"


def _plain(value: Any) -> Any:
    """The value as JSON knows it: numbers without nan, lists, dicts with text keys."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
