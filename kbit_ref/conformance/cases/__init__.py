"""Hard cases: the inputs on which a wrong implementation differs from a right one. Usable alone.

A case is one decorated function. It takes a scheme, a data type or a layout and yields arrays, the telling ones
first; the first line of its docstring says what they hold, `catches` which mistakes they show. All of it is
arithmetic on the levels, without random numbers: the same on every machine.

    registry      what a case is, and `cases_of`
    of_schemes    blocks to quantize
    of_stored     stored parts to dequantize
    of_types      numbers to encode, codes to decode
    of_layouts    codes to pack
"""

from kbit_ref.conformance.cases import of_layouts as _layouts
from kbit_ref.conformance.cases import of_schemes as _schemes
from kbit_ref.conformance.cases import of_stored as _stored
from kbit_ref.conformance.cases import of_types as _types
from kbit_ref.conformance.cases.registry import LEVELS, Case, Given, all_cases, cases_of

del _layouts, _schemes, _stored, _types  # importing them has filled the registry

__all__ = ["LEVELS", "Case", "Given", "all_cases", "cases_of"]
