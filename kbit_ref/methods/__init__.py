"""Methods: from a matrix (and what is known of its inputs) to codes, and what that costs in bits.

    >>> import numpy as np
    >>> coded = method("nearest")(np.eye(64), "nf4-b64-absmax-f16")
    >>> coded.bits_per_parameter
    4.25

A new method is one file here with one decorated function; the page of the book, the study and the
tests read the registry.
"""

from importlib import import_module
from pkgutil import iter_modules

from kbit_ref.methods.coded import Coded, Step
from kbit_ref.methods.registry import Given, Method, Row, method, methods, register

__all__ = ["Coded", "Given", "Method", "Row", "Step", "method", "methods", "register"]

for _module in sorted(module.name for module in iter_modules(__path__)):
    import_module(f"{__name__}.{_module}")
