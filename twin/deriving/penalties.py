"""Whether a model's requests have a repetition penalty because its makers recommend one.

vLLM takes a model's ``generation_config.json`` for the defaults of requests (0.8.5, config.py,
get_diff_sampling_param) unless it is started with ``--generation-config vllm``. So a penalty that nobody
asked for can cost every request a pass over the vocabulary.
"""

from __future__ import annotations

import re
from json import JSONDecodeError, loads
from pathlib import Path

from twin.architectures import ModelArchitecture

_FILE = "generation_config.json"
_PENALISED = re.compile(r"qwen-?2(\.5)?-(coder-)?[\d.]+b-instruct")
"""Names of models whose makers recommend a penalty, of 1.05 to 1.1: Qwen2 and Qwen2.5, Instruct."""


def pays_penalty(name: str, model: str | Path | ModelArchitecture | None) -> bool:
    """Whether requests to a model have a repetition penalty by default.

    Parameters
    ----------
    name
        Its name.
    model
        Its config.json or folder, beside which a generation_config.json counts for more than the name.
    """
    if isinstance(model, str | Path) and Path(model).exists():
        folder = Path(model) if Path(model).is_dir() else Path(model).parent
        told = _told(folder / _FILE)
        if told is not None:
            return told
    return _PENALISED.match(name.rsplit("/", 1)[-1].lower()) is not None


def _told(file: Path) -> bool | None:
    """What a generation_config.json says; None where there is none, or it cannot be read."""
    try:
        values = loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, JSONDecodeError):
        return None
    penalty = values.get("repetition_penalty", 1.0) if isinstance(values, dict) else 1.0
    return isinstance(penalty, int | float) and penalty != 1.0
