"""The corpus, rendered by the stock worker and by the operator, each in its own process.

Only the tests of blocks and variables need a server. A failure prints every difference that
docs/migration.md does not list.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from prefect.client.orchestration import PrefectClient

from localnode import commands
from testbed.environments import PEER
from tests.corpus import (
    environments,
    made,
    metadata,
    names,
    placeholders,
    published,
    refusals,
    stock_variables,
    values,
)
from tests.corpus.case import Case, Object, worker_template
from tests.support.kube import Kube
from tests.support.stock import Sides, both
from workpool_operator.parity import acceptance as known
from workpool_operator.parity import differences
from workpool_operator.parity.stock import StockWorker, stock_worker

CASES: list[Case] = [
    *stock_variables.CASES,
    *environments.CASES,
    *published.CASES,
    *metadata.CASES,
    *placeholders.CASES,
    *names.CASES,
    *values.CASES,
    *refusals.CASES,
]
#: The cases whose Jobs a real API server checks.
SHOWN = [
    *stock_variables.CASES,
    *environments.CASES,
    *metadata.CASES,
    *placeholders.CASES,
    *names.CASES,
    *published.CASES,
]
MADE = 100

# One process renders each case once for all of them.
pytestmark = pytest.mark.xdist_group("stock")

Render = Callable[[Case], Awaitable[Sides]]


@pytest.fixture(scope="module")
def stock() -> Iterator[StockWorker]:
    with stock_worker(PEER.python) as worker:
        yield worker


@pytest.fixture(scope="module")
async def render(stock: StockWorker) -> AsyncIterator[Render]:
    """Render a case by both; without blocks and variables this needs no server."""
    known: dict[str, Sides] = {}

    async with PrefectClient("http://127.0.0.1:9/api") as nowhere:

        async def rendered(case: Case) -> Sides:
            if case.name not in known:
                known[case.name] = await both(case, stock=stock, client=nowhere)
            return known[case.name]

        yield rendered


def test_the_corpus_is_as_large_as_promised_and_its_names_are_its_own() -> None:
    assert len(CASES) >= 150
    assert [name for name, times in Counter(case.name for case in CASES).items() if times > 1] == []


def test_the_corpus_starts_from_the_template_that_the_stock_worker_creates() -> None:
    code = (
        "import json; from prefect_kubernetes.worker import KubernetesWorker; "
        "print(json.dumps(KubernetesWorker.get_default_base_job_template()))"
    )
    theirs, ours = json.loads(commands.run([PEER.python, "-c", code])), worker_template()
    assert ours["job_configuration"] == theirs["job_configuration"]
    assert _defaults(ours) == _defaults(theirs)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_the_job_equals_the_stock_workers_except_for_documented_differences(
    case: Case, render: Render
) -> None:
    if undocumented := (await render(case)).undocumented():
        pytest.fail("\n".join(undocumented))


@settings(
    max_examples=MADE,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(case=made.CASES)
async def test_generated_templates_differ_only_as_documented(
    case: Case, stock: StockWorker
) -> None:
    async with PrefectClient("http://127.0.0.1:9/api") as nowhere:
        sides = await both(case, stock=stock, client=nowhere)
    if undocumented := sides.undocumented():
        pytest.fail("\n".join(undocumented))


async def test_every_documented_difference_occurs_in_the_corpus(render: Render) -> None:
    """A rule that covers no case could hide a defect."""
    met: set[str | None] = set()
    for case in CASES:
        sides = await render(case)
        met |= {each.rule for each in sides.differences} or {sides.refusal}
    rules = (*differences.RULES, *known.ACCEPTED_HERE, *known.REFUSED_HERE)
    assert {rule.name for rule in rules} - met == set()


async def test_a_placeholder_remains_only_if_it_is_a_users_value(render: Render) -> None:
    """Otherwise the rule could hide a placeholder of the template that was not filled in."""
    for case in CASES:
        rules = {each.rule for each in (await render(case)).differences}
        given = [case.deployment, case.run, case.run_name, case.template.get("variables")]
        assert "values with `{{ }}` in them" not in rules or "{{" in json.dumps(given), case.name


async def test_the_api_server_accepts_our_job_if_it_accepts_the_stock_workers(
    render: Render, kube: Kube, namespace: str
) -> None:
    """Nothing is created (`dryRun`)."""
    worse, better = [], []
    for case in SHOWN:
        sides = await render(case)
        if sides.stock.manifest is None or sides.ours.manifest is None:
            continue
        theirs = await refusal(kube, namespace, sides.stock.manifest)
        ours = await refusal(kube, namespace, sides.ours.manifest)
        if ours and not theirs:
            worse.append(f"{case.name}: {ours}")
        if theirs and not ours:
            better.append(case.name)
    assert worse == []
    assert len(better) > 10


async def refusal(kube: Kube, namespace: str, manifest: Object) -> str:
    """Return the API server's error about the Job; "" if it accepts the Job."""
    placed = manifest | {"metadata": manifest["metadata"] | {"namespace": namespace}}
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    answer = await kube.http.post(path, params={"dryRun": "All"}, json=placed)
    return str(answer.json()["message"]) if answer.is_error else ""


def _defaults(template: Object) -> Object:
    """Return the default of each variable; None if it has none."""
    properties = template["variables"]["properties"]
    return {name: schema.get("default") for name, schema in properties.items()}
