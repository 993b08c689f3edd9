"""Model architectures: the facts of a Hugging Face config.json from which memory is computed."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, ValidationError, model_validator

from scenarios import FrozenModel, LorapackError
from scenarios.errors import cause_of

ModelType = Literal["llama", "mistral", "mixtral", "qwen2", "qwen3", "gemma2", "phi3"]
"""Values of ``model_type`` whose layers are known."""

_SHIPPED = Path(__file__).with_name("shipped.json")

_CONFIG_FIELDS = (
    "model_type",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
    "tie_word_embeddings",
    "attention_bias",
    "num_local_experts",
    "torch_dtype",
)

_SUFFIXES = ("instruct", "chat", "base", "it", "hf")


class ArchitectureError(LorapackError, ValueError):
    """A config.json cannot be read, or no shipped architecture has the name."""


class ModelArchitecture(FrozenModel):
    """Shapes of a decoder-only transformer, named as in its Hugging Face ``config.json``."""

    name: str = Field(min_length=1, description="Name of the model.")
    model_type: ModelType
    hidden_size: int = Field(ge=1, le=1_000_000)
    num_hidden_layers: int = Field(ge=1, le=10_000)
    num_attention_heads: int = Field(ge=1, le=100_000)
    num_key_value_heads: int = Field(ge=1, le=100_000)
    head_dim: int = Field(ge=1, le=100_000)
    intermediate_size: int = Field(ge=1, le=10_000_000)
    vocab_size: int = Field(ge=1, le=100_000_000)
    max_position_embeddings: int = Field(ge=1, le=1_000_000_000)
    tie_word_embeddings: bool = False
    attention_bias: bool = Field(default=False, description="Whether q, k and v have a bias.")
    num_local_experts: int = Field(default=0, ge=0, le=100_000, description="Experts; 0 where dense.")
    torch_dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    source: str = Field(default="", description="Where the facts are from.")

    @model_validator(mode="after")
    def _heads_divide(self) -> ModelArchitecture:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} is no multiple of num_key_value_heads "
                f"{self.num_key_value_heads}"
            )
        return self

    @property
    def dtype_bytes(self) -> int:
        """Bytes of a weight on the GPU; vLLM loads 32-bit checkpoints in 16 bits."""
        return 2

    @property
    def q_size(self) -> int:
        """Outputs of the query projection."""
        return self.num_attention_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Outputs of the key projection, and of the value projection."""
        return self.num_key_value_heads * self.head_dim

    @property
    def norm_sizes(self) -> tuple[int, ...]:
        """Weights of each normalisation of a layer."""
        match self.model_type:
            case "gemma2":
                return (self.hidden_size,) * 4
            case "qwen3":
                return (self.hidden_size, self.hidden_size, self.head_dim, self.head_dim)
            case _:
                return (self.hidden_size,) * 2

    @property
    def parameters(self) -> int:
        """Number of weights, tied ones once."""
        attention = self.hidden_size * 2 * (self.q_size + self.kv_size)
        bias = self.q_size + 2 * self.kv_size if self.attention_bias else 0
        feed_forward = 3 * self.hidden_size * self.intermediate_size
        if self.num_local_experts:
            feed_forward = self.num_local_experts * (feed_forward + self.hidden_size)
        layer = attention + bias + feed_forward + sum(self.norm_sizes)
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2)
        return self.num_hidden_layers * layer + embeddings + self.hidden_size


def read_architecture(path: Path | str, name: str | None = None) -> ModelArchitecture:
    """Read a model's architecture from its Hugging Face ``config.json``.

    Parameters
    ----------
    path
        The file, or the folder that holds it.
    name
        Name of the model; absent: the file's ``_name_or_path``, or its folder's name.

    Raises
    ------
    ArchitectureError
        If the file is missing or damaged, or describes a model whose layers are not known.
    """
    path = Path(path)
    path = path / "config.json" if path.is_dir() else path
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArchitectureError(
            f"{path}: cannot be read ({cause_of(error)}); give a model's config.json"
        ) from error
    except ValueError as error:
        raise ArchitectureError(
            f"{path}: is no JSON ({error}); fetch the model's config.json again"
        ) from error
    if not isinstance(config, dict):
        raise ArchitectureError(f"{path}: holds no object; give a model's config.json")
    named = name or config.get("_name_or_path") or path.resolve().parent.name or path.stem
    return _from_config(path, config, str(named))


def _from_config(path: Path, config: dict[str, object], name: str) -> ModelArchitecture:
    model_type = config.get("model_type")
    if model_type not in get_args(ModelType):
        known = ", ".join(get_args(ModelType))
        raise ArchitectureError(
            f'{path}: model_type is "{model_type}", whose layers are not known; known are {known}. '
            "Measure its memory and state it in the engine profile"
        )
    if config.get("quantization_config") is not None:
        raise ArchitectureError(
            f"{path}: quantization_config is set, and quantised weights are not computed; remove it and "
            "give the measured weights_gib to memory_model"
        )
    facts: dict[str, object] = {key: config[key] for key in _CONFIG_FIELDS if config.get(key) is not None}
    if "torch_dtype" not in facts and config.get("dtype") is not None:
        facts["torch_dtype"] = config["dtype"]
    facts.setdefault("num_key_value_heads", facts.get("num_attention_heads"))
    hidden, heads = facts.get("hidden_size"), facts.get("num_attention_heads")
    if "head_dim" not in facts and isinstance(hidden, int) and isinstance(heads, int) and heads > 0:
        facts["head_dim"] = hidden // heads
    # These families say it in their code, not in config.json.
    if model_type == "qwen2":
        facts["attention_bias"] = True
    if model_type == "gemma2":
        facts.setdefault("tie_word_embeddings", True)
    try:
        return ModelArchitecture.model_validate({"name": name, "source": path.name, **facts})
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'config'}: {e['msg']}" for e in error.errors()
        )
        raise ArchitectureError(f"{path}: {problems}; correct the file or fetch it again") from error


@lru_cache(maxsize=1)
def shipped_architectures() -> tuple[ModelArchitecture, ...]:
    """The well-known models whose facts are shipped."""
    rows = json.loads(_SHIPPED.read_text(encoding="utf-8"))
    return tuple(ModelArchitecture.model_validate(row) for row in rows)


def find_architecture(name: str) -> ModelArchitecture:
    """The shipped architecture of this name.

    Owner, capitals, punctuation and endings such as ``-Instruct`` do not count:
    ``meta-llama/Llama-3.1-8B`` finds Llama-3.1-8B-Instruct.

    Raises
    ------
    ArchitectureError
        If none has the name; the message lists those that exist.
    """
    wanted = _plain(name)
    for architecture in shipped_architectures():
        if wanted and _plain(architecture.name) == wanted:
            return architecture
    names = ", ".join(architecture.name for architecture in shipped_architectures())
    raise ArchitectureError(
        f'no shipped architecture is called "{name}"; shipped are {names}. Give the model\'s config.json to '
        "read_architecture"
    )


def _plain(name: str) -> str:
    words = re.split(r"[^a-z0-9.]+", name.rsplit("/", 1)[-1].lower())
    plain = "".join(word for word in words if word not in _SUFFIXES)
    return plain.replace(".", "").removeprefix("meta")
