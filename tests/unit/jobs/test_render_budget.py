"""Rendering a Job stays within its CPU budget, which the benchmark measures."""

from __future__ import annotations

import pytest
from prefect.client.orchestration import PrefectClient

from benchmarks import render as bench
from benchmarks.render import Rendering
from benchmarks.statistics import OURS, STOCK
from tests.corpus.case import Case, Object, worker_template

BUDGET_SECONDS = 0.004  # twice the promise, for machines that do other things meanwhile
RENDERS = 100


@pytest.mark.parametrize("template", [worker_template(), bench.own_template()])
async def test_a_render_keeps_its_budget_of_processor_time(template: Object) -> None:
    case = Case("budget", template=template, run=bench.VALUES)
    async with PrefectClient("http://127.0.0.1:9/api") as nowhere:
        taken = await bench.of_ours(case, renders=RENDERS, client=nowhere)
    assert sorted(taken)[RENDERS // 2] < BUDGET_SECONDS


def test_the_figure_is_the_worse_p99_of_our_templates() -> None:
    measured = [
        Rendering(OURS, "the stock worker's", (0.001, 0.0025)),
        Rendering(OURS, "our own", (0.001, 0.0015)),
        Rendering(STOCK, "the stock worker's", (0.02, 0.04)),
    ]
    (figure,) = bench.result(measured).figures
    assert (figure.ours, figure.stock) == (2.5, 40)
    assert figure.missed
    assert "| stock worker " in bench.result(measured).text
