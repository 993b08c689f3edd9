"""What the commands write: checked before the work, written after the answer is told."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import NoReturn

import typer

from optimizer.cli.exits import EXIT_SOLVED, EXIT_USAGE
from optimizer.cli.streams import note, say, say_exactly, show
from scenarios import (
    LorapackError,
    OutputFileError,
    Placement,
    check_writable,
    noticed,
    write_placement,
    write_whole,
)
from scenarios.output import descriptor_of, same_file
from scenarios.plots import PlotError, picture_format
from scenarios.stopping.interrupts import ignore_signals
from scenarios.text.tables import Part

PLOT = "--plot"
"""The option that names a picture, in every command that draws one."""

STDOUT = "-"
"""What names standard output where a file or that may be given."""

Answer = str | Sequence[Part]
"""What is told: text as it is, or parts that are fitted to the terminal."""

Target = str | Path | None
"""Where to: text may be `STDOUT`, a path names a file, None asks for nothing."""


@dataclass(frozen=True)
class Output:
    """Something to be written, if it is asked for.

    Parameters
    ----------
    target
        Where to.
    write
        Writes it there.
    """

    target: Target
    write: Callable[[str | Path], object]


def check_outputs(outputs: Mapping[str, Target], inputs: Iterable[str | Path | None] = ()) -> None:
    """Notice before the work what could not be written after it, or would overwrite what it should not.

    Parameters
    ----------
    outputs
        Where each option of the command writes to.
    inputs
        Files that the command reads; None is an option that was not given.

    Raises
    ------
    OutputFileError
        With every output that cannot be written, is an input too, or is the same as another, and a picture
        whose ending names no format.
    """
    given = {option: target for option, target in outputs.items() if target is not None}
    faults = list(_unwritable(given, tuple(file for file in inputs if file is not None))) or list(
        _shared(given)
    )
    if faults:
        raise OutputFileError("\n".join(faults))


def text_output(target: Target, text: Callable[[], str]) -> Output:
    """Text, made when it is written; `STDOUT` is standard output, where it stands alone."""
    return Output(target, lambda to: _write_text(to, text()))


def placement_output(target: Path | None, placement: Placement | None) -> Output:
    """A placement, if there is one."""
    if placement is None:
        return Output(target, lambda to: note(f"lorapack: {to} is not written, as there is no plan"))
    return Output(target, lambda to: write_placement(placement, to))


def deliver(
    answers: Iterable[Answer | Callable[[], Answer]], *outputs: Output, code: int = EXIT_SOLVED
) -> NoReturn:
    """Tell the answer, unless an output takes standard output, then write every output; end the command.

    What fails is told on stderr and stops none of the others; the exit code is then 2. A signal that comes
    now breaks nothing off: the work is done.

    Parameters
    ----------
    answers
        Parts of the answer, or what makes one when it is told: text, or what fits the terminal.
    outputs
        What is to be written.
    code
        Exit code if nothing fails.
    """
    steps: list[Callable[[], object]] = []
    if STDOUT not in (output.target for output in outputs):
        steps += [partial(_tell, part) for part in answers]
    steps += [partial(output.write, output.target) for output in outputs if output.target is not None]
    with noticed():
        code = _deliver_all(steps, code)
    ignore_signals()
    raise typer.Exit(code)


def _deliver_all(steps: Iterable[Callable[[], object]], code: int) -> int:
    """Take every step, whatever becomes of the others; the exit code."""
    faults: list[Exception] = []
    for step in steps:
        try:
            step()
        except LorapackError as error:
            note(f"lorapack: {error}")
            code = EXIT_USAGE
        except Exception as error:  # a fault of ours, which must not cost what the others write
            faults.append(error)
    for fault in faults:
        raise fault
    return code


def _tell(part: Answer | Callable[[], Answer]) -> None:
    answer = part() if callable(part) else part
    if isinstance(answer, str):
        say(answer)
    else:
        show(*answer)


def _write_text(target: str | Path, text: str) -> None:
    if target == STDOUT:
        say_exactly(text)
    else:
        write_whole(target, text if text.endswith("\n") else text + "\n")


def _unwritable(given: Mapping[str, str | Path], inputs: Sequence[str | Path]) -> Iterator[str]:
    for option, target in given.items():
        if target == STDOUT:
            continue
        if target == Path(STDOUT):
            yield f"{option} takes no -; name a file, or /dev/stdout"
            continue
        try:
            check_writable(target, inputs)
            if option == PLOT:
                picture_format(target)
        except (OutputFileError, PlotError) as error:
            yield str(error)


def _shared(given: Mapping[str, str | Path]) -> Iterator[str]:
    """What two outputs name, but for where nothing is kept, and what the answer is redirected to."""
    paths = {option: "/dev/stdout" if target == STDOUT else target for option, target in given.items()}
    for (one, first), (other, second) in combinations(paths.items(), 2):
        if same_file(first, second) and not same_file(first, os.devnull):
            yield f"{one} and {other} both name {given[other]}; name two files"
    for option, path in paths.items():
        is_file = Path(path).is_file() and descriptor_of(path) is None
        if is_file and STDOUT not in given.values() and same_file(path, "/dev/stdout"):
            yield f"{option} names {path}, where standard output goes; name another file"
