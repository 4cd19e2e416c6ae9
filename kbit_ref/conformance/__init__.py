"""Judging others: a function, or a library through its adapter, against the definition.

Reading order: `inputs` and `question` (what is tried), `ask` (put it to a function), `reading` and
`judge` (compare), `causes` and `differing` (why it differs), `explain` and `verdict` (say it), `rank` and `ranking`
(conforms to X, not to Y), `check` (all of it for one function); then `adapters`, `worker_pipe`, `worker`, `library`
and `libraries` (all of it for libraries, each in a process of its own); `blocks/` (the same for block formats);
`matrix` (who agrees with whom).
"""

from kbit_ref.conformance.check import check
from kbit_ref.conformance.verdict import Counterexample, Difference, Report, Verdict

__all__ = ["Counterexample", "Difference", "Report", "Verdict", "check"]
