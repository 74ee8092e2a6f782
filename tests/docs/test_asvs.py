"""docs/asvs.md and docs/threat-model.md name tests, documents and headings that are there."""

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEDGER = (ROOT / "docs" / "asvs.md").read_text()
# Of version 5.0.0.
CHAPTERS, LEVELS = 17, {"1": 70, "2": 183}

ROW = re.compile(r"^\| (\d+\.\d+\.\d+) \| ([12]) \| (.+) \| (.*) \|$", re.MULTILINE)
TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")
DOCUMENT = re.compile(r"`([\w/.-]+\.md)(?:#([\w-]+))?`")
REASON = re.compile(r"(?:not applicable|open): \S.*")

ROWS = ROW.findall(LEDGER)


@cache
def names_in(path: Path) -> frozenset[str]:
    """The names of a file's tests; none of one that is not there."""
    if not path.is_file():
        return frozenset()
    functions = [
        each for each in ast.parse(path.read_text()).body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return frozenset(each.name for each in functions if each.name.startswith("test_"))


@cache
def headings_of(path: Path) -> frozenset[str]:
    """The anchors of a document's headings, "" for the document; none of one that is not there."""
    if not path.is_file():
        return frozenset()
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return frozenset({"", *(re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings)})


def missing(text: str, *, tests: Path) -> list[str]:
    """What a text names that is not there.

    Args:
        tests: the folder that the names of tests begin at.
    """
    return [
        *(f"{path}::{name}" for path, name in TEST.findall(text) if name not in names_in(tests / path)),
        *(f"{path}#{anchor}" for path, anchor in DOCUMENT.findall(text) if anchor not in headings_of(ROOT / path)),
    ]


def unclear(evidence: str) -> list[str]:
    """The lines of a row's evidence that are no test, no document and no reason."""
    return [
        each
        for each in evidence.split("<br>")
        if not any(pattern.fullmatch(each) for pattern in (TEST, DOCUMENT, REASON))
    ]


def test_every_line_of_a_table_is_a_row() -> None:
    lines = [line for line in LEDGER.splitlines() if line.startswith("|") and not line.startswith(("| id ", "| --- "))]

    assert [line for line in lines if not ROW.fullmatch(line)] == []


def test_every_requirement_of_both_levels_has_one_row() -> None:
    ids = Counter(id for id, *_ in ROWS)

    assert [id for id, count in ids.items() if count > 1] == []
    assert Counter(level for _, level, *_ in ROWS) == LEVELS
    assert {int(id.partition(".")[0]) for id in ids} == set(range(1, CHAPTERS + 1))


def test_every_row_stands_in_its_chapter_in_order() -> None:
    chapters = re.split(r"^## (\d+)\. .+$", LEDGER, flags=re.MULTILINE)[1:]

    for number, text in zip(chapters[::2], chapters[1::2], strict=True):
        places = [tuple(map(int, id.split("."))) for id, *_ in ROW.findall(text)]
        assert places, f"chapter {number} is empty"
        assert places == sorted(places)
        assert {place[0] for place in places} == {int(number)}


@pytest.mark.parametrize("evidence", [pytest.param(evidence, id=id) for id, _, _, evidence in ROWS])
def test_a_row_is_shown_by_what_is_there(evidence: str) -> None:
    assert unclear(evidence) == []
    assert missing(evidence, tests=ROOT) == []


def test_the_threat_model_names_what_is_there() -> None:
    text = (ROOT / "docs" / "threat-model.md").read_text()

    assert TEST.search(text)
    assert missing(text, tests=ROOT / "tests") == []


@pytest.mark.parametrize(
    "evidence",
    [
        "`tests/docs/test_asvs.py::test_of_nothing`",
        "`tests/docs/test_nowhere.py::test_every_line_of_a_table_is_a_row`",
        "`tests/docs/test_asvs.py::missing`",
        "`docs/nowhere.md`",
        "`docs/asvs.md#nothing`",
    ],
)
def test_what_is_not_there_is_found(evidence: str) -> None:
    assert missing(evidence, tests=ROOT) == [evidence.strip("`") + ("" if "#" in evidence or "::" in evidence else "#")]


@pytest.mark.parametrize("evidence", ["", "yes", "open: ", "`tests/docs`", "`tests/docs/test_asvs.py:test_nothing`"])
def test_a_row_with_nothing_is_found(evidence: str) -> None:
    assert unclear(f"{evidence}<br>`docs/asvs.md`") == [evidence]
