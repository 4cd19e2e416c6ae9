"""Load an implementation: a Python function by its name, or a program that answers lines of JSON.

A question is one line, and so is its answer, in the same order:

    {"verb": "encode", "name": "e2m1fn", "arrays": {"x": {"dtype": "F32", "shape": [1], "words": "3f000000"}}}
    {"codes": {"dtype": "U8", "shape": [1], "words": "01"}}

`shape` and `n`, which tell a decoder what to make, are plain numbers. Whoever refuses answers {"refused": "why"};
whoever has nothing for a question, {"left_out": true}.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kbit_ref.conformance.implementations.programs.process import run
from kbit_ref.conformance.vectors.as_json import array_of, words
from kbit_ref.conformance.vectors.judge import Array, Ended, Implementation, questions
from kbit_ref.conformance.vectors.model import DTYPES, Spec, Vectors, spec_of
from kbit_ref.errors import BadInput, message

__all__ = ["of_function", "of_program"]

MOST = 1 << 24  # elements of an array in an answer


def of_function(name: str) -> Implementation:
    """Load the function `module:function`; modules of the working folder are found too.

    Raises
    ------
    BadInput
        `vectors: call = 'mine', it is not spelled module:function; e.g. my_kernels:answer`
    """
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        rule = "it is not spelled module:function"
        raise BadInput(message("vectors", f"call = {name!r}", rule, "e.g. my_kernels:answer"))
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), function)
    except Exception as error:  # whatever the module does
        rule = f"it cannot be imported ({' '.join(str(error).split())[:200]})"
        raise BadInput(message("vectors", f"call = {name!r}", rule, "run it where the module is")) from None
    if not callable(found):
        raise BadInput(message("vectors", f"call = {name!r}", "it is no function", "name one"))
    answer: Implementation = found
    return answer


def of_program(command: str, vectors: Vectors, timeout: float) -> Implementation:
    """Start a program once, and return an implementation that sends it the questions of a file in their order."""
    requests = (
        _line(question.verb, group.name, question.arrays)
        for group, test in vectors.tests()
        for question in questions(group.type, test)
    )
    answers: Iterator[str] = run(command, requests, timeout)

    def implementation(verb: str, name: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
        try:
            line = next(answers, None)
        except BadInput as error:
            raise Ended(str(error)) from None
        if line is None:
            raise Ended(message("vectors", f"cmd = {command!r}", "it ended before it had answered all", "see why"))
        return _answer(line)

    return implementation


def _line(verb: str, name: str, arrays: Mapping[str, Array]) -> str:
    found: dict[str, Any] = {}
    for part, array in arrays.items():
        if part in ("shape", "n"):
            found[part] = array.tolist()
            continue
        spec = spec_of(array)
        found[part] = {"dtype": spec.dtype, "shape": list(spec.shape), "words": words(array)}
    return json.dumps({"verb": verb, "name": name, "arrays": found})


def _answer(line: str) -> dict[str, Array]:
    """Return the arrays of an answer; an error, which counts as a refusal, for anything else."""
    found = json.loads(line)
    if found.get("left_out"):
        raise NotImplementedError
    if "refused" in found:
        raise BadInput(str(found["refused"]))
    arrays = {}
    for part, given in found.items():
        shape = tuple(given["shape"])
        if given["dtype"] not in DTYPES or not all(isinstance(n, int) and 0 <= n <= MOST for n in shape):
            raise BadInput(f"{part}: no type or shape of an array")
        arrays[part] = array_of(given["words"], Spec(given["dtype"], shape))
    return arrays
