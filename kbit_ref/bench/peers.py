"""The peers of the benchmark: what the adapter of a library calls, how its answer is read, and what it should be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from kbit_ref.bench.tasks import Task
from kbit_ref.conformance.implementations.adapters import Adapter, Timed, adapters

__all__ = ["OUT_OF_REACH", "PEERS", "SLOW", "Peer", "installed"]

Peer = Timed
Make = Callable[[Task, NDArray[Any], int], Peer | None]  # None: it has no such operation

SLOW = {  # who is measured on fewer elements, and in which rows: the tasks that begin so
    ("encode e", "gfloat"): 1 << 18,
    ("decode e", "gfloat"): 1 << 18,
    ("quantize nf4", "torchao"): 1 << 21,
}
OUT_OF_REACH = {  # of NumPy: loops that a compiler fused, in which numbers stay in vector registers
    ("encode", "torch"),
    ("quantize int8", "jax"),
}


def _by(adapter: Adapter) -> Make:
    """What an adapter calls; none of them writes into an array that is there already."""
    return lambda task, x, threads: None if task.out else adapter.timed(task.verb, task.subject, x, threads)


_ADAPTERS = {name: each for name, each in adapters().items() if type(each).timed is not Adapter.timed}
PEERS: dict[str, Make] = {name: _by(each) for name, each in _ADAPTERS.items()}


def installed() -> dict[str, str]:
    """Peers that are installed, and their versions."""
    return {name: each.version() for name, each in _ADAPTERS.items() if each.installed()}
