"""One file a library, found by looking into this folder (or another one): what does it answer?

An adapter calls public entry points only, and imports its library only inside its methods. A new
one is a class in a file of its own:

    class MyLibrary(Adapter):
        library, module, install = "mylib", "mylib", "pip install mylib"
        profiles = (Profile("e4m3fn+overflow=ieee", "float8"),)

        def encode(self, theirs, x, source):
            import mylib
            return mylib.cast(x, theirs)          # codes, an ml_dtypes array, or real numbers
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from kbit_ref.conformance.implementations.plugins import instances
from kbit_ref.conformance.inputs.of_types import SOURCES
from kbit_ref.conformance.judge import Known
from kbit_ref.conformance.variants.of_types import NanCodes

__all__ = ["Adapter", "Profile", "adapters"]


@dataclass(frozen=True)
class Profile:
    """A name of theirs, and the spelling of what it means.

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


class Adapter:
    """What a library answers. Derive a class, fill in the names, write the two methods."""

    library: str  # its name in the table
    module: str  # what is imported
    install: str  # what to type if it is absent
    distribution: str = ""  # the name of the package, if it is not that of the module
    profiles: tuple[Profile, ...] = ()
    known: tuple[Known, ...] = ()

    def load(self) -> None:
        """Import the library; settings belong here."""
        importlib.import_module(self.module)

    def encode(self, theirs: str, x: NDArray[Any], source: str) -> Any:
        """Their codes for x; for the source bfloat16, x holds the bits as uint16."""
        raise NotImplementedError(f"{self.library} has no encode")

    def decode(self, theirs: str, codes: NDArray[Any]) -> Any:
        """Their real numbers for codes (uint8; uint16 above 8 bits)."""
        raise NotImplementedError(f"{self.library} has no decode")

    def installed(self) -> bool:
        """Could it be imported? (It is not.)"""
        return importlib.util.find_spec(self.module) is not None

    def version(self) -> str:
        """Of the installed package."""
        try:
            return importlib.metadata.version(self.distribution or self.module)
        except importlib.metadata.PackageNotFoundError:
            return ""


def adapters(folders: Iterable[str | Path] = ()) -> dict[str, Adapter]:
    """All adapters by library: those of this folder, then those of others.

    Examples
    --------
    >>> sorted(adapters())[:3]
    ['gfloat', 'jax', 'ml_dtypes']
    """
    return instances(Adapter, __name__, __path__, folders)
