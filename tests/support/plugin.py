"""The pytest plugin of these tests. All processes of pytest-xdist are one run, which fails if its
tests leave anything behind. The report of a failed test shows the operators' logs."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.support import leaks, marks, operator
from tests.support.run import TestRun, die_with_parent

INTERFACES = pytest.StashKey[frozenset[str]]()
LOG_CHARACTERS = 20_000


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    if _owns_the_run(session):
        session.stash[INTERFACES] = frozenset(leaks.interfaces())
        TestRun.begin()
    else:
        die_with_parent()


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
