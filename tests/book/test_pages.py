"""The pages of the book are what the registries say today, and hold all of them."""

import re

import pytest

from kbit_ref import exact, profiles
from kbit_ref.book import FOLDER, PAGES, page
from kbit_ref.book.pages import CHOICES as OF_TYPES
from kbit_ref.cli import commands
from kbit_ref.cli.list_ import TABLES, markdown
from kbit_ref.data import data_folder
from kbit_ref.exact.encoders import ENCODERS
from kbit_ref.exact.rules import RULES
from kbit_ref.study.findings import findings
from kbit_ref.study.results import read
from kbit_ref.tensors.scheme import CHOICES, DOUBLES, MEANINGS, SCALE_DTYPES

QUICK = [name for name, one in PAGES.items() if not one.slow]
AGAIN = "write it again: python -m kbit_ref.book"


def written(name: str) -> str:
    """The page as it stands."""
    return (FOLDER / f"{name}.md").read_text("utf-8")


@pytest.mark.parametrize("name", QUICK)
def test_a_page_is_generated(name: str) -> None:
    assert written(name) == page(name), AGAIN


@pytest.mark.slow
def test_the_page_of_acceptance_rules_is_generated() -> None:
    assert written("rules") == page("rules"), f"{AGAIN} rules"


def test_every_list_has_a_page_and_every_page_a_file() -> None:
    assert set(TABLES) <= set(PAGES)
    assert {path.stem for path in FOLDER.glob("*.md")} == set(PAGES)


@pytest.mark.parametrize(
    ("name", "was", "planted"),
    [
        ("types", "| `mxint8` | integer |", "| `mxint8` | float |"),
        ("commands", "| `kbit-ref check` |", "| `kbit-ref checks` |"),
        ("choices", "| `ties` | `even` `lower`", "| `ties` | `even` `low`"),
        ("schemes", "| `absmax` | fl(max", "| `absmax` | fl(2 max"),
        ("schemes", "| `eps` | `0` `1e-7`", "| `eps` | `0` `1e-6`"),
        ("profiles", "| `onnx-dynamic` | `uint8-tensor", "| `onnx-dynamic` | `int8-tensor"),
        ("layouts", "| AutoAWQ GEMM |", "| AutoAWQ |"),
    ],
)
def test_a_stale_page_would_be_found(name: str, was: str, planted: str) -> None:
    assert was in written(name)
    assert written(name).replace(was, planted) != page(name)


def test_tables_are_whole() -> None:
    assert re.findall(r"^\| `kbit-ref (\w+)` \|", written("commands"), re.M) == list(commands())
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", written("choices"), re.M))
    assert {name: tuple(re.findall(r"`(\w+)`", names)) for name, names in rows.items()} == exact.CHOICES
    assert set(OF_TYPES) == set(exact.CHOICES)
    schemes = markdown("schemes")
    names = {*RULES, *SCALE_DTYPES, *CHOICES, *ENCODERS, *DOUBLES}
    assert {name for name in names if f"| `{name}` |" not in schemes} == set()
    assert set(CHOICES) == set(MEANINGS)
    patterns = re.findall(r"^\| `(\S+)` \| `(\S+)` \| [\d to]+ \| (.*) \|$", markdown("profiles"), re.M)
    expanded = {}
    for pattern, spelling, source in patterns:
        before, _, rest = pattern.replace("\\|", "|").partition("[")
        words, _, after = rest.partition("]")
        for word in words.split("|"):
            expanded[before + word + after] = (spelling.replace("[]", word), source)
    assert expanded == {p.name: (p.spelling, p.source) for p in profiles().values()}


@pytest.mark.slow
def test_the_findings_are_those_of_the_results() -> None:
    """Drawn again: verdicts, and which number decides."""
    found = findings(read(data_folder("study") / "results.sqlite"))
    rows = [line.split(" | ") for line in written("findings").strip().rpartition("\n\n")[2].splitlines()[2:]]
    assert [[row.claim, row.verdict] for row in found] == [cells[1:3] for cells in rows]
