"""Files that `vllm serve --config` names count as vLLM counts them: before the words of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from scenarios.importers.facts import ImportOptions, ImportSourceError, ServerFacts, SourceFacts
from scenarios.importers.recognition import kind_of
from scenarios.importers.servers import command_facts
from scenarios.importers.source import Source

CONFIG = """\
model: org/from-file
max-loras: 8
max_lora_rank: 32
max-model-len: 16k
gpu-memory-utilization: 0.85
enable-lora: true
enable-prefix-caching: false
served-model-name: [base, other]
lora-modules:
  - fr=/a/fr
  - '{"name": "de", "path": "/a/de"}'
speculative-config:
  method: ngram
  num_speculative_tokens: 3
quantization: null
api-key: hush
unheard-of: secret-value
"""


def given(tmp_path: Path, words: str, config: str = CONFIG, name: str = "args.yaml") -> SourceFacts:
    (tmp_path / name).write_text(config, encoding="utf-8")
    script = tmp_path / "serve.sh"
    script.write_text(f"vllm serve {words}\n", encoding="utf-8")
    source = Source(script)
    kind = kind_of(source)
    assert kind is not None
    return kind.read(source, ImportOptions())


def engine(server: ServerFacts) -> dict[str, object]:
    return {name: said.value for name, said in server.engine.items()}


def test_a_file_of_arguments_is_read_beside_the_script(tmp_path: Path) -> None:
    facts = given(tmp_path, "--config args.yaml --port 8001 --max-loras 4")
    (server,) = facts.servers
    assert engine(server) == {
        "max_loras": 4,  # the command line counts before the file
        "max_lora_rank": 32,
        "max_model_len": 16_000,
        "gpu_memory_utilization": 0.85,
        "enable_lora": True,
        "enable_prefix_caching": False,
        "speculative_config": {"method": "ngram", "num_speculative_tokens": 3},
    }
    assert server.engine["max_loras"].origin == "serve.sh line 1, --max-loras"
    assert server.engine["max_lora_rank"].origin == "args.yaml, --max-lora-rank"
    assert server.model is not None
    assert (server.model.value, server.model.origin) == ("org/from-file", "args.yaml")
    assert server.served_model_name is not None
    assert server.served_model_name.value == "base"
    assert {one.served_name: one.source and one.source.value for one in facts.adapters} == {
        "fr": "/a/fr",
        "de": "/a/de",
    }
    assert {one.origin for one in facts.adapters} == {"args.yaml"}
    assert any("before 0.28.0" in note for note in server.notes)
    assert any("--unheard-of" in note for note in server.notes)
    assert not any(word in repr(facts) for word in ("hush", "secret-value"))


@pytest.mark.parametrize(
    "words", ["org/m --config args.yaml", "--config args.yaml org/m", "org/m --model x --config args.yaml"]
)
def test_a_model_on_the_command_line_counts_before_the_file(tmp_path: Path, words: str) -> None:
    (server,) = given(tmp_path, words).servers
    assert server.model is not None
    assert (server.model.value, server.model.origin) == ("org/m", "serve.sh line 1")


def test_a_list_on_the_command_line_replaces_that_of_the_file(tmp_path: Path) -> None:
    facts = given(tmp_path, "m --config args.yaml --lora-modules it=/a/it")
    assert [one.served_name for one in facts.adapters] == ["it"]
    assert facts.adapters[0].origin == "serve.sh line 1"


def test_an_absolute_path_is_read_where_it_is(tmp_path: Path) -> None:
    (server,) = given(tmp_path, f"m --config {tmp_path / 'args.yaml'}").servers
    assert engine(server)["max_loras"] == 8


@pytest.mark.parametrize("words", ["--config other.yaml", "--config $WHERE", "--config $HOME/a.yaml"])
def test_a_file_that_is_not_here_is_told(tmp_path: Path, words: str) -> None:
    (server,) = given(tmp_path, f"m --max-loras 4 {words}").servers
    assert engine(server) == {"max_loras": 4}
    assert any("not here" in note for note in server.notes)


def test_one_word_with_a_sign_is_passed_over_as_vllm_does(tmp_path: Path) -> None:
    (server,) = given(tmp_path, "m --config=args.yaml").servers
    assert engine(server) == {}
    assert any("one word" in note for note in server.notes)


def test_files_of_containers_are_not_looked_for_here(tmp_path: Path) -> None:
    path = tmp_path / "args.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    facts = command_facts(["vllm", "serve", "m", "--config", str(path)], {}, "s", "here")
    assert facts is not None
    assert engine(facts.server) == {}
    assert any("not here" in note for note in facts.server.notes)


DAMAGED = [
    "", "[]", "- a", "3", "text", "null", "a: [", "a: {", "a: 1\na: 2", "\tb: 1", "max-loras: many",
    "max-loras: [1, 2", "max-loras: {a: 1}", "max-loras: true", "max-loras: 1e400", "max-loras: ''",
    "max-model-len: 16x", "max-lora-rank: [8, 16]", "gpu-memory-utilization: high",
    "enable-prefix-caching: perhaps", "tensor-parallel-size: 2.5.1", "speculative-config: word",
    "speculative-config: '{'", "lora-modules: [fr]", "lora-modules: ['{\"name\": 1}']", "lora-modules: ['{']",
    "--max-loras: 4", "'max loras': 4", "'': 4", "? [a]\n: 1", "a: !!python/object:os.system {}",
    "a: &b [*b]", "a: " + "[" * 60 + "]" * 60, "\x00\x01", "a: *nothing",
    f"cudagraph-capture-sizes: [a, {'9' * 500}]", "speculative-config.: 1",
]  # fmt: skip


@pytest.mark.parametrize("config", DAMAGED)
def test_a_damaged_file_is_one_error_that_names_it(tmp_path: Path, config: str) -> None:
    with pytest.raises(ImportSourceError) as caught:
        given(tmp_path, "m --config args.yaml", config)
    assert "args.yaml" in str(caught.value)
    assert "\x00" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["args.json", "args", "args.txt", "args.YAML"])
def test_other_files_than_yaml_are_refused_as_vllm_does(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImportSourceError, match=r"ends in \.yaml or \.yml"):
        given(tmp_path, f"m --config {name}", name=name)


def test_a_file_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImportSourceError, match="longer than"):
        given(tmp_path, "m --config args.yaml", "a: 1\n" + "# long\n" * 700_000)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ImportSourceError, match=r"bytes\.yaml"):
        given(tmp_path, "m --config bytes.yaml", name="other.yaml")


@pytest.mark.parametrize(
    "name", ['a"b', "a'b", "a: b # c", "../../etc", "$(touch x)", "x {{ x }}", "%i", "é漢"]
)
def test_hostile_names_stay_names(tmp_path: Path, name: str) -> None:
    config = yaml.safe_dump({"lora-modules": [f"{name}=/a/{name}"], "max-loras": 2})
    facts = given(tmp_path, "m --config args.yaml", config)
    assert [one.served_name for one in facts.adapters] == [name]
