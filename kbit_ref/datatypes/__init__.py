"""The families of data types, in reading order; importing this room fills the registry."""

from kbit_ref.datatypes import integer, floating, p3109, dynamic, quantile, learned, published  # noqa: I001, F401
