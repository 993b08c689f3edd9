"""Half of a surrogate pair, which JSON may write and no file can hold, is refused wherever it stands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import scenarios
from scenarios.importers.facts import ImportSourceError

HALF = "x\ud800"
MODULE = {"name": HALF, "path": "/a"}
SERIES = {"__name__": "litellm_proxy_total_requests_metric_total", "requested_model": HALF}
REQUESTS = [
    {"time_s": k, "adapter": HALF, "prompt_tokens": 5, "output_tokens": 3, "at": 1e9 + k} for k in range(200)
]
SPECULATIVE = {"method": "ngram", "model": HALF, "num_speculative_tokens": 2}

SOURCES = {
    "models.json": json.dumps({"object": "list", "data": [{"id": HALF, "object": "model", "parent": "m"}]}),
    "requests.jsonl": "\n".join(map(json.dumps, REQUESTS)),
    "modules.sh": f"vllm serve m --lora-modules '{json.dumps(MODULE)}'\n",
    "settings.sh": f"vllm serve m --max-loras 2 --speculative-config '{json.dumps(SPECULATIVE)}'\n",
    "query.json": json.dumps(
        {"data": {"resultType": "matrix", "result": [{"metric": SERIES, "values": [[0, "1"], [60, "100"]]}]}}
    ),
}


@pytest.mark.parametrize("name", SOURCES)
def test_half_of_a_character_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(SOURCES[name], encoding="utf-8")
    with pytest.raises(ImportSourceError, match="half of a surrogate pair") as caught:
        scenarios.import_fleet(path, trace_file=tmp_path / "trace.csv")
    assert str(path) in str(caught.value)
    str(caught.value).encode()  # a terminal can show it
    with pytest.raises(ImportSourceError):
        scenarios.import_fleet(tmp_path)
