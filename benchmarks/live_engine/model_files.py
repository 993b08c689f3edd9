"""Makes a small model of random weights, its tokenizer and LoRA adapters, as folders.

    python model_files.py OUT KIND HIDDEN LAYERS ADAPTERS [--ranks RANK ...]

OUT/base is the model, as transformers writes it; OUT/adapter00, ... are adapters as PEFT writes them, which
adapt all linear layers; their ranks take turns. KIND is llama or qwen2. The same words make the same files.
It is run by the Python of vLLM's environment, which has torch, transformers, tokenizers and safetensors.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

SPECIAL = ("<s>", "</s>", "<pad>")
"""Begin, end and padding: tokens 0, 1 and 2."""

VOCABULARY = 1024

HEAD = 32
"""Width of an attention head, two of which share keys and values."""

ADAPTED = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

SPREAD = 0.02
"""Standard deviation of the adapters' weights, that of the model's own."""


def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer: each byte is a token, and the rest of the vocabulary pairs of letters."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    plain = [letter for letter in letters if letter.isascii() and letter.isalpha()]
    pairs = [(a, b) for a in plain for b in plain][: VOCABULARY - len(SPECIAL) - len(letters)]
    words = [*SPECIAL, *letters, *(a + b for a, b in pairs)]
    made = Tokenizer(models.BPE(vocab={word: k for k, word in enumerate(words)}, merges=pairs))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    begin, end, padding = SPECIAL
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token=begin, eos_token=end, pad_token=padding)


def model(kind: str, hidden: int, layers: int) -> Any:
    """A causal model of random weights in bfloat16."""
    heads = max(hidden // HEAD, 2)
    config = AutoConfig.for_model(
        kind,
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        max_position_embeddings=4096,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        tie_word_embeddings=False,
    )
    return AutoModelForCausalLM.from_config(config).to(torch.bfloat16)


def write_adapter(folder: Path, base: Any, rank: int) -> None:
    """Write one adapter of random weights for all linear layers of a model."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {}
    for name, module in base.named_modules():
        if name.rsplit(".", 1)[-1] in ADAPTED:
            outputs, inputs = module.weight.shape
            for part, shape in (("lora_A", (rank, inputs)), ("lora_B", (outputs, rank))):
                values = (SPREAD * torch.randn(shape)).to(torch.bfloat16)
                weights[f"base_model.model.{name}.{part}.weight"] = values
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(folder.parent / "base"),
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": list(ADAPTED),
        "bias": "none",
        "inference_mode": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n")


def main() -> None:
    """Make what the words say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder, made if it is not there")
    parser.add_argument("kind", choices=("llama", "qwen2"), help="architecture")
    parser.add_argument("hidden", type=int, help=f"width of the model, a multiple of {2 * HEAD}")
    parser.add_argument("layers", type=int, help="layers of the model")
    parser.add_argument("adapters", type=int, help="number of adapters")
    parser.add_argument("--ranks", type=int, nargs="+", default=[8, 16, 32], help="(default: 8 16 32)")
    given = parser.parse_args()
    given.out = given.out.resolve()  # adapters name their base model by its path
    torch.manual_seed(0)
    base = model(given.kind, given.hidden, given.layers)
    base.save_pretrained(given.out / "base")
    tokenizer().save_pretrained(given.out / "base")
    for k in range(given.adapters):
        write_adapter(given.out / f"adapter{k:02d}", base, given.ranks[k % len(given.ranks)])


if __name__ == "__main__":
    main()
