"""What holds without running the code: linter, types, floors, the top level, docstrings."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import kbit_ref
from kbit_ref.datatype import families
from kbit_ref.packing import rows

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "kbit_ref"

# Rooms by floor, DESIGN's picture; imports go to the same floor or down.
FLOORS = [
    {"errors", "exact", "registry"},
    {"datatype", "levels", "inputs", "staircase", "tables", "engine", "stochastic", "datatypes"},
    {"blocks", "arithmetic", "packing", "profiles", "scheme", "rules", "encoders"},
    {"scales", "kernels", "qtensor", "dequantize", "quantize", "metrics", "explain", "probe"},
    {"methods", "checkpoints", "transformer"},
    {"conformance", "strategies", "testing", "world", "family", "study", "progress", "data"},
    {"figures", "lessons", "explorer", "cli", "__main__", "__init__"},
]
OPTIONAL = {
    *("ml_dtypes", "gfloat", "onnx", "onnxruntime", "jax", "torch", "torchao", "keras", "transformers", "tokenizers"),
    *("tqdm", "matplotlib", "distributed", "dask", "hypothesis", "pytest"),
}


def floor(room: str) -> int:
    """The floor of a room of the package."""
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def upward_imports(source: str, room: str) -> list[str]:
    """Rooms that a module at module level imports from a higher floor."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("kbit_ref"):
            inner = node.module.removeprefix("kbit_ref").lstrip(".")
            names = [inner] if inner else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name.removeprefix("kbit_ref.") for alias in node.names if alias.name.startswith("kbit_ref.")]
        for name in names:
            target = name.split(".")[0]
            if target != "__version__" and floor(target) > floor(room):
                found.append(target)
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert upward_imports(path.read_text("utf-8"), room) == []


def test_an_upward_import_would_be_found() -> None:
    planted = "def f():\n    from kbit_ref.cli import main\n"
    assert upward_imports(planted, "engine") == ["cli"]
    assert upward_imports("from kbit_ref import quantize\n", "datatype") == ["quantize"]


def test_the_definition_stands_alone() -> None:
    for path in (PACKAGE / "exact").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not [module for module in modules if module.startswith(("numpy", "scipy"))]
            rooms = [module for module in modules if module.startswith("kbit_ref.")]
            assert not [room for room in rooms if not room.startswith(("kbit_ref.errors", "kbit_ref.exact."))]


def test_linter() -> None:
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "."], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_types() -> None:
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_top_level() -> None:
    agreed = {"pyproject.toml", "kbit_ref", "tests", "data", "README.md", "LICENSE", "CHANGELOG.md"}
    passing = {"build", "kbit_ref.egg-info", "ordinary.log"}  # what installing and testing leave, ignored by git
    here = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert agreed <= here
    assert here - agreed - passing == set()


def test_import_pulls_in_nothing_optional() -> None:
    code = "import sys, kbit_ref; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded & (OPTIONAL | {"scipy", "safetensors"}) == set()


@pytest.mark.parametrize("name", kbit_ref.__all__)
def test_public_names_have_docstrings(name: str) -> None:
    assert (inspect.getdoc(getattr(kbit_ref, name)) or "").strip()


def test_rows_of_registries_say_what_they_are() -> None:
    for row in families():
        assert row.summary
        assert row.facts["source"]
    for layout in rows():
        assert layout.summary
        assert layout.facts["source"]


def test_files_are_short() -> None:
    lengths = {path.name: len(path.read_text("utf-8").splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {name: n for name, n in lengths.items() if n > 450} == {}


def undocumented(source: str) -> list[str]:
    """Public functions and classes of a module, and public methods of its classes, without a docstring.

    A method is explained where a base class in the same module explains it.
    """
    found = []
    module = ast.parse(source)
    classes = {node.name: node for node in module.body if isinstance(node, ast.ClassDef)}

    def inherited(cls: ast.ClassDef) -> set[str]:
        bases = [classes[base.id] for base in cls.bases if isinstance(base, ast.Name) and base.id in classes]
        own = [node for base in bases for node in base.body if isinstance(node, ast.FunctionDef)]
        return {node.name for node in own if ast.get_docstring(node)}.union(*map(inherited, bases))

    def walk(body: list[ast.stmt], prefix: str, explained: set[str]) -> None:
        for node in body:
            if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name.startswith("_"):
                continue
            decorators = {getattr(d, "id", getattr(d, "attr", "")) for d in node.decorator_list}
            if ast.get_docstring(node) is None and "overload" not in decorators and node.name not in explained:
                found.append(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                walk(node.body, f"{node.name}.", inherited(node))

    walk(module.body, "", set())
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_everything_public_is_explained(path: Path) -> None:
    source = path.read_text("utf-8")
    assert ast.get_docstring(ast.parse(source)) is not None
    assert undocumented(source) == []


def test_what_is_not_explained_would_be_found() -> None:
    source = "def f(): pass\nclass A:\n  'text'\n  def g(self): pass\n  def _h(self): pass\n"
    assert undocumented(source) == ["f", "A.g"]
    below = "class B(A):\n  'text'\n  def g(self): pass\n  def k(self): pass\n"
    assert undocumented(source + below) == ["f", "A.g", "B.g", "B.k"]
    assert undocumented(source.replace("g(self): pass", "g(self): 'text'") + below) == ["f", "B.k"]


def logarithms(source: str) -> list[int]:
    """Lines that take a logarithm to find an exponent: wrong next to powers of two, frexp is not."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [call.lineno for call in calls if getattr(call.func, "attr", getattr(call.func, "id", "")) == "log2"]


def test_no_exponent_comes_from_a_logarithm() -> None:
    found = {str(path.relative_to(PACKAGE)): logarithms(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")}
    del found["conformance/inputs.py"]  # draws random magnitudes
    assert {name: lines for name, lines in found.items() if lines} == {}
    assert logarithms("import numpy as np\ne = np.floor(np.log2(x))\n") == [2]


def test_no_file_names_a_place_on_one_machine() -> None:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    names = files.stdout.split() if files.returncode == 0 else [str(p) for p in PACKAGE.rglob("*.py")]
    places = ["/" + place + "/" for place in ("home", "root", "tmp", "work", "Users")]
    for name in names:
        if (ROOT / name).suffix in (".py", ".md", ".toml", ".csv", ".txt", ".json", ""):
            text = (ROOT / name).read_text("utf-8", errors="replace")
            assert not [place for place in places if place in text], name
