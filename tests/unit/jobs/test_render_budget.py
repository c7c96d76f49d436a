"""Rendering a Job stays within its CPU budget, which the benchmark measures."""

from __future__ import annotations

import pytest
from prefect.client.orchestration import PrefectClient

from benchmarks import render as bench
from benchmarks.report import rendering
from benchmarks.statistics import OURS, Rendering
from tests.corpus.case import Case, Object, worker_template

BUDGET_SECONDS = 0.004  # twice the promise, for machines that do other things meanwhile
RENDERS = 100


@pytest.mark.parametrize("template", [worker_template(), bench.own_template()])
async def test_a_render_keeps_its_budget_of_processor_time(template: Object) -> None:
    case = Case("budget", template=template, run=bench.VALUES)
    async with PrefectClient("http://127.0.0.1:9/api") as nowhere:
        taken = await bench.of_ours(case, renders=RENDERS, client=nowhere)
    assert sorted(taken)[RENDERS // 2] < BUDGET_SECONDS


def test_the_table_names_the_side_the_template_and_the_target() -> None:
    measured = [
        Rendering(OURS, "our own", (0.001, 0.0015)),
        Rendering("stock worker", "the stock worker's", (0.02, 0.04)),
    ]
    ours, stock = rendering(measured).splitlines()[2:4]
    assert [cell.strip() for cell in ours.split("|")] == [
        "",
        "workpool-operator",
        "our own",
        "1.25 ms",
        "1.50 ms",
        "mean <= 2 ms",
        "",
    ]
    assert "30.00 ms" in stock
    assert not stock.rstrip(" |").endswith("2 ms")


def test_only_our_mean_can_miss_the_target() -> None:
    assert Rendering(OURS, "x", (0.003,)).misses_its_target
    assert not Rendering(OURS, "x", (0.001,)).misses_its_target
    assert not Rendering("stock worker", "x", (0.03,)).misses_its_target
