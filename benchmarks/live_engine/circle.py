"""The circle on two real servers: import, solve, export, serve what was exported, route, check, replan.

Only `lorapack`'s own commands are used between the parts, as a user would.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from live_engine.environments import Environment
from live_engine.loads import stream
from live_engine.routers import nginx_command, routing
from live_engine.servers import SWAPS, LiveServer, side_by_side
from live_engine.tiny_engine import DEVICE, MEMORY_GIB, MODEL, TinyEngine
from twin import Requests
from twin.live import Answers, Drive, Limits, play

LOG_S = 1200.0
"""Seconds of traffic in the log that is imported."""

GPU_SHARE = 0.3
"""Share of what one server keeps up with that each of the two gets: two cores also run client and router."""

ITL_SHARE = 0.45
"""Share at which the mean time between tokens is as long as is allowed, so that one server is not enough."""


@dataclass(frozen=True)
class Circle:
    """Files and ports of a turn of the circle.

    Parameters
    ----------
    work
        Folder for its files.
    environment
        Where vLLM is.
    engine
        The small model and its adapters.
    profile
        File of the profile that was fitted.
    rate
        Requests per second of the fleet.
    itl_ms
        Longest mean time between tokens that the scenario allows.
    """

    work: Path
    environment: Environment
    engine: TinyEngine
    profile: Path
    rate: float
    itl_ms: float

    def lorapack(self, *words: object, codes: tuple[int, ...] = (0,)) -> str:
        """What a command prints, which is kept in ``commands.txt``.

        Raises
        ------
        RuntimeError
            If it ends with a code that is none of these.
        """
        texts = list(map(str, words))
        done = subprocess.run(
            [sys.executable, "-m", "optimizer", *texts], capture_output=True, text=True, check=False
        )
        told = f"$ lorapack {shlex.join(texts)}\n{done.stderr}{done.stdout}\n"
        with (self.work / "commands.txt").open("a") as file:
            file.write(
                told.replace(str(self.work) + "/", "").replace(str(self.engine.model.base.parent) + "/", "")
            )
        if done.returncode not in codes:
            raise RuntimeError(f"ended with {done.returncode}: {told}")
        return done.stdout

    # --- import, solve, export ------------------------------------------------------------------------

    def write_log(self, name: str, requests: Requests) -> Path:
        """Requests as a log of a gateway: JSON lines."""
        names = list(self.engine.model.ranks)
        file = self.work / name
        rows = zip(
            requests.arrival_s, requests.adapter, requests.prompt_tokens, requests.output_tokens, strict=True
        )
        lines = [
            json.dumps(
                {
                    "time": 1_790_000_000 + round(float(at), 3),
                    "adapter": names[adapter],
                    "prompt_tokens": int(prompt),
                    "output_tokens": int(output),
                }
            )
            for at, adapter, prompt, output in rows
        ]
        file.write_text("\n".join(lines) + "\n")
        return file

    def imported(self, log: Path, name: str, ports: tuple[int, int]) -> Path:
        """Import the adapters and a log as a scenario; ports are of the first engine and the router."""
        scenario = self.work / f"{name}.yaml"
        chosen = ("max_loras", "max_lora_rank")  # all adapters in CPU memory: they move while engines run
        keys = {key: value for key, value in self.engine.arguments.items() if key not in chosen}
        device = {"name": DEVICE, "profile": str(self.profile), "memory_gib": MEMORY_GIB, "count": 4}
        settings = {
            "model": MODEL,
            "export.model": self.engine.model.base,
            "export.served_model_name": MODEL,
            "export.port": ports[0],
            "export.router_port": ports[1],
            "devices": json.dumps([device]),
            "engine.max_loras": "8",  # so that a replan moves adapters, and starts no engine
            "service_levels.itl_ms.mean": f"{self.itl_ms:.2f}",
            **{f"engine.{key}": json.dumps(value) for key, value in keys.items()},
        }
        flags = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        adapters = self.engine.model.base.parent
        self.lorapack("import", adapters, log, "--out", scenario, "--window", "mean", *flags)
        return scenario

    def solved(self, scenario: Path) -> Path:
        """Compare the greedy with the exact plan, and keep the exact one's result."""
        result = scenario.with_suffix(".json")
        limit = ("--quiet", "--time-limit", 60)
        self.lorapack("compare", scenario, "--methods", "greedy,greedy-fill,exact", *limit)
        self.lorapack("solve", scenario, *limit, "--json", result)
        return result

    def replanned(self, scenario: Path, running: Path) -> Path:
        """The steps from a running plan to that of another scenario, as a script."""
        change, out = scenario.with_suffix(".json"), self.work / "steps"
        self.lorapack("replan", scenario, "--from", running, "--quiet", "--time-limit", 60, "--json", change)
        words = ("--scenario", scenario, "--from", running, "--to", "vllm", "--out", out)
        self.lorapack("export", change, *words)
        return out / "steps.sh"

    def export(self, result: Path, target: str, *more: object) -> Path:
        """Export a plan into a folder of the target's name."""
        out = self.work / f"{target}_{result.stem}"
        self.lorapack("export", result, "--to", target, "--out", out, *more)
        return out

    # --- serve ------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def fleet(self, folder: Path) -> Iterator[dict[int, LiveServer]]:
        """Start every exported command line unchanged, and end all servers on the way out."""
        scripts = scripts_of(folder)
        with side_by_side(scripts, self.environment, self.work, further=SWAPS) as servers:
            numbers = (int(re.findall(r"\d+", script.stem)[0]) for script in scripts)
            yield dict(zip(numbers, servers, strict=True))

    @contextlib.contextmanager
    def router(self, folder: Path) -> Iterator[str]:
        """Run the exported router."""
        found = re.search(r"listen\s+(?:[\d.]+:)?(\d+)", (folder / "nginx.conf").read_text())
        assert found is not None
        with routing(folder, self.work / "nginx.log", port=int(found[1])) as url:
            yield url

    def routed(self, url: str, seconds: float, seed: int) -> Answers:
        """Send the fleet's traffic through the router."""
        return self.sent(url, stream(self.engine, self.rate, seconds, seed), seconds, seed)

    def sent(self, url: str, requests: Requests, seconds: float, seed: int) -> Answers:
        """Send requests through the router."""
        drive = Drive(url, requests, self.engine.served_names, seconds, seed)
        (answers,) = play([drive], Limits(error_share=0.5))
        return answers

    # --- the steps of a replan, under load --------------------------------------------------------------

    def swapped(
        self, router: str, routes: Path, steps: Path, requests: Requests, seconds: float
    ) -> tuple[Answers, str]:
        """Carry out the steps to another plan while traffic flows; what became of it, and what they said."""
        said: list[str] = []
        reload = shlex.join(
            [str(nginx_command()), "-p", str(routes.resolve()), "-c", "nginx.conf", "-s", "reload"]
        )
        variables = {**os.environ, "LORAPACK_ROUTES": str(routes.resolve()), "LORAPACK_RELOAD": reload}

        def carry_out() -> None:
            done = subprocess.run(["bash", steps], capture_output=True, text=True, check=False, env=variables)
            said.append(f"{done.stdout}{done.stderr}exit code {done.returncode}")

        worker = threading.Timer(seconds / 4, carry_out)
        worker.start()
        answers = self.sent(router, requests, seconds, seed=9)
        worker.join()
        return answers, said[0] if said else ""


def scripts_of(folder: Path) -> list[Path]:
    """The exported scripts of one command line each, without the variant of resolver folders."""
    return sorted(
        path for path in folder.glob("*.sh") if "resolver" not in path.name and "steps" not in path.name
    )


def towards(requests: Requests, heavy: Sequence[int], share: float, seed: int) -> Requests:
    """The same traffic, but that a share of the other adapters' requests are for some that become popular."""
    rng = np.random.default_rng(seed)
    chosen = ~np.isin(requests.adapter, heavy) & (rng.random(len(requests)) < share)
    drawn = rng.choice(np.array(heavy), size=len(requests))
    return replace(requests, adapter=np.where(chosen, drawn, requests.adapter).astype(np.int32))
