"""Check options that several commands share: none without effect, and places that can be written to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kbit_ref.errors import BadInput, message

__all__ = ["refuse_idle", "writable_directory", "writable_file"]


def refuse_idle(command: str, given: Mapping[str, Any], rule: str, remedy: str) -> None:
    """Refuse options that would do nothing; one that was not given is None, False or an empty list.

    Raises
    ------
    BadInput
        `generate: --top-k, at temperature 0 the likeliest token is chosen; add --temperature 1, or leave it out`

    Examples
    --------
    >>> refuse_idle("train", {"--steps": None, "--skip": []}, "a run has its own", "leave it out")
    """
    names = [name for name, value in given.items() if value is not None and value is not False and value != []]
    if names:
        raise BadInput(message(command, ", ".join(names), rule, remedy))


def writable_directory(command: str, path: str | os.PathLike[str]) -> Path:
    """Return a directory that can be written into; it is made where it is not there.

    Raises
    ------
    BadInput
        `train: -o notes.txt, there is a file of that name; name another directory`
    """
    folder = Path(path)
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            rule = "there is a file of that name" if place == folder else f"{place} is a file"
            raise BadInput(message(command, f"-o {path}", rule, "name another directory"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        raise BadInput(message(command, f"-o {path}", "it cannot be made there", "name another directory")) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise BadInput(message(command, f"-o {path}", "it may not be written into", "name another directory"))
    return folder


def writable_file(command: str, path: str | os.PathLike[str]) -> Path:
    """Return a file that can be made, or written to if it is there.

    Raises
    ------
    BadInput
        `study: -o no/r.sqlite, there is no directory no; make it, or name another file`
    """
    file = Path(path)
    if file.is_dir():
        raise BadInput(message(command, f"-o {path}", "it is a directory", "name a file"))
    if not file.parent.is_dir():
        rule = f"there is no directory {file.parent}"
        raise BadInput(message(command, f"-o {path}", rule, "make it, or name another file"))
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise BadInput(message(command, f"-o {path}", "it may not be written there", "name another file"))
    return file
