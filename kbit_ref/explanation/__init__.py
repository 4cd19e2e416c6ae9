"""Trace the quantization of one element: from its bits to its code, its place in the bytes, and back.

Reading order: `explanation` (what is answered), `element` (how it is found), `decision` (between two
levels), `places` (in x, in the cut, in the bytes), `seen` (of a large block), `spelling` (numbers, bits).
"""

from kbit_ref.explanation.element import explain
from kbit_ref.explanation.explanation import Explanation

__all__ = ["Explanation", "explain"]
