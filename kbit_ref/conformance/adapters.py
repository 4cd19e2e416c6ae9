"""The names for an adapter of your own, under the path that was documented first."""

from kbit_ref.conformance.implementations.adapters import *  # noqa: F403
from kbit_ref.conformance.implementations.adapters import __all__ as __all__
