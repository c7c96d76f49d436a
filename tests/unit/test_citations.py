"""What code, tests and docs cite is in the repository: pages, their entries, decisions, tests."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RACES = (ROOT / "docs" / "races.md").read_text()

#: `docs/races.md, 3`, `docs/conformance.md, 24a, 38 to 40`: a page and the numbers of its entries.
NUMBERS = r"\d+[abc]?(?: to \d+)?(?:, \d+[abc]?(?: to \d+)?)*"
ENTRIES = re.compile(rf"\b(docs/[\w-]+\.md), ({NUMBERS})")
#: A page anywhere in a text, and a decision by its number alone.
PAGE = re.compile(r"(?<![\w./-])[\w-][\w/-]*\.md\b")
DECISION = re.compile(r"\bdecisions?[ /](\d{4})\b")
LINK = re.compile(r"\]\(([^()\s]+)\)")
#: What the project wrote about itself before it was one; its pages were never shipped.
OUTSIDE = re.compile(
    r"\bthe study\b|(?<!docs/)races\.md \d|\bdesign, section\b|\bstudy of\b|\btest_report_\d",
    re.IGNORECASE,
)


@cache
def tracked() -> tuple[Path, ...]:
    names = subprocess.check_output(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True
    )
    return tuple(ROOT / name for name in names.splitlines())


@cache
def texts() -> tuple[tuple[str, str], ...]:
    """Each text of the project with its name, lines joined: a citation may be broken in two."""
    endings = {".py", ".md", ".yaml", ".yml", ".toml", ".tpl"}
    read = [
        path
        for path in tracked()
        if path.suffix in endings or path.name in {"Makefile", "Dockerfile", "run"}
        if path.exists() and path != Path(__file__)
    ]
    return tuple((str(path.relative_to(ROOT)), joined(path.read_text())) for path in read)


def joined(text: str) -> str:
    return re.sub(r"\n *(?:# ?)?", " ", text)


def numbers_of(cited: str) -> Iterator[str]:
    for part in cited.split(", "):
        first, _, last = part.partition(" to ")
        yield from map(str, range(int(first), int(last) + 1)) if last else [first]


@cache
def entries_of(page: str) -> set[str]:
    """The numbers that a page's headings and the first cells of its tables have."""
    text = (ROOT / page).read_text()
    return set(re.findall(r"^(?:#+ |\| )(\d+[abc]?)(?:\. | \|)", text, re.MULTILINE))


def anchors_of(page: Path) -> set[str]:
    """As a forge makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_an_entry_that_is_cited_by_number_exists() -> None:
    cited = [
        (name, page, number)
        for name, text in texts()
        for page, numbers in ENTRIES.findall(text)
        for number in numbers_of(numbers)
    ]
    assert len(cited) > 60
    assert [where for where in cited if where[2] not in entries_of(where[1])] == []


def test_a_page_that_is_named_exists() -> None:
    pages = {str(path.relative_to(ROOT)) for path in tracked() if path.suffix == ".md"}
    names = {Path(page).name for page in pages}
    rooms = {path.name for path in ROOT.iterdir()}
    missing = [
        (name, page)
        for name, text in texts()
        for page in PAGE.findall(text)
        if (page not in pages if page.split("/")[0] in rooms else Path(page).name not in names)
    ]
    assert missing == []


def test_a_decision_that_is_named_exists() -> None:
    decided = {path.name[:4] for path in (ROOT / "docs" / "decisions").glob("*.md")}
    named = [(name, number) for name, text in texts() for number in DECISION.findall(text)]
    assert len(named) > 5
    assert [where for where in named if where[1] not in decided] == []


@pytest.mark.parametrize(
    "page",
    [path for path in tracked() if path.suffix == ".md"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_a_link_of_a_page_has_a_target(page: Path) -> None:
    dead = []
    for link in LINK.findall(page.read_text()):
        path, _, anchor = link.partition("#")
        if "://" in link or link.startswith("mailto:"):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            dead.append(link)
    assert dead == []


def test_nothing_cites_what_is_outside_the_repository() -> None:
    assert [(name, said[0]) for name, text in texts() if (said := OUTSIDE.findall(text))] == []


def races() -> Iterator[tuple[str, str]]:
    parts = re.split(r"^### (\d+)\. ", RACES, flags=re.MULTILINE)[1:]
    return zip(parts[::2], parts[1::2], strict=True)


@cache
def functions_of(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_a_race_has_trap_evidence_rule_and_tests_that_exist() -> None:
    wrong = []
    for number, entry in races():
        has_all = all(f"**{part}**: " in entry for part in ("Trap", "Evidence", "Rule", "Tests"))
        tests = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", entry.partition("**Tests**: ")[2])
        proven = bool(tests) and all(
            (ROOT / "tests" / path).exists()
            and any(
                function == name or (not name and number in numbers_in(function))
                for function in functions_of(ROOT / "tests" / path)
            )
            for path, name in tests
        )
        if not (has_all and proven):
            wrong.append(number)
    assert wrong == []


def test_a_test_that_is_named_after_a_race_is_in_its_entry() -> None:
    named = {number: entry.partition("**Tests**: ")[2] for number, entry in races()}
    lost = [
        (str(path.relative_to(ROOT)), function)
        for path in (ROOT / "tests").rglob("test_*.py")
        for function in functions_of(path)
        for number in numbers_in(function)
        if str(path.relative_to(ROOT / "tests")) not in named.get(number, "")
    ]
    assert lost == []


def numbers_in(function: str) -> list[str]:
    """`test_race_09_11_a_run...` is a test of 9 and 11."""
    match = re.match(r"test_race((?:_\d\d)+)_", function)
    return [str(int(number)) for number in match[1].split("_")[1:]] if match else []


#: A file or folder in backticks: `runs/decide.py`, `tests/contract/`.
FILE = re.compile(r"`((?:[\w.-]+/)*[\w.-]+\.(?:py|yaml|toml|sh|tpl)|(?:[\w-]+/)+)`")
MAPS = ("CONTRIBUTING.md", "docs/architecture.md")


@pytest.mark.parametrize("page", MAPS)
def test_a_file_that_a_map_names_exists(page: str) -> None:
    package = ROOT / "operator" / "workpool_operator"
    named = set(FILE.findall((ROOT / page).read_text()))
    assert len(named) > 10
    rooms = [ROOT, package, *(path for path in package.rglob("*") if path.is_dir())]
    rooms += [path for path in (ROOT / "tests").rglob("*") if path.is_dir()]
    missing = [name for name in named if not any((room / name).exists() for room in rooms)]
    assert sorted(missing) == []
