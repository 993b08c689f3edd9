"""No file that is read is run or unpickled, and nothing but `twin.live` opens a connection."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sources import ROOT, files_of

PACKAGES = ("scenarios", "twin", "learn", "optimizer")

UNPICKLING = {"pickle", "_pickle", "shelve", "marshal", "dill", "cloudpickle", "copyreg"}
RUNNING = {"subprocess", "pty", "code", "runpy", "webbrowser"}
CONNECTING = {
    "socket", "socketserver", "ssl", "http", "ftplib", "smtplib", "imaplib", "poplib", "telnetlib", "xmlrpc",
    "urllib.request", "urllib3", "requests", "httpx", "aiohttp", "websockets", "grpc", "paramiko",
    "distributed", "ray",
}  # fmt: skip
NAMED_CALLS = {"eval", "exec", "compile", "__import__"}
CALLS = {
    "joblib.load", "np.load", "numpy.load", "pd.read_pickle", "pandas.read_pickle", "torch.load", "os.system",
    "os.popen", "yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "asyncio.open_connection",
    "asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell",
}  # fmt: skip
"""Calls that run or unpickle what they are given, or open a connection; numpy's only with ``allow_pickle``,
but nothing of numpy's is read."""

ALLOWED = {
    # Machine code of this very package, beside its sources or in numba's folder of the user.
    ("twin/engine/compilation.py", "pickle"),
    # A cluster that --cluster names, and its clients.
    ("twin/parallel/clusters.py", "socket"),
    ("twin/parallel/dask_cluster.py", "distributed"),
    ("twin/parallel/dask_cluster.py", "distributed.Client"),
    ("twin/parallel/ray_cluster.py", "ray"),
}


def dangers(file: Path, source: str) -> Iterator[tuple[int, str]]:
    """Yield line and name of everything in a source that runs, unpickles or connects."""
    live = file.as_posix().startswith("twin/live/")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                names = [str(node.module), *(f"{node.module}.{name}" for name in names)]
            for name in names:
                parts = {name, name.partition(".")[0]}
                if parts & (UNPICKLING | RUNNING) or (parts & CONNECTING and not live):
                    yield node.lineno, name
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            if name in CALLS or (isinstance(node.func, ast.Name) and name in NAMED_CALLS):
                yield node.lineno, name
            if any(word.arg == "allow_pickle" for word in node.keywords):
                yield node.lineno, "allow_pickle"


def dotted(called: ast.expr) -> str:
    """What is called, as far as it is a name within names; ``ast.unparse`` takes ten times as long."""
    if isinstance(called, ast.Attribute):
        return f"{dotted(called.value)}.{called.attr}"
    return called.id if isinstance(called, ast.Name) else ""


def test_nothing_that_is_read_is_run_or_unpickled_and_only_live_servers_are_asked() -> None:
    found = {
        (str(file.relative_to(ROOT)), name): line
        for package in PACKAGES
        for file in files_of(package)
        for line, name in dangers(file.relative_to(ROOT), file.read_text(encoding="utf-8"))
    }
    assert found.keys() == ALLOWED, found


def test_what_is_unpickled_is_compiled_code_alone() -> None:
    source = (ROOT / "twin" / "engine" / "compilation.py").read_text(encoding="utf-8")
    used = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)]
    assert [ast.unparse(node) for node in used if ast.unparse(node).startswith("pickle.")] == ["pickle.loads"]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import pickle", "pickle"),
        ("from pickle import loads", "pickle"),
        ("import numpy as np\nnp.load(path, allow_pickle=True)", "np.load"),
        ("import pandas as pd\npd.read_pickle(path)", "pd.read_pickle"),
        ("import joblib\njoblib.load(path)", "joblib.load"),
        ("import yaml\nyaml.load(text, Loader=yaml.Loader)", "yaml.load"),
        ("eval(text)", "eval"),
        ("import os\nos.system(text)", "os.system"),
        ("import subprocess", "subprocess"),
        ("import urllib.request", "urllib.request"),
        ("from urllib import request", "urllib.request"),
        ("import socket", "socket"),
        ("def f():\n    import aiohttp", "aiohttp"),
    ],
)
def test_the_search_sees(source: str, name: str) -> None:
    assert name in [found for _, found in dangers(Path("scenarios/files.py"), source)]


def test_the_search_passes_over_what_is_safe() -> None:
    parsing = "import json, re, yaml\nre.compile('a')\nyaml.safe_load(text)\nyaml.parse(text)\n"
    safe = parsing + "from urllib.parse import urlsplit"
    assert not list(dangers(Path("scenarios/files.py"), safe))
    assert not list(dangers(Path("twin/live/client.py"), "import aiohttp"))
