"""The peers that quantize blocks, by the functions that a user would call. What they compute is a profile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.bench.peers import Peer, jax_threads, peer
from kbit_ref.bench.tasks import NF4, NVFP4, SHARED, Task
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scheme import scheme

__all__ = ["bitsandbytes_call", "jax_blocks", "onnxruntime_blocks", "torchao_blocks"]

BITSANDBYTES = {NF4: "bnb-cpu-nf4", "dynamic8-b64-absmax-f32": "bnb-cpu-dynamic8"}
TORCHAO = {
    NF4: "torchao-nf4",
    SHARED[0]: "torchao-mxfp8-e4m3",
    SHARED[1]: "torchao-mxfp4",
    NVFP4: "torchao-nvfp4-global",
}
INT8 = "int8-b64-absmax-f32"


def _flat(result: Any) -> NDArray[Any]:
    return np.asarray(result).reshape(-1)


@peer("bitsandbytes")
def bitsandbytes_call(task: Task, x: NDArray[Any], threads: int) -> Peer | None:
    """`quantize_4bit`, `quantize_blockwise` and their inverses."""
    profile = BITSANDBYTES.get(task.subject)
    if profile is None or not task.of_blocks or task.out:
        return None
    import torch
    from bitsandbytes import functional as bnb

    torch.set_num_threads(threads)
    tensor = torch.from_numpy(x)

    def there() -> Any:
        if task.subject == NF4:
            return bnb.quantize_4bit(tensor, blocksize=64, quant_type="nf4")
        return bnb.quantize_blockwise(tensor, blocksize=64)

    if task.verb == "quantize":
        return Peer(there, lambda result: _flat(result[0]), profile)
    codes, state = there()
    back = bnb.dequantize_4bit if task.subject == NF4 else bnb.dequantize_blockwise
    return Peer(lambda: back(codes, state), _flat, profile)


@peer("torchao")
def torchao_blocks(task: Task, x: NDArray[Any], threads: int) -> Peer | None:
    """`to_nf4`, `MXTensor.to_mx`, `NVFP4Tensor.to_nvfp4`, eager, and back."""
    profile = TORCHAO.get(task.subject)
    if profile is None or not task.of_blocks or task.out:
        return None
    import torch

    torch.set_num_threads(threads)
    there, back, codes = _torchao(task.subject, torch.from_numpy(x if task.subject == NF4 else x.reshape(1, -1)))
    if task.verb == "quantize":
        return Peer(there, lambda made: _flat(codes(made).view(torch.uint8)), profile)
    made = there()
    return Peer(lambda: back(made), _flat, profile)


def _torchao(subject: str, tensor: Any) -> tuple[Callable[[], Any], Callable[[Any], Any], Callable[[Any], Any]]:
    """Quantize the tensor, dequantize what came of it, and the codes in that."""
    import torch

    if subject == NF4:
        from torchao.quantization.quantize_.workflows import to_nf4

        return (
            lambda: to_nf4(tensor, 64, 256),
            lambda made: made.get_original_weight(),
            lambda made: made.quantized_data,
        )
    if subject == NVFP4:
        from torchao.prototype.mx_formats.nvfp4_tensor import NVFP4Tensor, per_tensor_amax_to_scale

        def there() -> Any:
            scale = per_tensor_amax_to_scale(tensor.abs().max())
            return NVFP4Tensor.to_nvfp4(tensor, per_tensor_scale=scale)
    else:
        from torchao.prototype.mx_formats.mx_tensor import MXTensor

        kind = torch.float8_e4m3fn if subject.startswith("e4m3fn") else torch.float4_e2m1fn_x2

        def there() -> Any:
            return MXTensor.to_mx(tensor, kind, 32)

    return there, lambda made: made.dequantize(torch.float32), lambda made: made.qdata


@peer("onnxruntime")
def onnxruntime_blocks(task: Task, x: NDArray[Any], threads: int) -> Peer | None:
    """The quantizer of MatMulBnb4; its threads are as many as the cores."""
    if task.subject != NF4 or task.verb != "quantize" or task.out:
        return None
    import onnx
    from onnxruntime.quantization.matmul_bnb4_quantizer import MatMulBnb4Quantizer

    tool = MatMulBnb4Quantizer(onnx.ModelProto(), MatMulBnb4Quantizer.NF4, 64)
    column = x.reshape(1, -1).T  # which it transposes
    return Peer(lambda: tool.bnb4_block_quant(column), lambda result: _flat(result[0]), "ort-bnb4-nf4")


@peer("jax")
def jax_blocks(task: Task, x: NDArray[Any], threads: int) -> Peer | None:
    """The formula, compiled: jax has no function for it."""
    if task.subject not in (NF4, INT8) or not task.of_blocks or task.out or not jax_threads(threads):
        return None
    import jax
    import jax.numpy as jnp

    array = jnp.asarray(x[: x.size // 64 * 64])
    formula = jax.jit(_jax_int8 if task.subject == INT8 else _jax_nf4)
    top = jnp.float32(scheme(task.subject).dtype.top)  # an argument: XLA would multiply by 1 / constant

    def there(x: Any) -> Any:
        return formula(x, top)

    if task.verb == "quantize":
        return Peer(lambda: jax.block_until_ready(there(array)), lambda result: _flat(result[0]).view(np.uint8))
    q = quantize(np.asarray(array), task.subject)  # its own scales are off by an ulp now and then
    kind = np.int8 if task.subject == INT8 else np.uint8
    codes, scale = jnp.asarray(q.packed.view(kind).reshape(q.scales.size, -1)), jnp.asarray(q.scales.reshape(-1, 1))
    back = jax.jit(_jax_back)
    return Peer(lambda: back(codes, scale).block_until_ready(), _flat)


def _jax_scaled(x: Any, top: Any) -> tuple[Any, Any]:
    """[n] -> [n / 64, 64] over scales [n / 64, 1]; blocks of zeros stay zeros."""
    import jax.numpy as jnp

    blocks = x.reshape(-1, 64)
    scale = jnp.abs(blocks).max(axis=1, keepdims=True) / top
    return blocks / jnp.where(scale == 0, 1, scale), scale


def _jax_int8(x: Any, top: Any) -> Any:
    import jax.numpy as jnp

    y, scale = _jax_scaled(x, top)
    return jnp.rint(y).astype(jnp.int8), scale


def _jax_nf4(x: Any, top: Any) -> Any:
    import jax.numpy as jnp

    y, scale = _jax_scaled(x, top)
    codes = sum((y > boundary).astype(jnp.uint8) for boundary in _boundaries())
    return codes[:, 0::2] | codes[:, 1::2] << 4, scale


def _boundaries() -> list[np.float32]:
    """Between neighbouring levels of nf4: the largest float32 that still belongs to the lower one."""
    levels = scheme(NF4).dtype.levels
    midpoints = (levels[:-1] + levels[1:]) / 2
    near = midpoints.astype(np.float32)
    return list(np.where(near > midpoints, np.nextafter(near, np.float32(-np.inf)), near))


def _jax_back(codes: Any, scale: Any) -> Any:
    import jax.numpy as jnp

    if codes.dtype == jnp.int8:
        return codes.astype(jnp.float32) * scale
    both = jnp.stack([codes & 15, codes >> 4], axis=-1).reshape(len(codes), -1)
    return jnp.asarray(scheme(NF4).dtype.levels.astype(np.float32))[both] * scale
