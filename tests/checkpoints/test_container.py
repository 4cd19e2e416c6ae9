"""Safetensors files: what is refused and how it is told, what the safetensors library reads and writes."""

import errno
import json
import os
import stat
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from kbit_ref.checkpoints import container
from kbit_ref.checkpoints.container import Container, Writer
from kbit_ref.checkpoints.header import BITS, Spec, n_elements, parse
from kbit_ref.errors import BadInput, UnknownName

DATA = bytes(range(24))
GOOD = {"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}, "v": {"dtype": "U8", "shape": [8]}}
GOOD["v"]["data_offsets"] = [16, 24]


def file_of(header: bytes | str | object, data: bytes = DATA, length: int | None = None) -> bytes:
    """A file by hand."""
    if not isinstance(header, bytes | str):
        header = json.dumps(header)
    raw = header.encode() if isinstance(header, str) else header
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + data


def one(data: bytes = DATA, **changes: object) -> bytes:
    """A file of one tensor of 24 bytes, with something wrong in it."""
    return file_of({"w": {"dtype": "U8", "shape": [24], "data_offsets": [0, 24]} | changes}, data)


def two(first: tuple[int, int], second: tuple[int, int]) -> bytes:
    """A file of two tensors of bytes."""
    entries = {}
    for name, (begin, end) in {"a": first, "b": second}.items():
        entries[name] = {"dtype": "U8", "shape": [end - begin], "data_offsets": [begin, end]}
    return file_of(entries)


BAD = {
    "nothing": (b"", "it has 0 bytes, fewer than any safetensors file"),
    "nine bytes": (b"\1" + bytes(8), "it has 9 bytes"),
    "a header longer than the file": (file_of(GOOD, length=5000), "header would have 5,000 bytes and the file has"),
    "a header of 2**63": (file_of(GOOD, length=2**63), "9,223,372,036,854,775,808 bytes, more than 100,000,000"),
    "a GGUF file": (b"GGUF\3\0\0\0" + bytes(100), "it is damaged, or no safetensors file"),
    "not UTF-8": (file_of(b'{"\xff": 1}'), "the header is no UTF-8 text (byte 2)"),
    "not JSON": (file_of("{dtype}"), "has dtype} at character 1 where the name of a tensor belongs"),
    "a list": (file_of("[]"), "has [] at character 0 where '{' belongs"),
    "an unclosed header": (file_of('{"w": '), "has its end at character 6"),
    "something behind it": (file_of('{} {"w": 1}', b""), "at character 3 where the end belongs"),
    "deep nesting": (file_of('{"w":' * 200_000), "where dtype, shape or data_offsets of w, each once, belongs"),
    "deep lists": (file_of('{"w": {"dtype": ' + "[" * 200_000), "each once, belongs"),
    "a long shape": (file_of('{"w": {"shape": [' + "1," * 200_000 + "1]"), "each once, belongs"),
    "spaces without end": (file_of('{"w": {"shape": [' + " " * 1_000_000), "each once, belongs"),
    "half a surrogate pair": (file_of('{"\\ud800": 1}'), "a proper string"),
    "a control character": (file_of('{"a\nb": 1}'), "a proper string"),
    "the same name twice": (file_of('{"w": %s, "w": %s}' % ((json.dumps(GOOD["w"]),) * 2)), "names w twice"),
    "the same fact twice": (file_of('{"w": {"dtype": "U8", "dtype": "U8", "shape": [1]}}'), "each once, belongs"),
    "a fact too few": (file_of('{"w": {"dtype": "U8", "shape": [24]}}'), "all of dtype, shape and data_offsets of w"),
    "a fact too many": (one(strides=[1]), "all of dtype, shape and data_offsets of w, and nothing else"),
    "metadata twice": (file_of('{"__metadata__": {}, "__metadata__": {}}'), "names __metadata__ twice"),
    "a key of the metadata twice": (file_of('{"__metadata__": {"a": "1", "a": "2"}}'), "the key a twice"),
    "a number in the metadata": (file_of({"__metadata__": {"a": 1}}), "where a text of the metadata belongs"),
    "no metadata": (file_of({"__metadata__": None}, b""), "where '{' belongs"),
    "an unknown type": (one(dtype="F9"), "tensor w is of the unknown type F9; types are F4, "),
    "a type in small letters": (one(dtype="u8"), "each once, belongs"),
    "a shape of text": (one(shape="24"), "each once, belongs"),
    "a fraction": (one(shape=[24.0]), "each once, belongs"),
    "a negative size": (one(shape=[-24]), "each once, belongs"),
    "true for 1": (one(shape=[True, 24]), "each once, belongs"),
    "a leading zero": (file_of('{"w": {"dtype": "U8", "shape": [024], "data_offsets": [0, 24]}}'), "each once"),
    "no comma": (file_of('{"w": {"dtype": "U8", "shape": [4 6], "data_offsets": [0, 24]}}'), "each once"),
    "a comma too many": (file_of('{"w": {"dtype": "U8", "shape": [24,], "data_offsets": [0, 24]}}'), "each once"),
    "a size of 20 digits": (one(shape=[10**19]), "each once, belongs"),
    "a product of 2**64": (one(shape=[2**32, 2**32]), "no array has the shape [4294967296, 4294967296]"),
    "a product that wraps to 24": (one(shape=[24, 2**61 + 1]), "no array has the shape"),
    "0 beside 2**62": (one(shape=[0, 2**62], data_offsets=[0, 0], data=b""), "no array has the shape"),
    "65 axes": (one(shape=[1] * 64 + [24]), "each once, belongs"),
    "too few bytes": (one(shape=[25]), "tensor w: U8 of [25] takes 25 bytes and has 24"),
    "too many bytes": (one(shape=[3, 7]), "tensor w: U8 of [3, 7] takes 21 bytes and has 24"),
    "half a byte": (one(dtype="F4", shape=[47]), "tensor w: 47 elements of F4 do not fill whole bytes"),
    "offsets backwards": (one(data_offsets=[24, 0]), "data_offsets [24, 0] are no [begin, end]"),
    "three offsets": (one(data_offsets=[0, 12, 24]), "data_offsets [0, 12, 24] are no [begin, end]"),
    "a cut file": (one(data=DATA[:20]), "take 24 bytes of data and the file has 20: the end is missing"),
    "a file too long": (one(data=DATA + b"!"), "take 24 bytes of data and the file has 25: the header speaks of fewer"),
    "an overlap": (two((0, 16), (8, 24)), "tensors a and b overlap in the data"),
    "the same bytes": (two((0, 24), (0, 24)), "tensors a and b overlap in the data"),
    "an empty one inside": (two((0, 24), (8, 8)), "tensors a and b overlap in the data"),
    "a hole": (two((0, 8), (16, 24)), "tensors a and b leave a hole in the data"),
    "a hole at the start": (one(shape=[16], data_offsets=[8, 24]), "leaves a hole in the data (it begins at byte 8"),
    "a name that moves the cursor": (file_of('{"\\u001b[2J": {1}}'), "of '\\x1b[2J', each once"),
    "a name of a megabyte": (file_of('{"%s": {1}}' % ("x" * 1_000_000)), f"of {'x' * 80}..., each once"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_told_in_one_line(case: str, tmp_path: Path) -> None:
    content, said = BAD[case]
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        Container(path)
    text = str(caught.value)
    assert text.startswith(f"safetensors: {path}, ")
    assert said in text
    assert text.isprintable()
    assert len(text) < 1000


def test_the_library_refuses_them_too() -> None:
    """All but a few that it reads more kindly: the cases are bad, not our taste."""
    kinder = {"a fact too many", "no metadata", "65 axes", "0 beside 2**62"}
    read = set()
    for case, (content, _) in BAD.items():
        try:
            safetensors.deserialize(content)
        except Exception:
            continue
        read.add(case)
    assert read == kinder


def test_a_bomb_takes_no_memory() -> None:
    """50 MB of empty lists and of names: refused before they become objects."""
    import tracemalloc

    header = b'{"w": {"dtype": "U8", "shape": [' + b"[]," * (50_000_000 // 3)
    tracemalloc.start()
    with pytest.raises(BadInput, match="each once"):
        parse(header, 0, "x")
    assert tracemalloc.get_traced_memory()[1] < 1.1 * len(header)  # its text, and nothing of what it says
    tracemalloc.stop()


def test_a_million_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kbit_ref.checkpoints.header.MAX_NAMES", 3)
    texts = {str(i): "" for i in range(3)}
    assert parse(json.dumps({"__metadata__": texts}).encode(), 0, "x") == ({}, texts)
    with pytest.raises(BadInput, match="more than 3 names"):
        parse(json.dumps({"__metadata__": texts | {"more": ""}}).encode(), 0, "x")


def test_a_good_file_in_any_spelling(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    spaced = json.dumps({"__metadata__": {"a": 'quote " and \\u00e9'}, **GOOD}, indent=3) + "  \n"
    shuffled = json.dumps({name: dict(reversed(facts.items())) for name, facts in reversed(GOOD.items())})
    for header in (spaced, shuffled):
        path.write_bytes(file_of(header))
        with Container(path) as file:
            assert list(file.entries) == ["w", "v"]  # in the order of the data
            assert file.array("w").tobytes() == DATA[:16]
            assert file.array("w").shape == (2, 2)
            assert file.raw("v").tolist() == list(range(16, 24))
            assert not file.raw("v").flags.writeable


@pytest.mark.parametrize(
    ("shape", "n"), [((), 1), ((0,), 0), ((3, 4), 12), ((2**59,), 2**59), ((2**60,), None), ((-1,), None)]
)
def test_number_of_elements(shape: tuple[int, ...], n: int | None) -> None:
    assert n_elements(shape) == n


def test_all_types_of_the_library() -> None:
    """It knows the same 22 types, with the same sizes."""
    assert len(BITS) == 22
    for dtype, bits in BITS.items():
        header = {"w": {"dtype": dtype, "shape": [8], "data_offsets": [0, bits]}}
        ((name, found),) = safetensors.deserialize(file_of(header, bytes(bits)))
        assert (name, found["dtype"]) == ("w", dtype)
        with pytest.raises(Exception, match="Error while deserializing"):
            safetensors.deserialize(file_of(header, bytes(bits + 1)))


TYPES = ["bool", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "c8", ml_dtypes.bfloat16]


def test_what_the_library_writes(tmp_path: Path) -> None:
    path, rng = tmp_path / "x.safetensors", np.random.default_rng(1)
    tensors = {f"t{i}": rng.integers(0, 2, (3, i)).astype(t) for i, t in enumerate(TYPES)}
    save_file(tensors, path, metadata={"format": "pt"})
    with Container(path) as file:
        assert file.metadata == {"format": "pt"}
        for name, x in tensors.items():
            assert file.array(name).tobytes() == x.tobytes()
            assert file.array(name).shape == x.shape
            assert file.array(name).dtype == (np.uint16 if x.dtype == ml_dtypes.bfloat16 else x.dtype)


def test_what_the_library_reads(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    specs = [Spec("b", "U8", (3,)), Spec("a\n\"é", "F64", (1, 2)), Spec("c", "BF16", ()), Spec("e", "I32", (0, 5))]
    with Writer(path, specs, {"k": "v"}) as file:
        file.view("b")[:] = 1, 2, 3
        file.view('a\n"é').view("<f8")[:] = 0.5, -1
        file.view("c").view("<u2")[:] = 0x3F80
    found = load_file(path)
    assert found["b"].tolist() == [1, 2, 3]
    assert found['a\n"é'].tolist() == [[0.5, -1]]
    assert float(found["c"]) == 1
    assert found["e"].shape == (0, 5)
    with Container(path) as ours:
        assert ours.metadata == {"k": "v"}
        for entry in ours.entries.values():  # aligned: the start of the data is, and wide types come first
            assert entry.begin % max(BITS[entry.dtype] // 8, 1) == 0
    assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0


def test_odd_questions(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with Writer(path, [Spec("weight", "F4", (4,))]) as file:
        pass
    with Container(path) as file:
        assert file.raw("weight").tolist() == [0, 0]
        with pytest.raises(BadInput, match="its elements are smaller than a byte"):
            file.array("weight")
        with pytest.raises(UnknownName, match="did you mean weight"):
            file.raw("wieght")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
    for name, said in [("none", "there is no such file"), ("pipe", "no ordinary file"), (".", "no ordinary file")]:
        if (tmp_path / name).exists() or name == "none":
            with pytest.raises(BadInput, match=said):
                Container(tmp_path / name)


# Writing -----------------------------------------------------------------------------------------

SPECS = [Spec("w", "U8", (100_000,))]


@pytest.fixture(params=["unnamed", "named"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, on a system that has files without names and on one that has not."""
    if request.param == "named":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    elif not hasattr(os, "O_TMPFILE"):
        pytest.skip("files without names are of Linux")
    return tmp_path


def test_nothing_under_the_name_until_the_end(folder: Path) -> None:
    path = folder / "x.safetensors"
    path.write_text("old")
    path.chmod(0o640)
    with Writer(path, SPECS, force=True) as file:
        file.view("w")[:] = 7
        assert path.read_text() == "old"
        hidden = [name for name in os.listdir(folder) if name != path.name]
        assert len(hidden) == (0 if hasattr(os, "O_TMPFILE") else 1)
    assert os.listdir(folder) == [path.name]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert (load_file(path)["w"] == 7).all()


def test_a_new_file_has_the_rights_of_any_other(folder: Path) -> None:
    with Writer(folder / "x.safetensors", SPECS):
        pass
    (folder / "other").write_text("")
    assert (folder / "x.safetensors").stat().st_mode == (folder / "other").stat().st_mode


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_of_a_failure(folder: Path, error: type[BaseException]) -> None:
    (folder / "x.safetensors").write_text("old")
    views = []

    def fail() -> None:
        with Writer(folder / "x.safetensors", SPECS, force=True) as file:
            views.append(file.view("w"))  # still looks into the map when it is closed
            raise error

    with pytest.raises(error):
        fail()
    assert os.listdir(folder) == ["x.safetensors"]
    assert (folder / "x.safetensors").read_text() == "old"


@pytest.mark.parametrize("step", ["posix_fallocate", "fsync", "replace"])
@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "the disk is full: 100,0.. bytes are needed; make room"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EFBIG, "bytes are more than a file may have here"),
        (errno.EIO, "input/output error; check the path"),
    ],
)
def test_what_the_system_refuses(
    folder: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int, said: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, step, refuse, raising=False)
    with pytest.raises(BadInput, match=said), Writer(folder / "x.safetensors", SPECS):
        pass
    assert os.listdir(folder) == []


def test_where_nothing_can_be_reserved(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is written out with zeros, in blocks, and by a system that takes less than it is given."""
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    monkeypatch.setattr(container, "BLOCK", 30_000)
    true_write, sizes = os.write, []

    def write(fd: int, data: memoryview) -> int:
        sizes.append(len(data))
        return true_write(fd, data[:20_000])

    monkeypatch.setattr(os, "write", write)
    with Writer(folder / "x.safetensors", SPECS) as file:
        n_bytes = file.n_bytes
    assert (folder / "x.safetensors").stat().st_size == n_bytes
    assert max(sizes) == 30_000
    assert not load_file(folder / "x.safetensors")["w"].any()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("there/x", "there is no such folder; make it first"),
        ("old/x", "there is no such folder"),
        ("old", "it exists; name another output, or add --force"),
        (".", "it is no ordinary file"),
        ("n" * 300, "name too long"),
        ("nul\0", "embedded null byte"),
    ],
)
def test_where_nothing_can_be_written(folder: Path, name: str, said: str) -> None:
    (folder / "old").write_text("old")
    with pytest.raises(BadInput, match=said), Writer(folder / name, SPECS):
        pass
    assert os.listdir(folder) == ["old"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="these places are of Linux")
@pytest.mark.parametrize(("path", "said"), [("/proc/x", "."), ("/dev/null", "it is no ordinary file")])
def test_places_of_the_system(path: str, said: str) -> None:
    with pytest.raises(BadInput, match=said), Writer(path, SPECS, force=True):
        pass
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_link_is_followed(folder: Path) -> None:
    (folder / "real").mkdir()
    (folder / "link").symlink_to(folder / "real" / "x.safetensors")
    with Writer(folder / "link", SPECS):
        pass
    assert (folder / "link").is_symlink()
    assert (folder / "real" / "x.safetensors").is_file()


def test_two_of_a_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="it would hold two tensors w; rename one"):
        Writer(tmp_path / "x", [*SPECS, *SPECS])


def test_a_header_beyond_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "LIMIT", 100)
    with pytest.raises(BadInput, match=r"its header would have .* more than 100; write fewer"):
        Writer(tmp_path / "x", [Spec(f"w{i}", "U8", (1,)) for i in range(9)])


# Whatever a file says ----------------------------------------------------------------------------


def read(content: bytes, path: Path) -> None:
    """Read all of it, or be told in one line."""
    path.write_bytes(content)
    told = ""
    try:
        with Container(path) as file:
            for name in file.entries:
                file.raw(name).sum()
    except BadInput as error:
        told = str(error)
    assert told == "" or told.isprintable()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file for many tries."""
    return tmp_path_factory.mktemp("fuzz") / "x.safetensors"


WHOLE = file_of({"__metadata__": {"format": "pt"}, **GOOD})


@given(flips=st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=4))
def test_flipped_bytes(place: Path, flips: list[tuple[int, int]]) -> None:
    content = bytearray(WHOLE)
    for at, value in flips:
        content[at] = value
    read(bytes(content), place)


def test_cut_anywhere(place: Path) -> None:
    for size in range(len(WHOLE)):
        place.write_bytes(WHOLE[:size])
        with pytest.raises(BadInput):
            Container(place)


@given(header=st.text(st.sampled_from('{}[]":,0123456789 wdtypeshaU8F32_') | st.characters(), max_size=60))
def test_headers_of_nothing_sensible(place: Path, header: str) -> None:
    read(file_of(header.encode("utf-8", "surrogatepass")), place)


PIECES = ['{', '}', '[', ']', '"w"', '"v"', '"dtype"', '"shape"', '"data_offsets"', '"__metadata__"']
PIECES += [':', ',', '"F32"', '"U8"', "0", "8", "16", "24", "-1", "1e1", "true", "null", " ", '"\\ud800"']


@given(parts=st.lists(st.sampled_from(PIECES), max_size=40))
def test_headers_of_pieces(place: Path, parts: list[str]) -> None:
    read(file_of("".join(parts)), place)
