"""The log has one line for each decision, and names in fields of its own what the line is about."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal
from uuid import UUID

import pytest

from testbed.state import CHECKOUT
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


@contextmanager
def configured(format_: Literal["text", "json"]) -> Iterator[None]:
    before = logging.root.handlers[:], logging.root.level
    logs.configure("INFO", format_)
    try:
        yield
    finally:
        logging.root.handlers[:], logging.root.level = before


def test_kopfs_repeated_attempts_are_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    with configured("json"):
        logging.getLogger("kopf.objects").error("Request attempt #1/9 failed; will retry")
        logging.getLogger("kopf.objects").warning("something else")
        logging.getLogger("kopf.activities.startup").info("Activity succeeded")
        logging.getLogger("workpool_operator").info("serving")
    lines = [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["something else", "serving"]


def test_the_name_of_a_run_forges_no_line_and_controls_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with configured("text"):
        name = "fl\u00f6w\n2026-11-27 03:00:00,000 ERROR all is lost\x1b[2J"
        logging.getLogger("workpool_operator").info("run %s is claimed", name)
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith("fl\u00f6w\\n2026-11-27 03:00:00,000 ERROR all is lost\\x1b[2J is claimed")


async def test_the_lines_of_a_task_and_of_the_tasks_that_it_creates_name_its_subject(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = logging.getLogger("library")

    async def follow(binding: str) -> None:
        with logs.about(binding=binding):
            await asyncio.sleep(0)
            await asyncio.create_task(work())

    async def work() -> None:
        with logs.about(run=UUID(int=7), flow_run_name="fox", job="data/fox-1"):
            log.info("created")
        log.info("done")

    with configured("json"):
        await asyncio.gather(follow("data/etl"), follow("ml/gpu"))
        log.info("of the process")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["message"] for line in lines if line.get("binding") == "data/etl"] == [
        "created",
        "done",
    ]
    (created,) = (line for line in lines if (line.get("binding"), line.get("run")) == FULL)
    assert (created["flow_run_name"], created["job"]) == ("fox", "data/fox-1")
    assert not set(logs.FIELDS) & set(lines[-1])


FULL = ("data/etl", str(UUID(int=7)))


def test_text_has_the_message_alone_and_a_bug_has_its_trace_in_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with configured("text"), logs.about(binding="data/etl"):
        logging.getLogger("a").info("data/etl: serving")
    assert capsys.readouterr().err.endswith(" INFO    a: data/etl: serving\n")
    with configured("json"):
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            logging.getLogger("a").exception("a bug in the operator")
    line = json.loads(capsys.readouterr().err)
    assert "ZeroDivisionError" in line["exception"]


PAGE = (CHECKOUT / "docs" / "logs.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the section's table rows that begin with code."""
    section = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    (text,) = (each for each in section if each.startswith(heading))
    found = re.findall(r"^\| `(.+?)` \| (.*) \|$", text, flags=re.MULTILINE)
    return [[name, *rest.split(" | ")] for name, rest in found]


def test_the_page_lists_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    with configured("json"), logs.about(**dict.fromkeys(logs.FIELDS, "x")):
        logging.getLogger("a").error("bug", exc_info=ValueError("bug"))
    keys = [*json.loads(capsys.readouterr().err)]
    assert [name for name, *_ in rows("The log") if name.islower()] == keys


def test_the_page_lists_every_line_about_a_run() -> None:
    code = "".join(path.read_text() for path in (CHECKOUT / "operator").rglob("runs/*.py"))
    lines = {re.sub(r"%(\.0f|s)", "X", line) for line in re.findall(r'"(run %s[^"]*)"', code)}
    listed = {re.sub(r"\b[A-Z]{2,}\b", "X", line) for line, *_ in rows("What happens to a run")}
    assert listed == lines
