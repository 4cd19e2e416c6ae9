"""JAX on the CPU: `astype`, and the operands that `jax.nn.scaled_dot_general` makes for the block-scaled product.

The product itself has no rule for the CPU. What is before it has: the public function is traced,
and its equations are evaluated up to the product, whose operands are the codes and the scales.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.implementations.adapters import Adapter, BlockProfile, Known, Profile, Timed, halves
from kbit_ref.conformance.implementations.adapters.ml_dtypes import FLOATS, NAMES
from kbit_ref.conformance.implementations.arrays import as_bits, as_numbers
from kbit_ref.conformance.variants.of_types import flushes
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scheme import Scheme, scheme

ON_THE_CPU = tuple(  # not the 6-bit floats; NaN keeps its payload in e5m2
    replace(p, nan="any") if p.theirs == "float8_e5m2" else p for p in FLOATS if not p.theirs.startswith("float6")
)
INTEGERS = tuple(Profile(f"{name}+rounding=toward_zero", name) for name in ("int4", "uint4", "int2", "uint2"))
BLOCKS = (
    BlockProfile("jax-mxfp8", "scaled_dot_general mxfp8"),
    BlockProfile("jax-nvfp4", "scaled_dot_general nvfp4"),
)
COMPILED = ("nf4-b64-absmax-f32", "int8-b64-absmax-f32")


class Jax(Adapter):
    """`jnp.asarray(x).astype(T)`: integers saturate here, and do not wrap. `get_scaled_dot_general_config`."""

    library, module, install = "jax", "jax", "pip install jax"
    import_seconds = 2
    profiles = (
        *ON_THE_CPU,
        *INTEGERS,
        *BLOCKS,
        *halves(BLOCKS, "float16", "bfloat16", scales=False, compute=False),
    )
    known = (
        Known(
            flushes("float32"),
            "https://github.com/jax-ml/jax/issues/38995",
            types=("bfloat16",),
            sources=("float64",),
        ),
    )

    def load(self) -> None:
        """Import jax on the CPU, with float64 enabled."""
        os.environ["JAX_PLATFORMS"] = "cpu"
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import jax

        jax.config.update("jax_enable_x64", True)

    def encode(self, theirs: str, x: NDArray[Any], source: str) -> Any:
        """Convert once. XLA compiles it for each shape, so that shapes are tried from float32 alone."""
        import jax.numpy as jnp

        numbers = as_numbers(x, source)
        padded = numbers if source == "float32" else _padded(numbers.reshape(-1), 1 << 16)
        codes = np.asarray(jnp.asarray(padded).astype(getattr(jnp, theirs)))
        return codes.reshape(-1)[: x.size].reshape(x.shape)

    def decode(self, theirs: str, codes: NDArray[Any]) -> Any:
        """View the bits as the type, and convert them to float32."""
        import jax.numpy as jnp
        import ml_dtypes

        padded = _padded(codes.reshape(-1), 1 << 10).view(getattr(ml_dtypes, theirs))
        return np.asarray(jnp.asarray(padded).astype(jnp.float32))[: codes.size].reshape(codes.shape)

    def quantize(self, theirs: str, x: NDArray[Any], source: str) -> dict[str, Any]:
        """Quantize the left operand of a product, with zeros below: XLA compiles an operation for each shape."""
        left = _padded(as_numbers(x, source), 1 << 11, 1 << 14)
        right = np.ones((1, x.shape[1]), left.dtype)
        codes, _, scales, _ = _operands(_product(theirs, left.shape, left.dtype), (left, right))
        codes, scales = as_bits(codes).reshape(left.shape), np.asarray(scales).astype(np.float32)
        return {"codes": codes[: len(x)], "scales": scales.reshape(len(left), -1)[: len(x)]}

    def timed(self, verb: str, subject: str, x: NDArray[Any], threads: int) -> Timed | None:
        """Return a compiled `astype`; for blocks the formula, compiled, since jax has no function for it."""
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        if threads != (os.cpu_count() or 1) and not hasattr(os, "sched_setaffinity"):
            return None  # XLA starts a thread a core; how many that are the benchmark sees to, where it can
        if verb in ("quantize", "dequantize") and subject in COMPILED:
            return _timed_blocks(verb, scheme(subject), x[: x.size // 64 * 64])
        if verb not in ("encode", "decode") or subject not in NAMES or x.dtype == np.float64:
            return None
        import jax
        import jax.numpy as jnp

        kind = getattr(jnp, NAMES[subject])
        there, back = jax.jit(lambda a: a.astype(kind)), jax.jit(lambda a: a.astype(jnp.float32))
        array = jnp.asarray(x)
        if verb == "encode":
            return Timed(lambda: there(array).block_until_ready(), as_bits)
        codes = there(array)
        return Timed(lambda: back(codes).block_until_ready(), np.asarray)


def _padded(x: NDArray[Any], *lengths: int) -> NDArray[Any]:
    """Pad with zeros to one of a few lengths: [n, ...] -> [m, ...]."""
    m = next(m for m in (*lengths, len(x)) if m >= len(x))
    return np.concatenate([x, np.zeros((m - len(x), *x.shape[1:]), x.dtype)])


@lru_cache(maxsize=64)
def _product(theirs: str, shape: tuple[int, int], dtype: np.dtype[Any]) -> Any:
    """Return the traced product of a matrix and one row."""
    import jax

    config = jax.nn.get_scaled_dot_general_config(theirs.split()[1])

    def product(left: Any, right: Any) -> Any:
        return jax.nn.scaled_dot_general(
            left, right, (((1,), (1,)), ((), ())), configs=[config, config], implementation="cudnn"
        )

    kinds = (jax.ShapeDtypeStruct(shape, dtype), jax.ShapeDtypeStruct((1, shape[1]), dtype))
    return jax.make_jaxpr(product)(*kinds)


def _operands(closed: Any, inputs: tuple[Any, ...]) -> list[Any]:
    """Return the operands of the first block-scaled product in a traced function."""
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


# The formula of two schemes, compiled, for the benchmark -----------------------------------------


def _timed_blocks(verb: str, s: Scheme, x: NDArray[Any]) -> Timed:
    import jax
    import jax.numpy as jnp

    levels, whole = s.dtype.levels, s.dtype.bits == 8
    middle = (levels[:-1] + levels[1:]) / 2
    near = middle.astype(np.float32)
    edges = np.where(near > middle, np.nextafter(near, np.float32(-np.inf)), near)  # the last that goes down

    def there(x: Any, top: Any) -> Any:
        blocks = x.reshape(-1, 64)
        scale = jnp.abs(blocks).max(axis=1, keepdims=True) / top
        y = blocks / jnp.where(scale == 0, 1, scale)
        if whole:
            return jnp.rint(y).astype(jnp.int8), scale
        codes = sum((y > edge).astype(jnp.uint8) for edge in edges)
        return codes[:, 0::2] | codes[:, 1::2] << 4, scale

    def back(codes: Any, scale: Any) -> Any:
        if whole:
            return codes.astype(jnp.float32) * scale
        both = jnp.stack([codes & 15, codes >> 4], axis=-1).reshape(len(codes), -1)
        return jnp.asarray(levels.astype(np.float32))[both] * scale

    there, back = jax.jit(there), jax.jit(back)
    if verb == "quantize":
        array, top = jnp.asarray(x), jnp.float32(s.dtype.top)  # an argument: XLA would multiply by 1 / constant
        return Timed(
            lambda: jax.block_until_ready(there(array, top)), lambda result: as_bits(result[0]).reshape(-1)
        )
    q = quantize(x, s)  # its own scales are off by an ulp now and then
    codes = jnp.asarray(q.packed.view(np.int8 if whole else np.uint8).reshape(q.scales.size, -1))
    scales = jnp.asarray(q.scales.reshape(-1, 1))
    return Timed(lambda: back(codes, scales).block_until_ready(), lambda result: np.asarray(result).reshape(-1))
