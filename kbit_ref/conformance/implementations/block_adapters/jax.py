"""jax: the operands that `jax.nn.scaled_dot_general` makes for the block-scaled product.

The product itself has no rule for the CPU. What is before it has: the public function is traced,
and its equations are evaluated up to the product, whose operands are the codes and the scales.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.implementations.block_adapters import BlockAdapter, BlockProfile, halves

PROFILES = (
    BlockProfile("jax-mxfp8", "scaled_dot_general mxfp8"),
    BlockProfile("jax-nvfp4", "scaled_dot_general nvfp4"),
)


class JaxBlocks(BlockAdapter):
    """`get_scaled_dot_general_config` in its two modes."""

    library, module, install = "jax", "jax", "pip install jax"
    profiles = (*PROFILES, *halves(PROFILES, "float16", "bfloat16", scales=False, compute=False))

    def quantize(self, theirs: str, x: NDArray[Any], source: str) -> dict[str, Any]:
        """The left operand of a product."""
        import jax

        mode = theirs.split()[1]
        config = jax.nn.get_scaled_dot_general_config(mode)

        def product(left: Any, right: Any) -> Any:
            return jax.nn.scaled_dot_general(
                left, right, (((1,), (1,)), ((), ())), configs=[config, config], implementation="cudnn"
            )

        left = x.view(jax.numpy.bfloat16) if source == "bfloat16" else x
        right = np.ones((1, x.shape[1]), left.dtype)
        codes, _, scales, _ = _operands(jax.make_jaxpr(product)(left, right), (left, right))
        raw = np.asarray(codes)
        bits = raw.view(np.uint8) if raw.dtype.itemsize == 1 else raw
        return {
            "codes": bits.reshape(x.shape),
            "scales": np.asarray(scales).astype(np.float32),
        }


def _operands(closed: Any, inputs: tuple[Any, ...]) -> list[Any]:
    """The operands of the first block-scaled product in a traced function."""
    values: dict[Any, Any] = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    values |= dict(zip(closed.jaxpr.invars, inputs, strict=True))
    found = _evaluate(closed.jaxpr, values)
    if found is None:
        raise LookupError("the traced function has no block-scaled product")
    return found


def _evaluate(jaxpr: Any, values: dict[Any, Any]) -> list[Any] | None:
    for equation in jaxpr.eqns:
        read = [v.val if hasattr(v, "val") else values[v] for v in equation.invars]
        if "scaled_matmul" in equation.primitive.name:
            return read
        inner = next((p for p in equation.params.values() if hasattr(p, "jaxpr")), None)
        if inner is not None and "scaled_matmul" in str(inner):
            return _operands(inner, tuple(read))
        answers = equation.primitive.bind(*read, **equation.params)
        answers = answers if equation.primitive.multiple_results else [answers]
        values.update(zip(equation.outvars, answers, strict=True))
    return None
