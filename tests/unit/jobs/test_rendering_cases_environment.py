"""The environment of the flow's container (docs/conformance.md, 32 to 37, 41)."""

from __future__ import annotations

from uuid import UUID

import pytest
from prefect.client.schemas.objects import Flow, FlowRun
from prefect.client.schemas.responses import DeploymentResponse

from tests.corpus.case import DEPLOYMENT, FLOW, NOW, RUN, Case, Object, template_with
from tests.corpus.environments import SIGTERM, plain, secret
from tests.corpus.published import minimal
from tests.corpus.rendered import container, job, names, variables
from workpool_operator.jobs.configuration import KubernetesJobConfiguration

WORKER = UUID("66666666-6666-4666-8666-666666666666")
ATTRIBUTION = {
    "PREFECT__FLOW_RUN_ID": str(RUN),
    "PREFECT__WORKER_ID": str(WORKER),
    "PREFECT__WORKER_NAME": "etl",
    "PREFECT__FLOW_ID": str(FLOW),
    "PREFECT__FLOW_NAME": "hello",
    "PREFECT__DEPLOYMENT_ID": str(DEPLOYMENT),
    "PREFECT__DEPLOYMENT_NAME": "nightly",
}


async def test_case_32_settings_come_first_then_the_run_its_attribution_and_the_users() -> None:
    manifest = await job(Case("order", deployment={"env": {"B": "1"}}, run={"env": {"A": "2"}}))
    assert names(manifest) == [
        "PREFECT_API_URL",
        "PREFECT_API_KEY",
        "PREFECT__FLOW_RUN_ID",
        "PREFECT__WORKER_NAME",
        "PREFECT__FLOW_ID",
        "PREFECT__FLOW_NAME",
        "PREFECT__DEPLOYMENT_ID",
        "PREFECT__DEPLOYMENT_NAME",
        "B",
        "A",
        SIGTERM,
    ]


async def test_case_33_a_null_unsets_what_the_run_would_inherit() -> None:
    manifest = await job(Case("null", run={"env": {"PREFECT_API_URL": None, "A": None}}))
    assert not {"PREFECT_API_URL", "A"} & variables(manifest).keys()


async def test_case_33_a_null_of_the_run_unsets_the_deployments() -> None:
    manifest = await job(Case("null", deployment={"env": {"A": "1"}}, run={"env": {"A": None}}))
    assert "A" not in variables(manifest)


async def test_case_34_a_hard_coded_list_follows_the_runs_own_variables() -> None:
    fixed = [secret("TEST_ENV", "shhhhh"), plain("FIXED", "x")]
    manifest = await job(Case("fixed", template=template_with(container={"env": fixed})))
    assert container(manifest)["env"][-2:] == fixed
    assert variables(manifest)["PREFECT__FLOW_RUN_ID"] == str(RUN)


async def test_case_35_lists_of_pool_and_deployment_are_merged_without_duplicates() -> None:
    template = template_with(
        container={"env": [secret("PASSWORD"), plain("SHARED", "pool"), plain("POOL", "1")]}
    )
    own = {"env": [plain("SHARED", "deployment"), secret("TOKEN")]}
    manifest = await job(Case("merged", template=template, deployment=own))
    found = variables(manifest)
    assert len(found) == len(names(manifest))
    assert {"PASSWORD", "TOKEN", "POOL"} <= found.keys()
    assert found["SHARED"] == "deployment"


async def test_case_35_a_default_list_of_the_pool_is_there_once() -> None:
    manifest = await job(
        Case("once", template=template_with(variables={"env": [plain("A"), plain("B")]}))
    )
    assert [name for name in names(manifest) if name in "AB"] == ["A", "B"]


@pytest.mark.parametrize(
    ("backoff_limit", "own", "expected"),
    [
        (0, None, "reschedule"),
        (0, {SIGTERM: ""}, "reschedule"),
        (0, {SIGTERM: "die"}, "die"),
        (6, None, "relinquish"),
        (6, {SIGTERM: "reschedule"}, "relinquish"),
        (6, [secret(SIGTERM)], "relinquish"),
        (0, [secret(SIGTERM)], secret(SIGTERM)["valueFrom"]),
    ],
)
async def test_case_36_who_retries_decides_what_a_stopped_pod_does_with_its_run(
    backoff_limit: int, own: Object | None, expected: object
) -> None:
    values = {"backoff_limit": backoff_limit} | ({"env": own} if own else {})
    assert variables(await job(Case("stopped", run=values)))[SIGTERM] == expected


async def test_case_36_without_a_backoff_limit_kubernetes_retries() -> None:
    assert variables(await job(Case("none", template=minimal())))[SIGTERM] == "relinquish"


_MERGES = [
    ({}, {"x": "foo"}, {"y": "boo"}, {"x": "foo", "y": "boo"}),
    ({"A": "1", "B": "2"}, {"A": "1", "B": "3"}, {}, {"A": "1", "B": "3"}),
    ({"A": "1", "B": "2"}, {"C": "3", "D": "4"}, {}, {"A": "1", "B": "2", "C": "3", "D": "4"}),
    (
        {"A": "1", "B": "2"},
        {"C": "42"},
        {"C": "3", "D": "4"},
        {"A": "1", "B": "2", "C": "3", "D": "4"},
    ),
    ({"A": "1", "B": "2"}, {"B": ""}, {}, {"A": "1", "B": ""}),
]


@pytest.mark.parametrize(("pool", "deployment", "run", "expected"), _MERGES)
@pytest.mark.parametrize("as_default", [True, False])
async def test_case_37_environments_are_merged_deeply_and_the_innermost_wins(
    pool: Object, deployment: Object, run: Object, expected: Object, as_default: bool
) -> None:
    template = (
        template_with(variables={"env": pool})
        if as_default
        else template_with(configuration={"env": pool})
    )
    case = Case("merged", template=template, deployment={"env": deployment}, run={"env": run})
    found = variables(await job(case))
    assert {name: found[name] for name in expected} == expected


async def test_case_37_the_configurations_own_and_the_default_are_both_kept() -> None:
    template = template_with(
        configuration={"env": {"X": "fixed"}}, variables={"env": {"Y": "pool"}}
    )
    found = variables(await job(Case("both", template=template)))
    assert (found["X"], found["Y"]) == ("fixed", "pool")


@pytest.mark.parametrize("worker_id", [WORKER, None])
@pytest.mark.parametrize("worker_name", ["etl", None])
@pytest.mark.parametrize("has_flow", [True, False])
@pytest.mark.parametrize("has_deployment", [True, False])
def test_case_41_a_run_is_attributed_to_what_is_known_of_it(
    worker_id: UUID | None, worker_name: str | None, has_flow: bool, has_deployment: bool
) -> None:
    known = {
        "PREFECT__WORKER_ID": worker_id,
        "PREFECT__WORKER_NAME": worker_name,
        "PREFECT__FLOW_NAME": has_flow,
        "PREFECT__DEPLOYMENT_ID": has_deployment,
        "PREFECT__DEPLOYMENT_NAME": has_deployment,
    }
    configuration = KubernetesJobConfiguration(
        job_manifest=minimal()["job_configuration"]["job_manifest"]
    )
    configuration.prepare_for_flow_run(
        FlowRun.model_validate(
            {"id": RUN, "flow_id": FLOW, "deployment_id": DEPLOYMENT if has_deployment else None}
        ),
        _deployment() if has_deployment else None,
        _flow() if has_flow else None,
        worker_name=worker_name,
        worker_id=worker_id,
    )
    found = variables(configuration.job_manifest)
    expected = {name: text for name, text in ATTRIBUTION.items() if known.get(name, True)}
    assert {name: text for name, text in found.items() if name.startswith("PREFECT__")} == expected


async def test_case_41_a_user_may_replace_the_attribution() -> None:
    manifest = await job(Case("own", run={"env": {"PREFECT__FLOW_NAME": "mine"}}))
    assert variables(manifest)["PREFECT__FLOW_NAME"] == "mine"


def _deployment() -> DeploymentResponse:
    return DeploymentResponse.model_validate(
        {"id": DEPLOYMENT, "name": "nightly", "flow_id": FLOW, "created": NOW, "updated": NOW}
    )


def _flow() -> Flow:
    return Flow.model_validate({"id": FLOW, "name": "hello", "created": NOW, "updated": NOW})
