"""How full engines are by the inner rows, whatever their slots and whatever they are given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

import learn
from learn import OptionRows, Regions
from scenarios import AdapterClass, AdapterKind, EngineOption, Scenario

FloatArray = NDArray[np.float64]

NOTHING = 1e9
"""Fill of an engine for which there are no rows."""


@dataclass(frozen=True, eq=False)
class EngineOptions:
    """The ways to run a GPU of one device with slots of one rank, and their rows.

    Parameters
    ----------
    engines
        Slots and rank of each way.
    resident
        Whether it has a slot for every adapter.
    shares
        What a unit of each feature takes of each row, as a share of its bound, shape
        (n_engines, m, n_features); rows that one has fewer than another are 0.
    """

    engines: tuple[EngineOption, ...]
    resident: tuple[bool, ...]
    shares: FloatArray

    @classmethod
    def of(cls, device: str, rows: list[OptionRows]) -> EngineOptions:
        """The options behind some rows."""
        most = max(len(one.rows) for one in rows)
        shares = np.stack(
            [
                np.pad(one.coefficients / one.bounds[:, None], ((0, most - len(one.rows)), (0, 0)))
                for one in rows
            ]
        )
        engines = tuple(EngineOption(device, one.max_loras, one.max_lora_rank) for one in rows)
        return cls(engines, tuple(one.regime == "resident" for one in rows), shares)

    def fills(self, sums: FloatArray) -> FloatArray:
        """How full each way is with GPUs of these feature sums, shapes (n, K) and (n_engines, n)."""
        return np.asarray((self.shares @ sums.T).max(axis=1))


@dataclass(frozen=True, eq=False)
class EngineRows:
    """The inner rows of a scenario, asked about any engine.

    An engine with other slots than those that were learned is taken for the nearest one that is worse off:
    with more slots, which take more memory, where each adapter has one; with fewer where they share them.

    Parameters
    ----------
    scenario
        Whose adapters are served.
    regions
        Linear regions of each device.
    """

    scenario: Scenario
    regions: Mapping[str, Regions]
    _features: dict[AdapterKind, FloatArray] = field(default_factory=dict)
    _options: dict[tuple[str, int], EngineOptions | None] = field(default_factory=dict)
    _shares: dict[tuple[EngineOption, int], FloatArray | None] = field(default_factory=dict)

    def features(self, kind: AdapterKind) -> FloatArray:
        """What an adapter of a kind adds to a GPU, shape (K,)."""
        if kind not in self._features:
            one = AdapterClass(
                kind.rank,
                kind.rate,
                kind.prompt,
                kind.output,
                ("one",),
                kind.levels,
                arrivals=kind.arrivals,
                reuse=kind.reuse,
            )
            self._features[kind] = np.asarray(learn.scenario_features(self.scenario, [one])[0])
        return self._features[kind]

    def ranks(self, device: str) -> tuple[int, ...]:
        """Ranks of the slots that a device's engines may have, ascending."""
        return tuple(sorted({one.max_lora_rank for one in self.regions[device].inner.options}))

    def options(self, device: str, rank: int) -> EngineOptions | None:
        """The ways to run a device with slots of a rank; None if there is none."""
        key = device, rank
        if key not in self._options:
            rows = [one for one in self.regions[device].inner.options if one.max_lora_rank == rank]
            self._options[key] = EngineOptions.of(device, rows) if rows else None
        return self._options[key]

    def fills(self, engine: EngineOption, adapters: int, sums: FloatArray) -> FloatArray:
        """How full an engine is with GPUs of so many adapters and these feature sums, shape (n, K)."""
        shares = self._of(engine, adapters)
        return np.full(len(sums), NOTHING) if shares is None else np.asarray((sums @ shares.T).max(axis=1))

    def fill(self, engine: EngineOption, adapters: int, sums: FloatArray) -> float:
        """How full an engine is with so many adapters of these feature sums, shape (K,)."""
        return float(self.fills(engine, adapters, sums[None, :])[0]) if sums.any() else 0.0

    def _of(self, engine: EngineOption, adapters: int) -> FloatArray | None:
        # Beyond the slots the rows do not depend on the number of adapters, nor do they below, but by row.
        key = engine, min(adapters, engine.max_loras + 1)
        if key not in self._shares:
            self._shares[key] = self._nearest(engine, adapters)
        return self._shares[key]

    def _nearest(self, engine: EngineOption, adapters: int) -> FloatArray | None:
        above = [rank for rank in self.ranks(engine.device) if rank >= engine.max_lora_rank]
        options = self.options(engine.device, min(above)) if above else None
        if options is None:
            return None
        slots = np.array([one.max_loras for one in options.engines])
        resident = np.array(options.resident)
        if adapters <= engine.max_loras:
            k = np.flatnonzero(resident & (slots >= engine.max_loras))
            k = k if len(k) else np.flatnonzero(resident & (slots >= adapters))
            chosen = k[slots[k].argmin()] if len(k) else None
        else:
            k = np.flatnonzero(~resident & (slots <= engine.max_loras))
            k = k if len(k) else np.flatnonzero(~resident)[:1]
            chosen = k[slots[k].argmax()] if len(k) else None
        return None if chosen is None else np.asarray(options.shares[chosen])
