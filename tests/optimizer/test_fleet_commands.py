"""``lorapack import`` and ``export``, as a user types them."""

from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

import scenarios
from optimizer.cli.commands import app
from scenarios import ImportSourceError, LorapackError, PlacedAdapter, PlacedGPU, Placement
from scenarios.exporters.targets import targets

ROOT = Path(__file__).parents[2]
CASE = ROOT / "tests" / "scenarios" / "data" / "kubernetes_adapters"
MODEL = "meta-llama/Llama-3.1-8B-Instruct"
RUN = CliRunner()


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with four adapters and an hour of their requests."""
    monkeypatch.chdir(tmp_path)
    draw = random.Random(1)
    rows = []
    for k in range(1, 5):
        folder = tmp_path / "adapters" / f"team-{k}"
        folder.mkdir(parents=True)
        config = {"peft_type": "LORA", "r": 8, "base_model_name_or_path": MODEL, "target_modules": ["q_proj"]}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        at = 0.0
        while (at := at + draw.expovariate(0.2)) < 3600:
            rows.append((at, f"team-{k}", draw.randint(50, 150), draw.randint(50, 150)))
    lines = [f"{1_796_000_000 + at:.3f},{name},{p},{o}" for at, name, p, o in sorted(rows)]
    (tmp_path / "requests.csv").write_text(
        "timestamp,model,prompt_tokens,completion_tokens\n" + "\n".join(lines)
    )
    return tmp_path


def _typed(*words: str) -> str:
    done = RUN.invoke(app, list(words))
    assert done.exit_code == 0, done.output
    return done.output


def test_a_folder_and_a_log_become_a_scenario(fleet: Path) -> None:
    _typed("import", "adapters", "requests.csv", "--set", "devices=H100-64GB", "--out", "fleet.yaml")
    scenario = scenarios.read(fleet / "fleet.yaml")
    assert scenario.model == MODEL
    assert [entry.name for entry in scenario.adapters] == ["team-1", "team-2", "team-3", "team-4"]
    assert all(entry.rank == 8 and entry.source for entry in scenario.adapters)
    assert all(abs(entry.rates()[0] - 0.2) < 0.05 for entry in scenario.adapters)
    assert "95 %" in (fleet / "fleet.yaml").read_text()


CACHED = "/root/.cache/huggingface/hub/models--meta-llama--Llama-3.1-8B-Instruct/snapshots/0e9e39f249a1"


@pytest.mark.parametrize(
    ("loaded", "given", "planned"),
    [
        (MODEL, (), MODEL),
        (MODEL, ("model=llama-3.1-8b-instruct",), "llama-3.1-8b-instruct"),
        ("/models/Llama-3.1-8B-Instruct", (), MODEL),
        ("/models/base", ("model=llama-3.1-8b-instruct",), "llama-3.1-8b-instruct"),
        ("./base", (f"model={MODEL}",), MODEL),
        (CACHED, (), MODEL),
        ("s3://bucket/llama-3.1-8b-instruct/", (), MODEL),
    ],
)
def test_a_model_stays_what_engines_load_from_import_to_export(
    fleet: Path, loaded: str, given: tuple[str, ...], planned: str
) -> None:
    modules = " ".join(f"team-{k}=/a/team-{k}" for k in range(1, 5))
    command = f"vllm serve {loaded} --enable-lora --max-loras 4 --lora-modules {modules}\n"
    (fleet / "serve.sh").write_text(command)
    sets = [word for one in ("devices=H100-64GB", *given) for word in ("--set", one)]
    _typed("import", "serve.sh", "adapters", "requests.csv", *sets, "--out", "fleet.yaml")
    scenario = scenarios.read(fleet / "fleet.yaml")
    assert scenario.model == planned
    rule = ("--method", "random-all", "--gpus", "1")  # which needs no regions
    _typed("solve", "fleet.yaml", *rule, "--placement", "plan.yaml")
    _typed("export", "plan.yaml", "--to", "vllm", "--out", "deploy")
    assert f"vllm serve {loaded} " in (fleet / "deploy" / "serve-g0.sh").read_text()


def test_another_model_is_planned_and_exported_as_it_is_given(fleet: Path) -> None:
    (fleet / "serve.sh").write_text("vllm serve org/small --max-loras 4 --lora-modules team-1=/a/team-1\n")
    told = scenarios.import_fleet(fleet / "serve.sh", ["devices=H100-64GB", "model=llama-3.1-8b-instruct"])
    assert "org/small" not in told.text


def test_what_is_missing_is_null_and_told_and_refused(fleet: Path) -> None:
    said = _typed("import", "adapters", "--out", "fleet.yaml")
    text = (fleet / "fleet.yaml").read_text()
    assert text.count("rate: null") == 4
    assert "rate of team-1, team-2, team-3 and team-4" in said
    checked = RUN.invoke(app, ["scenarios", "check", "fleet.yaml"])
    assert checked.exit_code == 2
    assert "adapters[3].rate is empty" in checked.output
    assert "devices is empty" in checked.output


@pytest.mark.slow
def test_the_readmes_lines_of_python_go_from_files_to_command_lines(fleet: Path) -> None:
    (lines,) = re.findall(r"```py\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.S)
    exec(compile(lines, "README.md", "exec"), {})
    script = (fleet / "deploy" / "serve-g0.sh").read_text()
    assert f"vllm serve {MODEL} " in script
    assert "team-4" in script


def test_manifests_say_names_and_models_and_no_more() -> None:
    told = scenarios.import_fleet(CASE / "aibrix.yaml")
    assert "rank: null" in told.text
    assert "rate: null" in told.text
    assert "model: qwen-coder-1-5b-instruct" in told.text
    assert "huggingface://example/code-b" in told.text
    assert "topics" in scenarios.import_fleet(CASE / "production_stack.yaml").text
    syncer = scenarios.import_fleet(CASE / "gie_configmap.yaml").text
    assert "example/reviews_r8" in syncer
    assert MODEL in syncer


def test_three_models_are_one_too_many(tmp_path: Path) -> None:
    shutil.copytree(CASE, tmp_path / "all")
    told = scenarios.import_fleet(tmp_path / "all")
    assert "model: null" in told.text
    assert any("one scenario is of one base model" in text for text in told.missing)


def _placement(target: str = "") -> Placement:
    """A plan for a target: NIM is given folders, as it fetches nothing."""
    owner = "/adapters" if target == "nim" else "org"
    scenario = scenarios.loads(
        f"""
name: s
model: {MODEL}
adapters:
  - {{name: fr, rank: 8, rate: 0.1, source: {owner}/fr}}
  - {{name: de, rank: 8, rate: 0.1, source: {owner}/de}}
workload: {{prompt: 10, output: 10}}
devices: H100-64GB
export: {{image: registry/vllm-openai:1, adapters_bucket: s3://weights}}
"""
    )
    gpus = tuple(
        PlacedGPU(
            gpu=g,
            device="H100-64GB",
            max_loras=2,
            max_lora_rank=8,
            max_cpu_loras=2,
            adapters=names,
            shares={"fr": share},
        )
        for g, names, share in ((0, ("fr", "de"), 0.25), (1, ("fr",), 0.75))
    )
    return scenarios.described(Placement(gpus=gpus), scenario, "0.8.5")


@pytest.mark.parametrize("target", list(targets()))
def test_every_target_is_written_by_the_command(target: str, fleet: Path) -> None:
    scenarios.write_placement(_placement(target), "plan.yaml")
    said = _typed("export", "plan.yaml", "--to", target, "--out", "deploy")
    assert (fleet / "deploy" / ".lorapack-export.json").exists()
    assert "wrote" in said
    _typed("export", "plan.yaml", "--to", target, "--set", "export.name=other", "--out", "deploy")
    text = "".join(path.read_text() for path in (fleet / "deploy").rglob("*") if path.is_file())
    assert "lorapack-g0" not in text


def test_shares_come_back_from_the_routes(fleet: Path) -> None:
    scenarios.write_export(scenarios.export(_placement(), "routing"), fleet / "routes")
    told = scenarios.import_fleet(fleet / "routes" / "routing.json", ["devices=H100-64GB"])
    assert "fr: 0.25" in told.placement_text
    assert "fr: 0.75" in told.placement_text
    assert "max_loras: null" in told.placement_text


SAYS_ALL = tuple(target for target in targets() if target != "routing")
"""Targets whose files, with the routes beside them, say all that a placement does."""


@pytest.mark.parametrize("target", SAYS_ALL)
def test_an_export_is_imported_as_the_placement_that_it_was(target: str, tmp_path: Path) -> None:
    placement = _placement(target)
    scenarios.write_export(scenarios.export(placement, "routing"), tmp_path / "routes")
    scenarios.write_export(scenarios.export(placement, target), tmp_path / "deploy")
    told = scenarios.import_fleet([tmp_path / "deploy", tmp_path / "routes"], ["devices=H100-64GB"])
    again = told.placement()
    assert [gpu.option for gpu in again.gpus] == [gpu.option for gpu in placement.gpus]
    assert [gpu.max_cpu_loras for gpu in again.gpus] == [gpu.max_cpu_loras for gpu in placement.gpus]
    assert [set(gpu.adapters) for gpu in again.gpus] == [set(gpu.adapters) for gpu in placement.gpus]
    for before, after in zip(placement.gpus, again.gpus, strict=True):
        assert after.shares == pytest.approx(before.shares, abs=0.01)


def test_a_folder_with_other_files_is_not_touched(fleet: Path) -> None:
    scenarios.write_placement(_placement(), "plan.yaml")
    (fleet / "mine").mkdir()
    (fleet / "mine" / "notes.txt").write_text("kept")
    done = RUN.invoke(app, ["export", "plan.yaml", "--to", "vllm", "--out", "mine"])
    assert isinstance(done.exception, LorapackError)
    assert "notes.txt" in str(done.exception)
    assert [path.name for path in (fleet / "mine").iterdir()] == ["notes.txt"]


def test_what_a_killed_export_left_is_removed_by_the_next(fleet: Path) -> None:
    scenarios.write_placement(_placement(), "plan.yaml")
    before = {path.name for path in fleet.iterdir()}
    left = fleet / ".lorapack-0123456789ab" / "deploy"
    left.mkdir(parents=True)
    (left / "serve-g0.sh").write_text("half")
    for _ in range(2):  # a new folder, and one in the place of an old one
        _typed("export", "plan.yaml", "--to", "vllm", "--out", "deploy")
        assert {path.name for path in fleet.iterdir()} == {*before, "deploy"}


def test_another_export_is_not_written_over(fleet: Path) -> None:
    scenarios.write_placement(_placement(), "plan.yaml")
    _typed("export", "plan.yaml", "--to", "compose", "--out", "deploy")
    done = RUN.invoke(app, ["export", "plan.yaml", "--to", "aibrix", "--out", "deploy"])
    assert isinstance(done.exception, scenarios.OutputFileError)
    assert "holds an export of compose, which would be lost" in str(done.exception)
    with pytest.raises(scenarios.OutputFileError, match="export of compose"):
        scenarios.write_export(scenarios.export(_placement(), "gie"), "deploy")
    assert (fleet / "deploy" / "compose.yaml").exists()
    _typed("export", "plan.yaml", "--to", "compose", "--out", "deploy")


def test_a_result_is_exported_as_its_placement() -> None:
    result = SimpleNamespace(placement=_placement())
    assert scenarios.export(result, "vllm") == scenarios.export(_placement(), "vllm")
    with pytest.raises(LorapackError, match="no plan was found"):
        scenarios.export(SimpleNamespace(placement=None), "vllm")
    with pytest.raises(LorapackError, match=r"is of type int; give a scenarios\.Placement"):
        scenarios.export(7, "vllm")  # type: ignore[arg-type]


@pytest.mark.parametrize(("target", "source"), [("nim", "org/{name}"), ("dynamo", "/srv/{name}")])
def test_an_export_in_which_no_adapter_would_be_served_is_refused(target: str, source: str) -> None:
    told = {name: PlacedAdapter(source=source.format(name=name)) for name in ("fr", "de")}
    plan = _placement().model_copy(update={"adapters": told})
    with pytest.raises(LorapackError, match=r"have no source that can be fetched \(de and fr\)"):
        scenarios.export(plan, target)
    told["de"] = PlacedAdapter(source="/adapters/de" if target == "nim" else "org/de")
    some = scenarios.export(plan.model_copy(update={"adapters": told}), target)
    assert any("fr" in sentence for sentence in some.lost)


@pytest.mark.parametrize("target", ["aibrix", "kserve"])
def test_names_that_a_cluster_does_not_have_come_back_from_its_annotations(
    target: str, tmp_path: Path
) -> None:
    names = {"fr": "acme/Fr_legal.v2", "de": "acme/de"}
    told = {name: PlacedAdapter(source=f"org/{name}", served_name=names[name]) for name in names}
    plan = _placement().model_copy(update={"adapters": told})
    scenarios.write_export(scenarios.export(plan, "routing"), tmp_path / "routes")
    scenarios.write_export(scenarios.export(plan, target), tmp_path / "deploy")
    again = scenarios.import_fleet([tmp_path / "deploy", tmp_path / "routes"], ["devices=H100-64GB"])
    known = set(names.values())
    assert {name for gpu in again.placement().gpus for name in gpu.adapters} == known
    assert [len(gpu.adapters) for gpu in again.placement().gpus] == [2, 1]


@pytest.mark.parametrize(
    ("names", "known"),
    [
        ('{"made": "acme/fr"}', "acme/fr"),
        ('{"other": "acme/fr"}', "made"),
        ('{"made": ""}', "made"),
        ('{"made": 7}', "made"),
        ('["made"]', "made"),
        ('{"made": ', "made"),
        ("null", "made"),
        ("[" * 5000, "made"),
        ("9" * 5000, "made"),
    ],
    ids=range(9),
)
def test_an_annotation_that_tells_no_names_changes_none(names: str, known: str, tmp_path: Path) -> None:
    service = {
        "apiVersion": "serving.kserve.io/v1alpha2",
        "kind": "LLMInferenceService",
        "metadata": {"name": "g", "annotations": {"lorapack/served-names": names}},
        "spec": {
            "model": {"uri": "hf://org/m", "lora": {"adapters": [{"name": "made", "uri": "hf://org/a"}]}}
        },
    }
    (tmp_path / "s.json").write_text(json.dumps(service))
    told = scenarios.import_fleet(tmp_path / "s.json")
    assert f"name: {known}\n" in told.text or f"name: {known} " in told.text


@pytest.mark.parametrize("value", [7, True, ["x"], {"a": "b"}])
def test_a_served_name_that_is_no_text_is_refused(value: object, tmp_path: Path) -> None:
    adapter = {
        "apiVersion": "model.aibrix.ai/v1alpha1",
        "kind": "ModelAdapter",
        "metadata": {"name": "a", "annotations": {"lorapack/served-name": value}},
        "spec": {"artifactURL": "huggingface://org/a"},
    }
    (tmp_path / "m.json").write_text(json.dumps(adapter))
    with pytest.raises(ImportSourceError, match="served-name"):
        scenarios.import_fleet(tmp_path / "m.json")


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (None, "judged as vLLM 0.8.5, the release of vllm/vllm-openai:v0.8.5"),
        ("registry/vllm-openai:v0.12.0", "registry/vllm-openai:v0.12.0 is of another release"),
        ("registry/vllm-openai:v0.8.50", "registry/vllm-openai:v0.8.50 is of another release"),
        ("registry/vllm-openai:prod", "registry/vllm-openai:prod does not say its release"),
        ("host:5000/vllm:v0.8.5-cu124", "the release of host:5000/vllm:v0.8.5-cu124"),
    ],
)
@pytest.mark.parametrize("target", ["compose", "aibrix", "gie"])
def test_the_release_that_was_judged_is_told_beside_that_of_the_image(
    target: str, image: str | None, sentence: str
) -> None:
    plan = _placement().model_copy(update={"export": scenarios.ExportSettings(image=image)})
    assert any(sentence in caution for caution in scenarios.export(plan, target).cautions)


@pytest.mark.parametrize(
    ("key", "value", "remedy"),
    [
        ("namespace", "ML_prod", "use lower-case letters, digits and - within, as in a DNS label"),
        ("adapters_dir", "loras", "give a whole path on one line, which begins with /"),
        ("adapters_bucket", "http://x", "give a bucket as s3://NAME/PATH"),
        ("image", "a b", "give an image as REGISTRY/NAME:TAG"),
    ],
)
def test_a_wrong_setting_is_told_by_what_it_may_hold(key: str, value: str, remedy: str) -> None:
    with pytest.raises(LorapackError, match=re.escape(remedy)):
        scenarios.export(_placement(), "aibrix", overrides=f"export.{key}={value}")


def test_steps_of_a_target_that_cannot_say_them_are_refused_before_the_work(fleet: Path) -> None:
    scenarios.write_placement(_placement(), "plan.yaml")
    words = ["--scenario", "mixed_ranks", "--from", "plan.yaml", "--to", "kserve", "--out", "steps"]
    done = RUN.invoke(app, ["export", "plan.yaml", *words])
    assert isinstance(done.exception, LorapackError)
    assert "--from cannot be exported to kserve" in str(done.exception)
    assert not (fleet / "steps").exists()


def test_a_scenario_for_a_placement_is_told_and_swapped_files_too(fleet: Path) -> None:
    scenarios.write_placement(_placement(), "plan.yaml")
    scenarios.write(scenarios.read("mixed_ranks"), "s.yaml")
    done = RUN.invoke(app, ["export", "s.yaml", "--to", "vllm", "--out", "deploy"])
    assert "give what `solve --placement` or `solve --json` wrote" in str(done.exception)
    done = RUN.invoke(app, ["validate", "plan.yaml", "s.yaml"])
    assert done.exit_code == 2
    assert "swapped" in done.output
    with pytest.raises(LorapackError, match="holds a placement, no scenario"):
        scenarios.read(fleet / "plan.yaml")


def test_an_older_placement_asks_for_its_scenario() -> None:
    old = Placement(gpus=_placement().gpus)
    with pytest.raises(LorapackError, match="--scenario"):
        scenarios.export(old, "vllm")


def test_only_the_section_of_deployments_is_changed() -> None:
    with pytest.raises(LorapackError, match="no value of a deployment"):
        scenarios.export(_placement(), "vllm", overrides="engine.max_model_len=1")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\x01\x02",
        b"{{ .Values.x }}\nkind: X\napiVersion: v1",
        b"apiVersion: v1\nkind: [",
        b"apiVersion: model.aibrix.ai/v1alpha1\nkind: ModelAdapter\nmetadata: {name: 7}",
        b"apiVersion: model.aibrix.ai/v1alpha1\nkind: ModelAdapter\nmetadata: {name: a}\nspec: []",
        b"apiVersion: model.aibrix.ai/v1alpha1\nkind: ModelAdapter\nmetadata: null",
        b"apiVersion: serving.kserve.io/v1alpha2\nkind: LLMInferenceService\nmetadata: {name: a}\n"
        b"spec: {model: {lora: {adapters: [1]}}}",
        b"apiVersion: serving.kserve.io/v1alpha2\nkind: LLMInferenceService\nmetadata: {name: a}\n"
        b"spec: {model: {lora: {maxRank: true}}}",
        b"apiVersion: v1\nkind: Service\nmetadata: {name: a}",
        b'{"routes": {"a": {"g": "x"}}, "servers": {}, "base_model": "m"}',
        b'{"routes": [], "servers": {}, "base_model": "m"}',
        b'{"routes": {}, "servers": {}, "base_model": 1}',
        b'{"routes": {}, "servers": ',
        b"apiVersion: v1\nkind: ConfigMap\ndata: {x: 'vLLMLoRAConfig: ['}",
    ],
)
def test_a_damaged_source_ends_in_one_message(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "source"
    file.write_bytes(content)
    with pytest.raises(ImportSourceError) as told:
        scenarios.import_fleet(file)
    assert str(file) in str(told.value)
    assert len(str(told.value)) < 2000


def test_a_hostile_name_gets_a_plain_one_and_keeps_its_own_for_clients(tmp_path: Path) -> None:
    name = "a: b # $(touch x) `x` ../.. \"'"
    values = {
        "apiVersion": "model.aibrix.ai/v1alpha1",
        "kind": "ModelAdapter",
        "metadata": {"name": name},
        "spec": {"artifactURL": "x\n- y: z", "baseModel": MODEL},
    }
    (tmp_path / "m.json").write_text(json.dumps(values))
    told = scenarios.import_fleet(
        tmp_path / "m.json",
        ["adapters[0].rank=8", "adapters[0].rate=1", "devices=H100-64GB", "adapters[0].source=/a",
         "workload.prompt=10", "workload.output=10"],
    )  # fmt: skip
    entry = told.scenario().adapters[0]
    assert entry.served_name == name
    assert re.fullmatch(r"[A-Za-z0-9._/@+-]+", entry.name)


def test_two_sources_that_say_different_ranks_are_refused(tmp_path: Path) -> None:
    for folder, rank in (("one", 8), ("two", 16)):
        (tmp_path / folder / "fr").mkdir(parents=True)
        config = {
            "peft_type": "LORA",
            "r": rank,
            "base_model_name_or_path": MODEL,
            "target_modules": ["q_proj"],
        }
        (tmp_path / folder / "fr" / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ImportSourceError, match="is 8 in"):
        scenarios.import_fleet([tmp_path / "one", tmp_path / "two"])
