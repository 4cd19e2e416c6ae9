"""How fast: every operation beside `x.copy()` of float32 normals and beside each installed peer.

All callables of a row run in turn, several times, in one process, on as many cores as the row has
threads; a row reports medians, as the ratio to the copy and in millions of elements a second. Both
are needed: a copy is bound by page faults, and with huge pages it is four times as fast as without,
which changes every ratio. What a peer answers is compared with what we answer: whoever computes
something else is no peer.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import statistics
import tracemalloc
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.engine import decode, encode
from kbit_ref.quantize import dequantize, quantize

__all__ = ["Task", "Timing", "circumstances", "measure", "scratch_bytes", "tasks"]

Call = Callable[[], Any]
Read = Callable[[Any], NDArray[Any]]  # from what a call returns to codes, or to levels


@dataclass(frozen=True)
class Task:
    """One operation: what is timed, in which source format, and what it should reach of a copy."""

    verb: str  # encode, decode, quantize, dequantize
    subject: str  # a data type, or a scheme
    source: str = "float32"
    target: dict[int, float] | None = None  # by number of threads
    floor: dict[int, float] | None = None

    def __str__(self) -> str:
        return f"{self.verb} {self.subject}" + (f" from {self.source}" if self.source != "float32" else "")


@dataclass(frozen=True)
class Timing:
    """The median of one callable."""

    task: str
    who: str  # copy, kbit_ref, or a library
    threads: int
    size: int
    seconds: float
    ratio: float  # copy / seconds, for the same number of elements
    target: float | None
    floor: float | None
    differs: int = 0  # elements for which a peer answers something else than we
    in_reach: bool = True  # for NumPy

    @property
    def speed(self) -> float:
        """Elements a second."""
        return self.size / self.seconds


FLOAT8 = {"target": {1: 0.55}, "floor": {1: 0.45}}
BLOCKS = {"target": {1: 0.30, 2: 0.45}, "floor": {1: 0.25, 2: 0.40}}


def tasks() -> list[Task]:
    """What is measured, in the order of the table."""
    encodes: list[Task] = [Task("encode", name, **FLOAT8) for name in ("e4m3fn", "e5m2")]  # type: ignore[arg-type]
    encodes += [Task("encode", name) for name in ("int8", "nf4", "dynamic8", "lloyd8", "fp4_bnb", "bf16", "f16")]
    encodes += [Task("encode", "e4m3fn", source) for source in ("float16", "float64")]
    decodes = [Task("decode", "e4m3fn", target={1: 0.65}), Task("decode", "dynamic8"), Task("decode", "nf4")]
    codebooks = ("nf4", "dynamic8", "e4m3fn", "int8", "lloyd8")
    blocks = [Task("quantize", f"{name}-b64-absmax-f32", **BLOCKS) for name in codebooks]  # type: ignore[arg-type]
    return [*encodes, *decodes, *blocks, Task("dequantize", "nf4-b64-absmax-f32", target={1: 0.70, 2: 1.0})]


def ours(task: Task, x: NDArray[Any], threads: int) -> Call:
    """Our callable for a task."""
    if task.verb == "encode":
        return lambda: encode(task.subject, x, threads=threads)
    if task.verb == "decode":
        codes = encode(task.subject, x)
        return lambda: decode(task.subject, codes, threads=threads)
    if task.verb == "quantize":
        return lambda: quantize(x, task.subject, threads=threads)
    q = quantize(x, task.subject)
    return lambda: dequantize(q, threads=threads)


# Peers: a library's callable and how to read its answer, or None where it has no such operation -

PEERS: dict[str, Callable[[Task, NDArray[Any], int], tuple[Call, Read] | None]] = {}
NAMES = {"e4m3fn": "float8_e4m3fn", "e5m2": "float8_e5m2", "bf16": "bfloat16"}
ONNX = {"e4m3fn": "FLOAT8E4M3FN", "e5m2": "FLOAT8E5M2"}


def peer(name: str) -> Callable[[Any], Any]:
    """Decorate the function that makes a library's callable."""

    def decorate(make: Any) -> Any:
        PEERS[name] = make
        return make

    return decorate


def _bytes(task: Task) -> Read:
    """A result that NumPy can hold: its bits as codes, or levels as they are."""
    code = np.uint16 if task.subject == "bf16" else np.uint8
    return lambda result: np.asarray(result).view(code) if task.verb == "encode" else np.asarray(result)


@peer("ml_dtypes")
def ml_dtypes_call(task: Task, x: NDArray[Any], threads: int) -> tuple[Call, Read] | None:
    """`astype`; it has one thread."""
    if threads != 1 or task.subject not in NAMES:
        return None
    import ml_dtypes

    kind = np.dtype(getattr(ml_dtypes, NAMES[task.subject]))
    if task.verb == "encode":
        return lambda: x.astype(kind), _bytes(task)
    codes = encode(task.subject, x).view(kind)
    return lambda: codes.astype(np.float32), _bytes(task)


@peer("torch")
def torch_call(task: Task, x: NDArray[Any], threads: int) -> tuple[Call, Read] | None:
    """`Tensor.to`."""
    if task.subject not in NAMES:
        return None
    import torch

    torch.set_num_threads(threads)
    kind, tensor = getattr(torch, NAMES[task.subject]), torch.from_numpy(x)
    if task.verb == "encode":
        code = torch.uint16 if task.subject == "bf16" else torch.uint8
        return lambda: tensor.to(kind), lambda result: result.view(code).numpy()
    codes = tensor.to(kind)
    return lambda: codes.to(torch.float32), _bytes(task)


@peer("jax")
def jax_call(task: Task, x: NDArray[Any], threads: int) -> tuple[Call, Read] | None:
    """A compiled `astype`. XLA starts a thread a core; `on_cores` gives them as many cores as the row has."""
    if task.subject not in NAMES or task.source == "float64":
        return None
    if threads != (os.cpu_count() or 1) and not hasattr(os, "sched_setaffinity"):
        return None
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax
    import jax.numpy as jnp

    kind = getattr(jnp, NAMES[task.subject])
    there, back = jax.jit(lambda a: a.astype(kind)), jax.jit(lambda a: a.astype(jnp.float32))
    array = jnp.asarray(x)
    if task.verb == "encode":
        return lambda: there(array).block_until_ready(), _bytes(task)
    codes = there(array)
    return lambda: back(codes).block_until_ready(), _bytes(task)


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
def onnxruntime_call(task: Task, x: NDArray[Any], threads: int) -> tuple[Call, Read] | None:
    """A Cast model on the CPU provider, bound to memory."""
    if task.subject not in ONNX or task.source != "float32":
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

    return call, read


@peer("onnx")
def onnx_call(task: Task, x: NDArray[Any], threads: int) -> tuple[Call, Read] | None:
    """The same model in the reference evaluator, which has one thread."""
    if task.subject not in ONNX or task.source != "float32" or threads != 1:
        return None
    import ml_dtypes
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(_cast_model(task)[0])
    kind = getattr(ml_dtypes, NAMES[task.subject])
    data = x if task.verb == "encode" else encode(task.subject, x).view(kind)
    return lambda: evaluator.run(None, {"x": data})[0], _bytes(task)


@peer("gfloat")
def gfloat_call(task: Task, x: NDArray[Any], threads: int) -> tuple[Call, Read] | None:
    """`encode_ndarray(round_ndarray)` and `decode_ndarray`, one thread."""
    if task.subject not in ONNX or task.source != "float32" or threads != 1:
        return None
    import gfloat
    from gfloat import formats

    form = {"e4m3fn": formats.format_info_ocp_e4m3, "e5m2": formats.format_info_ocp_e5m2}[task.subject]
    if task.verb == "encode":
        return lambda: gfloat.encode_ndarray(form, gfloat.round_ndarray(form, x, sat=True)), np.asarray
    codes = encode(task.subject, x)
    return lambda: gfloat.decode_ndarray(form, codes), np.asarray


SLOW = {"gfloat": 1 << 18}  # measured on fewer elements
OUT_OF_REACH = {("encode", "torch")}  # of NumPy: a fused cast in vector registers


def installed() -> dict[str, str]:
    """Peers that are installed, and their versions."""
    found = {}
    for name in PEERS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


# Measuring ------------------------------------------------------------------------------------


@contextmanager
def on_cores(count: int) -> Iterator[None]:
    """Keep all threads of this process on so many cores, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    try:
        _pin(set(sorted(allowed)[:count]))
        yield
    finally:
        _pin(allowed)


def _pin(cores: set[int]) -> None:
    threads = Path("/proc/self/task")
    for thread in threads.iterdir() if threads.exists() else [Path("0")]:
        with suppress(OSError):  # it has ended in the meantime
            os.sched_setaffinity(int(thread.name), cores)


def measure(task: Task, size: int, threads: int, runs: int, peers: Sequence[str]) -> Iterator[Timing]:
    """The task by everybody, beside the copy: medians of `runs` runs in turn."""
    with on_cores(threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of other libraries
        yield from _measured(task, size, threads, runs, peers)


def _measured(task: Task, size: int, threads: int, runs: int, peers: Sequence[str]) -> list[Timing]:
    normals = np.random.default_rng(0).standard_normal(size, np.float32)
    x = normals.astype(task.source, copy=False)
    calls: dict[str, tuple[Call, int]] = {"copy": (normals.copy, size), "kbit_ref": (ours(task, x, threads), size)}
    answer = calls["kbit_ref"][0]()
    differs = dict.fromkeys(calls, 0)
    for name in peers if task.verb in ("encode", "decode") else ():
        few = min(size, SLOW.get(name, size))
        made = PEERS[name](task, x[:few], threads)
        if made is not None:
            call, read = made
            differs[name] = int(np.count_nonzero(read(call()) != answer[:few]))
            calls[name] = call, few
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call, _ in calls.values():
        call()  # tables are built, code compiled, pages touched
    for _ in range(runs):
        for name, (call, _) in calls.items():
            begin = perf_counter()
            call()
            seconds[name].append(perf_counter() - begin)
    copy = statistics.median(seconds["copy"]) / size
    rows = []
    for name, (_, n) in calls.items():
        median = statistics.median(seconds[name])
        target, floor = (task.target, task.floor) if name == "kbit_ref" else (None, None)
        rows.append(
            Timing(
                *(str(task), name, threads, n, median, copy * n / median),
                *((target or {}).get(threads), (floor or {}).get(threads)),
                *(differs[name], (task.verb, name) not in OUT_OF_REACH),
            )
        )
    return rows


def scratch_bytes(task: Task, size: int = 1 << 22, threads: int = 1) -> float:
    """Peak memory beyond input, output and tables, per thread: bytes, as tracemalloc counts NumPy's."""
    x = np.random.default_rng(0).standard_normal(size, np.float32).astype(task.source)
    call = ours(task, x, threads)
    call()  # the tables stay, they are not scratch
    tracemalloc.start()
    try:
        result = call()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    kept = result.packed.nbytes + result.scales.nbytes if task.verb == "quantize" else result.nbytes
    return float(peak - kept) / threads


def circumstances() -> dict[str, str]:
    """What decides the numbers besides the code: machine, load, versions, huge pages."""
    pages = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return {
        "load": " ".join(f"{value:.2f}" for value in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown",
        "cores": str(os.cpu_count()),
        "numpy": np.__version__,
        "huge pages": pages.read_text().strip() if pages.exists() else "unknown",
        "NUMPY_MADVISE_HUGEPAGE": os.environ.get("NUMPY_MADVISE_HUGEPAGE", "unset"),
        **installed(),
    }
