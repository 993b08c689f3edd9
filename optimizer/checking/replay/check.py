"""Foretold beside measured: the requests of a plan, sent to its servers and played by the twin."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from optimizer.checking.readings import MetricsReading
from optimizer.checking.replay.check_arguments import checked_addresses
from optimizer.checking.replay.check_params import CheckParams
from optimizer.checking.replay.check_report import CheckedGPU, CheckedServer, CheckReport
from optimizer.checking.replay.gpu_check import checked_gpu
from optimizer.checking.replay.planned_runs import PlannedRun, Planner
from optimizer.checking.replay.run_figures import MOST_TAIL
from optimizer.checking.replay.servers import beside_plan, names_at
from optimizer.checking.watching import reading_between
from optimizer.result import Result
from scenarios import UNLIMITED, Deadline, criterion_in_words, noticed
from scenarios.stopping.progress import Progress, silent
from scenarios.text.formatting import counted, listed
from twin import profiles_of
from twin.live import Drive, Limits, ServerError, Timeouts, ask_servers, play
from twin.live.fetching import fetch_texts
from twin.sustained import patience_of

DEFAULTS = CheckParams()

USUAL_S = 600.0
"""Seconds of a check where none are given; a shorter scenario is played whole."""

LONGEST_ANSWER_S = 900.0
"""Seconds that an answer may take in all; in a longer run as long as that."""

NAMED = 5
"""Names in a sentence."""


@dataclass(frozen=True)
class Check:
    """A check that is planned: who is sent what, before anybody is spoken to.

    Parameters
    ----------
    result
        The plan.
    runs
        One for each server.
    seconds
        How long requests are sent.
    load_factor
        How many times the scenario's rates.
    seed, prompt_seed
        Of the requests, and of the tokens of their prompts.
    params
        Tolerances.
    """

    result: Result
    runs: tuple[PlannedRun, ...]
    seconds: float
    load_factor: float
    seed: int
    prompt_seed: int
    params: CheckParams

    @classmethod
    def of(
        cls,
        result: Result,
        urls: Mapping[int, str],
        *,
        minutes: float | None = None,
        load_factor: float = 1.0,
        seed: int | None = None,
        params: CheckParams = DEFAULTS,
    ) -> Check:
        """Plan a check; arguments as of `check`.

        Raises
        ------
        ScenarioError
            If an argument is wrong, or the result has no plan, or no such GPU.
        scenarios.errors.InputError
            If an address is none.
        twin.MemoryFailure, twin.UnservableRequestError
            If the twin cannot play it: an engine does not start, or a request does not fit into its cache.
        """
        checked = checked_addresses(result, urls, minutes, load_factor, seed, params)
        scenario, placement = result.scenario, result.placement
        assert placement is not None  # checked_addresses has looked
        seconds = min(USUAL_S, scenario.workload.duration_s) if minutes is None else 60.0 * minutes
        chosen = scenario.seed if seed is None else seed
        planner = Planner(scenario, placement, seconds, load_factor, chosen, params.deviations)
        runs = planner.runs(checked)
        for run in runs:
            run.foretold(seconds)  # what cannot be played is told before anything is sent
        # A seed that was used before gives prompts that servers have in their caches.
        return cls(result, runs, seconds, load_factor, chosen, time.time_ns() // 10**6, params)

    @property
    def announcement(self) -> str:
        """What is going to be sent, to which hosts."""
        requests = sum(len(run.requests) for run in self.runs)
        tokens = sum(run.tokens for run in self.runs)
        hosts = listed([run.url for run in self.runs], NAMED)
        return (
            f"about to send {counted(requests, 'request')} of {tokens:,} tokens in "
            f"{self.seconds / 60:.3g} min to {hosts}"
        )

    def ask(self) -> tuple[CheckedServer, ...]:
        """What every server says of itself, beside the plan; no request for tokens is sent.

        Raises
        ------
        twin.live.ServerError
            If some cannot be asked, all of them in one message.
        """
        told = ask_servers([run.url for run in self.runs])
        engine = self.result.scenario.engine
        return tuple(
            beside_plan(run, one, engine, self.params) for run, one in zip(self.runs, told, strict=True)
        )

    def unsent(self, servers: Sequence[CheckedServer]) -> CheckReport:
        """The report of a check that ends before anything is sent, as servers lack names of the plan."""
        gpus = []
        for run, server in zip(self.runs, servers, strict=True):
            faults: tuple[str, ...] = ()
            if server.missing:
                faults = (f"its server does not serve {listed(server.missing, NAMED)}",)
            gpus.append(CheckedGPU(gpu=run.gpu.gpu, url=run.url, server=server, faults=faults))
        return self._report(gpus, 0.0, "")

    def play(
        self,
        servers: Sequence[CheckedServer],
        deadline: Deadline = UNLIMITED,
        progress: Progress = silent,
    ) -> CheckReport:
        """Send the requests, and compare what came back with what the twin makes of them.

        A run that is cut short is compared up to there, and proves nothing.

        Parameters
        ----------
        servers
            What they said of themselves.
        deadline
            When the run is cut.
        progress
            Called with progress.
        """
        pages = [f"{run.url}/metrics" for run in self.runs]
        names = [names_at(run, server) for run, server in zip(self.runs, servers, strict=True)]
        drives = [
            Drive(run.url, run.requests, known, horizon_s=self.seconds, seed=self.prompt_seed)
            for run, known in zip(self.runs, names, strict=True)
        ]
        limits = Limits(
            error_share=self.params.error_share,
            timeouts=Timeouts(stall_s=self.params.stall_s, answer_s=max(LONGEST_ANSWER_S, self.seconds)),
            deadline=deadline,
        )
        with noticed():
            before = fetch_texts(pages)
            answers = play(drives, limits, progress)
            after = fetch_texts(pages)
            servers = self._asked_again(servers)
        told = [
            reading_between(run.gpu.gpu, page, before[page], after[page])
            for run, page in zip(self.runs, pages, strict=True)
        ]
        counts = [one if isinstance(one, MetricsReading) else None for one in told]
        gpus = [
            checked_gpu(*of, self.result.scenario, self.params)
            for of in zip(self.runs, servers, names, answers, counts, strict=True)
        ]
        return self._report(gpus, answers[0].horizon_s, answers[0].stopped)

    def _asked_again(self, servers: Sequence[CheckedServer]) -> Sequence[CheckedServer]:
        """What servers say after a run: of their slots they tell once they have served an adapter."""
        try:
            return self.ask()
        except ServerError:
            return servers  # one has died, which the figures tell

    def _report(self, gpus: Sequence[CheckedGPU], seconds: float, stopped: str) -> CheckReport:
        lags = [one.client_lag_s for one in gpus if one.client_lag_s is not None]
        return CheckReport(
            scenario=self.result.scenario.name,
            criterion=criterion_in_words(self.result.scenario, one_run=True),
            gpus=tuple(gpus),
            planned_seconds=self.seconds,
            seconds=seconds,
            load_factor=self.load_factor,
            seed=self.seed,
            prompt_seed=self.prompt_seed,
            stopped=stopped,
            trusted=max(lags, default=0.0) <= self.params.client_lag_s,
            notes=(*_common_causes(gpus), *self._notes()),
        )

    def _notes(self) -> Iterator[str]:
        """What of the scenario is played otherwise than it stands, and how sure the twin is."""
        scenario = self.result.scenario
        if scenario.uncertain:
            yield "rates between low and high: the high ones are sent"
        cached = sum(run.cached_tokens for run in self.runs)
        if cached:
            yield (
                f"{cached:,} prompt tokens that the scenario says are found in the cache cannot be put "
                "there: they are computed, here and in the twin"
            )
        for device, profile in profiles_of(scenario).items():
            if profile.derived is not None:
                yield f"step times of {device} are derived: {profile.how_sure}"
            elif profile.uncertainty.residual_share is None:
                yield f"the profile of {device} does not say how far off its step times may be"
        longest = max(float(patience_of(run.load, scenario.service_levels).max()) for run in self.runs)
        if scenario.acceptance == "sustained" and longest > MOST_TAIL * self.seconds:
            yield (
                f"requests may wait {longest:g} s: a run of {self.seconds:g} s hardly tells who waits "
                "longer; check for more minutes"
            )


def _common_causes(gpus: Sequence[CheckedGPU]) -> Iterator[str]:
    """What all GPUs have in common that are not as foretold."""
    slow = [any(f.name == "itl_mean_ms" and f.differs == "worse" for f in gpu.figures) for gpu in gpus]
    if len(gpus) > 1 and all(slow):
        yield (
            "tokens take longer than foretold on every GPU: these GPUs or hosts are slower than those that "
            "the profile is of; measure one, and plan again with its profile"
        )


def check(
    result: Result,
    urls: Mapping[int, str],
    *,
    minutes: float | None = None,
    load_factor: float = 1.0,
    seed: int | None = None,
    total_limit_s: float | None = None,
    params: CheckParams = DEFAULTS,
    progress: Progress = silent,
) -> CheckReport:
    """Send a plan's servers the requests of its scenario, and compare what they do with what was foretold.

    The servers are asked first which models they serve; where one lacks a name of the plan nothing is sent.
    A key is read from the environment variable OPENAI_API_KEY.

    Parameters
    ----------
    result
        The plan, with its scenario.
    urls
        Address of the server of each GPU that is checked, by the GPU's number.
    minutes
        How long requests are sent; absent: 10, or the scenario's duration if that is shorter.
    load_factor
        How many times the scenario's rates.
    seed
        Of the requests; absent: the scenario's.
    total_limit_s
        Seconds for everything; the run is cut then, and proves nothing.
    params
        Tolerances.
    progress
        Called with progress.

    Raises
    ------
    ScenarioError
        If an argument is wrong, or the result has no plan, or no such GPU.
    scenarios.errors.InputError
        If an address is none, or a server cannot be asked.
    twin.MemoryFailure, twin.UnservableRequestError
        If the twin cannot play it.
    """
    deadline = Deadline.of(total_limit_s)
    planned = Check.of(result, urls, minutes=minutes, load_factor=load_factor, seed=seed, params=params)
    servers = planned.ask()
    if any(server.missing for server in servers):
        return planned.unsent(servers)
    return planned.play(servers, deadline, progress)
