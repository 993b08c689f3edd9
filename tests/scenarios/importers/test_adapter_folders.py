"""Adapters are found where they lie, with the ranks that are loaded, and damaged ones are refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from scenarios.importers.adapters import KINDS
from scenarios.importers.facts import AdapterFacts, ImportOptions, ImportSourceError, SourceFacts
from scenarios.importers.recognition import kind_of, read_sources
from scenarios.importers.source import Source

CONFIG = {
    "peft_type": "LORA",
    "r": 16,
    "lora_alpha": 32,
    "target_modules": ["q_proj", "v_proj"],
    "base_model_name_or_path": "meta-llama/Llama-3.1-8B-Instruct",
    "bias": "none",
    "modules_to_save": None,
    "rank_pattern": {},
}
LAYER = "base_model.model.model.layers.0.self_attn.q_proj"


def save(
    folder: Path, config: object = None, shapes: dict[str, list[int]] | None = None, **more: object
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    values = {**CONFIG, **more} if config is None else config
    if values != "":
        text = values if isinstance(values, str) else json.dumps(values)
        (folder / "adapter_config.json").write_text(text, encoding="utf-8")
    if shapes is not None:
        (folder / "adapter_model.safetensors").write_bytes(weights(shapes))
    return folder


def weights(shapes: dict[str, list[int]]) -> bytes:
    header = {
        name: {"dtype": "BF16", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()
    }
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    return len(text).to_bytes(8, "little") + text


def read(path: Path) -> SourceFacts:
    source = Source(path)
    kind = kind_of(source)
    assert kind is not None
    assert kind in KINDS
    return kind.read(source, ImportOptions())


def only(path: Path) -> AdapterFacts:
    (adapter,) = read(path).adapters
    return adapter


def test_a_folder_that_is_an_adapter_is_named_after_itself(tmp_path: Path) -> None:
    adapter = only(save(tmp_path / "fr-legal", shapes={f"{LAYER}.lora_A.weight": [16, 4096]}))
    assert adapter.served_name == "fr-legal"
    assert adapter.rank is not None
    assert (adapter.rank.value, adapter.rank.origin) == (16, "fr-legal/adapter_config.json, r")
    assert adapter.source is not None
    assert adapter.source.value == str(tmp_path / "fr-legal")
    assert adapter.base_model is not None
    assert adapter.base_model.value == "meta-llama/Llama-3.1-8B-Instruct"
    assert adapter.notes == ()


def test_the_file_of_an_adapter_stands_for_its_folder(tmp_path: Path) -> None:
    folder = save(tmp_path / "fr", shapes={})
    assert only(folder / "adapter_config.json") == only(folder / "adapter_model.safetensors") == only(folder)


def test_folders_of_groups_give_names_as_the_resolver_has_them(tmp_path: Path) -> None:
    for name in ("team-a/fr", "team-a/de", "es", "a/b/c/d"):
        save(tmp_path / name)
    save(tmp_path / "1/2/3/4/too-deep")
    save(tmp_path / ".hidden/x")
    (tmp_path / "README.md").write_text("run `vllm serve x`", encoding="utf-8")
    assert [one.served_name for one in read(tmp_path).adapters] == ["a/b/c/d", "es", "team-a/de", "team-a/fr"]


def test_links_are_followed_and_circles_are_not(tmp_path: Path) -> None:
    save(tmp_path / "store" / "fr")
    served = tmp_path / "served"
    served.mkdir()
    (served / "french").symlink_to(tmp_path / "store" / "fr")
    (served / "around").symlink_to(served)
    (served / "self").symlink_to(served / "self")
    (served / "gone").symlink_to(tmp_path / "nothing")
    assert [one.served_name for one in read(served).adapters] == ["french"]


def test_a_cache_of_the_hub_gives_the_current_snapshot_under_its_name(tmp_path: Path) -> None:
    model = tmp_path / "models--acme--fr-legal"
    save(model / "snapshots" / "aaa", r=8)
    save(model / "snapshots" / "bbb", r=32)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("bbb\n", encoding="utf-8")
    (model / "blobs").mkdir()
    (model / "blobs" / "0f").write_text("vllm serve m --port 1", encoding="utf-8")
    save(tmp_path / "models--acme--many" / "snapshots" / "ccc" / "de")
    for path in (tmp_path, model):
        first = read(path).adapters[0]
        assert first.served_name == "acme/fr-legal"
        assert first.rank is not None
        assert first.rank.value == 32
    assert [one.served_name for one in read(tmp_path).adapters] == ["acme/fr-legal", "acme/many/de"]
    assert [facts.kind for facts in read_sources([tmp_path], ImportOptions())] == ["folder of PEFT adapters"]
    assert only(model / "snapshots" / "aaa").served_name == "acme/fr-legal"


def test_folders_of_links_that_exports_write_give_the_names_of_adapters(tmp_path: Path) -> None:
    save(tmp_path / "resolver/g0/fr")
    save(tmp_path / "resolver/g1/fr")
    save(tmp_path / "resolver/g1/de")
    assert [one.served_name for one in read(tmp_path).adapters] == ["fr", "de"]


def test_the_largest_rank_of_the_patterns_counts(tmp_path: Path) -> None:
    adapter = only(
        save(tmp_path / "x", rank_pattern={"q_proj": 64, "v_proj": 4}, alpha_pattern={"q_proj": 1})
    )
    assert adapter.rank is not None
    assert (adapter.rank.value, adapter.rank.origin) == (64, "x/adapter_config.json, rank_pattern")
    assert any("rank_pattern raises some modules from 16 to 64" in note for note in adapter.notes)
    assert any("alpha_pattern" in note for note in adapter.notes)


def test_weights_count_where_settings_say_otherwise(tmp_path: Path) -> None:
    shapes = {
        f"{LAYER}.lora_A.weight": [32, 4096],
        f"{LAYER}.lora_B.weight": [4096, 999],
        f"{LAYER}.lora_A.default.weight": [24, 4096],
        "base_model.model.model.layers.0.mlp.experts.lora_A.weight": [512, 64],
    }
    adapter = only(save(tmp_path / "x", shapes=shapes))
    assert adapter.rank is not None
    assert (adapter.rank.value, adapter.rank.origin) == (
        32,
        "x/adapter_model.safetensors, shapes of its 2 lora_A",
    )
    assert any("says rank 16 and its weights 32" in note for note in adapter.notes)


def test_weights_alone_tell_a_rank(tmp_path: Path) -> None:
    adapter = only(save(tmp_path / "x", config="", shapes={f"{LAYER}.lora_A.weight": [8, 64]}))
    assert adapter.rank is not None
    assert adapter.rank.value == 8
    assert any("no adapter_config.json" in note for note in adapter.notes)


def test_pickled_weights_are_never_opened(tmp_path: Path) -> None:
    folder = save(tmp_path / "x")
    file = folder / "adapter_model.bin"
    file.write_bytes(b"cos\nsystem\n(S'touch hacked'\ntR.")
    file.chmod(0)
    adapter = only(folder)
    assert adapter.rank is not None
    assert adapter.rank.value == 16
    assert any("adapter_model.bin" in note for note in adapter.notes)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["embed_tokens"]}, "modules_to_save, which vLLM refuses."),
        ({"modules_to_save": ["score"]}, "before 0.32"),
        ({"bias": "all"}, "biases"),
        ({"lora_bias": True}, "lora_bias"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"alora_invocation_tokens": [1]}, "activated"),
        ({"layer_replication": [[0, 2]]}, "repeats layers"),
        ({"use_qalora": True}, "QALoRA"),
        ({"use_bdlora": {"nblocks": 2}}, "block-diagonal"),
        ({"lora_alpha": None}, "lacks lora_alpha"),
        ({"r": 1024}, "above 512"),
    ],
)
def test_what_vllm_refuses_is_told(tmp_path: Path, setting: dict[str, object], words: str) -> None:
    notes = only(save(tmp_path / "x", shapes={}, **setting)).notes
    assert [note for note in notes if words in note]


@pytest.mark.parametrize("target", ["all-linear", ".*q_proj", ["q_proj"]])
def test_plain_loras_are_told_nothing_of(tmp_path: Path, target: object) -> None:
    folder = save(tmp_path / "x", shapes={}, target_modules=target, use_rslora=True, init_lora_weights=True)
    assert only(folder).notes == ()


def test_adapters_of_other_kinds_are_left_out_and_told(tmp_path: Path) -> None:
    save(tmp_path / "fr")
    save(tmp_path / "prompt", config={"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 8})
    facts = read(tmp_path)
    assert [one.served_name for one in facts.adapters] == ["fr"]
    assert "prompt left out" in facts.notes[0]
    with pytest.raises(ImportSourceError, match="holds no LoRA"):
        read(tmp_path / "prompt")


@pytest.mark.parametrize(
    "name", ['a"b', "a'b", "a\nb", "a: b # c", "$(touch x)", "`x`", "{{ x }}", "%i", "é漢", "x" * 200]
)
def test_hostile_names_are_names(tmp_path: Path, name: str) -> None:
    save(tmp_path / "all" / name)
    assert only(tmp_path / "all").served_name == name


def test_users_and_passwords_in_addresses_are_not_copied(tmp_path: Path) -> None:
    folder = save(tmp_path / "x", base_model_name_or_path="https://ann:secret@hub.example/m?token=t0ken#f")
    adapter = only(folder)
    assert adapter.base_model is not None
    assert adapter.base_model.value == "https://hub.example/m"


DAMAGED_CONFIGS = [
    "",
    "{",
    "[]",
    "null",
    "7",
    '"text"',
    "{" * 100_000,
    "[" * 100_000,
    json.dumps(CONFIG)[:40],
    json.dumps(CONFIG)[:-1],
    json.dumps({**CONFIG, "r": True}),
    json.dumps({**CONFIG, "r": 0}),
    json.dumps({**CONFIG, "r": -8}),
    json.dumps({**CONFIG, "r": "16"}),
    json.dumps({**CONFIG, "r": 16.5}),
    json.dumps({**CONFIG, "r": [16]}),
    json.dumps({**CONFIG, "r": 10**30}),
    json.dumps({**CONFIG}).replace("16", "9" * 5000),
    json.dumps({**CONFIG, "rank_pattern": {"q": True}}),
    json.dumps({**CONFIG, "rank_pattern": {"q": "8"}}),
    json.dumps({**CONFIG, "rank_pattern": {"q": 0}}),
    json.dumps({**CONFIG, "rank_pattern": [8]}),
    json.dumps({**CONFIG, "rank_pattern": "8"}),
    json.dumps({**CONFIG, "peft_type": 7}),
    json.dumps({**CONFIG, "peft_type": ["LORA"]}),
    json.dumps({**CONFIG, "base_model_name_or_path": {"a": 1}}),
    json.dumps({**CONFIG, "base_model_name_or_path": "m" * 2000}),
    "{'r': 16}",
    "r: 16\n",
    '{"r": NaN}',
    "\x00\x01\x02",
]
DAMAGED_WEIGHTS = [
    b"",
    b"\x10",
    b"\0" * 8,
    b"\xff" * 8,
    b"\xff" * 16,
    (10**9).to_bytes(8, "little") + b"{}",
    (2).to_bytes(8, "little") + b"{",
    (2).to_bytes(8, "little") + b"[]",
    (2).to_bytes(8, "little") + b"12",
    (3).to_bytes(8, "little") + b"{a}",
    (4).to_bytes(8, "little") + b"\xff\xfe\xfd\xfc",
    weights({f"{LAYER}.lora_A.weight": [16, 64]})[:60],
    weights({f"{LAYER}.lora_A.weight": []}),
    weights({f"{LAYER}.lora_A.weight": [16]}),
    weights({f"{LAYER}.lora_A.weight": [0, 64]}),
    weights({f"{LAYER}.lora_A.weight": [-4, 64]}),
    weights({f"{LAYER}.lora_A.weight": [10**9, 64]}),
    weights({f"{LAYER}.lora_A.weight": [True, 64]}),
    weights({f"{LAYER}.lora_A.weight": ["16", 64]}),  # type: ignore[list-item]
    weights({f"{LAYER}.lora_A.weight": [16.0, 64]}),  # type: ignore[list-item]
    weights({f"{LAYER}.lora_A.weight": None}),  # type: ignore[dict-item]
    (100_000).to_bytes(8, "little") + b"[" * 100_000,
    b"PK\x03\x04" + b"\0" * 100,
]


@pytest.mark.parametrize(
    "text", DAMAGED_CONFIGS, ids=lambda text: text[:20].encode("unicode_escape").decode()
)
def test_damaged_settings_are_refused_with_path_and_remedy(tmp_path: Path, text: str) -> None:
    folder = save(tmp_path / "x")
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ImportSourceError) as caught:
        read(tmp_path)
    assert str(folder / "adapter_config.json") in str(caught.value)
    assert ";" in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("data", DAMAGED_WEIGHTS, ids=range(len(DAMAGED_WEIGHTS)))
def test_damaged_weights_are_refused_with_path_and_remedy(tmp_path: Path, data: bytes) -> None:
    folder = save(tmp_path / "x")
    (folder / "adapter_model.safetensors").write_bytes(data)
    with pytest.raises(ImportSourceError) as caught:
        read(tmp_path)
    assert str(folder / "adapter_model.safetensors") in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_binary_settings_are_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "x")
    (folder / "adapter_config.json").write_bytes(b"\xff\xfe\x00garbage")
    with pytest.raises(ImportSourceError, match="no text of UTF-8"):
        read(tmp_path)


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    os.mkfifo(folder / "adapter_config.json")
    assert kind_of(Source(tmp_path)) is None


def test_a_folder_without_adapters_is_none_of_theirs(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text("{}", encoding="utf-8")
    assert kind_of(Source(tmp_path)) is None


def test_thousands_of_adapters_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for number in range(2000):
        save(tmp_path / f"a{number:04}")
    assert [one.served_name for one in read(tmp_path).adapters] == [f"a{number:04}" for number in range(2000)]
