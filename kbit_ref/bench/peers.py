"""The peers of the benchmark: a library's callable, how to read its answer, and what it should be.

Here are the registry and the peers that convert one number at a time; `block_peers.py` has those
that quantize blocks. Each is timed through its public interface.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kbit_ref.bench.tasks import Call, Task, some_codes
from kbit_ref.engine.codec import encode

__all__ = ["OUT_OF_REACH", "PEERS", "SLOW", "Peer", "installed", "one_thread", "peer"]

Read = Callable[[Any], NDArray[Any]]  # from what a call returns to codes, to packed bytes, or to numbers


class Peer(NamedTuple):
    """What is timed, and what it says."""

    call: Call
    read: Read
    spelling: str = ""  # the scheme or profile that it computes, if that is not quite the task's


Make = Callable[[Task, NDArray[Any], int], Peer | None]  # None: it has no such operation

PEERS: dict[str, Make] = {}
NAMES = {"e4m3fn": "float8_e4m3fn", "e5m2": "float8_e5m2", "bf16": "bfloat16"}
ONNX = {"e4m3fn": "FLOAT8E4M3FN", "e5m2": "FLOAT8E5M2"}

SLOW = {  # who is measured on fewer elements, and in which rows: the tasks that begin so
    ("encode e", "gfloat"): 1 << 18,
    ("decode e", "gfloat"): 1 << 18,
    ("quantize nf4", "torchao"): 1 << 21,
}
OUT_OF_REACH = {  # of NumPy: loops that a compiler fused, in which numbers stay in vector registers
    ("encode", "torch"),
    ("quantize int8", "jax"),
}


def peer(name: str) -> Callable[[Make], Make]:
    """Decorate the function that makes a library's callable; one that makes more of them adds to the first."""

    def decorate(make: Make) -> Make:
        before = PEERS.get(name)

        def either(task: Task, x: NDArray[Any], threads: int) -> Peer | None:
            return (before(task, x, threads) if before else None) or make(task, x, threads)

        PEERS[name] = either
        return make

    return decorate


def installed() -> dict[str, str]:
    """Peers that are installed, and their versions."""
    found = {}
    for name in PEERS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def converts(task: Task) -> bool:
    """Is it a conversion that begins with an allocation, as all of them do?"""
    return task.verb in ("encode", "decode") and not task.out and task.subject in NAMES


def one_thread(make: Make) -> Make:
    """Decorate the function for a library that has one thread."""
    return lambda task, x, threads: make(task, x, threads) if threads == 1 else None


def _bytes(task: Task) -> Read:
    """A result that NumPy can hold: its bits as codes, or levels as they are."""
    code = np.uint16 if task.subject == "bf16" else np.uint8
    return lambda result: np.asarray(result).view(code) if task.verb == "encode" else np.asarray(result)


@peer("ml_dtypes")
@one_thread
def ml_dtypes_call(task: Task, x: NDArray[Any], threads: int) -> Peer | None:
    """`astype`."""
    if not converts(task):
        return None
    import ml_dtypes

    kind = np.dtype(getattr(ml_dtypes, NAMES[task.subject]))
    if task.verb == "encode":
        return Peer(lambda: x.astype(kind), _bytes(task))
    codes = encode(task.subject, x).view(kind)
    return Peer(lambda: codes.astype(np.float32), _bytes(task))


@peer("torch")
def torch_call(task: Task, x: NDArray[Any], threads: int) -> Peer | None:
    """`Tensor.to`."""
    if not converts(task):
        return None
    import torch

    torch.set_num_threads(threads)
    kind, tensor = getattr(torch, NAMES[task.subject]), torch.from_numpy(x)
    if task.verb == "encode":
        code = torch.uint16 if task.subject == "bf16" else torch.uint8
        return Peer(lambda: tensor.to(kind), lambda result: result.view(code).numpy())
    codes = tensor.to(kind)
    return Peer(lambda: codes.to(torch.float32), _bytes(task))


@peer("jax")
def jax_call(task: Task, x: NDArray[Any], threads: int) -> Peer | None:
    """A compiled `astype`."""
    if not converts(task) or task.source == "float64" or not jax_threads(threads):
        return None
    import jax
    import jax.numpy as jnp

    kind = getattr(jnp, NAMES[task.subject])
    there, back = jax.jit(lambda a: a.astype(kind)), jax.jit(lambda a: a.astype(jnp.float32))
    array = jnp.asarray(x)
    if task.verb == "encode":
        return Peer(lambda: there(array).block_until_ready(), _bytes(task))
    codes = there(array)
    return Peer(lambda: back(codes).block_until_ready(), _bytes(task))


def jax_threads(threads: int) -> bool:
    """XLA starts a thread a core; so many threads it has only on so many cores, as `on_cores` sees to."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    return threads == (os.cpu_count() or 1) or hasattr(os, "sched_setaffinity")


def _cast_model(task: Task) -> tuple[Any, tuple[int, int]]:
    """An ONNX model of one Cast, and the types of its ends."""
    from onnx import TensorProto, helper

    kind = getattr(TensorProto, ONNX[task.subject])
    ends = (TensorProto.FLOAT, kind) if task.verb == "encode" else (kind, TensorProto.FLOAT)
    node = helper.make_node("Cast", ["x"], ["y"], to=ends[1])
    values = [helper.make_tensor_value_info(name, end, [None]) for name, end in zip("xy", ends, strict=True)]
    graph = helper.make_graph([node], "cast", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), ends


@peer("onnxruntime")
def onnxruntime_call(task: Task, x: NDArray[Any], threads: int) -> Peer | None:
    """A Cast model on the CPU provider, bound to memory."""
    if not converts(task) or task.subject not in ONNX or task.source != "float32":
        return None
    import onnxruntime as ort

    model, ends = _cast_model(task)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    data = x if task.verb == "encode" else encode(task.subject, x)
    value = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(data, ends[0])

    def call() -> Any:
        binding = session.io_binding()
        binding.bind_ortvalue_input("x", value)
        binding.bind_output("y", "cpu")
        session.run_with_iobinding(binding)
        return binding.get_outputs()[0]

    def read(result: Any) -> NDArray[Any]:
        if task.verb == "decode":
            return np.asarray(result.numpy())
        memory = (ctypes.c_uint8 * x.size).from_address(result.data_ptr())
        return np.array(memory, np.uint8)

    return Peer(call, read)


@peer("onnx")
@one_thread
def onnx_call(task: Task, x: NDArray[Any], threads: int) -> Peer | None:
    """The same model in the reference evaluator."""
    if not converts(task) or task.subject not in ONNX or task.source != "float32":
        return None
    import ml_dtypes
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(_cast_model(task)[0])
    kind = getattr(ml_dtypes, NAMES[task.subject])
    data = x if task.verb == "encode" else encode(task.subject, x).view(kind)
    return Peer(lambda: evaluator.run(None, {"x": data})[0], _bytes(task))


@peer("gfloat")
@one_thread
def gfloat_call(task: Task, x: NDArray[Any], threads: int) -> Peer | None:
    """`encode_ndarray(round_ndarray)` and `decode_ndarray`."""
    if not converts(task) or task.subject not in ONNX or task.source != "float32":
        return None
    import gfloat
    from gfloat import formats

    form = {"e4m3fn": formats.format_info_ocp_e4m3, "e5m2": formats.format_info_ocp_e5m2}[task.subject]
    if task.verb == "encode":
        return Peer(lambda: gfloat.encode_ndarray(form, gfloat.round_ndarray(form, x, sat=True)), np.asarray)
    codes = encode(task.subject, x)
    return Peer(lambda: gfloat.decode_ndarray(form, codes), np.asarray)


@peer("torchao")
def torchao_call(task: Task, x: NDArray[Any], threads: int) -> Peer | None:
    """`pack_uint4` and `unpack_uint4`."""
    if task.verb not in ("pack", "unpack") or task.subject != "low4":
        return None
    import torch
    from torchao.prototype.mx_formats.kernels import pack_uint4, unpack_uint4

    torch.set_num_threads(threads)
    codes = torch.from_numpy(some_codes(x[: x.size // 2 * 2]))
    if task.verb == "pack":
        return Peer(lambda: pack_uint4(codes), lambda result: result.numpy())
    packed = pack_uint4(codes)
    return Peer(lambda: unpack_uint4(packed), lambda result: result.numpy())
