"""Define laws, and the test classes that are made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from numpy.typing import NDArray

from kbit_ref.conformance.reading import Refused
from kbit_ref.errors import BadInput, message
from kbit_ref.strategies import simplest, tensors
from kbit_ref.strategies.search import st
from kbit_ref.tensors.scheme import Scheme
from kbit_ref.testing.failure import report
from kbit_ref.testing.subject import Answer, Subject, claimed

__all__ = ["LAWS", "Law", "law", "laws", "obeys"]

Array = NDArray[Any]
Ask = Callable[[Array], Answer]
Holds = Callable[[Ask, Array, int, Scheme], bool | None]

STEPS = 3  # an integer from -STEPS to STEPS comes with each array; what it is for is the law's affair


@dataclass(frozen=True)
class Law:
    """Something that holds of every answer of the reference, in a domain.

    Parameters
    ----------
    name
        In words with underscores.
    holds
        (ask, x, n, scheme) -> does it hold of what `ask` makes of x? None: x is outside the domain, or the answers
        do not say enough. Its docstring is the law.
    """

    name: str
    holds: Holds

    @property
    def sentence(self) -> str:
        """Return the law, in one line."""
        return " ".join((self.holds.__doc__ or "").split()).removesuffix(".")

    def test(self, subject: Subject, source: str = "float32", examples: int = 30) -> None:
        """Judge a subject.

        An array counts only if the law holds of the reference on it: that is its domain, and no right
        implementation can fail.

        Raises
        ------
        AssertionError
            The simplest array on which it is broken.
        """
        __tracebackhide__ = True
        ours, applied = Subject.ours(subject.scheme), False

        def broken(case: tuple[Array, int]) -> bool:
            nonlocal applied
            x, n = case
            if obeys(self, ours, x, n) is not True:
                return False
            held = obeys(self, subject, x, n)
            applied = applied or held is not None
            return held is False

        drawn = tensors(subject.scheme, ragged=subject.ragged, source=source).map(subject.fit)
        found = simplest(st.tuples(drawn, st.integers(-STEPS, STEPS)), broken, examples=examples)
        if found is not None:
            x, n = found
            why = f" (n = {n})" if "2^n" in self.sentence else ""
            raise AssertionError(report(subject, x, f"{self.sentence}{why}"))
        if not applied:
            _skip(f"{subject.scheme}: no array lies in the domain of '{self.sentence}'")


def _skip(reason: str) -> NoReturn:
    import pytest

    pytest.skip(reason)


def obeys(law: Law, subject: Subject, x: Array, n: int) -> bool | None:
    """Return whether the law holds of the subject on x. A subject that refuses x obeys no law."""
    try:
        return law.holds(subject.answer, x, n, subject.scheme)
    except Refused:
        return False


LAWS: dict[str, Law] = {}


def law(holds: Holds) -> Holds:
    """Decorate a function: a law, by its name."""
    name = holds.__name__
    assert name not in LAWS, name
    LAWS[name] = Law(name, holds)
    return holds


def laws(
    quantize: Callable[[Any], Any],
    scheme: Scheme | str | None = None,
    *,
    profile: str | None = None,
    shapes: str = "any",
    source: str = "float32",
    examples: int = 30,
) -> type:
    """Make a class of tests, one a law, for a test file of your own.

    A fault is one failure: a law that is broken by the fault that `test_conforms` reports is skipped and says so.

    Parameters
    ----------
    quantize, scheme, profile, shapes, source, examples
        As in `assert_conforms`.

    Examples
    --------
    >>> import kbit_ref as kb
    >>> TestNF4 = laws(lambda x: kb.quantize(x, "nf4-b4-absmax-f32"), "nf4-b4-absmax-f32", examples=5)
    >>> [name for name in vars(TestNF4) if name.startswith("test")][:3]
    ['test_the_same_twice', 'test_order_of_memory', 'test_shape']
    >>> TestNF4().test_the_same_twice()
    """
    from kbit_ref.testing.conform import conforms

    subject = Subject.of(quantize, claimed("laws", scheme, profile), shapes)
    if not isinstance(examples, int) or examples < 1:
        raise BadInput(message("laws", f"examples = {examples!r}", "it is a number from 1", "use 30"))

    fault: list[str] = []  # of `test_conforms`, once it has run

    def conformed() -> str:
        """Return what is wrong with the answers, in one line; empty if nothing is."""
        if not fault:
            try:
                conforms(subject, source, examples)
                fault.append("")
            except AssertionError as error:
                fault.append(str(error))
        return fault[0]

    def method(one: Law) -> Callable[[Any], None]:
        def run(self: Any) -> None:
            __tracebackhide__ = True
            try:
                one.test(subject, source, examples)
            except AssertionError:
                first = conformed().partition("\n")[0]
                if not first:  # its answers are right one by one, and only together they break the law
                    raise
                _skip(f"broken by the fault that test_conforms reports: {first}")

        run.__doc__ = one.sentence
        return run

    def test_conforms(self: Any) -> None:
        """Every part is what the scheme says."""
        __tracebackhide__ = True
        if text := conformed():
            raise AssertionError(text)

    methods: dict[str, Any] = {f"test_{name}": method(one) for name, one in LAWS.items()}
    return type(f"Laws of {subject.scheme}", (), methods | {"test_conforms": test_conforms})
