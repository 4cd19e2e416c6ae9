"""Wrong implementations, by name: each is the reference (`conformance/steps.py`) with one step replaced.

One file a group of steps; `registry.py` says what a mutant is.
"""

from kbit_ref.conformance.variants import blocks as _blocks
from kbit_ref.conformance.variants import layouts as _layouts
from kbit_ref.conformance.variants import levels as _levels
from kbit_ref.conformance.variants import output as _output
from kbit_ref.conformance.variants import rounding as _rounding
from kbit_ref.conformance.variants import scales as _scales
from kbit_ref.conformance.variants import zeros as _zeros
from kbit_ref.conformance.variants.registry import CONSTRUCTED, Mutant, mutants

del _blocks, _layouts, _levels, _output, _rounding, _scales, _zeros  # importing them has filled the registry

__all__ = ["CONSTRUCTED", "Mutant", "mutants"]
