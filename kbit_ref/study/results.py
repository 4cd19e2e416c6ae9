"""Results in a SQLite file: a row a cell, with everything needed to repeat it.

    facts         schema, title and text of the plan
    evaluations   what models were judged on: texts with their shares and floors, tasks with their chances
    cells         the question, the answer in numbers, and the loss of every window and the outcome of every question

Every finished cell is a transaction, so that a run which is killed loses nothing that it had finished. Loss,
excess and accuracy stand there for whoever opens the file with another program; `read` computes them anew.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, fields
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.errors import BadInput, message
from kbit_ref.study.plan import Plan
from kbit_ref.study.rows import Cell, Result, Subject

__all__ = ["Results", "facts_of", "read", "title_of"]

SCHEMA = 1
QUESTION = tuple(f.name for f in fields(Cell))
SUBJECT = tuple(f.name for f in fields(Subject) if f.name != "name")
NUMBERS = ("total_bits", "weight_error", "kurtosis", "seconds")
DERIVED = ("bits_per_parameter", "loss", "excess", "accuracy")
ARRAYS = ("nats", "right", "normed")  # blobs: float32 little endian, packed bits
COLUMNS = (*QUESTION, "scheme", *NUMBERS, *DERIVED, *SUBJECT, "evaluation", "facts", *ARRAYS)
TABLES = f"""
    CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
    CREATE TABLE evaluations (digest TEXT PRIMARY KEY, texts TEXT, tasks TEXT, floors BLOB) WITHOUT ROWID;
    CREATE TABLE cells ({", ".join(COLUMNS)}, PRIMARY KEY ({", ".join(QUESTION)}));
"""


class Results:
    """A results file that is written to; use it in a `with` statement.

    Parameters
    ----------
    path
        Made if it is not there.
    plan
        What is asked; a file that has rows already must have been judged in the same way.

    Raises
    ------
    BadInput
        `study: r.sqlite, it has schema 7 and this version reads 1; use the version that wrote it`
    """

    def __init__(self, path: str | os.PathLike[str], plan: Plan):
        self.path = Path(path)
        with _told(self.path):
            self.base = sqlite3.connect(self.path, isolation_level=None)
            try:
                self._prepare(plan)
            except BaseException:
                self.base.close()
                raise

    def _prepare(self, plan: Plan) -> None:
        self.base.execute("BEGIN IMMEDIATE")
        if not self.base.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for statement in filter(str.strip, TABLES.split(";")):
                self.base.execute(statement)
            self._fact("schema", str(SCHEMA))
        _check(self.base, self.path)
        before = dict(self.base.execute("SELECT name, value FROM facts"))
        how = _how(plan)
        now = json.dumps(how)
        known = json.loads(before.get("evaluation", now))
        if any(how.get(name) != value for name, value in known.items()) and self.done():
            rule = "its cells were judged in another way"
            raise BadInput(message("study", str(self.path), rule, "use a new file, or the evaluation of its plan"))
        for name, value in (("title", plan.title), ("plan", plan.text), ("evaluation", now)):
            self._fact(name, value)
        self.base.execute("COMMIT")

    def _fact(self, name: str, value: str) -> None:
        self.base.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def __enter__(self) -> Results:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.base.close()

    def done(self) -> set[Cell]:
        """The cells that are finished."""
        with _told(self.path):
            return {Cell(*row) for row in self.base.execute(f"SELECT {', '.join(QUESTION)} FROM cells")}

    def add(self, result: Result) -> None:
        """One more cell; it is in the file when this returns. A cell that is there already stays as it is.

        Raises
        ------
        BadInput
            `study: r.sqlite: s-0, it is another model than that of earlier cells; use a new file`
        """
        digest = result.facts["evaluation"]
        with _told(self.path):
            self.base.execute("BEGIN IMMEDIATE")  # from here on no other process adds anything
            try:
                self.same(result.cell.model, result.subject.digest, digest)
                self.base.execute(
                    "INSERT OR IGNORE INTO evaluations VALUES (?, ?, ?, ?)", (digest, *_evaluation(result))
                )
                marks = ", ".join("?" * len(COLUMNS))
                self.base.execute(f"INSERT OR IGNORE INTO cells VALUES ({marks})", _row(result))
                self.base.execute("COMMIT")
            except BaseException:
                if self.base.in_transaction:
                    self.base.execute("ROLLBACK")
                raise

    def same(self, model: str, digest: str, evaluation: str = "") -> None:
        """Refuse another model than that of the earlier cells of its name, or other windows and questions.

        Raises
        ------
        BadInput
            As of `add`.
        """
        asked = "SELECT digest, evaluation FROM cells WHERE model = ?"
        row = self.base.execute(asked, (model,)).fetchone() or (digest, evaluation)
        if row[0] != digest:
            rule = "it is another model than that of earlier cells"
        elif evaluation and row[1] != evaluation:
            rule = "its text or its questions are not those of earlier cells"
        else:
            return
        raise BadInput(message("study", f"{self.path}: {model}", rule, "use a new file"))


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What SQLite says, as one line."""
    try:
        yield
    except sqlite3.Error as error:
        remedy = "what was finished before is kept" if "full" in str(error) else "name another file"
        raise BadInput(message("study", str(path), str(error), remedy)) from None


def _check(base: sqlite3.Connection, path: Path) -> None:
    """Is it a file of this version?"""
    names = {name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not {"facts", "evaluations", "cells"} <= names:
        raise BadInput(message("study", str(path), "it holds no results of a study", "name another file"))
    row = base.execute("SELECT value FROM facts WHERE name = 'schema'").fetchone()
    if row is None or row[0] != str(SCHEMA):
        rule = f"it has schema {row and row[0]} and this version reads {SCHEMA}"
        raise BadInput(message("study", str(path), rule, "use the version that wrote it"))
    columns = {name for _, name, *_ in base.execute("PRAGMA table_info(cells)")}
    if lacking := [name for name in COLUMNS if name not in columns]:
        rule = f"its cells have no column {lacking[0]}"
        raise BadInput(message("study", str(path), rule, "it was changed by something else: use a new file"))


def _how(plan: Plan) -> dict[str, Any]:
    """The evaluation of a plan without places: what makes the numbers of two runs comparable.

    Of files it has the names and a digest of what is in them.
    """
    e = plan.evaluation
    named = {"text": Path(e.text).name, "tasks": Path(e.tasks).name}
    how = {f.name: named.get(f.name, getattr(e, f.name)) for f in fields(e)}
    try:
        files = [Path(name).read_bytes() for name in (e.text, e.tasks) if name]
    except OSError as error:
        raise BadInput(message("study", f"text = {e.text}", f"it cannot be read ({error})", "name another")) from None
    return how | ({"files": [hashlib.sha256(data).hexdigest()[:16] for data in files]} if files else {})


def _evaluation(result: Result) -> tuple[str, str, bytes]:
    """What is the same for all cells of an evaluation: texts, tasks, floors."""
    texts = {name: [len(x), result.shares[name]] for name, x in result.nats.items()}
    tasks = {name: [len(x), result.chances[name]] for name, x in result.right.items()}
    return json.dumps(texts), json.dumps(tasks), _numbers(result.floors)


def _numbers(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    return b"".join(np.asarray(x, "<f4").tobytes() for x in arrays.values())


def _bits(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    return np.packbits(np.concatenate([*arrays.values(), np.empty(0, bool)])).tobytes()


def _row(result: Result) -> tuple[Any, ...]:
    """The values of `COLUMNS`."""
    numbers = tuple(getattr(result, name) for name in (*NUMBERS, *DERIVED))
    of_subject = tuple(getattr(result.subject, name) for name in SUBJECT)
    facts = {name: value for name, value in result.facts.items() if name != "evaluation"}
    blobs = _numbers(result.nats), _bits(result.right), _bits(result.normed)
    told = result.facts["evaluation"], json.dumps(facts)
    return (*astuple(result.cell), result.scheme, *numbers, *of_subject, *told, *blobs)


def read(path: str | os.PathLike[str]) -> list[Result]:
    """The results of a file, in the order in which they were found.

    Raises
    ------
    BadInput
        `study: r.sqlite, there is no such file; run the study first`
    """
    with _opened(Path(path)) as base:
        evaluations = {row[0]: row[1:] for row in base.execute("SELECT * FROM evaluations")}
        rows = base.execute(f"SELECT {', '.join(COLUMNS)} FROM cells ORDER BY rowid")
        try:
            return [_result(dict(zip(COLUMNS, row, strict=True)), evaluations) for row in rows]
        except (KeyError, TypeError, ValueError) as error:
            rule = f"a row of it is damaged ({type(error).__name__}: {error})"
            raise BadInput(message("study", str(path), rule, "measure again in a new file")) from None


def title_of(path: str | os.PathLike[str]) -> str:
    """The title of the plan that a file answers."""
    return facts_of(path)["title"]


def facts_of(path: str | os.PathLike[str]) -> dict[str, str]:
    """By name: the schema of a file, and the title, text and evaluation of the plan that it answers."""
    with _opened(Path(path)) as base:
        return dict(base.execute("SELECT name, value FROM facts"))


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A results file to read."""
    if not path.is_file():
        raise BadInput(message("study", str(path), "there is no such file", "run the study first"))
    with _told(path):
        base = sqlite3.connect(path)
        try:
            _check(base, path)
            yield base
        finally:
            base.close()


def _result(row: dict[str, Any], evaluations: Mapping[str, tuple[str, str, bytes]]) -> Result:
    texts, tasks, floors = evaluations[row["evaluation"]]
    of_text, of_task = json.loads(texts), json.loads(tasks)
    numbers: dict[str, Any] = {name: math.nan if row[name] is None else row[name] for name in NUMBERS}  # SQLite: no NaN
    return Result(
        cell=Cell(**{name: row[name] for name in QUESTION}),
        subject=Subject(name=row["model"], **{name: row[name] for name in SUBJECT}),
        scheme=row["scheme"],
        nats=_floats_of(row["nats"], of_text),
        floors=_floats_of(floors, of_text) if floors else {},
        right=_bools_of(row["right"], of_task),
        normed=_bools_of(row["normed"], of_task),
        chances={name: chance for name, (_, chance) in of_task.items()},
        shares={name: share for name, (_, share) in of_text.items()},
        facts=json.loads(row["facts"]) | {"evaluation": row["evaluation"]},
        **numbers,
    )


def _floats_of(blob: bytes, lengths: Mapping[str, Any]) -> dict[str, NDArray[np.float32]]:
    return _parts(np.frombuffer(blob, "<f4"), lengths)


def _bools_of(blob: bytes, lengths: Mapping[str, Any]) -> dict[str, NDArray[np.bool_]]:
    n = sum(length for length, _ in lengths.values())
    if len(blob) != -(-n // 8):
        raise ValueError(f"{len(blob)} bytes for {n} answers")
    return _parts(np.unpackbits(np.frombuffer(blob, np.uint8), count=n).astype(bool), lengths)


def _parts(whole: NDArray[Any], lengths: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """An array for each name, one after the other."""
    ends = np.cumsum([0, *(length for length, _ in lengths.values())], dtype=int)
    if ends[-1] != len(whole):
        raise ValueError(f"{len(whole)} numbers for {ends[-1]} items")
    return dict(zip(lengths, np.split(whole, ends[1:-1]), strict=True)) if lengths else {}
