"""Safetensors files: read by memory map, and written whole or not at all.

`Container` maps a file and checks its header (`header.py`) before anything is read. `Writer`
reserves the whole file first, so that a full disk is told before any work is done; then tensors
are filled in through a memory map in any order; at the end the file is written to the disk and
takes its name in one step. Until then what stood under that name stays as it was, and on Linux the
new file has no name at all: whatever ends the process, nothing half-written is left.
"""

from __future__ import annotations

import errno
import mmap
import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.checkpoints.header import BITS, LIMIT, Entry, Spec, parse, shown, written
from kbit_ref.errors import BadInput, UnknownName, message

__all__ = ["NUMPY", "Container", "Writer"]

Bytes = NDArray[np.uint8]

NUMPY = {  # how NumPy sees an element; bfloat16 and the 8-bit floats as their bits
    "BOOL": "|b1", "U8": "|u1", "I8": "|i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4",
    "U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8", "C64": "<c8", "BF16": "<u2",
    **dict.fromkeys((name for name in BITS if name.startswith("F8_")), "|u1"),
}
BLOCK = 1 << 24  # bytes written at once where a file is filled with zeros


class Container:
    """A safetensors file, mapped: opening it reads the header and nothing else.

    Parameters
    ----------
    path
        Of the file.

    Attributes
    ----------
    entries
        The tensors by name, in the order of their data.
    metadata
        The texts under `__metadata__`.

    Raises
    ------
    BadInput
        `safetensors: x.safetensors, its tensors take 24 bytes of data and the file has 20: ...`

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "x.safetensors"
    >>> with Writer(path, [Spec("w", "F32", (2,))], {"by": "hand"}) as file:
    ...     file.view("w")[:] = np.array([1, 2], "<f4").view(np.uint8)
    >>> with Container(path) as file:
    ...     file.metadata, file.array("w").tolist()
    ({'by': 'hand'}, [1.0, 2.0])
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        where = shown(self.path)
        with _told("safetensors", self.path), open(_regular(self.path), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < 8 + 2:
                rule = f"it has {size} bytes, fewer than any safetensors file"
                raise BadInput(message("safetensors", where, rule, "name a whole one"))
            n_header = int.from_bytes(file.read(8), "little")
            if n_header > LIMIT:
                rule = f"its header would have {n_header:,} bytes, more than {LIMIT:,}"
                raise BadInput(message("safetensors", where, rule, "it is damaged, or no safetensors file"))
            if 8 + n_header > size:
                rule = f"its header would have {n_header:,} bytes and the file has {size:,}"
                raise BadInput(message("safetensors", where, rule, "it is cut, or no safetensors file"))
            header = file.read(n_header)
            self.entries, self.metadata = parse(header, size - 8 - n_header, where)
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._data: Bytes = np.frombuffer(self._map, np.uint8)[8 + n_header :]

    def entry(self, name: str) -> Entry:
        """What the header says of a tensor."""
        if name not in self.entries:
            remedy = f"{shown(self.path)} has {len(self.entries)} tensors"
            raise UnknownName.among("safetensors", "tensor", name[:200], map(shown, self.entries), remedy)
        return self.entries[name]

    def raw(self, name: str) -> Bytes:
        """uint8 [n_bytes], read-only: the bytes of a tensor, in the map."""
        entry = self.entry(name)
        return self._data[entry.begin : entry.end]

    def array(self, name: str) -> NDArray[Any]:
        """[*shape], read-only, in the map: a tensor as NumPy sees it; of bfloat16 and 8-bit floats the bits."""
        entry = self.entry(name)
        if entry.dtype not in NUMPY:
            got, rule = f"tensor {shown(name)} of {entry.dtype}", "its elements are smaller than a byte"
            raise BadInput(message("safetensors", got, rule, "take its bytes: .raw(name)"))
        return self.raw(name).view(NUMPY[entry.dtype]).reshape(entry.shape)

    def release(self) -> None:
        """Let go of the pages that were read; they come back when they are looked at again."""
        _release(self._map)

    def close(self) -> None:
        """Unmap the file, unless arrays still look into it."""
        self._data = np.empty(0, np.uint8)
        with suppress(BufferError):  # those arrays keep the map until they go
            self._map.close()

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Writer:
    """A safetensors file that comes into being at the end of a `with` statement, or not at all.

    Parameters
    ----------
    path
        Of the file.
    specs
        The tensors; each is filled through `view(name)` and is zero until then.
    metadata
        Texts for `__metadata__`.
    force
        Whether a file of that name may be replaced.

    Raises
    ------
    BadInput
        `safetensors: x.safetensors, the disk is full: 1,234 bytes are needed; ...`
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        specs: Iterable[Spec],
        metadata: Mapping[str, str] | None = None,
        *,
        force: bool = False,
    ):
        self.path = target(path, force=force)
        at, entries = 0, {}
        for spec in sorted(specs, key=lambda spec: (-BITS[spec.dtype], spec.name)):  # so each lies aligned
            if spec.name in entries:
                rule = f"it would hold two tensors {shown(spec.name)}"
                raise BadInput(message("safetensors", shown(self.path), rule, "rename one, or leave one out"))
            entries[spec.name] = Entry(spec.name, spec.dtype, spec.shape, at, at := at + spec.n_bytes)
        self.entries: Mapping[str, Entry] = entries
        self._head = written(entries.values(), metadata or {})
        if len(self._head) - 8 > LIMIT:
            rule = f"its header would have {len(self._head):,} bytes, more than {LIMIT:,}"
            raise BadInput(message("safetensors", shown(self.path), rule, "write fewer tensors in one file"))
        self.n_bytes = len(self._head) + at

    def __enter__(self) -> Writer:
        with _told("safetensors", self.path, self.n_bytes):
            self._fd, self._name = _unnamed(self.path.parent)
            try:
                with suppress(OSError):  # none is there
                    os.fchmod(self._fd, stat.S_IMODE(os.stat(self.path).st_mode))
                _reserve(self._fd, self.n_bytes)
                self._map = mmap.mmap(self._fd, self.n_bytes)
                self._map[: len(self._head)] = self._head
            except BaseException:
                self._discard()
                raise
        self._data: Bytes = np.frombuffer(self._map, np.uint8)[len(self._head) :]
        return self

    def view(self, name: str) -> Bytes:
        """uint8 [n_bytes]: where the bytes of a tensor go."""
        entry = self.entries[name]
        return self._data[entry.begin : entry.end]

    def release(self) -> None:
        """Let go of the pages that were written; the system has them and brings them to the disk."""
        _release(self._map)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._data = np.empty(0, np.uint8)
        try:
            if kind is None:
                with _told("safetensors", self.path, self.n_bytes):
                    self._map.flush()
                    os.fsync(self._fd)
                    self._take_name()
        finally:
            with suppress(BufferError):
                self._map.close()
            self._discard()

    def _take_name(self) -> None:
        """The file gets a passing name if it has none, and takes the place of the target in one step."""
        if self._name is None:
            self._name = _passing_name(self.path.parent)
            _link(self._fd, self._name)
        os.replace(self._name, self.path)
        self._name = None
        with suppress(OSError):  # the folder too, where the system can: the file itself is safe
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _discard(self) -> None:
        os.close(self._fd)
        if self._name is not None:
            with suppress(OSError):
                os.unlink(self._name)


def target(path: str | os.PathLike[str], *, force: bool) -> Path:
    """The path to write to, links followed, if a file may be written there."""
    where = shown(Path(path))
    with _told("safetensors", Path(path)):
        resolved = Path(os.path.realpath(path))
        if not resolved.parent.is_dir():
            raise BadInput(message("safetensors", where, "there is no such folder", "make it first"))
        if resolved.is_symlink():  # of a circle: to replace one of its links would follow none
            raise BadInput(message("safetensors", where, "it is a link that ends nowhere", "name another output"))
        if resolved.exists():
            if not resolved.is_file():  # a device would be replaced by a file of its name
                raise BadInput(message("safetensors", where, "it is no ordinary file", "name another output"))
            if not force:
                raise BadInput(message("safetensors", where, "it exists", "name another output, or add --force"))
        return resolved


def _regular(path: Path) -> Path:
    """The path, unless opening it would wait for a pipe or read a device."""
    if not path.exists():
        raise BadInput(message("safetensors", shown(path), "there is no such file", "check its name"))
    if not path.is_file():
        raise BadInput(message("safetensors", shown(path), "it is no ordinary file", "name a safetensors file"))
    return path


@contextmanager
def _told(function: str, path: Path, n_bytes: int = 0) -> Iterator[None]:
    """Whatever the system refuses, in one line."""
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        number = getattr(error, "errno", None)
        rule, remedy = (getattr(error, "strerror", None) or str(error)).lower(), "check the path and its rights"
        if number in (errno.ENOSPC, errno.EDQUOT):
            rule, remedy = f"the disk is full: {n_bytes:,} bytes are needed", "make room, or write to another one"
        elif number == errno.EFBIG:
            rule, remedy = f"{n_bytes:,} bytes are more than a file may have here", "raise the limit (ulimit -f)"
        raise BadInput(message(function, shown(path), rule, remedy)) from None


def _release(map_: mmap.mmap) -> None:
    # pages of a file: dropped from this process, not from the file, whether read or written
    if hasattr(mmap, "MADV_DONTNEED"):
        map_.madvise(mmap.MADV_DONTNEED)


def _reserve(fd: int, n_bytes: int) -> None:
    """Make the file that long, with room on the disk for all of it: a map cannot report a full disk."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(fd, 0, n_bytes)
            return
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
    zeros = bytes(min(n_bytes, BLOCK))
    for begin in range(0, n_bytes, BLOCK):
        part = memoryview(zeros)[: min(BLOCK, n_bytes - begin)]
        while part:
            part = part[os.write(fd, part) :]


def _passing_name(folder: Path) -> Path:
    return folder / f".kbit-ref-{secrets.token_hex(6)}.part"


def _unnamed(folder: Path) -> tuple[int, Path | None]:
    """A new file in the folder: without a name where that can be, else with a passing one.

    A file without a name is gone when the process is, however it ends.
    """
    if hasattr(os, "O_TMPFILE"):
        try:
            trial, name = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o666), _passing_name(folder)
            try:  # whether such a file can be named later, tried on one that nobody needs
                _link(trial, name)
                os.unlink(name)
            finally:
                os.close(trial)
            return os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o666), None
        except OSError:  # not on this file system
            pass
    name = _passing_name(folder)
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666), name


def _link(fd: int, name: Path) -> None:
    """Give the open file a name."""
    # With a folder given, Python asks the system to follow the link in /proc (the path is absolute: it is not used).
    os.link(f"/proc/self/fd/{fd}", name, src_dir_fd=fd, follow_symlinks=True)
