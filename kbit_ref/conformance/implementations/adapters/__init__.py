"""One file a library, found by looking into this folder (or another one): what does it answer, and how fast?

An adapter calls public entry points only, and imports its library only inside its methods. A new
one is a class in a file of its own, with the methods for what the library can do:

    class MyLibrary(Adapter):
        library, module, install = "mylib", "mylib", "pip install mylib"
        profiles = (
            Profile("e4m3fn+overflow=ieee", "float8"),
            BlockProfile("int8-b32-absmax-f32", "quantize"),
        )

        def encode(self, theirs, x, source):
            import mylib
            return mylib.cast(x, theirs)          # codes, an ml_dtypes array, or real numbers

        def quantize(self, theirs, x, source):
            import mylib
            q = mylib.quantize(x)
            return {"codes": q.codes, "scales": q.scales, "decoded": mylib.dequantize(q)}
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.implementations.claims import (
    DOUBLE,
    PARTS,
    BlockProfile,
    Known,
    KnownDifference,
    Parts,
    Profile,
    halves,
)
from kbit_ref.conformance.implementations.plugins import instances

__all__ = [
    "DOUBLE",
    "PARTS",
    "Adapter",
    "BlockAdapter",
    "BlockProfile",
    "Known",
    "KnownDifference",
    "Parts",
    "Profile",
    "Timed",
    "adapters",
    "block_adapters",
    "halves",
]


class Timed(NamedTuple):
    """A call of a library that the benchmark times, and what it says."""

    call: Callable[[], Any]
    read: Callable[[Any], NDArray[Any]]  # from what it returns to codes, to packed bytes, or to numbers
    spelling: str = ""  # the scheme or profile that it computes, if that is not quite what we compute


class Adapter:
    """The adapter of a library. Derive a class, fill in the names, write the methods for what it can do."""

    library: str  # its name in the table
    module: str  # what is imported
    install: str  # what to type if it is absent
    distribution: str = ""  # the name of the package, if it is not that of the module
    needs: tuple[str, ...] = ()  # other modules that it cannot do without
    import_seconds: float = 1.0  # about how long its import takes: the quick ones are asked first
    profiles: tuple[Profile | BlockProfile, ...] = ()  # data types, and block formats
    known: tuple[Known | KnownDifference, ...] = ()

    @property
    def types(self) -> tuple[Profile, ...]:
        """Return the data types of the library."""
        return tuple(each for each in self.profiles if isinstance(each, Profile))

    @property
    def formats(self) -> tuple[BlockProfile, ...]:
        """Return the block formats of the library."""
        return tuple(each for each in self.profiles if isinstance(each, BlockProfile))

    def load(self) -> None:
        """Import the library; settings belong here."""
        importlib.import_module(self.module)

    def encode(self, theirs: str, x: NDArray[Any], source: str) -> Any:
        """Encode x by the library; for the source bfloat16, x holds the bits as uint16."""
        raise NotImplementedError(f"{self.library} has no encode")

    def decode(self, theirs: str, codes: NDArray[Any]) -> Any:
        """Decode codes (uint8; uint16 above 8 bits) by the library."""
        raise NotImplementedError(f"{self.library} has no decode")

    def quantize(self, theirs: str, x: NDArray[Any], source: str) -> dict[str, Any]:
        """Quantize x by the library: return what it stores, and what it decodes.

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

    def dequantize(self, theirs: str, parts: dict[str, NDArray[Any]]) -> Any:
        """Return their real numbers for what is stored.

        Parameters
        ----------
        parts
            `codes` [*shape], `packed` (their bytes), `scales`, for narrow types `scale_bytes` too, and what else the
            scheme stores; `shape`.
        """
        raise NotImplementedError(f"{self.library} has no dequantize")

    def quantize_given(
        self, theirs: str, x: NDArray[Any], scales: NDArray[np.float32], zero_points: NDArray[np.uint8] | None
    ) -> dict[str, Any]:
        """Quantize x, float32, by a library that is given the scales and zero points, [n_rows, n_blocks]."""
        raise NotImplementedError(f"{self.library} takes no scales")

    def timed(self, verb: str, subject: str, x: NDArray[Any], threads: int) -> Timed | None:
        """Return a call that does with x what ours does, on so many threads; None if there is none.

        Parameters
        ----------
        verb
            `encode`, `decode`, `quantize`, `dequantize`, `pack`, `unpack`.
        subject
            The name of a data type, a scheme or a layout.
        x
            What is encoded or quantized, or of what the codes are made that are decoded.
        """
        return None

    def installed(self) -> bool:
        """Return whether the library could be imported (it is not)."""
        return all(_exists(name) for name in (self.module, *self.needs))

    def version(self) -> str:
        """Return the version of the installed package."""
        try:
            return importlib.metadata.version(self.distribution or self.module)
        except importlib.metadata.PackageNotFoundError:
            return ""


BlockAdapter = Adapter


def _exists(name: str) -> bool:
    """Return whether a module exists. Its parent package is imported for a dotted name, nothing else."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def adapters(folders: Iterable[str | Path] = ()) -> dict[str, Adapter]:
    """Return all adapters by library: those of this folder, then those of others.

    Examples
    --------
    >>> sorted(adapters())[:3]
    ['bitsandbytes', 'compressed-tensors', 'gfloat']
    """
    return instances(Adapter, __name__, __path__, folders)


def block_adapters(folders: Iterable[str | Path] = ()) -> dict[str, Adapter]:
    """Return those that have block formats.

    Examples
    --------
    >>> sorted(block_adapters())[:3]
    ['bitsandbytes', 'compressed-tensors', 'gguf']
    """
    return {name: adapter for name, adapter in adapters(folders).items() if adapter.formats}
