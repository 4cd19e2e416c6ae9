"""Families: models of one architecture that were judged on the same tokens. A curve over sizes goes through one.

Tokens of two tokenizers are not the same piece of text, so that a loss a token of the one says nothing about a loss a
token of the other; and where two architectures share their tokens a curve from one to the other is no law of size.
Who means other families than these names their models by a pattern.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import takewhile

from kbit_ref.errors import BadInput, message
from kbit_ref.study.rows import Result

__all__ = ["Family", "comparable", "families", "guessing", "named", "one_family"]

FEW = 3  # names that an error tells


@dataclass(frozen=True, eq=False)
class Family:
    """Results that belong together.

    Parameters
    ----------
    name
        What the names of its models begin with; where that is nothing, the architecture.
    architecture
        The `model_type` of config.json, "" where a result does not tell.
    evaluation
        The digest of the tokens that its models were judged on.
    results
        In the order in which they came.
    """

    name: str
    architecture: str
    evaluation: str
    results: tuple[Result, ...]

    @property
    def models(self) -> list[str]:
        """Names, small models first."""
        sizes = {r.cell.model: r.subject.n_parameters for r in self.results}
        return sorted(sizes, key=lambda name: (sizes[name], name))


def families(results: Iterable[Result]) -> list[Family]:
    """The families of results, in the order in which they came.

    Choices
    -------
    A result that does not tell its architecture (of version 0.1.0) is of the one that all others on the same tokens
    have, if it is one.

    Examples
    --------
    >>> from kbit_ref.study.rows import Cell, Subject
    >>> def result(name, family):
    ...     subject = Subject(name, 1000, 800, name, None, None, "")
    ...     return Result(Cell(name), subject, "", 16000, {}, {}, {}, {}, {}, facts={"family": family})
    >>> rows = [result("pythia-14m", "gpt_neox"), result("pythia-160m", "gpt_neox"), result("tiny", "llama")]
    >>> [(family.name, family.models) for family in families(rows)]
    [('pythia', ['pythia-14m', 'pythia-160m']), ('tiny', ['tiny'])]
    """
    rows = list(results)
    told: dict[str, set[str]] = {}
    for row in rows:
        told.setdefault(_evaluation(row), set()).add(_architecture(row))
    found: dict[tuple[str, str], list[Result]] = {}
    for row in rows:
        known = told[_evaluation(row)] - {""}
        architecture = _architecture(row) or (next(iter(known)) if len(known) == 1 else "")
        found.setdefault((architecture, _evaluation(row)), []).append(row)
    made: dict[str, Family] = {}
    for (architecture, evaluation), mine in found.items():
        name = _begin([row.cell.model for row in mine]) or architecture or "models"
        while name in made:  # never two of one name
            name += "'"
        made[name] = Family(name, architecture, evaluation, tuple(mine))
    return list(made.values())


def _evaluation(row: Result) -> str:
    return str(row.facts.get("evaluation", ""))


def _architecture(row: Result) -> str:
    return str(row.facts.get("family", ""))


def _begin(names: Sequence[str]) -> str:
    """The words that all names begin with."""
    words = [re.split(r"([-_/ ])", name) for name in dict.fromkeys(names)]
    same = takewhile(lambda column: len(set(column)) == 1, zip(*words, strict=False))
    return "".join(column[0] for column in same).rstrip("-_/ ")


def named(results: Iterable[Result], pattern: str) -> list[Result]:
    """Those of the models whose name fits a pattern; * is anything.

    Raises
    ------
    BadInput
        `study: models = opt-*, there is none of that name: s-0, s-1, s-2 and 41 more; name some of these`
    """
    rows = list(results)
    found = [row for row in rows if fnmatchcase(row.cell.model, pattern)]
    if rows and not found:
        known = list(dict.fromkeys(row.cell.model for row in rows))
        more = f" and {len(known) - FEW} more" if len(known) > FEW else ""
        rule = f"there is none of that name: {', '.join(known[:FEW])}{more}"
        raise BadInput(message("study", f"models = {pattern}", rule, "name some of these"))
    return found


def guessing(results: Iterable[Result]) -> str:
    """A warning, where a model as it is loses more than even guessing among its words would; else nothing."""
    plain = [row for row in results if row.cell.kind == "none" and row.facts.get("words")]
    lost = [row.cell.model for row in plain if row.loss > math.log(row.facts["words"])]
    if not lost:
        return ""
    return (
        f"In 16 bits the loss of {', '.join(dict.fromkeys(lost))} is above that of even guessing among all words: is "
        "the tokenizer the one of the training, and the text in its language?"
    )


def one_family(results: Iterable[Result]) -> None:
    """Refuse a curve through models of several families.

    Raises
    ------
    BadInput
        `study: models of 2 families (gpt_neox: a, b and llama: c), no curve goes through them; take one of families()`
    """
    found = families(results)
    if len(found) > 1:
        told = " and ".join(f"{family.architecture or family.name}: {', '.join(family.models)}" for family in found)
        got, rule = f"models of {len(found)} families ({told})", "no curve goes through them"
        raise BadInput(message("study", got, rule, "take one of families()"))


def comparable(results: Iterable[Result]) -> None:
    """Refuse to compare losses of different tokens.

    Raises
    ------
    BadInput
        `choose: models judged on other tokens (a, b and c), a loss a token of one says nothing of another's; ...`
    """
    of: dict[str, dict[str, None]] = {}
    for row in results:
        of.setdefault(_evaluation(row), {})[row.cell.model] = None
    if len(of) > 1:
        told = " and ".join(", ".join(names) for names in of.values())
        rule = "a loss a token of one says nothing of another's"
        remedy = "take some by their names: --models PATTERN"
        raise BadInput(message("choose", f"models judged on other tokens ({told})", rule, remedy))
