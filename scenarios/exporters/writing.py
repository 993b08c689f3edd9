"""A deployment's files into a folder, whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

from scenarios.errors import cause_of
from scenarios.exporters.exported import Export
from scenarios.output import OutputFileError, remove_leftovers, temporary_folder
from scenarios.stopping.interrupts import unbroken

LIST = ".lorapack-export.json"
"""File that lists what an export wrote, so that the next one replaces that and nothing else."""

_MOST_LIST_BYTES = 50_000_000


def check_folder(folder: str | os.PathLike[str], kind: str = "") -> None:
    """Notice before the work that a folder cannot be written, or holds what another export wrote, or none.

    Parameters
    ----------
    folder
        The folder.
    kind
        What is to be exported, as `Export.kind`; empty: it is not known.

    Raises
    ------
    OutputFileError
        If it is no folder, is not writable, or holds other files.
    """
    target = Path(os.path.realpath(folder))
    if not target.exists():
        if not target.parent.is_dir() or not os.access(target.parent, os.W_OK | os.X_OK):
            raise OutputFileError(f"{folder} cannot be written; name a folder in one that exists")
        return
    if not target.is_dir():
        raise OutputFileError(f"{folder} is no folder; name a folder for the files of the deployment")
    if not os.access(target.parent, os.W_OK | os.X_OK) or target.is_mount():
        raise OutputFileError(f"{folder} cannot be replaced; name a folder within one that is writable")
    before, written = _listed(target)
    if before and kind and before != kind:
        raise OutputFileError(
            f"{folder} holds an export of {before}, which would be lost; name a new folder for {kind}, or "
            "empty that one"
        )
    foreign = sorted(_contents(target) - written - {LIST})
    if foreign:
        more = f" and {len(foreign) - 1:,} more" if len(foreign) > 1 else ""
        raise OutputFileError(
            f"{folder} holds {foreign[0]}{more}, which no export wrote; name a new or an empty folder"
        )


def write_export(export: Export, folder: str | os.PathLike[str]) -> Path:
    """Write a deployment's files; those of an earlier export in the folder are replaced.

    They are made beside it first, and then take its place, so that nobody sees half of them. What killed
    processes left beside it is removed.

    Raises
    ------
    OutputFileError
        As `check_folder`, or if a file cannot be written.
    """
    check_folder(folder, export.kind)
    target = Path(os.path.realpath(folder))
    try:
        with unbroken():
            remove_leftovers(target.parent)
            with temporary_folder(target) as made:
                _make(export, made)
                _swap(made, target)
    except OSError as error:
        raise OutputFileError(f"{folder} cannot be written ({cause_of(error)}); name another") from error
    return target


def _make(export: Export, folder: Path) -> None:
    for file in export.files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.text.encode(errors="backslashreplace"))
        if file.executable:
            path.chmod(path.stat().st_mode | (path.stat().st_mode & 0o444) >> 2)
    for link in export.links:
        path = folder / link.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(link.target)
    written = sorted([file.path for file in export.files] + [link.path for link in export.links])
    told = {"export": export.kind, "files": written}
    (folder / LIST).write_text(json.dumps(told, indent=0) + "\n", encoding="utf-8")


def _swap(made: Path, target: Path) -> None:
    if not target.exists():
        made.rename(target)
        return
    with temporary_folder(target) as room:
        old = room / target.name
        target.rename(old)
        try:
            made.rename(target)
        except OSError:
            old.rename(target)
            raise


def _contents(folder: Path) -> set[str]:
    """Files and links in a folder, by their paths in it."""
    found = set()
    for inner, folders, files in os.walk(folder):
        links = [name for name in folders if Path(inner, name).is_symlink()]
        found |= {str(Path(inner, name).relative_to(folder)) for name in (*files, *links)}
    return found


def _listed(folder: Path) -> tuple[str, set[str]]:
    """Of which kind an earlier export was, and what it wrote there; older lists do not tell the kind."""
    try:
        file = folder / LIST
        if file.stat().st_size > _MOST_LIST_BYTES:
            return "", set()
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return "", set()
    kind, written = (told.get("export"), told.get("files")) if isinstance(told, dict) else ("", told)
    paths = {str(path) for path in written} if isinstance(written, list) else set()
    return kind if isinstance(kind, str) else "", paths
