"""Pictures of the study, as a journal would print them.

Needs matplotlib (`pip install kbit_ref[plot]`). Nothing is lost in print, in grayscale or to a colour-blind reader, and
the same rows give the same bytes.
"""

from kbit_ref.figures.ink import drawn, save
from kbit_ref.figures.study import blocks, draw, kinds, performance, precisions, rate_distortion, training

__all__ = ["blocks", "draw", "drawn", "kinds", "performance", "precisions", "rate_distortion", "save", "training"]
