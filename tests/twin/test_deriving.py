"""Profiles scaled from measured ones: what stays, what grows, how sure it is, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from scenarios import UnknownGPUError
from twin import (
    DerivationError,
    EngineProfile,
    MissingFigureError,
    UnknownModuleError,
    derive_profile,
    find_profile,
    read_profile,
    shipped_profiles,
    write_profile,
)
from twin.architectures import ArchitectureError, ModelArchitecture, find_architecture
from twin.deriving.base_step import Machine
from twin.deriving.counts import model_counts
from twin.deriving.database import DatabaseError, KernelDatabase
from twin.deriving.speeds import speeds_of
from twin.deriving.text import profile_parts
from twin.memory import TensorParallelError, memory_model
from twin.profile import End
from twin.step_cost import CostTerm, LoadCost, StepCost

SHIPPED = [pytest.param(profile, id=profile.model) for profile in shipped_profiles()]
ENGINES = ((0, 0, 0), (8, 16, 8), (96, 32, 192), (384, 8, 384))
"""Slots, rank and adapters served."""
FAR = (
    "Qwen3-32B",
    "Llama-4-Scout-17B-16E-Instruct",
    "gpt-oss-120b",
    "Llama-3.1-8B-Instruct-FP8",
    "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
)


def costs(profile: EngineProfile) -> dict[str, np.ndarray]:
    """Every number from which steps and loads of some engines are summed."""
    found = {"loads": np.array(list(profile.loads.model_dump().values()))}
    for engine in ENGINES:
        tables = profile.step.tables(engine[0], engine[1], 2048, engine[2])
        for name in ("token_s", "adapter_s", "adapter_token_s"):
            found[f"{name} {engine}"] = getattr(tables, name)
        single = (tables.decode_s, tables.prefill_s, tables.context_s, tables.waiting_s, tables.prompts_s)
        found[f"single {engine}"] = np.array(single)
    return found


def never_cheaper(dear: EngineProfile, cheap: EngineProfile) -> bool:
    one, two = costs(dear), costs(cheap)
    return all((one[name] >= two[name] * (1 - 1e-12)).all() for name in one)


def counted(name: str, gpus: int = 1) -> Machine:
    measured = shipped_profiles()[0].measured.model_copy(update={"tensor_parallel_size": gpus})
    return Machine(model_counts(memory_model(find_architecture(name)), measured), speeds_of("H200", "bf16"))


@pytest.mark.parametrize("measured", SHIPPED)
def test_deriving_what_was_measured_gives_the_same_costs(measured: EngineProfile) -> None:
    derived = derive_profile(measured.model, measured.device)
    assert (derived.step, derived.loads, derived.memory) == (measured.step, measured.loads, measured.memory)
    assert derived.gpu_memory_gib == measured.gpu_memory_gib
    assert not derived.uncertainty.shares
    assert derived.derived is not None
    assert {term.factor for term in derived.derived.terms} == {1.0}
    assert derived.at("pessimistic").step == measured.step


def test_a_model_of_the_same_shapes_keeps_its_own_name_in_a_file(tmp_path: Path) -> None:
    derived = derive_profile("DeepSeek-R1-Distill-Llama-8B", "H100-64GB")
    assert derived.step == find_profile("llama-3.1-8b-instruct", None).step
    write_profile(derived, tmp_path / "profile.json")
    assert read_profile(tmp_path / "profile.json") == derived


@pytest.mark.parametrize("model", FAR)
@pytest.mark.parametrize("device", ["A100-80GB", "L40S", "B200"])
def test_derived_profiles_survive_a_file(model: str, device: str, tmp_path: Path) -> None:
    derived = derive_profile(model, device)
    write_profile(derived, tmp_path / "profile.json")
    assert read_profile(tmp_path / "profile.json") == derived
    assert derived.device == device
    assert derived.memory == memory_model(find_architecture(model), "0.8.5")
    assert derived.derived is not None
    assert derived.derived.engine_version == "0.8.5"
    assert "not measured" in derived.provenance.note
    assert set(derived.uncertainty.shares) <= {term.name for term in derived.derived.terms}


def test_profiles_of_before_have_neither_shares_nor_a_derivation() -> None:
    for profile in shipped_profiles():
        assert profile.derived is None
        assert not profile.uncertainty.shares


def larger(architecture: ModelArchitecture, **facts: int) -> ModelArchitecture:
    return ModelArchitecture.model_validate(architecture.model_dump() | facts)


@pytest.mark.parametrize(
    "facts",
    [
        {"num_hidden_layers": 40},
        {"intermediate_size": 20480},
        {"vocab_size": 200_000},
        {"num_key_value_heads": 16},
    ],
)
@pytest.mark.parametrize("measured", SHIPPED)
def test_a_larger_model_is_never_cheaper(measured: EngineProfile, facts: dict[str, int]) -> None:
    base = find_architecture("Llama-3.1-8B-Instruct")
    one = derive_profile(base, "H100-64GB", source=measured)
    two = derive_profile(larger(base, **facts), "H100-64GB", source=measured)
    assert never_cheaper(two, one)
    assert costs(two)["token_s (0, 0, 0)"][256] + costs(two)["single (0, 0, 0)"].sum() > (
        costs(one)["token_s (0, 0, 0)"][256] + costs(one)["single (0, 0, 0)"].sum()
    )


@pytest.mark.parametrize("measured", SHIPPED)
@pytest.mark.parametrize("model", ["Llama-3.1-8B-Instruct", "Qwen2.5-7B-Instruct", *FAR])
def test_a_slower_gpu_is_never_cheaper(measured: EngineProfile, model: str) -> None:
    by_speed = ["B200", "H200", "H100-80GB", "A100-80GB", "A100-40GB", "A30", "A10G"]
    derived = [derive_profile(model, device, source=measured) for device in by_speed]
    for slower, faster in zip(derived[1:], derived, strict=False):
        assert never_cheaper(slower, faster), (slower.name, faster.name)
    assert costs(derived[-1])["token_s (0, 0, 0)"][1] > 1.5 * costs(derived[0])["token_s (0, 0, 0)"][1]


@pytest.mark.parametrize("model", FAR)
def test_more_tokens_more_rank_and_more_slots_never_cost_less(model: str) -> None:
    profile = derive_profile(model, "A100-80GB")
    step = profile.step
    small, wide = step.tables(96, 16, 2048, 192), step.tables(96, 64, 2048, 192)
    many = step.tables(192, 16, 2048, 192)
    assert (np.diff(small.token_s) >= 0).all()
    assert (wide.token_s >= small.token_s).all()
    assert (wide.adapter_s >= small.adapter_s).all()
    assert (many.token_s >= small.token_s).all()


@pytest.mark.parametrize("model", ["Qwen2.5-7B-Instruct", *FAR])
def test_the_ends_lie_on_both_sides_in_every_table(model: str) -> None:
    profile = derive_profile(model, "A100-80GB", source=find_profile("llama-3.1-8b-instruct", None))
    ends: list[End] = ["pessimistic", "expected", "optimistic"]
    worst, middle, best = (profile.at(end) for end in ends)
    assert middle == profile
    assert (worst.name, best.name) == (f"{profile.name}.pessimistic", f"{profile.name}.optimistic")
    assert never_cheaper(worst, middle)
    assert never_cheaper(middle, best)
    ratio = worst.step.tables(0, 0, 64, 0).token_s[64] / middle.step.tables(0, 0, 64, 0).token_s[64]
    assert 1.1 < ratio < 2.5
    assert (worst.memory, worst.lengths) == (profile.memory, profile.lengths)


def test_another_gpu_makes_less_sure_than_another_model_alone() -> None:
    near = derive_profile("Qwen3-8B", "H100-64GB").uncertainty.shares
    far = derive_profile("Qwen3-8B", "L40S").uncertainty.shares
    assert near["step"] < far["step"]
    assert near["context"] < far["context"]
    assert near["adapters"] < far["adapters"]


def test_context_scales_with_the_bytes_of_keys_and_values() -> None:
    llama, qwen = shipped_profiles()
    derived = derive_profile("Qwen2.5-7B-Instruct", "H100-64GB", source=llama)
    context = llama.step.tables(0, 0, 1, 0).context_s
    assert derived.step.tables(0, 0, 1, 0).context_s == pytest.approx(context * 4 * 28 / (8 * 32))
    assert qwen.step.tables(0, 0, 1, 0).context_s == pytest.approx(context * 4 * 28 / (8 * 32), rel=0.05)


def test_work_of_the_host_stays() -> None:
    llama = find_profile("llama-3.1-8b-instruct", None)
    derived = {term.name: term for term in derive_profile("Qwen3-32B", "B200", source=llama).step.terms}
    for term in llama.step.terms:
        if term.name in ("waiting", "adapters_served"):
            assert derived[term.name] == term


def test_what_a_step_with_prompts_costs_more_is_the_host_s_and_no_other_step_s() -> None:
    llama = find_profile("llama-3.1-8b-instruct", None)
    prompts = CostTerm(name="prompts", seconds=3e-3, per="prompts")
    more = llama.model_copy(update={"step": StepCost(terms=(*llama.step.terms, prompts))})
    for model, device in (("Qwen3-32B", "B200"), ("Qwen2.5-7B-Instruct", "H100-64GB")):
        plain, derived = (derive_profile(model, device, source=source) for source in (llama, more))
        assert set(derived.step.terms) == {*plain.step.terms, prompts}
        assert "step with prompts" in str(profile_parts(derived))


def test_a_penalty_costs_each_request_a_pass_over_the_vocabulary() -> None:
    llama = find_profile("llama-3.1-8b-instruct", None)
    free, paid = (
        derive_profile("Llama-3.1-8B-Instruct", "H100-64GB", repetition_penalty=paid)
        for paid in (False, True)
    )
    assert free.step == llama.step
    added = paid.step.tables(0, 0, 1, 0).decode_s - llama.step.tables(0, 0, 1, 0).decode_s
    assert added == pytest.approx(129 * 128_256 / 1.775e12 + 7e-6, rel=0.01)
    assert paid.derived is not None
    assert any("penalty" in term.cause for term in paid.derived.terms)


def test_a_penalty_of_the_makers_is_read_beside_the_config(tmp_path: Path) -> None:
    facts = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "intermediate_size": 8192,
        "vocab_size": 128_256,
        "max_position_embeddings": 8192,
        "torch_dtype": "bfloat16",
    }
    (tmp_path / "config.json").write_text(json.dumps(facts))
    plain = derive_profile(tmp_path, "H200").step.tables(0, 0, 1, 0).decode_s
    (tmp_path / "generation_config.json").write_text('{"repetition_penalty": 1.05}')
    assert derive_profile(tmp_path, "H200").step.tables(0, 0, 1, 0).decode_s > plain + 7e-6
    (tmp_path / "generation_config.json").write_text("not json")
    assert derive_profile(tmp_path, "H200").step.tables(0, 0, 1, 0).decode_s == plain


def test_weights_that_a_step_reads_are_all_but_the_embedding() -> None:
    llama = find_architecture("Llama-3.1-8B-Instruct")
    machine = counted("Llama-3.1-8B-Instruct")
    embedding = llama.vocab_size * llama.hidden_size
    assert machine.counts.dense_bytes == pytest.approx(2 * (llama.parameters - embedding), rel=1e-6)
    assert machine.counts.kv_bytes == 2 * 8 * 128 * 2 * 32
    tied = find_architecture("Llama-3.2-1B-Instruct")
    counts = counted("Llama-3.2-1B-Instruct").counts
    assert counts.dense_bytes == pytest.approx(2 * tied.parameters, rel=1e-4)


def test_experts_are_read_as_tokens_choose_them() -> None:
    counts = counted("Qwen3-30B-A3B").counts
    one, many = counts.read_bytes(1), counts.read_bytes(4096)
    assert counts.chosen == 8 / 128
    assert one == pytest.approx(counts.dense_bytes + counts.expert_bytes / 16)
    assert many == pytest.approx(counts.dense_bytes + counts.expert_bytes)
    experts = 48 * 128 * 3 * 2048 * 768 * 2
    assert counts.expert_bytes == pytest.approx(experts, rel=0.01)
    dense = counted("Qwen3-8B").counts
    assert dense.read_bytes(1) == dense.read_bytes(4096)


def test_several_gpus_share_the_weights_and_add_up() -> None:
    one, two = counted("Llama-3.1-8B-Instruct").counts, counted("Llama-3.1-8B-Instruct", 2).counts
    assert two.dense_bytes == pytest.approx(one.dense_bytes / 2, rel=1e-3)
    assert (two.kv_bytes, two.operations) == (one.kv_bytes / 2, one.operations / 2)
    derived = derive_profile("Llama-3.1-70B", "H100-80GB", tensor_parallel_size=4)
    terms = {term.name: term for term in derived.step.terms}
    assert terms["all_reduce"].seconds == pytest.approx(2 * 80 * 5e-6)
    assert terms["all_reduce_tokens"].seconds > 0
    assert derived.measured.tensor_parallel_size == 4
    single = derive_profile("Llama-3.1-70B", "H100-80GB").step.tables(0, 0, 1, 0)
    assert derived.step.tables(0, 0, 1, 0).token_s[1] < single.token_s[1] / 2.5


def test_eight_bits_are_half_the_bytes_and_sixteen_where_the_gpu_has_no_eight() -> None:
    full, half = (
        derive_profile(name, "A100-80GB").step.tables(0, 0, 2048, 0)
        for name in ("Llama-3.1-8B-Instruct", "Llama-3.1-8B-Instruct-FP8")
    )
    assert half.token_s[1] < 0.7 * full.token_s[1]
    assert half.token_s[2048] > 0.95 * full.token_s[2048]  # multiplied in 16 bits
    hopper = derive_profile("Llama-3.1-8B-Instruct-FP8", "H100-64GB").step
    llama = find_profile("llama-3.1-8b-instruct", None).step
    lora = [s.tables(96, 16, 64, 96).adapter_s for s in (hopper, llama)]
    np.testing.assert_allclose(*lora)  # adapters stay in 16 bits


def test_loads_scale_with_matrices_and_weights() -> None:
    llama = find_profile("llama-3.1-8b-instruct", None)
    derived = derive_profile("Qwen2.5-7B-Instruct", "L40S", source=llama)
    ratio = {
        name: getattr(derived.loads, name) / getattr(llama.loads, name) for name in LoadCost.model_fields
    }
    assert ratio["gpu_s"] == pytest.approx(28 / 32)
    assert ratio["disk_rank_s"] == pytest.approx(40_370_176 / 41_943_040)


def test_loads_are_those_of_the_matrices_that_adapters_adapt() -> None:
    llama, qwen = shipped_profiles()
    attention = ("q_proj", "k_proj", "v_proj", "o_proj")
    derived = derive_profile("Qwen2.5-7B-Instruct", "H100-64GB", source=llama, target_modules=attention)
    assert derived.loads.gpu_s == pytest.approx(llama.loads.gpu_s * 28 * 4 / (32 * 7))
    assert derived.loads.gpu_s == pytest.approx(qwen.loads.gpu_s, rel=0.1)
    back = derive_profile("Llama-3.1-8B-Instruct", "H100-64GB", source=qwen)
    assert back.loads.gpu_s == pytest.approx(llama.loads.gpu_s, rel=0.1)
    with pytest.raises(UnknownModuleError, match=r'names "query", which Qwen2\.5-7B.* has not'):
        derive_profile("Qwen2.5-7B-Instruct", "H200", target_modules=("q_proj", "query"))


@pytest.mark.parametrize(
    ("model", "device", "error", "told"),
    [
        ("no-such-model", "H200", ArchitectureError, "no-such-model"),
        ("Qwen3-8B", "H900", UnknownGPUError, '"H900" is not known'),
        ("Qwen3-8B", "H100", UnknownGPUError, "H100-80GB"),
        ("Qwen3-8B", "T4", MissingFigureError, "T4 has no bf16_tflops"),
    ],
)
def test_what_is_not_known_is_refused_by_name(
    model: str, device: str, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        derive_profile(model, device)


def test_several_gpus_that_nothing_joins_are_refused() -> None:
    assert derive_profile("Qwen3-8B", "MI250X").device == "MI250X"
    with pytest.raises(MissingFigureError, match="MI250X has no interconnect"):
        derive_profile("Qwen3-8B", "MI250X", tensor_parallel_size=2)


def test_what_cannot_be_scaled_is_refused() -> None:
    derived = derive_profile("Qwen3-8B", "H200")
    with pytest.raises(DerivationError, match="is itself derived, from"):
        derive_profile("Qwen3-8B", "L40S", source=derived)
    with pytest.raises(DerivationError, match="tensor_parallel_size is 0"):
        derive_profile("Qwen3-8B", "L40S", tensor_parallel_size=0)
    with pytest.raises(TensorParallelError, match="tensor_parallel_size is 3"):
        derive_profile("Qwen3-8B", "L40S", tensor_parallel_size=3)
    llama = find_profile("llama-3.1-8b-instruct", None)
    two = llama.measured.model_copy(update={"tensor_parallel_size": 2})
    with pytest.raises(DerivationError, match="is of 2 GPUs an engine"):
        derive_profile("Qwen3-8B", "L40S", source=llama.model_copy(update={"measured": two}))


def test_a_renamed_copy_without_a_derivation_is_still_refused(tmp_path: Path) -> None:
    llama = find_profile("llama-3.1-8b-instruct", None)
    write_profile(llama.model_copy(update={"device": "L40S"}), tmp_path / "copy.json")
    with pytest.raises(Exception, match="its step costs and loads were measured with"):
        read_profile(tmp_path / "copy.json")


def test_the_database_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiconfigurator_core.sdk.engine", None)
    with pytest.raises(DatabaseError, match=r"lorapack\[aiconfigurator\]"):
        KernelDatabase("Llama-3.1-8B-Instruct", "H200")
    with pytest.raises(DatabaseError, match="no kernels of vLLM on L4; it has those on A100-80GB"):
        KernelDatabase("Llama-3.1-8B-Instruct", "L4")


MEASURED = Path(__file__).parents[2].parent / "shared" / "measurements" / "fixed_batch_without_lora.csv"


@pytest.mark.skipif(not MEASURED.exists(), reason="the public measurements are not there")
@pytest.mark.parametrize("measured", SHIPPED)
def test_fixed_batches_are_predicted_from_the_other_model(measured: EngineProfile) -> None:
    """Steps of 50 to 1,000 requests without adapters, from shapes and the other model's profile alone."""
    import pandas as pd

    (other,) = [profile for profile in shipped_profiles() if profile.model != measured.model]
    step = derive_profile(measured.model, measured.device, source=other).step.tables(0, 0, 1000, 0)
    table = pd.read_csv(MEASURED)
    table = table[table["model"].eq(measured.model) & table["family"].eq("default_output")]
    table = table[~(table["preemptions"] > 0)]
    requests = table["max_num_seqs"].to_numpy(dtype=int)
    context = (table["prompt_tokens"] + table["set_output_len"] / 2).to_numpy()
    said = step.token_s[requests] + requests * (step.decode_s + context * step.context_s)
    logs = np.log(1e3 * said / table["itl_median_ms"].to_numpy())
    assert len(logs) >= 20
    assert np.sqrt((logs**2).mean()) < 0.08


def test_kernels_of_the_database_are_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    class Handle:
        @staticmethod
        def compile(name: str, system: str, backend: str, **layout: int) -> SimpleNamespace:
            asked.append((name, system, backend, layout["tp_size"]))
            return SimpleNamespace(
                predict_decode_latency=lambda requests, context, _: requests + context / 1000,
                predict_prefill_latency=lambda prompts, tokens: prompts * tokens / 100,
                mixed_step_latency=lambda *amounts: float(sum(amounts)),
            )

    engine = ModuleType("aiconfigurator_core.sdk.engine")
    engine.EngineHandle = Handle  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "aiconfigurator_core.sdk.engine", engine)
    monkeypatch.setattr("twin.deriving.database._name_of", lambda model: f"org/{model}")
    kernels = KernelDatabase("Qwen3-32B", "H200", 2)
    assert asked == [("org/Qwen3-32B", "h200_sxm", "vllm", 2)]
    assert kernels.decode_s(8, 500) == pytest.approx(8.5e-3)
    assert kernels.prefill_s(2, 100) == pytest.approx(2e-3)
    assert kernels.mixed_s(0, 8, 400, 200) == pytest.approx(8.5e-3)
    assert kernels.mixed_s(32, 8, 400, 200) == pytest.approx(0.64)
