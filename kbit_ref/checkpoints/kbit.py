"""What `kbit-ref quantize` writes: safetensors with `X.packed`, `X.scales`, ... in the place of X.

`table.py` says what the metadata holds. All other metadata and all other tensors are kept as they
are. Tensors go through a piece at a time (`pieces.py`, `large.py`).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from numpy.typing import NDArray

from kbit_ref.arithmetic import widened
from kbit_ref.checkpoints.container import NUMPY, Container, Writer, target
from kbit_ref.checkpoints.foreign import AS_STORED, Found, reader
from kbit_ref.checkpoints.header import Entry, Spec, shown
from kbit_ref.checkpoints.stored import assembled
from kbit_ref.checkpoints.table import FLOATS, KEY, Tensor, described, of_tensor, read_tensors
from kbit_ref.checkpoints.writing import Views, dequantize_tensor, memory_for, quantize_tensor
from kbit_ref.engine.codec import decode
from kbit_ref.errors import BadInput, message
from kbit_ref.tensors.dequantize import dequantize
from kbit_ref.tensors.qtensor import QTensor
from kbit_ref.tensors.scheme import Scheme, scheme

__all__ = ["Checkpoint", "Converted", "Tensor", "dequantize_file", "open_checkpoint", "quantize_file", "read"]

Array = NDArray[Any]
PathLike = str | os.PathLike[str]
Tell = Callable[[int, str], None]  # so many more bytes of the input are done; the tensor

FLOATS_8 = {
    "F8_E5M2": "e5m2",
    "F8_E4M3": "e4m3fn",
    "F8_E8M0": "e8m0fnu",
    "F8_E4M3FNUZ": "e4m3fnuz",
    "F8_E5M2FNUZ": "e5m2fnuz",
}
COPIED_AT_ONCE = 1 << 24  # bytes
MUCH = 200_000_000  # bytes of memory that are told before they are taken


@dataclass(frozen=True)
class Converted:
    """What was done to a file: the tensors, how many others were copied, bytes of the files before and after."""

    tensors: tuple[Tensor, ...]
    copied: int
    before: int
    after: int


def quantize_file(
    source: PathLike,
    scheme_: Scheme | str,
    output: PathLike,
    *,
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    force: bool = False,
    threads: int | None = None,
    expect: Callable[[int], None] | None = None,
    tell: Tell | None = None,
    warn: Callable[[str], None] | None = None,
) -> Converted:
    """Quantize the floating tensors of two or more dimensions of a safetensors file; copy the others.

    Parameters
    ----------
    source, output
        Paths. The output appears when it is complete, or not at all.
    scheme_
        A scheme, its spelling, or the name of a profile.
    include, exclude
        A pattern of names (`*` and `?`), or several. With `include`, only tensors that match, of one dimension too.
    force
        Whether an existing output may be replaced.
    threads
        How many to use; by default as many as help.
    expect, tell
        Called with the bytes of all tensors, and with those just done and the name of their tensor.
    warn
        Called with a line on each tensor that takes much memory, before it does; by default a warning of Python.

    Raises
    ------
    BadInput
        `quantize: model.weight[3, 7] = nan, a block with NaN has no scale; ...`
        and whatever is wrong with the files.

    Choices
    -------
    Tensors are cut into blocks as they lie in the file: GPT-2's files hold matrices as [inputs, outputs], so that
    blocks run along outputs there, and along inputs where a model is quantized after it was loaded.
    """
    s = scheme(scheme_)
    if s.dtype.rounding.startswith("stochastic"):
        rule = "files are quantized without random bits"
        raise BadInput(message("quantize", f"rounding = {s.dtype.rounding}", rule, "use another rounding"))
    with Container(source) as file:
        _not_itself(source, output)
        target(output, force=force)  # told now rather than after the work
        if KEY in file.metadata:
            rule = "it holds tensors that kbit-ref has quantized"
            raise BadInput(message("quantize", shown(file.path), rule, "dequantize it first"))
        patterns = [[each] if isinstance(each, str) else list(each) for each in (include, exclude)]
        tensors = _chosen(file, s, *patterns)
        copied = [entry for entry in file.entries.values() if entry.name not in tensors]
        specs: list[Spec] = list(copied)
        for tensor in tensors.values():
            with of_tensor("quantize", tensor.name):
                specs += [part.spec(tensor.name) for part in tensor.parts]
        metadata = dict(file.metadata) | {KEY: described(tensors, s)}
        if expect is not None:
            expect(sum(entry.n_bytes for entry in file.entries.values()))
        with Writer(output, specs, metadata, force=force) as writer:
            for entry in file.entries.values():
                if entry.name in tensors:
                    with of_tensor("quantize", entry.name):
                        tensor = tensors[entry.name]
                        _warn(tensor, warn)
                        views = {part.path: writer.view(part.spec(tensor.name).name) for part in tensor.parts}
                        done = _doing(file, writer, tensor.name, tell)
                        quantize_tensor(file.array(tensor.name), tensor, views, threads, done)
                else:
                    _copy(file, writer, entry, tell)
        return Converted(tuple(tensors.values()), len(copied), _size(source), writer.n_bytes)


def dequantize_file(
    source: PathLike,
    output: PathLike,
    *,
    force: bool = False,
    threads: int | None = None,
    expect: Callable[[int], None] | None = None,
    tell: Tell | None = None,
) -> Converted:
    """Undo `quantize_file`: each quantized tensor as numbers of its original type; all others copied.

    The numbers are those of `kb.dequantize`, rounded once to the original type.

    Raises
    ------
    BadInput
        `dequantize: x.safetensors, it holds no tensors that kbit-ref has quantized; ...`
        and whatever is wrong with the files.
    """
    with Container(source) as file:
        _not_itself(source, output)
        target(output, force=force)
        if KEY not in file.metadata:
            rule = "it holds no tensors that kbit-ref has quantized"
            raise BadInput(message("dequantize", shown(file.path), rule, "name a file that kbit-ref quantize wrote"))
        tensors = read_tensors(file)
        used = {part.spec(tensor.name).name for tensor in tensors.values() for part in tensor.parts}
        copied = [entry for entry in file.entries.values() if entry.name not in used]
        specs = [*copied, *(tensor.spec for tensor in tensors.values())]
        metadata = {key: text for key, text in file.metadata.items() if key != KEY}
        if expect is not None:
            expect(sum(entry.n_bytes for entry in file.entries.values()))
        with Writer(output, specs, metadata, force=force) as writer:
            for tensor in tensors.values():
                place = writer.view(tensor.name).view(NUMPY[tensor.dtype]).reshape(tensor.shape)
                done = _doing(file, writer, tensor.name, tell)
                dequantize_tensor(tensor, _raw(file, tensor), place, threads, done)
            for entry in copied:
                _copy(file, writer, entry, tell)
        return Converted(tuple(tensors.values()), len(copied), _size(source), writer.n_bytes)


class Checkpoint(Mapping[str, "QTensor | Array"]):
    """A file that `kbit-ref quantize` wrote, or any safetensors file, by the names of its tensors.

    A quantized tensor is a `QTensor` whose codes stay in the file until they are looked at; any other
    is an array: bfloat16 and 8-bit floats become float32, the rest is mapped.
    """

    def __init__(self, path: PathLike):
        self._file = Container(path)
        self.tensors: Mapping[str, Tensor] = read_tensors(self._file)
        self.metadata: Mapping[str, str] = {k: v for k, v in self._file.metadata.items() if k != KEY}
        used = {part.spec(tensor.name).name for tensor in self.tensors.values() for part in tensor.parts}
        self._plain = dict.fromkeys(name for name in self._file.entries if name not in used)

    def __getitem__(self, name: str) -> QTensor | Array:
        if name in self.tensors:
            tensor = self.tensors[name]
            return assembled(tensor.scheme, tensor.shape, _raw(self._file, tensor))
        if name not in self._plain:
            raise KeyError(name)
        entry, array = self._file.entry(name), self._file.array(name)
        if entry.dtype == "BF16":
            return widened(array)
        return decode(FLOATS_8[entry.dtype], array) if entry.dtype in FLOATS_8 else array

    def __iter__(self) -> Iterator[str]:
        yield from self.tensors
        yield from self._plain

    def __len__(self) -> int:
        return len(self.tensors) + len(self._plain)

    def dequantize(self, name: str) -> Array:
        """Return a tensor as numbers: float32 of a quantized one, otherwise as it is."""
        found = self[name]
        return dequantize(found) if isinstance(found, QTensor) else found


def open_checkpoint(path: PathLike) -> Checkpoint:
    """Open a safetensors file: its tensors by name, quantized ones as `QTensor`; the file is mapped, not read.

    Raises
    ------
    BadInput
        whatever is wrong with the file, in one line.
    """
    return Checkpoint(path)


@reader
def read(file: Container, name: str) -> Found | None:
    """One quantized tensor of a file that `kbit-ref quantize` wrote, or None."""
    if KEY not in file.metadata:
        return None
    if file not in _read_before:
        _read_before[file] = read_tensors(file)
    tensor = _read_before[file].get(name)
    return None if tensor is None else (assembled(tensor.scheme, tensor.shape, _raw(file, tensor)), AS_STORED)


_read_before: WeakKeyDictionary[Container, dict[str, Tensor]] = WeakKeyDictionary()


# Writing -----------------------------------------------------------------------------------------


def _chosen(file: Container, s: Scheme, include: Sequence[str], exclude: Sequence[str]) -> dict[str, Tensor]:
    """The tensors to quantize."""
    floats = [e for e in file.entries.values() if e.dtype in FLOATS and e.shape and e.begin < e.end]
    for kind, patterns in (("include", include), ("exclude", exclude)):
        for pattern in patterns:
            if not any(fnmatchcase(entry.name, pattern) for entry in floats):
                rule = "no floating tensor with a dimension and an element has such a name"
                names = ", ".join(shown(entry.name) for entry in floats[:3]) or "none"
                raise BadInput(message("quantize", f"{kind} = {pattern}", rule, f"the first of them are {names}"))

    def wanted(entry: Entry) -> bool:
        if any(fnmatchcase(entry.name, pattern) for pattern in exclude):
            return False
        matches = any(fnmatchcase(entry.name, pattern) for pattern in include)
        return matches if include else len(entry.shape) >= 2

    chosen = {entry.name: Tensor(entry.name, s, entry.shape, entry.dtype) for entry in floats if wanted(entry)}
    if not chosen:
        rule = "it has no floating tensor of two or more dimensions to quantize"
        raise BadInput(message("quantize", shown(file.path), rule, "tensors of one dimension need --include"))
    return chosen


def _copy(file: Container, writer: Writer, entry: Entry, tell: Tell | None) -> None:
    source, place, done = file.raw(entry.name), writer.view(entry.name), _doing(file, writer, entry.name, tell)
    for begin in range(0, source.size, COPIED_AT_ONCE):
        part = source[begin : begin + COPIED_AT_ONCE]
        place[begin : begin + COPIED_AT_ONCE] = part
        done(part.size)


def _doing(file: Container, writer: Writer, name: str, tell: Tell | None) -> Callable[[int], None]:
    """What is called after each part of a tensor: its pages are let go, and it is told."""

    def done(n_bytes: int) -> None:
        file.release()
        writer.release()
        if tell is not None and n_bytes:
            tell(n_bytes, shown(name))

    return done


def _warn(tensor: Tensor, warn: Callable[[str], None] | None) -> None:
    """Say so if a tensor takes much memory."""
    n_bytes, reason = memory_for(tensor)
    if n_bytes >= MUCH:
        text = f"{shown(tensor.name)} takes about {n_bytes / 1e9:.1f} GB of memory, because {reason}"
        if warn is not None:
            warn(text)
        else:
            warnings.warn(f"quantize: {text}", stacklevel=3)


def _not_itself(source: PathLike, output: PathLike) -> None:
    if os.path.exists(output) and os.path.samefile(source, output):
        raise BadInput(message("safetensors", shown(Path(output)), "it is the input", "name another output"))


def _size(path: PathLike) -> int:
    return os.stat(path).st_size


def _raw(file: Container, tensor: Tensor) -> Views:
    return {part.path: file.raw(part.spec(tensor.name).name) for part in tensor.parts}
