"""The log: a trouble is told when it begins, when it changes, and when it is over."""

from __future__ import annotations

import json
import logging

import pytest

from workpool_operator import logs
from workpool_operator.logs import ProblemLogger


def test_a_trouble_that_lasts_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    trouble = ProblemLogger(logging.getLogger("test"), "data/etl")
    trouble.resolved("cannot follow jobs")
    for why in ("refused", "refused", "no answer", "no answer"):
        trouble.report("cannot follow jobs", why)
    trouble.resolved("cannot follow jobs")
    trouble.resolved("cannot follow jobs")
    trouble.report("cannot follow jobs", "no answer")
    assert caplog.messages == [
        "data/etl: cannot follow jobs: refused",
        "data/etl: cannot follow jobs: no answer",
        "data/etl: no longer: cannot follow jobs",
        "data/etl: cannot follow jobs: no answer",
    ]


def test_kopf_does_not_tell_every_attempt(capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.root.handlers[:], logging.root.level
    try:
        logs.configure("INFO", "json")
        logging.getLogger("kopf.objects").error("Request attempt #1/9 failed; will retry")
        logging.getLogger("kopf.objects").warning("something else")
        logging.getLogger("kopf.activities.startup").info("Activity succeeded")
        logging.getLogger("workpool_operator").info("serving")
    finally:
        logging.root.handlers[:], logging.root.level = before
    told = [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()]
    assert told == ["something else", "serving"]
