"""Define mutants: the reference with one step replaced, under a name, with the place where it happened.

A mutant is one decorated function from steps to steps. It gives None where it does not apply; its
docstring completes the sentence "all values equal the reference if ...".

    @mutant("nibbles-swapped", "unpack", source="sgl-project/sglang/pull/23625")
    def nibbles_swapped(steps):
        \"\"\"The first code of a byte is read from its high nibble instead of the low one.\"\"\"
        ...
        return replace(steps, unpack=...)

Since it takes what a step was and gives what it becomes, mutants compose: `second(first(steps))`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Protocol, runtime_checkable

from kbit_ref.errors import KbitError
from kbit_ref.tensors.scheme import Scheme, scheme
from kbit_ref.tensors.steps import ORDER, WRITER, Steps, reference

__all__ = ["CONSTRUCTED", "Mutant", "Mutate", "mutant", "mutants"]

CONSTRUCTED = "constructed"  # the source of a mutant that we know of no public occurrence of
SITE = "https://github.com/"  # where all other sources lie


@runtime_checkable
class Mutate(Protocol):
    """A function that replaces a step; None where it does not apply."""

    def __call__(self, steps: Steps, /, **parameters: Any) -> Steps | None:
        """Replace the step."""


@dataclass(frozen=True)
class Mutant:
    """A wrong implementation.

    Parameters
    ----------
    name
        How it is called.
    steps
        Which steps it replaces: one; two where writer and reader share a mistaken belief.
    source
        The public issue or file that shows it, or `constructed`.
    why
        One line that completes "equal the reference if ...".
    build
        The function.
    chosen
        Its parameters; `tries` are all that a search should try, the usual one first.
    """

    name: str
    steps: tuple[str, ...]
    source: str
    why: str
    build: Mutate
    chosen: dict[str, Any] = field(default_factory=dict)
    tries: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def stage(self) -> str:
        """Return the first step that it replaces."""
        return self.steps[0]

    @property
    def side(self) -> str:
        """Return `writer`, `reader` or `both`: a reader's mutant changes values though it is given the right bytes."""
        sides = {"both" if step == "cut" else "writer" if step in WRITER else "reader" for step in self.steps}
        return sides.pop() if len(sides) == 1 else "both"

    def __call__(self, steps: Steps) -> Steps | None:
        """Return the steps with one replaced, or None where the mutant does not apply."""
        try:
            return self.build(steps, **self.chosen)
        except KbitError:  # the mistake would be a scheme that does not exist
            return None

    def applies(self, scheme_: Scheme | str) -> bool:
        """Return whether the mistake can be made with this scheme (it need not show for every array)."""
        return self(reference(scheme(scheme_))) is not None

    def variants(self) -> Iterator[Mutant]:
        """Yield the mutant itself, and with its other parameters."""
        for values in product(*self.tries.values()):
            chosen = dict(zip(self.tries, values, strict=True))
            yield self if chosen == self.chosen else _with(self, chosen)


_mutants: dict[str, Mutant] = {}


def mutant(
    name: str, *steps: str, source: str, **tries: tuple[Any, ...]
) -> Callable[[Callable[..., Steps | None]], Callable[..., Steps | None]]:
    """Decorate the function of a mutant: its name, the steps that it replaces, its source, its parameters.

    The source is a path on github.com, or `constructed`.
    """

    def decorate(build: Callable[..., Steps | None]) -> Callable[..., Steps | None]:
        assert steps, name
        assert set(steps) <= set(ORDER), name
        assert name not in _mutants, name
        link = source if source == CONSTRUCTED else SITE + source
        plain = Mutant(name, steps, link, "", build, {}, tries)
        usual = {key: values[0] for key, values in tries.items()}
        _mutants[name] = _with(plain, usual, name)
        return build

    return decorate


def _with(plain: Mutant, chosen: dict[str, Any], name: str = "") -> Mutant:
    """Return the mutant with parameters, named by the unusual ones; {n} in its line stands for the parameter n."""
    text = inspect.getdoc(plain.build) or ""
    why = " ".join(text.split("\n\n")[0].split()).removesuffix(".").format(**chosen)
    other = {key: value for key, value in chosen.items() if value != plain.tries[key][0]}
    spelled = ", ".join(f"{key}={value}" for key, value in other.items())
    return Mutant(
        name or f"{plain.name.partition('(')[0]}({spelled})",
        *(plain.steps, plain.source, why[:1].lower() + why[1:], plain.build, chosen, plain.tries),
    )


def mutants() -> dict[str, Mutant]:
    """Return all mutants by name, in the order of the steps.

    Examples
    --------
    >>> import numpy as np
    >>> from kbit_ref.tensors.steps import reference, run
    >>> x = np.array([1.0, -2.0, 3.0, 7.0], np.float32)
    >>> swapped = mutants()["nibbles-swapped"](reference("int4-b4-absmax-f32"))
    >>> run(swapped, x).values
    array([-2.,  1.,  7.,  3.], dtype=float32)
    """
    in_order = sorted(_mutants.values(), key=lambda found: ORDER.index(found.stage))
    return {found.name: found for found in in_order}
