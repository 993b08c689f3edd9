"""Every kind of file that `import` reads, the files beside them, and models' files."""

from __future__ import annotations

import json
from pathlib import Path

from scenarios import import_fleet
from tests.fuzzing.fuzzed import Fuzzed
from tests.fuzzing.judgement import commands, reads
from tests.fuzzing.mutations import Form
from tests.scenarios.importers.test_adapter_folders import CONFIG, LAYER, weights
from tests.scenarios.importers.test_damaged_manifests import TEXTS
from tests.scenarios.importers.test_damaged_server_sources import FILES
from tests.scenarios.importers.test_metrics import ENGINE, GATEWAY, matrix
from tests.scenarios.importers.test_request_logs import HEADER, rows, spend
from tests.scenarios.importers.test_spans import document, span

FORMS: dict[str, Form] = {
    "file of Docker Compose": "yaml",
    "configuration of Ray Serve LLM": "yaml",
    "answer of /v1/models": "json",
}


def _imported(path: Path) -> None:
    import_fleet([path], ["devices=H100-64GB"])


def _log(n: int, step_s: int = 60) -> bytes:
    counts = [str(10 * k) for k in range(n)]
    return matrix(
        *(
            (
                {"__name__": "vllm:request_success_total", "model_name": name, "finished_reason": "stop"},
                [(1_790_000_000.0 + step_s * k, count) for k, count in enumerate(counts)],
            )
            for name in ("base", "fr")
        )
    ).encode()


def kinds() -> list[Fuzzed]:
    """All of them."""
    read = reads(_imported)
    spans = "\n".join(json.dumps(document(span(k))) for k in range(8)).encode()
    litellm = "\n".join(
        json.dumps(spend(startTime=f"2026-11-02T14:00:{k:02}.000Z", request_id=f"r{k}")) for k in range(8)
    ).encode()
    config = json.dumps({**CONFIG, "rank_pattern": {"q_proj": 32}}).encode()
    header = weights({f"{LAYER}.lora_A.weight": [16, 4096], f"{LAYER}.lora_B.weight": [4096, 16]})
    env = FILES["file of Docker Compose"].replace("'4'", '"${SLOTS:-4}"').encode()
    return [
        *(
            Fuzzed(name, "source", text.encode(), FORMS.get(name, "text"), read)
            for name, text in FILES.items()
        ),
        *(
            Fuzzed(f"manifests, {name}", "source.yaml", text.encode(), "yaml", read)
            for name, text in TEXTS.items()
        ),
        Fuzzed("request log", "requests.csv", (HEADER + rows(12)).encode(), "csv", read),
        Fuzzed(
            "request log, packed", "requests.csv.gz", (HEADER + rows(12)).encode(), "csv", read, packed=True
        ),
        Fuzzed("request log of LiteLLM", "spend.jsonl", litellm, "json", read),
        Fuzzed("spans", "spans.json", spans, "json", read),
        Fuzzed(
            "snapshot of an engine's metrics", "m.txt", ENGINE.format(200, 100, 20_000).encode(), "text", read
        ),
        Fuzzed("snapshot of a gateway's metrics", "m.txt", GATEWAY.format("fr", 100).encode(), "text", read),
        Fuzzed("range query", "range.json", _log(5), "json", read),
        Fuzzed(
            "adapter_config.json",
            "fr/adapter_config.json",
            config,
            "json",
            read,
            whole=True,
            beside={"fr/adapter_model.safetensors": header},
        ),
        Fuzzed(
            "adapter's weights",
            "fr/adapter_model.safetensors",
            header,
            "bytes",
            read,
            whole=True,
            beside={"fr/adapter_config.json": config},
        ),
        Fuzzed(
            "variables beside Compose",
            ".env",
            b"SLOTS=8\nIMAGE='vllm/vllm-openai:v0.10.0'\n",
            "text",
            read,
            whole=True,
            beside={"compose.yaml": env},
        ),
        Fuzzed(
            "import, the command",
            "start.sh",
            FILES["shell script that starts servers"].encode(),
            "text",
            commands(lambda path: ("import", str(path), "--quiet", "--out", str(path) + ".yaml")),
            slow=8,
        ),
    ]
