"""Steps from a running deployment to another as a bash script, for plain servers of vLLM.

What it calls: ``/health`` (vllm/entrypoints/serve/instrumentator/health.py), ``/v1/models``,
``/v1/load_lora_adapter`` and ``/v1/unload_lora_adapter`` (vllm/entrypoints/serve/lora/api_router.py, served
where VLLM_ALLOW_RUNTIME_LORA_UPDATING is set) and ``/metrics`` (vllm/v1/metrics/loggers.py), all of 0.32.0.
An adapter that is loaded already is refused there, so that the script looks first: it may be run again.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from scenarios.errors import Problem
from scenarios.exporters.deployment import DeployedAdapter, Deployment, ExportError, Group
from scenarios.exporters.exported import Export, ExportedFile
from scenarios.exporters.steps_between.actions import Load, Start, Stop, Switch, Unload
from scenarios.exporters.steps_between.waves import DeployedWave

Serve = Callable[[Group, Deployment], Sequence[str]]
"""The words of the command line that starts the engine of a group, without adapters."""

SCRIPT = "steps.sh"
CAUTIONS = (
    "Routes of a wave must be switched at once, and requests that run then end where they began.",
    "Unloading takes an adapter off the server's list; its engine drops it from memory when room is needed, "
    "the least recently used first, so that an adapter that is rarely asked for may be read from disk again.",
)

_HEAD = r"""#!/bin/bash
# Steps from the running deployment to the new one: load, wait, switch routes, unload.
# Run it again after a failure: it goes on where it stopped. Whatever it did by then is served as before.
# LORAPACK_ROUTES   folder of the router's files, of `export --to routing` (this one); a wave's are put there
# LORAPACK_RELOAD   command that makes the router read them, as nginx -s reload; true: it watches them; needed
# LORAPACK_START    command that is given the script of an engine, its name and its host; absent: started here
# LORAPACK_STOP     command that is given an engine's name, host and port, and stops it; needed to stop any
# LORAPACK_SETTLE   seconds until every router has the new routes (10)
# LORAPACK_TIMEOUT  seconds to wait for an engine to be ready, or without requests (1800)
# VLLM_API_KEY      key of the engines, if they ask for one
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
timeout=${LORAPACK_TIMEOUT:-1800}
routes=${LORAPACK_ROUTES:-.}
stopped() { echo "stopped in wave ${wave:-0}; all is still served: put it right and run $0 again" >&2; }
trap 'code=$?; [ "$code" -eq 0 ] || stopped' EXIT

fail() { echo "$1" >&2; return 1; }
call() {
  if [ -n "${VLLM_API_KEY:-}" ]; then
    curl --fail --silent --show-error \
      -K <(printf 'header = "Authorization: Bearer %s"\n' "$VLLM_API_KEY") "$@"
  else
    curl --fail --silent --show-error "$@"
  fi
}
post() { call -o /dev/null -H 'Content-Type: application/json' --data-raw "$2" "$1"; }
holds() {
  local models
  models=$(call "$1/v1/models") || fail "$1 does not answer" || exit 1
  python3 -c 'import json, sys
names = [model["id"] for model in json.load(sys.stdin)["data"]]
sys.exit(0 if sys.argv[1] in names else 3)' "$2" <<<"$models" && return 0
  [ $? -eq 3 ] || exit 1
  return 1
}
wait_ready() {
  local end=$((SECONDS + timeout))
  until call -o /dev/null "$1/health" 2>/dev/null; do
    [ "$SECONDS" -lt "$end" ] || fail "$1 is not ready after $timeout s"
    sleep 1
  done
}
takes_adapters() {
  local code
  code=$(curl --silent --show-error -o /dev/null -w '%{http_code}' -X POST \
    -H 'Content-Type: application/json' --data-raw '{}' "$1/v1/load_lora_adapter") ||
    fail "$1 does not answer"
  [ "$code" != 404 ] && [ "$code" != 405 ] ||
    fail "$1 takes no adapters while it runs: start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
}
load() { holds "$1" "$2" || post "$1/v1/load_lora_adapter" "$3"; }
loaded() { holds "$1" "$2" || fail "$1 does not list an adapter that was loaded: $2"; }
unload() { if holds "$1" "$2"; then post "$1/v1/unload_lora_adapter" "$3"; fi; }
idle() {
  local metrics
  metrics=$(call "$1/metrics") || return 1
  awk '/^vllm:num_requests_(running|waiting)[{ ]/ {seen = 1; n += $NF} END {exit !(seen && n == 0)}' \
    <<<"$metrics"
}
drain() {
  local end=$((SECONDS + timeout))
  until idle "$1" && sleep 1 && idle "$1"; do
    [ "$SECONDS" -lt "$end" ] || fail "$1 still has requests after $timeout s"
    sleep 1
  done
}
start_engine() {
  if call -o /dev/null "$4/health" 2>/dev/null; then return; fi
  if [ -n "${LORAPACK_START:-}" ]; then $LORAPACK_START "$1" "$2" "$3"; return; fi
  [ "$3" = 127.0.0.1 ] || fail "set LORAPACK_START: $2 is to run on $3"
  nohup bash "$1" >"$2.log" 2>&1 &
}
stop_engine() { $LORAPACK_STOP "$1" "$2" "$3"; }
switch_routes() {
  local file name
  for file in "$1"/*; do
    name=$routes/${file##*/}
    cp -- "$file" "$name.new"
    mv -- "$name.new" "$name"
  done
  $LORAPACK_RELOAD
  sleep "${LORAPACK_SETTLE:-10}"
}
done_waves=0
if [ -e steps.done ]; then done_waves=$(<steps.done); fi
[ -n "${LORAPACK_RELOAD:-}" ] || fail "set LORAPACK_RELOAD to what makes the router read its files"
"""
_STOPS = """\
[ -n "${LORAPACK_STOP:-}" ] || fail "set LORAPACK_STOP to what stops an engine of a name, host and port"
"""


def steps_script(
    deployed: Sequence[DeployedWave],
    serve: Serve,
    routes: Callable[[Deployment], Iterable[ExportedFile]],
) -> Export:
    """Return the script, the routes of each wave, and a script for each engine that starts.

    Parameters
    ----------
    deployed
        The waves.
    serve
        The words that start an engine.
    routes
        The files of a deployment's router.

    Raises
    ------
    ExportError
        If adapters are to be loaded of which nobody said where they are.
    """
    _check_sources(deployed)
    files, script = [], [_HEAD]
    if any(isinstance(action, Stop) for one in deployed for action in one.wave.actions):
        script.append(_STOPS)
    script += [shlex.join(["takes_adapters", url]) for url in _changed_while_they_run(deployed)]
    for number, one in enumerate(deployed, start=1):
        files += [replace(file, path=f"routing-wave-{number}/{file.path}") for file in routes(one.switch)]
        files += _engine_scripts(number, one, serve)
        script += ["", f"wave={number}", f'if [ "$done_waves" -lt {number} ]; then', f"echo wave {number}"]
        script += _wave_lines(number, one)
        script += [f"echo {number} >steps.done", "fi"]
    script += ["", "echo 'the new deployment runs'", ""]
    files.insert(0, ExportedFile(SCRIPT, "\n".join(script), executable=True))
    return Export(tuple(files), (), (), CAUTIONS, (f"LORAPACK_RELOAD=COMMAND ./{SCRIPT}",))


def _check_sources(deployed: Sequence[DeployedWave]) -> None:
    unknown = {
        action.adapter: None
        for one in deployed
        for action in one.wave.actions
        if isinstance(action, Load) and _adapter(one, action).location is None
    }
    if unknown:
        remedy = "state adapters[].source in the scenario"
        raise ExportError([Problem(f'adapter "{name}"', "has no source to load", remedy) for name in unknown])


def _changed_while_they_run(deployed: Sequence[DeployedWave]) -> list[str]:
    """Engines that are loaded or unloaded, without those that are started here, which allow it."""
    started, changed = set[int](), dict[int, str]()
    for one in deployed:
        started |= {action.gpu for action in one.wave.actions if isinstance(action, Start)}
        for action in one.wave.actions:
            if isinstance(action, Load | Unload):
                changed.setdefault(action.gpu, _url(_group(one, action.gpu)))
    return [url for gpu, url in changed.items() if gpu not in started]


def _group(one: DeployedWave, number: int) -> Group:
    return next(group for group in one.load.groups if group.number == number)


def _adapter(one: DeployedWave, action: Load | Unload) -> DeployedAdapter:
    return next(a for a in _group(one, action.gpu).adapters if a.name == action.adapter)


def _engine_scripts(number: int, one: DeployedWave, serve: Serve) -> Iterator[ExportedFile]:
    for action in one.wave.actions:
        if isinstance(action, Start):
            group = _group(one, action.gpu)
            lines = [
                "#!/bin/bash",
                f"export CUDA_VISIBLE_DEVICES={','.join(map(str, group.devices))}",
                "export VLLM_ALLOW_RUNTIME_LORA_UPDATING=1",
                f"exec {shlex.join(serve(group, one.load))}",
                "",
            ]
            yield ExportedFile(_engine_script(number, group), "\n".join(lines), executable=True)


def _engine_script(number: int, group: Group) -> str:
    return f"engine-wave-{number}-g{group.number}.sh"


def _wave_lines(number: int, one: DeployedWave) -> Iterator[str]:
    """The calls of a wave: starts, then ready, loads, listed, switch, unloads, stops."""
    actions = one.wave.actions
    starts = [_group(one, action.gpu) for action in actions if isinstance(action, Start)]
    for group in starts:
        yield shlex.join(["start_engine", _engine_script(number, group), group.name, group.host, _url(group)])
    for group in starts:
        yield shlex.join(["wait_ready", _url(group)])
    loads = [(_group(one, a.gpu), _adapter(one, a)) for a in actions if isinstance(a, Load)]
    for group, adapter in loads:
        assert adapter.location is not None  # _check_sources has looked
        body = json.dumps({"lora_name": adapter.served_name, "lora_path": adapter.location.plain})
        yield shlex.join(["load", _url(group), adapter.served_name, body])
    for group, adapter in loads:
        yield shlex.join(["loaded", _url(group), adapter.served_name])
    if any(isinstance(action, Switch) for action in actions):
        yield f"switch_routes routing-wave-{number}"
    for action in actions:
        if isinstance(action, Unload):
            name = _adapter(one, action).served_name
            body = json.dumps({"lora_name": name})
            yield shlex.join(["unload", _url(_group(one, action.gpu)), name, body])
    stops = [_group(one, action.gpu) for action in actions if isinstance(action, Stop)]
    for group in stops:
        yield shlex.join(["drain", _url(group)])
        yield shlex.join(["stop_engine", group.name, group.host, str(group.port)])


def _url(group: Group) -> str:
    return f"http://{group.host}:{group.port}"
