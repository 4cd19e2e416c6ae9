"""kbit_ref's own quantizers as an adapter of `kbit_ref.testing`, so that its laws are run on it (see conftest)."""

from functools import partial
from typing import Any

import kbit_ref as kb


def quantize(scheme: str, x: Any) -> Any:
    """The reference."""
    return kb.quantize(x, scheme, threads=1)


SCHEMES = {name: partial(quantize, name) for name in ("nf4-b16-absmax-f32", "uint4-b8@-1-affine-f32")}
