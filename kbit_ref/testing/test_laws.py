"""Each law for each subject of the module that KBIT_REF_ADAPTER names (see `outside`); without one, a failure."""

import os
from fnmatch import fnmatchcase
from typing import Any

import pytest

from kbit_ref.errors import BadInput
from kbit_ref.testing.conform import conforms
from kbit_ref.testing.law import LAWS
from kbit_ref.testing.outside import expected_failures, ids, subjects, warn_unknown

ADAPTER = os.environ.get("KBIT_REF_ADAPTER")
EXAMPLES = int(os.environ.get("KBIT_REF_EXAMPLES") or 30)
SUBJECTS = subjects(ADAPTER) if ADAPTER else {}
EXPECTED = expected_failures(os.environ.get("KBIT_REF_XFAILS"))


def cases() -> list[Any]:
    """(scheme, law), marked where a failure is expected."""
    every = ids(SUBJECTS)
    warn_unknown(EXPECTED, [name for name, _, _ in every])
    found = []
    for name, subject, law in every:
        expected = [one for one in EXPECTED if fnmatchcase(name, one)]
        marks = [pytest.mark.xfail(reason=f"expected: {expected[0]}", strict=True)] if expected else []
        found.append(pytest.param(subject, law, id=name, marks=marks))
    return found


def test_an_adapter_is_named() -> None:
    """Something of somebody is judged."""
    __tracebackhide__ = True
    if not ADAPTER:
        try:
            subjects(ADAPTER)
        except BadInput as error:
            pytest.fail(str(error), pytrace=False)


@pytest.mark.parametrize(("subject", "law"), cases() if ADAPTER else [])
def test_law(subject: str, law: str) -> None:
    """The law holds of the subject."""
    __tracebackhide__ = True
    if law in LAWS:
        LAWS[law].test(SUBJECTS[subject], examples=EXAMPLES)
    else:
        conforms(SUBJECTS[subject], examples=EXAMPLES)
