"""A small study made up for tests: results whose numbers are known."""

from itertools import product
from pathlib import Path

import numpy as np

from kbit_ref.study.plan import parse_plan
from kbit_ref.study.results import Results
from kbit_ref.study.rows import Cell, Result, Subject

SIZES = {"xs": 20_000, "s": 50_000, "m": 130_000}
HOSTILE = "<script>alert(1)</script>|`*&"
WINDOWS = 24


def made_up(name: str = "s-0") -> list[Result]:
    """Three sizes, four widths, two kinds, two blocks, a method, rounded activations; `name` is that of the second."""
    cells = []
    for size in SIZES:
        model = name if size == "s" else f"{size}-0"
        every = product(("int", "quantile"), (3, 4, 5), (64, 0))
        plain = [Cell(model, kind, bits, block) for kind, bits, block in every]
        more = [Cell(model, "int", 4, 64, "hqq"), Cell(model, "int", 4, 64, activations="int8-channel-absmax-f32")]
        cells += [(size, cell) for cell in (Cell(model), *plain, *more, Cell(model, "ocp-mxfp4", 4))]
    return [_result(size, cell) for size, cell in cells]


def _result(size: str, cell: Cell) -> Result:
    n = SIZES[size]
    subject = Subject(cell.model, n, n // 2, size, 0, 1_000_000, "ab" * 32)
    damage = 0.0 if cell.kind == "none" else 3 * np.exp(-cell.bits) * (1 + (cell.block == 0))
    excess = 40 * n**-0.45 * (1 + damage * (2 if cell.kind == "int" else 1))
    random = np.random.default_rng(7)
    floor = random.uniform(2.4, 2.6, WINDOWS).astype(np.float32)
    noise = random.normal(0, 0.05, WINDOWS)
    nats = (floor + excess + noise - noise.mean()).astype(np.float32)
    right = np.arange(40) < round(40 * max(0.25, 0.95 - excess / 2))
    bits = cell.bits + (16 / cell.block if cell.block else 0)
    tasks = {"facts": right}
    return Result(
        *(cell, subject, "" if cell.kind == "none" else "made up", round(n * bits)),
        *({"text": nats}, tasks, tasks, {"facts": 0.25}, {"text": 1.0}, {"text": floor}),
        *(0.01, 3.5, 1.0, {"evaluation": "e" * 8, "numpy": "2.0", "kbit_ref": "1"}),
    )


def written(path: Path, results: list[Result], title: str = "Made up") -> Path:
    """The results in a file, as the study writes them."""
    model = path.parent / "models" / "xs-0"
    model.mkdir(parents=True, exist_ok=True)
    (model / "config.json").write_text("{}", "utf-8")
    text = f'title = """{title}"""\nmodels = ["models/xs-0"]\n[[sweep]]\nkinds = ["int"]\nbits = [4]\n'
    with Results(path, parse_plan(text, path.parent)) as file:
        for result in results:
            file.add(result)
    return path
