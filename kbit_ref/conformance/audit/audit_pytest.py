"""A test of somebody's own suite, tried on known-wrong quantizers: one run of pytest, in a process of its own.

The test takes the fixture `kbit_quantizer`; in ordinary runs that is the project's own, from its conftest. Here it
is replaced: the test runs twice for the reference and once for each mutant.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from kbit_ref.conformance.audit.quantizers import Quantizer, quantizer
from kbit_ref.conformance.audit.run import Audit, Tried, chosen
from kbit_ref.conformance.variants import mutants
from kbit_ref.errors import BadInput, message
from kbit_ref.tensors.scheme import Scheme
from kbit_ref.tensors.scheme import scheme as scheme_of

__all__ = ["audit_test"]

FIXTURE = "kbit_quantizer"
REQUEST = "KBIT_REF_AUDIT"  # the environment variable that says what to do, as JSON
RIGHT, AGAIN = "reference", "reference again"


def audit_test(node: str, scheme: Scheme | str, *, only: Iterable[str] = ()) -> Audit:
    """Try a pytest test on the known-wrong quantizers of a scheme.

    Parameters
    ----------
    node
        As pytest spells it: `tests/test_quality.py::test_sqnr`. Where it stands for more than one test, or a test
        with parameters, a quantizer is accepted if all pass.
    scheme, only
        As in `audit`.

    Raises
    ------
    BadInput
        `audit: test = tests/t.py::test_f, it does not take the fixture kbit_quantizer; ...`, or the test never
        calls it, or rejects the reference, or pytest does not find it.
    """
    s = scheme_of(scheme)
    names = chosen(s, only)
    found, output = _run(node, {"scheme": str(s), "mutants": names})

    def refuse(rule: str, remedy: str) -> BadInput:
        return BadInput(message("audit", f"test = {node}", rule, remedy))

    if found is None:
        raise refuse(f"pytest cannot run it ({_last(output)})", "run it alone first")
    if RIGHT not in found:
        raise refuse(f"it does not take the fixture {FIXTURE}", f"add {FIXTURE} to its arguments")
    right = found[RIGHT]
    if right["calls"] == 0:
        raise refuse("it never calls the quantizer", f"call {FIXTURE}(x)")
    new = right["inputs"] != found[AGAIN]["inputs"]
    if right["outcome"] != found[AGAIN]["outcome"]:
        why = "its data is new in each call" if new else "it answers at random"
        raise refuse(f"it rejects the reference in 1 of 2 calls: {why}", "seed it: np.random.default_rng(0)")
    if right["outcome"] != "passed":
        raise refuse(f"for the reference it is {right['outcome']}", "mend it, or name the scheme that it is for")
    tried = [
        Tried(name, mutants()[name].why, mutants()[name].source, one["outcome"] == "passed", one["shown"])
        for name, one in found.items()
        if name not in (RIGHT, AGAIN)
    ]
    return Audit(node, str(s), tuple(tried), "its data is new in each call" if new else "")


def _run(node: str, request: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """Return the outcome of each quantizer, or None, and the output of pytest."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        command = [sys.executable, "-m", "pytest", node, "-p", __name__, "-o", "addopts=", "-q", "--no-header"]
        command += ["-p", "no:cacheprovider", "--tb=line"]
        environment = os.environ | {REQUEST: json.dumps(request | {"out": str(out)})}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace")
        if done.returncode not in (0, 1) or not out.exists():  # 1: some tests failed, which is the point
            return None, done.stdout + done.stderr
        return json.loads(out.read_text("utf-8")), done.stdout


def _last(output: str) -> str:
    """Return the line of an output that says what went wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    wrong = [line for line in lines if line.startswith(("ERROR", "E  ", "ModuleNotFound"))]
    return (wrong or lines or ["it printed nothing"])[-1][:200]


# The plugin, in the process of pytest ------------------------------------------------------------

_found: dict[str, dict[str, Any]] = {}


def pytest_generate_tests(metafunc: Any) -> None:
    """Run a test that takes the fixture for each quantizer."""
    if FIXTURE in metafunc.fixturenames and REQUEST in os.environ:
        request = json.loads(os.environ[REQUEST])
        s = scheme_of(request["scheme"])
        every = [quantizer(s), replace(quantizer(s), name=AGAIN), *(quantizer(s, name) for name in request["mutants"])]
        metafunc.parametrize(FIXTURE, every, ids=[q.name for q in every])


def pytest_runtest_makereport(item: Any, call: Any) -> None:
    """Record the outcome of a test: the worst of its stages, and of the tests that one node stands for."""
    q = getattr(getattr(item, "callspec", None), "params", {}).get(FIXTURE)
    if not isinstance(q, Quantizer):
        return
    import pytest

    one = _found.setdefault(q.name, {"outcome": "passed", "calls": 0, "shown": False, "inputs": q.inputs})
    if call.excinfo is not None:
        skipped = call.excinfo.errisinstance(pytest.skip.Exception)
        one["outcome"] = "skipped" if skipped and one["outcome"] == "passed" else "rejected"
    one["calls"] = max(one["calls"], q.calls)
    one["shown"] = one["shown"] or q.shown


def pytest_sessionfinish() -> None:
    """Write it all down."""
    if REQUEST in os.environ:
        Path(json.loads(os.environ[REQUEST])["out"]).write_text(json.dumps(_found), "utf-8")
