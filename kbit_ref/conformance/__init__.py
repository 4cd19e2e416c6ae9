"""Judging others: a function, or a library through its adapter, against the definition.

Reading order: `inputs` and `question` (what is tried), `ask` (call a function with it), `reading` and
`judge` (compare), `causes` and `differing` (why it differs), `explain` and `verdict` (say it), `rank` and `ranking`
(conforms to X, not to Y), `check` (all of it for one function); then `adapters`, `worker`, `library`
and `libraries` (all of it for libraries, each in a process of its own); `blocks/` (the same for block formats);
`matrix` (who agrees with whom). `steps` and `mutants/` (the reference as steps that can be replaced, and wrong ones),
`cases/` (hard inputs), `vectors/`, `diagnosis/` (which mistake gives their answers), `audit` and `rules_in_use` (which
mistakes a test accepts), `programs/` (any language), `accumulate`, `bounds` and `attribute` (products of matrices).
"""

from kbit_ref.conformance.check import check
from kbit_ref.conformance.verdict import Counterexample, Difference, Report, Row, Verdict

__all__ = ["Counterexample", "Difference", "Report", "Row", "Verdict", "check"]
