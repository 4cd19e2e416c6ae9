"""Where the files are that are no code: vectors, schemas, proofs, the matrix. One place for all of them.

They lie in `data/` beside the package in a checkout, and in the package's own folder `_data` where it was installed.
"""

from __future__ import annotations

from pathlib import Path

from kbit_ref.errors import BadInput, message

__all__ = ["data_folder"]

PACKAGE = Path(__file__).parent


def data_folder(name: str) -> Path:
    """The folder of that name: `vectors`, `schemas`, `proofs`, `matrix`, `departures`, ...

    Raises
    ------
    BadInput
        `data: folder = proofs, it is neither beside the package nor in it; install kbit_ref again`

    Examples
    --------
    >>> sorted(path.name for path in data_folder("proofs").iterdir())
    ['float32.csv']
    """
    for place in (PACKAGE / "_data", PACKAGE.parent / "data"):
        if (place / name).is_dir():
            return place / name
    rule = "it is neither beside the package nor in it"
    raise BadInput(message("data", f"folder = {name}", rule, "install kbit_ref again"))
