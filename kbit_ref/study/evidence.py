"""Evidence and verdicts: what a number says about a claim, by a rule that is named before the number is known.

`positive`   the interval lies above zero: for; below: against; else it is open.
`clear`      more than so many standard errors above zero: for; the interval below zero: against; else open.
`small`      the interval lies below a limit: for; above it: against; else open.

A claim is supported if all its evidence is for it, not supported if any is against it, and undecided otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kbit_ref.study.bootstrap import Estimate, estimate

__all__ = ["NATS", "VERDICTS", "Evidence", "Finding", "clear", "concluded", "positive", "small"]

VERDICTS = ("supported", "not supported", "undecided")
NATS = "nats a token"


@dataclass(frozen=True)
class Evidence:
    """One number and what it says.

    Parameters
    ----------
    what
        The number in words.
    estimate
        Itself, None where it was not measured.
    unit
        Of it.
    says
        "for", "against" or "open".
    rule
        When it speaks for the claim.
    limit
        The number that the rule compares with.
    """

    what: str
    estimate: Estimate | None
    unit: str
    says: str
    rule: str
    limit: float = 0.0

    @property
    def strength(self) -> float:
        """Standard errors from the limit; of several numbers that agree the weakest decides."""
        e = self.estimate
        if e is None or math.isnan(e.value) or math.isnan(e.error):
            return 0.0
        distance = abs(e.value - self.limit)
        if not e.error:
            return math.inf if distance else 0.0
        return distance / e.error


@dataclass(frozen=True)
class Finding:
    """One of the paper's findings, on our data.

    Parameters
    ----------
    number
        1 to 8, as in the paper's order.
    claim
        In one sentence.
    verdict
        One of `VERDICTS`.
    deciding
        The number that decides; None where nothing was measured.
    evidence
        All of it.
    rule
        When the claim is supported.
    why
        Where ours differs, or cannot tell: why.
    """

    number: int
    claim: str
    verdict: str
    deciding: Evidence | None
    evidence: tuple[Evidence, ...]
    rule: str
    why: str


def _says(holds: bool, fails: bool) -> str:
    return "for" if holds else "against" if fails else "open"


def positive(what: str, draws: Any, unit: str = NATS) -> Evidence:
    """A number that has to be above zero."""
    rule = "the interval lies above 0"
    if draws is None:
        return Evidence(what, None, unit, "open", rule)
    e = estimate(draws)
    return Evidence(what, e, unit, _says(e.above, e.below), rule)


def clear(what: str, draws: Any, errors: float = 3, unit: str = NATS) -> Evidence:
    """A number that has to be more than so many standard errors above zero."""
    rule = f"more than {errors:g} standard errors above 0"
    if draws is None:
        return Evidence(what, None, unit, "open", rule)
    e = estimate(draws)
    return Evidence(what, e, unit, _says(e.above and e.value > errors * e.error, e.below), rule)


def small(what: str, draws: Any, limit: float, unit: str = NATS) -> Evidence:
    """A number that has to be less than a limit."""
    rule = f"the interval lies below {limit:g}"
    if draws is None:
        return Evidence(what, None, unit, "open", rule)
    e = estimate(draws)
    return Evidence(what, e, unit, _says(e.high < limit, e.low > limit), rule, limit)


def concluded(number: int, claim: str, evidence: Sequence[Evidence], rule: str, why: str = "") -> Finding:
    """The verdict of the evidence.

    What decides is the strongest number against the claim; without one, the first that is open; without one, the
    weakest that is for it.
    """
    against = [one for one in evidence if one.says == "against"]
    unsettled = [one for one in evidence if one.says == "open"]
    deciding: Evidence | None
    if against:
        verdict, deciding = VERDICTS[1], max(against, key=lambda one: one.strength)
    elif unsettled or not evidence:
        verdict, deciding = VERDICTS[2], unsettled[0] if unsettled else None
    else:
        verdict, deciding = VERDICTS[0], min(evidence, key=lambda one: one.strength)
    return Finding(number, claim, verdict, deciding, tuple(evidence), rule, why)
