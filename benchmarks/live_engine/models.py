"""A small model with its adapters: made once in a folder, and known by its files."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from live_engine.environments import Environment


@dataclass(frozen=True)
class ModelFolder:
    """What `make_model` has made.

    Parameters
    ----------
    base
        Folder of the base model.
    adapters
        Folder of each adapter, by its name.
    ranks
        Rank of each adapter, by its name.
    """

    base: Path
    adapters: dict[str, Path]
    ranks: dict[str, int]


def make_model(
    environment: Environment,
    folder: Path,
    *,
    kind: str = "llama",
    hidden: int = 256,
    layers: int = 4,
    adapters: int = 16,
    ranks: tuple[int, ...] = (8, 16, 32),
) -> ModelFolder:
    """The model in a folder, made by the environment's Python if it is not there.

    Parameters
    ----------
    environment
        With torch and transformers.
    folder
        Where it stands; one that holds another model is made anew.
    kind, hidden, layers, adapters, ranks
        As in ``model_files.py``.

    Raises
    ------
    subprocess.CalledProcessError
        If it cannot be made.
    """
    words = [kind, hidden, layers, adapters, "--ranks", *ranks]
    asked = json.dumps([str(folder.resolve()), *words])
    mark = folder / "made_of.json"
    if not mark.is_file() or mark.read_text() != asked:
        script = Path(__file__).with_name("model_files.py")
        command = [environment.python, script, folder, *words]
        subprocess.run(
            list(map(str, command)), check=True, stdout=subprocess.DEVNULL, env=environment.variables()
        )
        mark.write_text(asked)
    folders = {path.name: path for path in sorted(folder.resolve().glob("adapter*"))[:adapters]}
    configs = {name: json.loads((path / "adapter_config.json").read_text()) for name, path in folders.items()}
    return ModelFolder(
        base=folder.resolve() / "base",
        adapters=folders,
        ranks={name: config["r"] for name, config in configs.items()},
    )
