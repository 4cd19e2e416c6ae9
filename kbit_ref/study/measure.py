"""A cell to a result: quantize the matrices of a model, decode them, and let the model sit its exam.

The matrices are decoded once, as a whole, and the plain forward pass does the rest: the same numbers as a product
that decodes tile by tile, in less time. A model, its exam and its calibration inputs are kept between cells.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.errors import BadInput, message
from kbit_ref.methods.inputs import inputs_of, previous_of
from kbit_ref.methods.registry import Given, Method, method
from kbit_ref.study.evaluation import Exam, exam_of
from kbit_ref.study.kinds import scheme_of
from kbit_ref.study.plan import Evaluation
from kbit_ref.study.rows import Cell, Result, Subject
from kbit_ref.tensors.dequantize import dequantize
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scheme import Scheme, scheme
from kbit_ref.transformer.load import load_model
from kbit_ref.transformer.model import EMBEDDINGS, Model

__all__ = ["Rounding", "measure", "subject_of"]

Array = NDArray[Any]
STAYS = 16  # bits of a number that is not quantized


@dataclass(frozen=True, eq=False)
class Rounding:
    """A matrix [d_out, d_in] that rounds what it is multiplied with (`transformer.products.Factor`)."""

    weight: Array
    activations: Scheme

    @property
    def shape(self) -> tuple[int, ...]:
        """[d_out, d_in]."""
        return self.weight.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the weights."""
        return self.weight.dtype

    def times(self, x: Array) -> Array:
        """x [n, d_in], rounded, @ W.T -> [n, d_out]."""
        return np.asarray(dequantize(quantize(x, self.activations)) @ self.weight.T)

    def rows(self, index: NDArray[np.intp]) -> Array:
        """W[index], which is no product."""
        return np.asarray(self.weight[index])


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model as it is, and what is known about it."""

    model: Model
    subject: Subject
    exam: Exam
    family: str

    def matrices(self, scope: str) -> dict[str, Array]:
        """Those that a scope quantizes; a tied embedding is one matrix."""
        found = {name: value for name, value in self.model.parameters.items() if len(value.shape) == 2}
        return {name: value for name, value in found.items() if scope == "all" or name not in EMBEDDINGS}

    @cached_property
    def inputs(self) -> Mapping[str, Array]:
        """What matrices are multiplied with when the model reads the calibration windows."""
        if not len(self.exam.calibration):
            rule = "there are no windows to calibrate with"
            raise BadInput(message("study", self.subject.name, rule, "use a longer text, or calibration = 64"))
        return inputs_of(self.model, self.exam.calibration[:, :-1])

    @cached_property
    def previous(self) -> Mapping[str, Array]:
        """The matrix before each."""
        return previous_of(self.model)

    def given(self, how: Method, name: str) -> Given | None:
        """What a method needs to know about a matrix; None where that does not exist."""
        parts = {part: getattr(self, part).get(name) for part in how.needs}
        return None if any(value is None for value in parts.values()) else Given(**parts)

    @cached_property
    def kurtosis(self) -> Mapping[str, float]:
        """For each scope: the mean of (w / rms)**4 of its matrices."""
        fourth = {name: _fourth(x) for name, x in self.matrices("all").items()}
        return {
            scope: sum(fourth[name] for name in found) / max(sum(x.size for x in found.values()), 1)
            for scope, found in (("all", self.matrices("all")), ("linear", self.matrices("linear")))
        }


def _fourth(x: Array) -> float:
    """The sum of (x / rms)**4."""
    square = np.square(x, dtype=np.float64)
    return float(np.square(square).sum() / max(square.mean() ** 2, np.finfo(np.float64).tiny))


def measure(folder: str | os.PathLike[str], evaluation: Evaluation, cell: Cell) -> Result:
    """What a cell gives.

    Parameters
    ----------
    folder
        Of the model that the cell names.
    evaluation
        On what it is judged.
    cell
        The question.

    Raises
    ------
    BadInput
        `load_model: m/config.json, there is no such file; name a model's directory`

    Choices
    -------
    A matrix that lacks what the method needs is rounded to nearest: positions are multiplied with nothing, and
    before the first matrix there is none.
    """
    begin = time.perf_counter()
    loaded = _loaded(Path(folder), evaluation, cell.model)
    matrices = loaded.matrices(cell.scope)
    s, counted = None, sum(x.size for x in matrices.values())
    bits, error, changed = STAYS * counted, 0.0, dict[str, Any]()
    if cell.kind != "none":
        s = scheme_of(cell.kind, cell.bits, cell.block)
        rounded = scheme(cell.activations) if cell.activations else None
        bits, error, changed = _quantized(loaded, matrices, s, method(cell.method), rounded)
    if cell.scope == "all":
        bits += STAYS * (loaded.subject.n_parameters - counted)
    with np.errstate(over="ignore", invalid="ignore"):  # of a model that few bits have broken
        outcome = loaded.exam.judge(replace(loaded.model, parameters=loaded.model.parameters | changed))
    return Result(
        cell,
        loaded.subject,
        str(s or ""),
        bits,
        outcome.nats,
        outcome.right,
        outcome.normed,
        loaded.exam.chances,
        loaded.exam.shares,
        loaded.exam.floors,
        error,
        loaded.kurtosis[cell.scope],
        time.perf_counter() - begin,
        {
            "evaluation": loaded.exam.digest,
            "family": loaded.family,
            "words": loaded.model.config.n_vocab,
            **_versions(),
        },
    )


def _quantized(
    loaded: Loaded, matrices: Mapping[str, Array], s: Scheme, how: Method, rounded: Scheme | None
) -> tuple[int, float, dict[str, Any]]:
    """All bits, the relative squared error, and the decoded matrices."""
    bits, lost, whole, changed = 0, 0.0, 0.0, dict[str, Any]()
    for name, x in matrices.items():
        given = loaded.given(how, name)
        coded = method("nearest")(x, s) if given is None else how(x, s, given)
        decoded = coded.decoded()
        bits += coded.bits
        lost += float(np.square(x - decoded, dtype=np.float64).sum())
        whole += float(np.square(x, dtype=np.float64).sum())
        changed[name] = decoded if rounded is None else Rounding(decoded, rounded)
    return bits, lost / whole if whole else 0.0, changed


@lru_cache(maxsize=1)
def _loaded(folder: Path, evaluation: Evaluation, name: str) -> Loaded:
    model = load_model(folder)
    family = str(json.loads((folder / "config.json").read_text("utf-8"))["model_type"])
    return Loaded(model, subject_of(model, folder, name), exam_of(evaluation, folder, model.config), family)


def subject_of(model: Model, folder: Path, called: str = "") -> Subject:
    """A model of the study, from its parameters and the record of its training if there is one.

    Parameters
    ----------
    model, folder
        The model and where it was loaded from.
    called
        Its name; by default that of its directory.
    """
    hashed, linear = hashlib.sha256(), 0
    for name, value in model.parameters.items():
        if not isinstance(value, np.ndarray):
            rule = "it is quantized already"
            raise BadInput(message("study", f"{folder}: {name}", rule, "use the model as it was before"))
        hashed.update(f"{name} {value.shape}".encode() + np.ascontiguousarray(value).tobytes())
        linear += value.size if value.ndim == 2 and name not in EMBEDDINGS else 0
    called = called or folder.name
    size, seed, tokens = _training(folder, called)
    return Subject(called, model.n_parameters, linear, size, seed, tokens, hashed.hexdigest())


def _training(folder: Path, name: str) -> tuple[str, int | None, int | None]:
    """Size, seed and tokens of a model of `kbit-ref train`; any other is a size of its own.

    `s-1-1500` is of size s; models that were trained for a scheme are a size of their own.
    """
    try:
        facts = json.loads((folder / "training.json").read_text("utf-8"))
        r = facts["recipe"]
        aware = f"-{r['scheme']}{'-learned' * r['learned']}" if r["scheme"] else ""
        n_seq = json.loads((folder / "config.json").read_text("utf-8"))["n_positions"]
        return folder.name.partition("-")[0] + aware, int(r["seed"]), int(r["steps"] * facts["batch"] * n_seq)
    except (OSError, ValueError, KeyError, TypeError):
        return name, None, None


@lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    from kbit_ref import __version__

    return {"kbit_ref": __version__, "numpy": np.__version__, "python": platform.python_version()}
