"""What the twin reads: profiles, schedules, traces, measurements, logs, models, metrics."""

from __future__ import annotations

import gzip
import io
import json
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import twin
from scenarios import LorapackError, read_startup_log
from tests.fuzzing.fuzzed import Fuzzed
from tests.fuzzing.judgement import Reading, reads
from tests.fuzzing.twin_files import (
    MODEL,
    MODEL_CONFIG,
    OUTCOME,
    REQUESTS,
    RUNS,
    STEPS,
    STEPS_TABLE,
    SUBJECT,
    TABLES,
    bench_result,
    table,
    with_file,
)
from tests.optimizer.checking.plans import scenario, texts
from twin.architectures import read_architecture
from twin.calibration.measurements import read_tables
from twin.calibration.params import CalibrationParams, MatchingParams
from twin.live import read_steps
from twin.measured.measurement import read_measurement
from twin.measuring.folder import Measured, MeasurementFolder
from twin.server_metrics.series import watched_files
from twin.workload.servegen.clients import read_servegen, read_servegen_folder
from twin.workload.trace_files import read_trace

DATA = Path(__file__).parents[1] / "twin" / "data"
LOGS = Path(__file__).parents[1] / "scenarios" / "data" / "startup_logs"


def _schedule() -> dict[str, Any]:
    path = sorted((DATA / "vllm_schedules").glob("*/*.json.gz"))[0]
    document: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    document = {**document, "requests": document["requests"][:5]}
    del document["result"]
    return twin.replay(document)


def _profile() -> bytes:
    return twin.find_profile(MODEL, "H100-64GB").model_dump_json(indent=1).encode()


def _run_profile(path: Path) -> None:
    """Half a minute of traffic on the engine of a profile."""
    profile = twin.read_profile(path)
    fleet = scenario()
    load, workload = twin.GPULoad.from_classes(fleet.classes), fleet.workload
    with suppress(LorapackError):  # what does not start, or serves nothing
        twin.simulate(load, workload, profile.measured, profile, max_loras=4, max_lora_rank=16, duration_s=30)


def _replays(path: Path) -> None:
    with tempfile.TemporaryDirectory() as out:
        twin.replay_files([path], out)


def _measured(path: Path) -> None:
    read_measurement(path)
    read_tables(path)


def _calibrates(path: Path) -> None:
    """A whole calibration, as short as it may be."""
    matching = MatchingParams(min_runs=1, cold_rounds=1, max_trials=2, max_mismatch=5.0)
    twin.calibrate(path, MODEL, cross_validate=False, params=CalibrationParams(matching=matching))


def _goes_on(path: Path) -> None:
    """A measurement that goes on where it was broken off."""
    measured = Measured.model_validate(SUBJECT)
    MeasurementFolder.begun(path, measured).write_tables()


def _of_folder(name: str, read: Reading, slow: int = 1) -> list[Fuzzed]:
    return [
        Fuzzed(
            f"{name}, {file}",
            file,
            content,
            "csv" if file.endswith("csv") else "yaml",
            read,
            whole=True,
            beside={other: text for other, text in TABLES.items() if other != file},
            slow=slow,
        )
        for file, content in TABLES.items()
    ]


def _traces() -> list[Fuzzed]:
    rows = [("TIMESTAMP", "ContextTokens", "GeneratedTokens", "Model")]
    rows += [(f"2024-05-10 00:00:{k:02}.5+00:00", 2162 + k, 5 + k, "ab"[k % 2]) for k in range(6)]
    plain = [
        ("arrived_at", "num_prefill_tokens", "num_decode_tokens"),
        (0.1, 20, 5),
        (0.7, 30, 6),
        (3, 20, 7),
    ]
    lines = b"".join(
        json.dumps(
            {"timestamp": 300 * k, "input_length": 40 + k, "output_length": 5, "hash_ids": [1, 2]}
        ).encode()
        + b"\n"
        for k in range(5)
    )
    listed = json.dumps(
        [{"time": k + 0.5, "prompt_tokens": 5, "output_tokens": 6, "adapter": "a"} for k in range(4)]
    )
    day = table(
        ("client", "window_start_s", "rate_req_s", "cv", "pattern", "param1", "param2"),
        (7, 0, 1.0, 2.0, "Gamma", 0, 0),
        (7, 1200, 3.0, 1.0, "Weibull", 0, 0),
        (9, 600, 20.0, 1.5, "Weibull", 0, 0),
    )
    clients = table(("client", "mean_prompt_tokens", "mean_output_tokens"), (7, 100, 10), (9, 200, 20))
    chunk = b"86400,2.0,1.0,Gamma,1.0,0.5\n87000,0.0,0.0,,0.0,0.0\n87600,1.0,2.0,Weibull,0.5,1.0\n"
    dataset = json.dumps(
        {
            "86400": {"input_tokens": "{100: 0.75, 300: 0.25}", "output_tokens": "{0: 1.0}"},
            "87600": {"input_tokens": "{50: 1.0}", "output_tokens": "{7: 0.5, 9: 0.5}"},
        }
    ).encode()
    whole = {"chunk-3-trace.csv": chunk, "chunk-3-dataset.json": dataset}
    return [
        Fuzzed("trace of dates", "trace.csv", table(*rows), "csv", reads(read_trace)),
        Fuzzed("trace of seconds", "trace.csv.gz", table(*plain), "csv", reads(read_trace), packed=True),
        Fuzzed("trace of lines", "trace.jsonl", lines, "json", reads(read_trace)),
        Fuzzed("trace of a list", "trace.json", listed.encode(), "json", reads(read_trace)),
        *_parquet(),
        Fuzzed(
            "ServeGen's day",
            "day.csv",
            day,
            "csv",
            reads(lambda path: read_servegen(path, path.with_name("clients.csv"))),
            beside={"clients.csv": clients},
        ),
        Fuzzed(
            "ServeGen's clients",
            "clients.csv",
            clients,
            "csv",
            reads(lambda path: read_servegen(path.with_name("day.csv"), path)),
            beside={"day.csv": day},
        ),
        Fuzzed(
            "ServeGen's windows",
            "chunk-3-trace.csv",
            chunk,
            "csv",
            reads(read_servegen_folder),
            whole=True,
            beside=whole,
        ),
        Fuzzed(
            "ServeGen's lengths",
            "chunk-3-dataset.json",
            dataset,
            "json",
            reads(read_servegen_folder),
            whole=True,
            beside=whole,
        ),
    ]


def _parquet() -> list[Fuzzed]:
    """A trace in Parquet, where that can be written."""
    if find_spec("pyarrow") is None:
        return []
    import pyarrow as pa
    from pyarrow import parquet

    columns = {"time": [0.1, 0.7, 3.0], "prompt_tokens": [20, 30, 20], "output_tokens": [5, 6, 7]}
    file = io.BytesIO()
    parquet.write_table(pa.table(columns), file)
    return [Fuzzed("trace in Parquet", "trace.parquet", file.getvalue(), "bytes", reads(read_trace))]


def _bench_fidelity(path: Path) -> None:
    engine = twin.BenchEngine(model=MODEL, max_loras=4, max_lora_rank=16, adapters=2, ranks=(8,))
    twin.bench_fidelity([path], engine, device="H100-64GB")


def kinds() -> list[Fuzzed]:
    """All of them."""
    schedule = json.dumps(_schedule()).encode()
    measured = {
        "subject.json": json.dumps(SUBJECT).encode(),
        "stages/run_1.json": json.dumps(OUTCOME).encode(),
        "requests/run_1.csv.gz": gzip.compress(REQUESTS),
        "steps/run_1.csv": STEPS_TABLE,
    }
    log = (LOGS / "v09_qwen3_8b_a100.log").read_bytes()
    return [
        Fuzzed("profile", "profile.json", _profile(), "json", reads(_run_profile)),
        Fuzzed("schedule", "schedule.json", schedule, "json", reads(_replays)),
        Fuzzed("schedule, packed", "packed.json.gz", schedule, "json", reads(_replays), packed=True),
        *_traces(),
        *_of_folder("calibration folder", reads(_measured)),
        *_of_folder("calibration", reads(_calibrates), slow=40),
        Fuzzed("fidelity table", "runs.csv", RUNS, "csv", reads(twin.fidelity), slow=4),
        Fuzzed(
            "sent requests",
            "requests/a.csv.gz",
            REQUESTS,
            "csv",
            reads(twin.fidelity),
            packed=True,
            whole=True,
            beside={"serving_runs.csv": with_file(RUNS)},
            slow=4,
        ),
        Fuzzed(
            "result of vllm bench serve", "bench.json", bench_result(), "json", reads(_bench_fidelity), slow=2
        ),
        Fuzzed("start-up log", "server.log", log, "text", reads(read_startup_log)),
        Fuzzed("start-up log, packed", "server.log.gz", log, "text", reads(read_startup_log), packed=True),
        *(
            Fuzzed(
                f"folder of measure, {name}",
                name,
                gzip.decompress(content) if name.endswith("gz") else content,
                "csv" if "csv" in name else "json",
                reads(_goes_on),
                whole=True,
                packed=name.endswith("gz"),
                beside={other: text for other, text in measured.items() if other != name},
            )
            for name, content in measured.items()
        ),
        Fuzzed("log of steps", "steps.log", STEPS.encode(), "text", reads(read_steps)),
        Fuzzed(
            "metrics",
            "metrics.txt",
            "".join(texts(0)).encode(),
            "text",
            reads(lambda path: watched_files([path])),
        ),
        Fuzzed(
            "config.json",
            "model/config.json",
            json.dumps(MODEL_CONFIG).encode(),
            "json",
            reads(read_architecture),
        ),
    ]
