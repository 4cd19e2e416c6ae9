"""The record of proofs: one CSV, one row a type, sorted by name, with the versions that were proved."""

from __future__ import annotations

import csv
import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from kbit_ref.errors import BadInput, message
from kbit_ref.proofs.prove import Proof

__all__ = ["FILE", "Row", "merge", "read"]

FILE = "float32.csv"


@dataclass(frozen=True)
class Row:
    """A proof, where it ran and when; the columns of the file."""

    type: str
    bits: int
    meaning: int
    inputs: int
    faults: int
    hash: str
    kbit_ref: str
    numpy: str
    python: str
    machine: str
    date: str

    @classmethod
    def of(cls, proof: Proof) -> Row:
        """The row of a proof that has just been made, here."""
        from kbit_ref import __version__  # the package is whole by now

        return cls(
            *(proof.type, proof.bits, proof.meaning, proof.inputs, proof.faults, proof.hash),
            *(__version__, np.__version__, platform.python_version(), platform.machine()),
            datetime.now(UTC).date().isoformat(),
        )


COLUMNS = [field.name for field in fields(Row)]


def read(folder: Path) -> dict[str, Row]:
    """The rows of a record, by type; none if there is no record yet.

    Raises
    ------
    BadInput
        `prove: data/proofs/float32.csv, line 7 is no row of a record; restore the file`
    """
    path = folder / FILE
    if not path.exists():
        return {}
    rows = {}
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.DictReader(file)
        for number, line in enumerate(lines, start=2):
            try:
                values: dict[str, Any] = {name: line[name] for name in COLUMNS}
                values |= {name: int(line[name]) for name in ("bits", "meaning", "inputs", "faults")}
                rows[line["type"]] = Row(**values)
            except (KeyError, TypeError, ValueError):
                rule = f"line {number} is no row of a record"
                raise BadInput(message("prove", str(path), rule, "restore the file")) from None
    return rows


def merge(folder: Path, rows: Iterable[Row]) -> None:
    """Put rows into the record, in place of older ones of the same type; the file is whole at every moment."""
    folder.mkdir(parents=True, exist_ok=True)
    known = read(folder) | {row.type: row for row in rows}
    path = folder / FILE
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows([getattr(row, name) for name in COLUMNS] for _, row in sorted(known.items()))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
