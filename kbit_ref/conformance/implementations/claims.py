"""Declare what a library has: its names, what they mean, and the differences that are on record."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.inputs.of_types import SOURCES
from kbit_ref.conformance.variants.of_types import Cause, NanCodes
from kbit_ref.datatypes.datatype import DataType
from kbit_ref.tensors.scheme import scheme

__all__ = ["DOUBLE", "PARTS", "BlockProfile", "Known", "KnownDifference", "Parts", "Profile", "halves"]

Parts = dict[str, NDArray[Any]]

DOUBLE = ("scale_codes", "scale_scales", "scale_offset")  # of scales that are quantized again
PARTS = ("scales", "offsets", "zero_points", "global_scale", *DOUBLE, "codes", "packed", "decoded")


@dataclass(frozen=True)
class Profile:
    """A name of theirs for a data type, and the spelling of what it means.

    Parameters
    ----------
    dtype
        Our spelling, choices included: `e4m3fn+overflow=ieee`.
    theirs
        Their name, handed to the adapter; unique in the library.
    sources
        The formats of the numbers that they take.
    nan
        The codes for NaN without and with its sign bit; or `canonical`, or `any`.
    what
        `encode`, `decode` or both.
    """

    dtype: str
    theirs: str
    sources: tuple[str, ...] = SOURCES
    nan: NanCodes | str = "canonical"
    what: tuple[str, ...] = ("encode", "decode")

    @property
    def subject(self) -> str:
        """Return the subject."""
        return self.dtype

    @property
    def name(self) -> str:
        """Return their name, as a table shows it."""
        return self.theirs

    @property
    def names(self) -> frozenset[str]:
        """Return the names that `--only` finds: the spelling, and the type without choices."""
        return frozenset({self.dtype, self.dtype.partition("+")[0]})


@dataclass(frozen=True)
class BlockProfile:
    """A name of theirs for a block format, and the profile or spelling of what it means.

    Parameters
    ----------
    profile
        A profile of ours (`bnb-cpu-nf4`) or a spelling.
    theirs
        Their name, handed to the adapter; unique in the library for each of the sources.
    sources
        The formats of the numbers that they take.
    shapes
        `any`: arrays of any shape and count; `flat`: any shape whose count is a multiple of the
        block; `rows`: two dimensions, the axis that is cut a multiple of the block; `ragged`: two
        dimensions, any lengths.
    blocks
        The number of blocks of an array must be a multiple of this.
    given
        They take the scales from us, so that only codes, bytes and decoded numbers are judged.
    size
        Elements of a block, where the cut does not say it (`channel`).
    what
        `quantize`; or `decode`, if numbers of what is stored are all that they make.
    """

    profile: str
    theirs: str
    sources: tuple[str, ...] = ("float32",)
    shapes: str = "rows"
    blocks: int = 1
    given: bool = False
    size: int = 32
    what: str = "quantize"

    @property
    def subject(self) -> str:
        """Return the subject."""
        return self.profile

    @property
    def names(self) -> frozenset[str]:
        """Return the names that `--only` finds: ours and theirs."""
        return frozenset({self.profile, self.theirs, self.name})

    @property
    def name(self) -> str:
        """Return their name, as a table shows it: with the source where that is not float32.

        Examples
        --------
        >>> BlockProfile("int8-channel-absmax-f16", "qint8", ("float16",)).name
        'qint8 from float16'
        """
        return self.theirs if "float32" in self.sources else f"{self.theirs} from {', '.join(self.sources)}"


def halves(
    profiles: Iterable[BlockProfile], *sources: str, scales: bool = True, compute: bool = True
) -> tuple[BlockProfile, ...]:
    """Return the same names for arrays in half precision, of which a library stores other scales.

    Parameters
    ----------
    sources
        `float16`, `bfloat16`.
    scales
        Are the stored scales of the type of the array?
    compute
        Is every operation rounded to it?

    Examples
    --------
    >>> (made,) = halves([BlockProfile("int8-channel-absmax-f32", "qint8")], "float16")
    >>> made.profile, made.theirs, made.sources
    ('int8-channel-absmax-f16+compute=float16', 'qint8', ('float16',))
    """
    found = []
    for profile in profiles:
        head, *choices = str(scheme(profile.profile)).split("+")
        for source in sources:
            start = head.removesuffix("-f32") + {"float16": "-f16", "bfloat16": "-bf16"}[source] if scales else head
            words = [*choices, f"compute={source}"] if compute else choices
            found.append(replace(profile, profile=str(scheme("+".join([start, *words]))), sources=(source,)))
    return tuple(found)


@dataclass(frozen=True)
class Known:
    """A difference of a data type that is on record: it must still occur, and nothing else may.

    Parameters
    ----------
    cause
        What gives their answers; only values with exactly these answers count as known.
    link
        A public issue, or a document with its version.
    types, sources
        The names (theirs) and source formats in which it occurs; empty: all.
    undefined
        Where the record leaves the answer open, so that any difference there is known.
    """

    cause: Cause
    link: str
    types: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    undefined: Callable[[DataType, NDArray[np.float64]], NDArray[np.bool_]] | None = None

    def concerns(self, theirs: str, source: str) -> bool:
        """Return whether it can occur there."""
        return (not self.types or theirs in self.types) and (not self.sources or source in self.sources)


@dataclass(frozen=True)
class KnownDifference:
    """A difference of a block format that is on record: it must still occur, and nothing else may.

    Parameters
    ----------
    part
        Where it shows: `codes`, `decoded`, ...
    cause
        The cause as the judge names it: `+arith=reciprocal`, `sign of zero`, ...
    link
        A public issue, or a document with its version.
    theirs
        The names in which it occurs; empty: all.
    """

    part: str
    cause: str
    link: str
    theirs: tuple[str, ...] = ()

    def concerns(self, theirs: str) -> bool:
        """Return whether it can occur there."""
        return not self.theirs or theirs in self.theirs
