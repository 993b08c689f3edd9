"""HiGHS without its banner, which it writes to standard output, where results belong."""

from __future__ import annotations

from typing import Any


def quiet_highs(*, interruptible: bool = False) -> Any:
    """A `highspy.Highs` of one thread that writes nothing; `cancelSolve` ends an interruptible one.

    Its callbacks log before any option can be set otherwise. One thread, always: HiGHS refuses to run
    with another number of threads than the first of the process, and its answer could depend on it.
    """
    import highspy

    class Quiet(highspy.Highs):
        """Turns the log off before the callbacks are set up."""

        def enableCallbacks(self) -> None:  # noqa: N802 (highspy's name)
            self.setOptionValue("output_flag", False)
            super().enableCallbacks()  # type: ignore[no-untyped-call]

    solver: Any = Quiet()  # type: ignore[no-untyped-call]
    solver.setOptionValue("threads", 1)
    if interruptible:
        solver.HandleUserInterrupt = True
    return solver
