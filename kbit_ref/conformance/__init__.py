"""Judging others: a function, or a library through its adapter, against the definition.

Reading order: `inputs` and `question` (what is tried), `ask` (put it to a function), `reading` and
`judge` (compare), `causes` and `differing` (why it differs), `explain` and `verdict` (say it), `check`
(all of it for one function); then `adapters`, `worker` and `libraries` (all of it for libraries, each in a process
of its own).
"""

from kbit_ref.conformance.check import check
from kbit_ref.conformance.verdict import Counterexample, Difference, Report, Verdict

__all__ = ["Counterexample", "Difference", "Report", "Verdict", "check"]
