"""What holds without running the code: linter, types, floors, the top level, docstrings."""

import ast
import inspect
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

import kbit_ref
from kbit_ref.datatypes.datatype import families
from kbit_ref.tensors.packing import rows

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "kbit_ref"

# Rooms by floor, DESIGN's picture; imports go to the same floor or down. Where a room has inner rooms with an order
# of their own, its floors stand under its name.
FLOORS = {
    "": (
        "errors registry inputs arithmetic progress data reading writing moved exact",
        "datatypes",
        "engine",
        "tensors",
        "explanation products methods checkpoints",
        "transformer conformance",
        "proofs strategies testing study",
        "figures bench lessons explorer book cli __main__ __init__",
    ),
    "conformance": (  # the pipeline: what is claimed, inputs, implementations, compared, explained, judged; the entries
        "cases definition verdict",
        "inputs variants",
        "subject equal",
        "implementations",
        "reading",
        "compare",
        "diagnosis",
        "departures decoding specials stochastic rank kill",
        "refused",
        "judge product findings",
        "check libraries programs",
        "judges",
        "matrix audit vectors",
        "adapters blocks __init__",
    ),
}
OPTIONAL = {
    *("ml_dtypes", "gfloat", "onnx", "onnxruntime", "jax", "torch", "torchao", "keras", "transformers", "tokenizers"),
    *("tqdm", "matplotlib", "distributed", "dask", "hypothesis", "pytest"),
}


def names_of(source: str, known: Collection[str]) -> Iterator[str]:
    """Yield the dotted names that a module imports, within functions too; only for types is no import."""
    tree = ast.parse(source)
    for_types = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    left_out = {id(node) for block in for_types for node in ast.walk(block)}
    for node in ast.walk(tree):
        if id(node) in left_out:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def module_of(path: Path) -> str:
    """The dotted name of a file of the package."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def graph() -> dict[str, set[str]]:
    """For every module by its whole path, the modules of the package that it imports."""
    files = {module_of(path): path.read_text("utf-8") for path in PACKAGE.rglob("*.py")}
    return {name: set(names_of(text, files)) & set(files) - {name} for name, text in files.items()}


def upward(imports: dict[str, set[str]], floors: dict[str, tuple[str, ...]]) -> list[str]:
    """Imports that run up, in the house and inside each room that has floors of its own."""
    found = []
    for room, storeys in floors.items():
        level = {name: number for number, row in enumerate(storeys) for name in row.split()}
        start = f"kbit_ref.{room}." if room else "kbit_ref."
        for name, targets in imports.items():
            for target in targets:
                if name.startswith(start) and target.startswith(start):
                    here, there = (each.removeprefix(start).split(".")[0] for each in (name, target))
                    if level[there] > level[here]:
                        found.append(f"{name} -> {target}")
    return sorted(found)


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that import one another, directly or over others."""
    reach = {name: set(targets) for name, targets in imports.items()}
    while True:
        wider = {name: seen.union(*(reach[each] for each in seen if each in reach)) for name, seen in reach.items()}
        if wider == reach:
            break
        reach = wider
    groups = {frozenset(n for n in reach if n in reach[name] and name in reach[n]) for name in reach}
    return sorted(sorted(group) for group in groups if group)


def rooms(imports: dict[str, set[str]], place: str = "kbit_ref") -> dict[str, set[str]]:
    """The same between the rooms directly under a place."""
    found: dict[str, set[str]] = {}
    start = f"{place}."
    for name, targets in imports.items():
        if name == place or name.startswith(start):
            room = name.removeprefix(start).split(".")[0] if name != place else "__init__"
            inner = {t.removeprefix(start).split(".")[0] for t in targets if t.startswith(start)}
            found.setdefault(room, set()).update(inner)
    return {room: targets - {room} for room, targets in found.items()}


def test_imports_go_down() -> None:
    assert upward(graph(), FLOORS) == []


def test_no_circles() -> None:
    assert circles(graph()) == []
    assert circles(rooms(graph())) == []
    assert circles(rooms(graph(), "kbit_ref.conformance")) == []


def test_every_room_has_a_floor_and_every_loose_module_is_on_the_ground() -> None:
    known = {name for row in FLOORS[""] for name in row.split()}
    loose = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert {path.parent.name for path in PACKAGE.glob("*/*.py")} | loose <= known
    assert loose <= set(FLOORS[""][0].split())
    assert len(loose) <= 8


def test_no_room_bears_the_name_of_a_public_function() -> None:
    here = {path.stem for path in PACKAGE.iterdir()} - {"exact", "datatypes"}  # rooms that DESIGN names so
    assert here & set(kbit_ref.__all__) == set()


def test_planted_faults_of_structure_would_be_found() -> None:
    planted = graph()
    files = list(planted)
    planted["kbit_ref.engine.codec"] |= set(names_of("def f():\n    from kbit_ref.cli import main\n", files))
    assert upward(planted, FLOORS) == ["kbit_ref.engine.codec -> kbit_ref.cli"]
    assert ["cli", "engine"] not in circles(rooms(graph()))
    assert any({"cli", "engine"} <= set(group) for group in circles(rooms(planted)))
    inner = {"": FLOORS[""], "tensors": ("cut scheme", "scales", "quantize")}
    inside = {"kbit_ref.tensors.cut": {"kbit_ref.tensors.quantize"}, "kbit_ref.tensors.quantize": set()}
    assert upward(inside, inner) == ["kbit_ref.tensors.cut -> kbit_ref.tensors.quantize"]
    assert list(names_of("from kbit_ref.tensors import kernels\n", files)) == ["kbit_ref.tensors.kernels"]
    assert list(names_of("if TYPE_CHECKING:\n    from kbit_ref.cli import main\n", files)) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


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


def too_long(files: dict[str, str]) -> list[str]:
    """Modules of more than 600 lines, by their whole names."""
    return [name for name, text in files.items() if len(text.splitlines()) > 600]


def test_files_are_short() -> None:
    assert too_long({module_of(path): path.read_text("utf-8") for path in PACKAGE.rglob("*.py")}) == []
    assert too_long({"a.b.check": "x\n" * 601, "a.check": "x\n" * 600}) == ["a.b.check"]


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
    del found["conformance/inputs/of_types.py"]  # draws random magnitudes
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
