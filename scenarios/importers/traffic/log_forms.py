"""Which column of a request log holds what: forms that programs write, names, what a user says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scenarios.importers.source import Source
from scenarios.reading import trace_forms
from scenarios.reading.row_files import RowFile
from scenarios.text.formatting import choice, shortened

FIELDS = ("time", "adapter", "prompt_tokens", "output_tokens", "end", "status", "session")
"""What a log may say of a request, by the names that a user maps columns to."""

NEEDED = FIELDS[:4]

STATUS_NAMES = ("status", "status_code", "response_code", "http_status")
"""Columns that say by their names how a request ended."""

_ROLES = {"time": "time", "adapter": "adapter", "prompt_tokens": "prompt", "output_tokens": "output"}


@dataclass(frozen=True)
class LogForm:
    """The form of a log that a program writes.

    Parameters
    ----------
    source
        The program.
    columns
        Column by field of `FIELDS`.
    marks
        Columns by which it is known, beside those.
    fallback
        Column of the name where that of ``adapter`` is empty.
    cached
        Column that says that a request was answered from a cache.
    unit
        Unit of the time; None: as names and values tell.
    """

    source: str
    columns: Mapping[str, str]
    marks: tuple[str, ...] = ()
    fallback: str | None = None
    cached: str | None = None
    unit: str | None = None

    def known_in(self, columns: Sequence[str]) -> bool:
        """Whether a file with these columns has this form."""
        needed = [self.columns[field] for field in NEEDED]
        return {*needed, *self.marks} <= set(columns)


LOG_FORMS = (
    LogForm(
        "LiteLLM spend logs",
        {
            "time": "startTime",
            "end": "endTime",
            "adapter": "model_group",
            "prompt_tokens": "prompt_tokens",
            "output_tokens": "completion_tokens",
            "status": "status",
            "session": "session_id",
        },
        fallback="model",
        cached="cache_hit",
        unit="date",
    ),
    LogForm(
        "Envoy AI Gateway access log",
        {
            "time": "start_time",
            "adapter": "gen_ai.request.model",
            "prompt_tokens": "gen_ai.usage.input_tokens",
            "output_tokens": "gen_ai.usage.output_tokens",
            "status": "response_code",
            "session": "session.id",
        },
        unit="date",
    ),
    LogForm(
        "Envoy AI Gateway access log",
        {
            "time": "start_time",
            "adapter": "genai_model_name",
            "prompt_tokens": "genai_tokens_input",
            "output_tokens": "genai_tokens_output",
            "status": "response_code",
        },
        unit="date",
    ),
    LogForm(
        "requests of a load generator",
        {
            "time": "arrival",
            "adapter": "adapter",
            "prompt_tokens": "prompt",
            "output_tokens": "output",
            "status": "err",
        },
        marks=("ttft", "chunks"),
        unit="s",
    ),
)
"""LiteLLM_SpendLogs: BerriAI/litellm, litellm-proxy-extras/litellm_proxy_extras/schema.prisma @0078d8a4
(model_group is the name that clients ask for; cache_hit is a text). Envoy AI Gateway: envoyproxy/ai-gateway,
site/docs/capabilities/observability/accesslogs.md @b20856a7 (genai_*), and the keys gen_ai.* since its
pull request 1797 of 2026-01; both are what its examples write, a gateway may name them otherwise."""


@dataclass(frozen=True)
class LogColumns:
    """Which columns of a log are taken.

    Parameters
    ----------
    source
        What the log is, in words.
    columns
        Column, or path of keys, by field of `FIELDS`.
    unit
        Unit of the time; None: the values tell.
    fallback, cached
        As of `LogForm`.
    """

    source: str
    columns: Mapping[str, str]
    unit: str | None
    fallback: str | None = None
    cached: str | None = None

    @property
    def all(self) -> tuple[str, ...]:
        """All columns that are read."""
        further = [name for name in (self.fallback, self.cached) if name is not None]
        return tuple(dict.fromkeys([*self.columns.values(), *further]))


def known_form(columns: Sequence[str]) -> LogForm | None:
    """The form of a log with these columns; None: none that is known."""
    return next((form for form in LOG_FORMS if form.known_in(columns)), None)


def has_all_by_name(columns: Sequence[str]) -> bool:
    """Whether columns say by their names alone that each is a request: time, adapter and both lengths."""
    return known_form(columns) is not None or all(_by_name(columns, field) for field in NEEDED)


def take_columns(source: Source, file: RowFile, stated: Mapping[str, str]) -> LogColumns:
    """Tell which columns hold what: what a user says, else the known form, else what names say.

    Of several logs a column that a user says may be of another: one that a file of a known form lacks is
    that of the form there.

    Parameters
    ----------
    stated
        Column, or path of keys, by field: `ImportOptions.columns`.

    Raises
    ------
    ImportSourceError
        If a field is none, a column is missing, or two may be meant.
    """
    form = known_form(file.columns)
    if form is not None:
        stated = {f: c for f, c in stated.items() if f not in form.columns or _may_have(file, c)}
    _check_stated(source, file, stated)
    found = {} if form is None else {f: c for f, c in form.columns.items() if f in NEEDED or has(file, c)}
    found |= stated
    found |= _by_names(source, file, [field for field in NEEDED if field not in found])
    if form is None and "status" not in found:
        stating = [name for name in file.columns if name.lower() in STATUS_NAMES]
        found |= {"status": stating[0]} if stating else {}
    unit = form.unit if form is not None and found["time"] == form.columns["time"] else None
    public = trace_forms.form_of(file.columns)
    if unit is None and public is not None and found["time"] == public.time:
        unit = public.unit
    own = form is not None and "adapter" not in stated
    return LogColumns(
        form.source if form is not None else "request log",
        found,
        unit or trace_forms.unit_of(found["time"].rpartition(".")[2]),
        form.fallback if form is not None and own and has(file, str(form.fallback)) else None,
        form.cached if form is not None and has(file, str(form.cached)) else None,
    )


def has(file: RowFile, column: str) -> bool:
    """Whether a file has a column; of JSON any may turn up in a later object."""
    return column in file.columns or (file.kind == "json" and "." in column)


def _check_stated(source: Source, file: RowFile, stated: Mapping[str, str]) -> None:
    unknown = next((field for field in stated if field not in FIELDS), None)
    if unknown is not None:
        raise source.error(
            f'has no field "{shortened(unknown)}"', f"map one of {choice(FIELDS)}", place="--map"
        )
    lacking = {f: c for f, c in stated.items() if file.kind != "json" and c not in file.columns}
    if lacking:
        columns = choice([f'"{shortened(column)}"' for column in lacking.values()])
        raise source.error(
            f"has no column {columns}, but {_listed(file.columns)}",
            f"say which: {_mapped(list(lacking))}",
        )


def _by_name(columns: Sequence[str], field: str) -> list[str]:
    form = trace_forms.form_of(columns)
    role = _ROLES[field]
    if form is not None and role in ("time", "prompt", "output"):
        return [str(getattr(form, role))]
    fitting = trace_forms.named(columns, role)
    if not fitting and role == "adapter":
        # Where vLLM's API is logged the model of a request is the adapter, or the base model.
        fitting = [name for name in columns if name.lower() in ("model", "model_name")]
    return fitting


def _by_names(source: Source, file: RowFile, fields: Sequence[str]) -> dict[str, str]:
    """The column of each field by its name.

    Raises
    ------
    ImportSourceError
        With all fields for which no column is known, or else with all for which several are.
    """
    fitting = {field: _by_name(file.columns, field) for field in fields}
    lacking = [field for field, columns in fitting.items() if not columns]
    several = {field: columns for field, columns in fitting.items() if len(columns) > 1}
    if lacking:
        raise source.error(
            f"has no column that is known for {choice(lacking)}, but {_listed(file.columns)}",
            f"say which it is: {_mapped(lacking)}",
        )
    if several:
        may = "; ".join(f"{field} in {choice(columns)}" for field, columns in several.items())
        raise source.error(f"may have {may}", f"say which: {_mapped({f: c[0] for f, c in several.items()})}")
    return {field: columns[0] for field, columns in fitting.items()}


def _mapped(fields: Sequence[str] | Mapping[str, str]) -> str:
    """The options that map some fields, with an example of a column where one is known."""
    columns = fields if isinstance(fields, Mapping) else dict.fromkeys(fields, "COLUMN")
    return " ".join(f"--map {field}={shortened(column)}" for field, column in columns.items())


def _may_have(file: RowFile, column: str) -> bool:
    """Whether a file has a column, or of JSON the first key of a path."""
    return column in file.columns or (file.kind == "json" and column.partition(".")[0] in file.columns)


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(map(shortened, columns[:20])) + (" ..." if len(columns) > 20 else "")
