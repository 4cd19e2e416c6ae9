"""One file a library, found by looking into this folder (or another one): what does it store for an array?

An adapter calls public entry points only, and imports its library only inside its methods. A new
one is a class in a file of its own:

    class MyLibrary(BlockAdapter):
        library, module, install = "mylib", "mylib", "pip install mylib"
        profiles = (BlockProfile("int8-b32-absmax-f32", "quantize"),)

        def quantize(self, theirs, x, source):
            import mylib
            q = mylib.quantize(x)
            return {"codes": q.codes, "scales": q.scales, "decoded": mylib.dequantize(q)}
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.implementations.plugins import instances
from kbit_ref.tensors.scheme import scheme

__all__ = ["DOUBLE", "PARTS", "BlockAdapter", "BlockProfile", "KnownDifference", "Parts", "block_adapters", "halves"]

Parts = dict[str, NDArray[Any]]

DOUBLE = ("scale_codes", "scale_scales", "scale_offset")  # of scales that are quantized again
PARTS = ("scales", "offsets", "zero_points", "global_scale", *DOUBLE, "codes", "packed", "decoded")


@dataclass(frozen=True)
class BlockProfile:
    """A name of theirs, and the profile or spelling of what it means.

    Parameters
    ----------
    profile
        A profile of ours (`bnb-cpu-nf4`) or a spelling.
    theirs
        Their name, handed to the adapter without ` from ...` at its end; unique in the library.
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
    """

    profile: str
    theirs: str
    sources: tuple[str, ...] = ("float32",)
    shapes: str = "rows"
    blocks: int = 1
    given: bool = False
    size: int = 32


def halves(
    profiles: Iterable[BlockProfile], *sources: str, scales: bool = True, compute: bool = True
) -> tuple[BlockProfile, ...]:
    """The same names for arrays in half precision, of which a library stores other scales.

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
    ('int8-channel-absmax-f16+compute=float16', 'qint8 from float16', ('float16',))
    """
    found = []
    for profile in profiles:
        head, *choices = str(scheme(profile.profile)).split("+")
        for source in sources:
            start = head.removesuffix("-f32") + {"float16": "-f16", "bfloat16": "-bf16"}[source] if scales else head
            words = [*choices, f"compute={source}"] if compute else choices
            spelling = str(scheme("+".join([start, *words])))
            found.append(
                replace(profile, profile=spelling, theirs=f"{profile.theirs} from {source}", sources=(source,))
            )
    return tuple(found)


@dataclass(frozen=True)
class KnownDifference:
    """A difference that is on record: it must still occur, and nothing else may.

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
        """Does it occur there?"""
        return not self.theirs or theirs in self.theirs


class BlockAdapter:
    """What a library stores. Derive a class, fill in the names, write the method."""

    library: str  # its name in the table
    module: str  # what is imported
    install: str  # what to type if it is absent
    distribution: str = ""  # the name of the package, if it is not that of the module
    needs: tuple[str, ...] = ()  # other modules that it cannot do without
    profiles: tuple[BlockProfile, ...] = ()
    known: tuple[KnownDifference, ...] = ()

    def load(self) -> None:
        """Import the library; settings belong here."""
        importlib.import_module(self.module)

    def quantize(self, theirs: str, x: NDArray[Any], source: str) -> dict[str, Any]:
        """What they store for x, and what they decode it to.

        Parameters
        ----------
        theirs
            Their name of the format.
        x
            float16, float32 or float64; for the source bfloat16, the bits as uint16.

        Returns
        -------
        dict
            Some of these parts, blocks in the order of the cut:

            - `codes` [*shape]: unsigned, as our types number them; or left to be unpacked from
            - `packed` uint8: the bytes of the codes; `order`, if these are not the codes in the
              order of the cut: which element comes when
            - `scales`, `offsets`, `zero_points`: one number a block, zero points as levels (so
              those of signed types may be negative); `global_scale`: one
            - `scale_codes`, `scale_scales`, `scale_offset`: where the scales are quantized again
            - `decoded` [*shape]: the numbers that they make of it
        """
        raise NotImplementedError(f"{self.library} has no quantize")

    def quantize_given(
        self, theirs: str, x: NDArray[Any], scales: NDArray[np.float32], zero_points: NDArray[np.uint8] | None
    ) -> dict[str, Any]:
        """The same for a library that takes the scales and zero points, [n_rows, n_blocks], from us; x is float32."""
        raise NotImplementedError(f"{self.library} takes no scales")

    def installed(self) -> bool:
        """Could it be imported? (It is not.)"""
        return all(_exists(name) for name in (self.module, *self.needs))

    def version(self) -> str:
        """Of the installed package."""
        try:
            return importlib.metadata.version(self.distribution or self.module)
        except importlib.metadata.PackageNotFoundError:
            return ""


def _exists(name: str) -> bool:
    """Is there such a module? Its parent package is imported for a dotted name, nothing else."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def block_adapters(folders: Iterable[str | Path] = ()) -> dict[str, BlockAdapter]:
    """All adapters by library: those of this folder, then those of others.

    Examples
    --------
    >>> sorted(block_adapters())[:3]
    ['bitsandbytes', 'compressed-tensors', 'gguf']
    """
    return instances(BlockAdapter, __name__, __path__, folders)
