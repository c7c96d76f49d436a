"""The pytest plugin of these tests. All processes of pytest-xdist are one run, which fails if its
tests leave anything behind. The report of a failed test shows the operators' logs."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Generator, Iterator

import pytest

from tests.support import leaks, marks, operator
from tests.support.run import TestRun, die_with_parent

INTERFACES = pytest.StashKey[frozenset[str]]()
LOG_CHARACTERS = 20_000
WAITING = ("cluster", "e2e", "faults")
WAITING_SHARE = 0.8  # of the order of all tests


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    # A job in the background ignores SIGINT, and so would the commands that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if _owns_the_run(session):
        session.stash[INTERFACES] = frozenset(leaks.interfaces())
        TestRun.begin()
    else:
        die_with_parent()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mix the folders of tests, each in its own order: those with pods mostly wait and the others
    mostly compute. The ones that wait are over first."""
    folders = [item.nodeid.split("/")[1] if "/" in item.nodeid else "" for item in items]
    counts, seen = Counter(folders), Counter[str]()
    positions: dict[pytest.Item, float] = {}
    for item, folder in zip(items, folders, strict=True):
        share = seen[folder] / counts[folder]
        positions[item] = share * WAITING_SHARE if folder in WAITING else share
        seen[folder] += 1
    items.sort(key=lambda item: positions[item])


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run if its tests left anything behind, and end what they shared."""
    if not _owns_the_run(session):
        return
    run = TestRun.current()
    left: list[str] = []
    try:
        if session.exitstatus == pytest.ExitCode.INTERRUPTED:
            leaks.clear(run)
        else:
            left += leaks.of_run(run)
    finally:
        run.end()
    before = session.stash[INTERFACES]
    left += [f"interface {name}" for name in leaks.interfaces() - before]
    if left:
        print("\nThe tests left behind:", *left, sep="\n  ")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _owns_the_run(session: pytest.Session) -> bool:
    """Return whether this is the main process and not a worker of pytest-xdist."""
    return not hasattr(session.config, "workerinput")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    for log in item.stash.get(operator.LOGS, []) if report.failed else []:
        text = log.read_text(errors="replace")[-LOG_CHARACTERS:]
        report.sections.append((f"operator, {log.stem}", text))
    return report


@pytest.fixture(autouse=True)
def no_process_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    mark = f"{TestRun.current().id}:{request.node.nodeid}"
    with marks.applied(mark):
        yield
    if left := leaks.end_processes(mark):
        pytest.fail("left running: " + "; ".join(f"{p.pid} {p.command}" for p in left))
