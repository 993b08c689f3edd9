"""What learning reads: regions, surrogates, datasets, rounds that the cache keeps."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

import numpy as np

import learn
from learn.region import Regions, read_regions, regions_of
from learn.storage.dataset import COLUMNS, Dataset, read_dataset, table_of
from learn.storage.rounds import Rounds
from learn.surrogate import read_surrogate
from scenarios import from_mapping
from tests.fuzzing.fuzzed import Fuzzed
from tests.fuzzing.judgement import reads
from tests.learn.conftest import SMALL
from twin import find_profile

SHIPPED = Path(learn.__file__).parent / "regions"


@cache
def _regions() -> Regions:
    """Shipped regions, of two options."""
    path = sorted(SHIPPED.glob("*.json"))[0]
    whole = regions_of(path.read_text(encoding="utf-8"))
    return whole.restricted(list({key[:2]: None for key in whole.inner.keys})[:2])


@cache
def _dataset() -> Dataset:
    """A dozen runs, of which the later ones starve."""
    random = np.random.default_rng(0)
    rows = []
    for k in range(12):
        row = {name: float(random.random()) + 0.5 for name in COLUMNS}
        row |= {
            "composition": k // 3,
            "run": k % 3,
            "max_loras": 8,
            "max_lora_rank": 16,
            "kv_cache_tokens": 9000,
        }
        rows.append(row | {"starved": k % 2, "margin": 0.5 - k % 2})
    scenario = from_mapping(SMALL)
    profile = find_profile(scenario.model, scenario.devices[0].name)
    space = learn.space_for(scenario, scenario.devices[0], profile)
    step = profile.step.model_dump(mode="json")
    return Dataset(table_of(rows), {"space": space.describe(), "plan": {"max_runs": 9}, "step": step})


def _sealed_regions(content: bytes) -> bytes:
    try:
        values = json.loads(content)
        values.pop("sha256", None)
        digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
        return json.dumps({"sha256": digest, **values}).encode()
    except (ValueError, AttributeError, RecursionError):
        return content


def _sealed_dataset(content: bytes) -> bytes:
    try:
        first, _, body = content.decode().partition("\n")
        head = json.loads(first[2:])
        text = f"{json.dumps(head['metadata'], sort_keys=True)}\n{body}"
        head |= {"runs": body.count("\n") - 1, "sha256": hashlib.sha256(text.encode()).hexdigest()}
        return f"# {json.dumps(head, sort_keys=True)}\n{body}".encode()
    except (ValueError, KeyError, TypeError, RecursionError):
        return content


def _kept(path: Path) -> None:
    """A round of a sampling that goes on: what is no such round is made again."""
    dataset = _dataset()
    Rounds(path, dataset.metadata, root=path).read(0, 0, 4)


def _kept_content() -> bytes:
    dataset = _dataset()
    return Dataset(dataset.table, {**dataset.metadata, "round": {"first": 0, "last": 3}}).text().encode()


def kinds() -> list[Fuzzed]:
    """All of them."""
    text = _dataset().text()
    recipe = {
        "format": _format(),
        "method": "tree",
        "seed": 0,
        "dataset": "s.csv",
        "rows": 12,
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "scikit_learn": _version(),
    }
    return [
        Fuzzed(
            "regions",
            "regions.json",
            _regions().to_json().encode(),
            "json",
            reads(read_regions),
            seal=_sealed_regions,
        ),
        Fuzzed(
            "surrogate",
            "s.json",
            json.dumps(recipe).encode(),
            "json",
            reads(read_surrogate),
            beside={"s.csv": text.encode()},
        ),
        Fuzzed("dataset", "s.csv", text.encode(), "csv", reads(read_dataset), seal=_sealed_dataset),
        Fuzzed(
            "cache entry",
            "round-0000.csv",
            _kept_content(),
            "csv",
            reads(_kept),
            whole=True,
            seal=_sealed_dataset,
        ),
    ]


def _format() -> int:
    from learn import surrogate

    return surrogate.FORMAT


def _version() -> str:
    import sklearn

    return str(sklearn.__version__)
