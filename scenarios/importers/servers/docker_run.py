"""``docker run``, and images whose own command starts a server."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_RUNNERS = ("docker", "podman", "nerdctl")
_SWITCHES = frozenset(
    {
        *(
            "-d",
            "--detach",
            "--rm",
            "-i",
            "--interactive",
            "-t",
            "--tty",
            "-it",
            "-ti",
            "-dit",
            "-itd",
            "-td",
        ),
        *("--init", "--privileged", "--read-only", "-P", "--publish-all", "--no-healthcheck", "-id", "-di"),
        *("--oom-kill-disable", "--sig-proxy", "-q", "--quiet", "--disable-content-trust"),
    }
)
"""Options of ``docker run`` without a value (docker/cli @143a7abe, cli/command/container/opts.go)."""


class Container(NamedTuple):
    """A container that is started.

    Parameters
    ----------
    name
        Its name; empty: none is given.
    words
        Words of the process in it; empty: no server of ours.
    environment
        Its variables.
    address
        Where the host publishes it; empty: not said plainly.
    image
        Its image.
    has_hidden_variables
        Whether it gets variables whose values are not told: of a file, or of whoever starts it.
    """

    name: str
    words: Sequence[str]
    environment: Mapping[str, str]
    address: str
    image: str
    has_hidden_variables: bool


def container_of(words: Sequence[str]) -> Container | None:
    """The container that ``docker run`` starts; None: it is another command."""
    names = [word.rsplit("/", 1)[-1] for word in words[:6]]
    at = next((k for k, name in enumerate(names) if name in _RUNNERS), None)
    if at is None or "run" not in words[at : at + 4]:
        return None
    k = words.index("run", at) + 1
    options: list[tuple[str, str]] = []
    while k < len(words) and words[k].startswith("-"):
        flag, separator, value = words[k].partition("=")
        k += 1
        if not separator and flag not in _SWITCHES and k < len(words):
            value = words[k]
            k += 1
        options.append((flag, value))
    image, rest = (words[k], words[k + 1 :]) if k < len(words) else ("", ())
    told = [value for flag, value in options if flag in ("-e", "--env")]
    environment = {pair.partition("=")[0]: pair.partition("=")[2] for pair in told if "=" in pair}
    entrypoint = next((value for flag, value in options if flag == "--entrypoint"), "")
    name = next((value for flag, value in options if flag == "--name"), "")
    ports = [value for flag, value in options if flag in ("-p", "--publish")]
    started = image_words(image, [entrypoint] if entrypoint else [], rest)
    is_hidden = any(flag == "--env-file" for flag, _ in options) or any("=" not in pair for pair in told)
    return Container(name, started, environment, published_address(ports), image, is_hidden)


def image_words(image: str, entrypoint: Sequence[str], command: Sequence[str]) -> Sequence[str]:
    """Words of the process of a container: those of vLLM's own images begin with their entry point.

    ``vllm/vllm-openai`` starts ``vllm serve``, and older releases ``vllm.entrypoints.openai.api_server``, of
    the same flags (vllm-project/vllm, docker/Dockerfile, ENTRYPOINT).
    """
    if entrypoint or (command and not command[0].startswith("-") and "vllm-openai" not in image):
        return [*entrypoint, *command]
    if "vllm" in image and "serve" not in command[:2]:
        return ["vllm", "serve", *command]
    return list(command)


def published_address(ports: Sequence[str]) -> str:
    """Address of the first port that is published at a host: ``127.0.0.1:8001:8000``."""
    for port in ports:
        match = re.fullmatch(r"(?:([\w.-]{1,253}):)?(\d{1,5}):\d{1,5}(?:/tcp)?", port, re.ASCII)
        if match and match[1] and match[1] != "0.0.0.0":
            return f"http://{match[1]}:{match[2]}"
    return ""
