"""The log has a line when a problem begins, when its cause changes, and when it is resolved."""

from __future__ import annotations

import json
import logging

import pytest

from workpool_operator import logs
from workpool_operator.logs import ProblemLogger


def test_a_problem_that_lasts_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    problems = ProblemLogger(logging.getLogger("test"), "data/etl")
    problems.resolved("cannot watch jobs")
    for why in ("refused", "refused", "no answer", "no answer"):
        problems.report("cannot watch jobs", why)
    problems.resolved("cannot watch jobs")
    problems.resolved("cannot watch jobs")
    problems.report("cannot watch jobs", "no answer")
    assert caplog.messages == [
        "data/etl: cannot watch jobs: refused",
        "data/etl: cannot watch jobs: no answer",
        "data/etl: resolved: cannot watch jobs",
        "data/etl: cannot watch jobs: no answer",
    ]


def test_kopfs_repeated_attempts_are_not_logged(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = logging.root.handlers[:], logging.root.level
    try:
        logs.configure("INFO", "json")
        logging.getLogger("kopf.objects").error("Request attempt #1/9 failed; will retry")
        logging.getLogger("kopf.objects").warning("something else")
        logging.getLogger("kopf.activities.startup").info("Activity succeeded")
        logging.getLogger("workpool_operator").info("serving")
    finally:
        logging.root.handlers[:], logging.root.level = before
    lines = [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["something else", "serving"]
