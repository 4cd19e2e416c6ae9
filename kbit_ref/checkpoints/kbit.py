"""What `kbit-ref quantize` writes: safetensors with `X.packed`, `X.scales`, ... in the place of X.

The metadata holds, under `kbit_ref`, the format's version and for each X its scheme, shape and
type: {"format": 1, "tensors": {"X": {"scheme": "nf4-b64-absmax-f32", "shape": [2, 3], "dtype": "BF16"}}}.
All other metadata and all other tensors are kept as they are. Tensors go through a piece at a time.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.checkpoints.container import NUMPY, Container, Writer, target
from kbit_ref.checkpoints.header import Entry, Spec, n_elements, shown
from kbit_ref.checkpoints.pieces import Piece, of_a_piece, part_of, pieces
from kbit_ref.checkpoints.stored import Part, assembled, parts, scales_again, values_of
from kbit_ref.dequantize import dequantize
from kbit_ref.engine import decode, encode
from kbit_ref.errors import BadInput, KbitError, message
from kbit_ref.qtensor import QTensor
from kbit_ref.quantize import quantize, whole_of
from kbit_ref.scheme import Scheme, scheme

__all__ = ["Checkpoint", "Converted", "Tensor", "dequantize_file", "open_checkpoint", "quantize_file"]

Array = NDArray[Any]
PathLike = str | os.PathLike[str]
Tell = Callable[[int, str], None]  # so many more bytes of the input are done; the tensor

KEY, FORMAT = "kbit_ref", 1
FLOATS = ("F16", "BF16", "F32", "F64")
FLOATS_8 = {
    "F8_E5M2": "e5m2",
    "F8_E4M3": "e4m3fn",
    "F8_E8M0": "e8m0fnu",
    "F8_E4M3FNUZ": "e4m3fnuz",
    "F8_E5M2FNUZ": "e5m2fnuz",
}
COPIED_AT_ONCE = 1 << 24  # bytes


@dataclass(frozen=True)
class Tensor:
    """A quantized tensor: its name, scheme, shape and original type."""

    name: str
    scheme: Scheme
    shape: tuple[int, ...]
    dtype: str

    @property
    def parts(self) -> tuple[Part, ...]:
        """The entries that it has."""
        return parts(self.scheme, self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def spec(self) -> Spec:
        """The entry that it was."""
        return Spec(self.name, self.dtype, self.shape)

    @property
    def n_bytes(self) -> int:
        """Bytes of all its entries."""
        return sum(part.spec(self.name).n_bytes for part in self.parts)


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

    Raises
    ------
    BadInput
        `quantize: model.weight[3, 7] = nan, a block with NaN has no scale; ...`
        and whatever is wrong with the files.
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
            with _of_tensor("quantize", tensor.name):
                specs += [part.spec(tensor.name) for part in tensor.parts]
        metadata = dict(file.metadata) | {KEY: _described(tensors)}
        if expect is not None:
            expect(sum(entry.n_bytes for entry in file.entries.values()))
        with Writer(output, specs, metadata, force=force) as writer:
            for entry in file.entries.values():
                if entry.name in tensors:
                    with _of_tensor("quantize", entry.name):
                        _quantize(file, writer, tensors[entry.name], threads, tell)
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
        tensors = _read_tensors(file)
        used = {part.spec(tensor.name).name for tensor in tensors.values() for part in tensor.parts}
        copied = [entry for entry in file.entries.values() if entry.name not in used]
        specs = [*copied, *(tensor.spec for tensor in tensors.values())]
        metadata = {key: text for key, text in file.metadata.items() if key != KEY}
        if expect is not None:
            expect(sum(entry.n_bytes for entry in file.entries.values()))
        with Writer(output, specs, metadata, force=force) as writer:
            for tensor in tensors.values():
                _dequantize(file, writer, tensor, threads, tell)
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
        self.tensors: Mapping[str, Tensor] = _read_tensors(self._file)
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
            return (array.astype(np.uint32) << 16).view(np.float32)
        return decode(FLOATS_8[entry.dtype], array) if entry.dtype in FLOATS_8 else array

    def __iter__(self) -> Iterator[str]:
        yield from self.tensors
        yield from self._plain

    def __len__(self) -> int:
        return len(self.tensors) + len(self._plain)

    def dequantize(self, name: str) -> Array:
        """The tensor as numbers: float32 of a quantized one, otherwise as it is."""
        found = self[name]
        return dequantize(found) if isinstance(found, QTensor) else found


def open_checkpoint(path: PathLike) -> Checkpoint:
    """The tensors of a file by name, quantized ones as `QTensor`; the file is mapped, not read.

    Raises
    ------
    BadInput
        whatever is wrong with the file, in one line.
    """
    return Checkpoint(path)


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


def _quantize(file: Container, writer: Writer, tensor: Tensor, threads: int | None, tell: Tell | None) -> None:
    s, x, bfloat16 = tensor.scheme, file.array(tensor.name), tensor.dtype == "BF16"
    own = tensor.parts
    views = {part.path: writer.view(part.spec(tensor.name).name) for part in own}
    # one block, and scales quantized again, go through at once: the codes into the file, the scales in memory
    if s.cut.kind == "tensor" or s.double is not None:
        _store(own, views, quantize(x, s, bfloat16=bfloat16, threads=threads, out=views["packed"][:]))
        _done(file, writer, x.nbytes, tensor.name, tell)
        return
    whole = whole_of(x, s, bfloat16=bfloat16)
    for piece in pieces(s.cut, tensor.shape, s.layout.elements):
        numbers = np.require(part_of(x, s.cut, piece).reshape(piece.shape), requirements=["C", "A"])
        out = views["packed"][_codes_at(s, piece)]
        try:
            q = quantize(numbers, of_a_piece(s), bfloat16=bfloat16, threads=threads, out=out, whole=whole)
        except BadInput:
            quantize(x, s, bfloat16=bfloat16, threads=threads, out=views["packed"][:])  # names the place in x
            raise
        _store(own, views, q, piece)
        _done(file, writer, numbers.nbytes, tensor.name, tell)


def _store(own: Sequence[Part], views: Mapping[str, NDArray[np.uint8]], q: QTensor, piece: Piece | None = None) -> None:
    """All but the codes, which `quantize` has written."""
    for part in own:
        values: Any = q
        for name in part.path.split("."):
            values = values_of(values).get(name)
            if values is None:  # the mean of no finite number: it stays 0
                break
        if values is None or part.path == "packed":
            continue
        begin, end = 0, views[part.path].size
        if piece and part.kind == "blocks":
            begin, end = (part.at(block) for block in piece.blocks)
        part.write(values, views[part.path][begin:end])


def _copy(file: Container, writer: Writer, entry: Entry, tell: Tell | None) -> None:
    source, place = file.raw(entry.name), writer.view(entry.name)
    for begin in range(0, source.size, COPIED_AT_ONCE):
        part = source[begin : begin + COPIED_AT_ONCE]
        place[begin : begin + COPIED_AT_ONCE] = part
        _done(file, writer, part.size, entry.name, tell)


def _done(file: Container, writer: Writer, n_bytes: int, name: str, tell: Tell | None) -> None:
    file.release()
    writer.release()
    if tell is not None:
        tell(n_bytes, shown(name))


def _codes_at(s: Scheme, piece: Piece) -> slice:
    return slice(s.layout.size(piece.first), s.layout.size(piece.first + piece.size))


def _described(tensors: Mapping[str, Tensor]) -> str:
    """Our text in the metadata."""
    rows = {
        name: {"scheme": str(tensor.scheme), "shape": list(tensor.shape), "dtype": tensor.dtype}
        for name, tensor in tensors.items()
    }
    return json.dumps({"format": FORMAT, "tensors": rows}, separators=(",", ":"), ensure_ascii=False)


@contextmanager
def _of_tensor(function: str, name: str) -> Iterator[None]:
    """Errors say which tensor they are about."""
    try:
        yield
    except KbitError as error:
        text = str(error).removeprefix(f"{function}: ")
        if text.startswith("x["):
            text = shown(name) + text[1:]
        else:
            text = f"tensor {shown(name)}: {text}"
        raise BadInput(f"{function}: {text}") from None


def _not_itself(source: PathLike, output: PathLike) -> None:
    if os.path.exists(output) and os.path.samefile(source, output):
        raise BadInput(message("safetensors", shown(Path(output)), "it is the input", "name another output"))


def _size(path: PathLike) -> int:
    return os.stat(path).st_size


# Reading -----------------------------------------------------------------------------------------


def _read_tensors(file: Container) -> dict[str, Tensor]:
    """The quantized tensors of a file, from its metadata; every one of their entries is there."""
    if KEY not in file.metadata:
        return {}
    tensors: dict[str, Tensor] = {}
    for name, row in _rows(file).items():
        where = f"metadata kbit_ref, tensor {shown(name)}"
        if not isinstance(row, dict) or set(row) != {"scheme", "shape", "dtype"}:
            raise _wrong(file, f"{where}: it has not just scheme, shape and dtype")
        if name in file.entries:
            raise _wrong(file, f"{where}: the file holds the tensor itself too")
        shape, dtype = row["shape"], row["dtype"]
        sizes = isinstance(shape, list) and all(type(size) is int for size in shape)
        if not sizes or not shape or not n_elements(shape):
            raise _wrong(file, f"{where}: the shape {shown(shape)} is none of an array with elements")
        if dtype not in FLOATS or not isinstance(row["scheme"], str) or len(row["scheme"]) > 500:
            raise _wrong(file, f"{where}: dtype or scheme is none that kbit-ref writes")
        with _of_tensor("dequantize", name):
            tensor = Tensor(name, scheme(row["scheme"]), tuple(shape), dtype)
            wanted = [part.spec(name) for part in tensor.parts]
        for spec in wanted:
            entry = file.entries.get(spec.name)
            if entry is None or (entry.dtype, entry.shape) != (spec.dtype, spec.shape):
                has = f"{entry.dtype} {shown(list(entry.shape))}" if entry else "not there"
                raise _wrong(file, f"{shown(spec.name)} is {has}, its scheme needs {spec.dtype} {list(spec.shape)}")
        tensors[name] = tensor
    return tensors


def _rows(file: Container) -> dict[str, Any]:
    """The table in our metadata, its form checked."""
    text = file.metadata[KEY]
    if len(text) > sum(512 + 8 * len(name) for name in file.entries):  # a reader of JSON could be made to fill memory
        raise _wrong(file, "metadata kbit_ref is longer than its tensors explain")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise _wrong(file, "metadata kbit_ref is no JSON") from None
    if not isinstance(document, dict) or not isinstance(document.get("tensors"), dict):
        raise _wrong(file, "metadata kbit_ref has no tensors")
    if document.get("format") != FORMAT:
        rule = f"its format is {shown(document.get('format'))}, this version reads {FORMAT}"
        raise BadInput(message("dequantize", shown(file.path), rule, "install a newer kbit_ref"))
    return dict(document["tensors"])


def _wrong(file: Container, rule: str) -> BadInput:
    return BadInput(message("dequantize", shown(file.path), rule, "quantize the original again"))


def _raw(file: Container, tensor: Tensor) -> dict[str, NDArray[np.uint8]]:
    return {part.path: file.raw(part.spec(tensor.name).name) for part in tensor.parts}


def _dequantize(file: Container, writer: Writer, tensor: Tensor, threads: int | None, tell: Tell | None) -> None:
    s, raw = tensor.scheme, _raw(file, tensor)
    place = writer.view(tensor.name).view(NUMPY[tensor.dtype]).reshape(tensor.shape)
    scales = scales_again(s, tensor.shape, raw)
    left = tensor.n_bytes
    for piece in pieces(s.cut, tensor.shape, s.layout.elements):
        q = assembled(s, tensor.shape, raw, piece, scales)
        numbers: Array = dequantize(q, threads=threads)
        if tensor.dtype == "BF16":
            numbers = encode("bf16+overflow=ieee", numbers, threads=threads)
        part = part_of(place, s.cut, piece)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            part[...] = numbers.reshape(part.shape)  # rounded once
        left -= q.packed.nbytes
        _done(file, writer, q.packed.nbytes, tensor.name, tell)
    _done(file, writer, left, tensor.name, tell)
