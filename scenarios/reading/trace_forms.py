"""Which column of a trace holds what: public forms, and names that say it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scenarios.reading.row_files import TraceError
from scenarios.text.formatting import choice, nearest, shortened
from scenarios.traffic.recordings import TraceColumns

ROLES = ("time", "prompt", "output")
"""What every trace must have."""

HASHES = "hash_ids"


@dataclass(frozen=True)
class TraceForm:
    """The form of a public trace.

    Parameters
    ----------
    source
        Who publishes such traces.
    time, prompt, output
        Columns of the arrival, and of the tokens of prompt and answer.
    unit
        Unit of the arrival: s, ms or date.
    marks
        Columns by which it is told from a form with the same columns.
    hash_tokens
        Tokens of a block of which `HASHES` has one hash; 0: it has none.
    """

    source: str
    time: str
    prompt: str
    output: str
    unit: str
    marks: tuple[str, ...] = ()
    hash_tokens: int = 0

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a file of this form has."""
        return self.time, self.prompt, self.output, *self.marks


FORMS = (
    TraceForm("Azure", "TIMESTAMP", "ContextTokens", "GeneratedTokens", "date"),
    TraceForm("BurstGPT", "Timestamp", "Request tokens", "Response tokens", "s"),
    TraceForm(
        "Qwen-Bailian", "timestamp", "input_length", "output_length", "s", ("chat_id", "parent_chat_id"), 16
    ),
    TraceForm("Mooncake", "timestamp", "input_length", "output_length", "ms", hash_tokens=512),
)
"""Azure/AzurePublicDataset; HPMLL/BurstGPT; alibaba-edu/qwen-bailian-usagetraces-anon (its README: seconds,
blocks of 16 tokens); kvcache-ai/Mooncake, FAST25-release (its README: milliseconds, blocks of 512 tokens).
The first that fits counts."""

NAMES = {
    "time": (
        "time",
        "timestamp",
        "ts",
        "datetime",
        "arrival",
        "arrived_at",
        "arrival_time",
        "arrival_timestamp",
        "request_time",
        "created_at",
    ),
    "prompt": (
        "prompt_tokens",
        "input_tokens",
        "context_tokens",
        "request_tokens",
        "num_prompt_tokens",
        "num_input_tokens",
        "num_prefill_tokens",
        "prompt_length",
        "input_length",
        "prompt_len",
        "input_len",
    ),
    "output": (
        "output_tokens",
        "completion_tokens",
        "generated_tokens",
        "response_tokens",
        "num_output_tokens",
        "num_generated_tokens",
        "num_generation_tokens",
        "num_decode_tokens",
        "output_length",
        "response_length",
        "output_len",
    ),
    "adapter": ("adapter", "adapter_name", "adapter_id", "lora", "lora_name", "lora_id", "lora_adapter"),
}
"""Names that say what a column holds, whatever their case and separators; a time may end in its unit."""

_UNIT = re.compile(r"(.+)[_ ](s|ms|us|ns)", re.IGNORECASE)


@dataclass(frozen=True)
class TakenColumns:
    """Which columns of a file are taken.

    Parameters
    ----------
    time, prompt, output
        Columns of the arrival, and of the tokens of prompt and answer.
    adapter
        Column of the adapters' names; None: the file has none.
    guessed
        Whether that column may be of models that are no adapters.
    unit
        Unit of the arrival; None: the values must tell.
    hash_tokens
        Tokens of a block of which the column `HASHES` has one hash; 0: it has none.
    """

    time: str
    prompt: str
    output: str
    adapter: str | None
    guessed: bool
    unit: str | None
    hash_tokens: int

    @property
    def columns(self) -> tuple[str, ...]:
        """All that are read."""
        named = () if self.adapter is None else (self.adapter,)
        return self.time, self.prompt, self.output, *named, *((HASHES,) if self.hash_tokens else ())


def take_columns(path: Path, columns: Sequence[str], stated: TraceColumns, unit: str | None) -> TakenColumns:
    """Tell which columns hold what: what is stated, else the public form, else what names say.

    Parameters
    ----------
    path
        The file, for messages.
    columns
        The columns that it has.
    stated, unit
        What the scenario says of them.

    Raises
    ------
    TraceError
        If a column is missing, or two may be meant.
    """
    form = form_of(columns)
    found = {role: _stated(path, columns, role, getattr(stated, role)) for role in ROLES}
    found = {
        role: name or (getattr(form, role, None)) or _by_name(path, columns, role)
        for role, name in found.items()
    }
    missing = [role for role in ROLES if found[role] is None]
    if missing:
        raise TraceError(_missing(path, columns, missing))
    time = str(found["time"])
    if unit is None and form is not None and time == form.time:
        unit = form.unit
    adapter, guessed = _adapter(path, columns, stated, known=form is not None)
    hashed = form is not None and found["prompt"] == form.prompt and HASHES in columns
    return TakenColumns(
        time,
        str(found["prompt"]),
        str(found["output"]),
        adapter,
        guessed,
        unit or unit_of(time),
        form.hash_tokens if form is not None and hashed else 0,
    )


def form_of(columns: Sequence[str]) -> TraceForm | None:
    """The public form that a file with these columns has; None: none that is known."""
    return next((one for one in FORMS if set(one.columns) <= set(columns)), None)


def named(columns: Sequence[str], role: str) -> list[str]:
    """Those columns whose names say that they hold a role: time, prompt, output or adapter."""
    known = [_plain(name, "") for name in NAMES[role]]
    return [name for name in columns if _plain(name, role) in known]


def _stated(path: Path, columns: Sequence[str], role: str, name: str | None) -> str | None:
    if name is not None and name not in columns:
        close = nearest(name, columns)
        remedy = f'did you mean "{close}"?' if close else f"it has {choice(list(columns), 'and')}"
        raise TraceError(f'{path}: has no column "{name}", which columns.{role} names; {remedy}')
    return name


def _by_name(path: Path, columns: Sequence[str], role: str) -> str | None:
    fitting = named(columns, role)
    if len(fitting) > 1:
        raise TraceError(
            f"{path}: may have its {role} in {choice(fitting)}; say which: columns: {{{role}: {fitting[0]}}}"
        )
    return fitting[0] if fitting else None


def _adapter(
    path: Path, columns: Sequence[str], stated: TraceColumns, *, known: bool
) -> tuple[str | None, bool]:
    """Column of the adapters, and whether it is guessed; a public form names none but by a column added.

    Where vLLM's API is logged, the model of a request is the adapter; elsewhere it is the base model.
    """
    if stated.adapter is False:
        return None, False
    if name := _stated(path, columns, "adapter", stated.adapter) or _by_name(path, columns, "adapter"):
        return name, False
    models = [name for name in columns if _plain(name, "") in ("model", "modelname")]
    return (models[0], True) if len(models) == 1 and not known else (None, False)


def _plain(name: str, role: str) -> str:
    ending = _UNIT.fullmatch(name) if role == "time" else None
    return re.sub(r"[\W_]+", "", name if ending is None else ending[1]).lower()


def unit_of(time: str) -> str | None:
    """Unit in which a column's name ends; None: in none."""
    ending = _UNIT.fullmatch(time)
    return None if ending is None else ending[2].lower()


def _missing(path: Path, columns: Sequence[str], roles: Sequence[str]) -> str:
    shown = ", ".join(map(shortened, columns[:20])) + (" ..." if len(columns) > 20 else "")
    words = ", ".join(f"{role}: NAME" for role in roles)
    return (
        f"{path}: has no column that is known for its {choice(list(roles), 'and')}, but {shown}; "
        f"say which it is: columns: {{{words}}}"
    )
