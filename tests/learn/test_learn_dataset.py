from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import learn
from learn import Dataset, DatasetError
from learn.storage import dataset as dataset_module
from learn.storage.dataset import COLUMNS


@pytest.fixture(scope="module")
def few(dataset: Dataset) -> Dataset:
    """The first runs, so that files are short."""
    return dataset.where(np.arange(len(dataset)) < 5)


def test_a_dataset_survives_its_file_exactly(dataset: Dataset, tmp_path: Path) -> None:
    dataset.save(tmp_path / "d.csv")
    again = learn.read_dataset(tmp_path / "d.csv")
    pd.testing.assert_frame_equal(dataset.table, again.table, check_exact=True)
    assert again.metadata == dataset.metadata


@pytest.mark.parametrize("metadata", [[1, 2], "text", 3, None])
def test_metadata_that_are_no_mapping_are_refused(metadata: object, few: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    body = few.text().partition("\n")[2]
    path.write_text(f"# {json.dumps(metadata)}\n{body}", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"d.csv: not a dataset .*not a mapping.*sample it again"):
        learn.read_dataset(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rate", -1.0),
        ("rate", np.nan),
        ("total_rate", 0.0),
        ("kv_cache_tokens", -5.0),
        ("served_share", -0.5),
        ("margin", np.nan),
        ("margin", -np.inf),
        ("itl_ms", np.inf),
        ("composition", np.nan),
        ("starved", 2.0),
    ],
)
def test_a_value_that_no_run_has_is_refused_with_its_row(
    name: str, value: float, few: Dataset, tmp_path: Path
) -> None:
    path, table = tmp_path / "d.csv", few.table.astype(np.float64)
    table.loc[3, name] = value
    replace(few, table=table).save(path)
    with pytest.raises(DatasetError, match=rf"d.csv: .*row 4 has {name} {value:g}, .*sample it again"):
        learn.read_dataset(path)


def test_latencies_may_be_missing(few: Dataset, tmp_path: Path) -> None:
    path, table = tmp_path / "d.csv", few.table.copy()
    table.loc[2, ["itl_ms", "ttft_ms"]] = np.nan
    replace(few, table=table).save(path)
    assert np.isnan(learn.read_dataset(path).target("itl_ms")[2])


def test_a_file_that_lacks_a_column_is_refused(
    few: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "d.csv"
    with monkeypatch.context() as other_version:
        other_version.setattr(dataset_module, "COLUMNS", [c for c in COLUMNS if c != "rate_std"])
        few.save(path)
    with pytest.raises(
        DatasetError, match=r"d.csv: the dataset lacks the columns rate_std; sample it again$"
    ):
        learn.read_dataset(path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:-120], "holds 4 of the 5 runs"),
        (lambda text: text[: text[:-1].rindex("\n") + 1], "holds 4 of the 5 runs"),
        (lambda text: text.replace(",rate_std,", ",other,"), "its content is not what was written"),
        (lambda text: text.replace('"seed": 3', '"seed": 4'), "its content is not what was written"),
        (lambda text: text[:-2] + "3\n", "its content is not what was written"),
        (lambda _: "# " + "[" * 100_000 + "\n", "nested too deep"),
    ],
    ids=["half a row", "a row", "a column's name", "metadata", "a value", "nesting"],
)
def test_a_file_that_is_not_what_was_written_is_refused(
    damage: Callable[[str], str], message: str, few: Dataset, tmp_path: Path
) -> None:
    path = tmp_path / "d.csv"
    path.write_text(damage(few.text()), encoding="utf-8")
    with pytest.raises(DatasetError, match=rf"d.csv: not a dataset .*{message}.*; sample it again") as caught:
        learn.read_dataset(path)
    assert "\n" not in str(caught.value)
