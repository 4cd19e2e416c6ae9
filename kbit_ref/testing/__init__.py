"""Property-based tests for implementations of anybody: needs the extra `test`.

In a test file of your own, one line a format:

    from kbit_ref.testing import laws
    from mylib import quantize
    TestNF4 = laws(quantize, profile="bnb-cuda-nf4")

Or from outside, without touching the library: `KBIT_REF_ADAPTER=mymod pytest --pyargs kbit_ref.testing`, where
`mymod.SCHEMES` is a dict of schemes or profiles to functions (see `outside`).

    subject     what is judged: a function (or an adapter), and the scheme that it claims
    failure     report a difference: the shrunk block, the step that parts, what `diagnose` says
    conform     `assert_conforms`
    law         `laws`: a law, its domain, and the test classes made of them; `suite`: the laws
    outside     the adapter module, and the file of expected failures, for `test_laws`
"""

from kbit_ref.testing import suite as _suite
from kbit_ref.testing.conform import assert_conforms
from kbit_ref.testing.law import LAWS, Law, laws
from kbit_ref.testing.subject import Subject

del _suite  # importing it has filled the registry

__all__ = ["LAWS", "Law", "Subject", "assert_conforms", "laws"]
