"""nginx as the router of an export, as an ordinary process in the export's own folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from live_engine.processes import HOST, is_taken, running, wait
from live_engine.servers import ServerError

START_S = 20.0
"""Seconds that nginx may take to listen."""

_WITH_NJS = """load_module /usr/lib/nginx/modules/ngx_http_js_module.so;
pid nginx.pid;
error_log stderr;
events {}
"""
"""The least configuration that needs the module, where Debian has it and exports look for it."""


def nginx_command() -> str:
    """The path of nginx.

    Raises
    ------
    ServerError
        If it is not installed, or without the module that an exported configuration loads.
    """
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")
    if nginx is None:
        raise ServerError("nginx is not installed; install it with its module njs")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "nginx.conf").write_text(_WITH_NJS)
        _test([nginx, "-p", folder, "-c", "nginx.conf"], "to load its module njs; install it")
    return nginx


def _test(command: Sequence[str], what: str) -> None:
    """Raise `ServerError` if nginx refuses a configuration."""
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    if tested.returncode:
        raise ServerError(f"nginx refuses {what}: {tested.stderr.strip()}")


@contextlib.contextmanager
def routing(folder: Path, log: Path, *, port: int) -> Iterator[str]:
    """Run nginx on the ``nginx.conf`` of an export to ``routing``, and end it on the way out.

    Parameters
    ----------
    folder
        The export, which is as before when nginx has ended: so it can be written again.
    log
        File that gets what nginx prints.
    port
        The export's ``router_port``.

    Yields
    ------
    Its address.

    Raises
    ------
    ServerError
        If nginx is not installed, refuses the configuration or does not listen.
    """
    nginx = nginx_command()
    if is_taken(port):
        raise ServerError(f"port {port} of {HOST} is taken; end what holds it, or give another")
    folder = folder.resolve()
    command = [nginx, "-p", str(folder), "-c", "nginx.conf"]
    _test(command, str(folder / "nginx.conf"))
    url = f"http://{HOST}:{port}"
    with running([*command, "-g", "daemon off;"], log, os.environ) as process:
        if wait(process, f"{url}/v1/models", START_S) != "serves":
            raise ServerError(f"nginx does not listen on {url}: {log.read_text(errors='replace').strip()}")
        yield url
