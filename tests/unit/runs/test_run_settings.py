"""Run settings from a binding's spec and from a worker's environment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from workpool_operator.api.v1alpha1 import Spec
from workpool_operator.binding.context import Binding
from workpool_operator.runs.settings import PollSettings, RunSettings, Timeouts
from workpool_operator.worker.settings import PREFIX, WorkerSettings


def binding(**spec: Any) -> Binding:
    whole = {"workPool": {"name": "etl"}, "server": {"url": "http://server/api"}, **spec}
    parsed = Spec.model_validate(whole)
    return Binding("data", "etl", spec=lambda: parsed, generation=lambda: 1, status={})


def test_an_empty_spec_gives_the_defaults() -> None:
    assert binding().run_settings() == RunSettings()
    assert binding().poll_settings() == PollSettings()


def test_a_spec_that_sets_everything_gives_its_values() -> None:
    jobs = {
        "pendingTimeoutSeconds": 11,
        "infrastructureRetries": 12,
        "finishedGraceSeconds": 13,
        "ttlSecondsAfterFinished": 14,
        "ttlSecondsAfterFailed": 15,
        "environmentSecret": True,
        "replicatePodEvents": False,
        "maxPendingPods": 5,
    }
    timeouts = Timeouts(pending_timeout=11, infrastructure_retries=12, finished_grace=13)
    given = binding(
        jobs=jobs, concurrencyLimit=2, poll={"intervalSeconds": 3, "prefetchSeconds": 4}
    )
    assert given.run_settings() == RunSettings(
        timeouts,
        job_ttl=14,
        failed_job_ttl=15,
        environment_secret=True,
        replicate_pod_events=False,
    )
    assert given.poll_settings() == PollSettings(
        interval=3, prefetch=4, concurrency_limit=2, max_pending_pods=5
    )


@pytest.mark.parametrize(
    ("policy", "claims", "cancels"),
    [("", True, False), ("Orphan", False, False), ("Drain", False, False), ("Cancel", False, True)],
)
def test_a_binding_that_is_being_deleted_claims_no_runs(
    policy: str, claims: bool, cancels: bool
) -> None:
    found = replace(binding(), deletion=lambda: policy).run_settings()
    assert (found.claims, found.cancels) == (claims, cancels)


def test_the_environment_of_a_worker_gives_its_values(monkeypatch: pytest.MonkeyPatch) -> None:
    assert WorkerSettings().run_settings() == RunSettings()
    for name, value in {
        "PENDING_TIMEOUT_SECONDS": "11",
        "FINISHED_GRACE_SECONDS": "13",
        "JOB_TTL_SECONDS": "14",
        "FAILED_JOB_TTL_SECONDS": "15",
        "STORE_ENV_AS_SECRET": "true",
        "REPLICATE_POD_EVENTS": "false",
    }.items():
        monkeypatch.setenv(PREFIX + name, value)
    timeouts = Timeouts(pending_timeout=11, finished_grace=13)
    expected = RunSettings(
        timeouts,
        job_ttl=14,
        failed_job_ttl=15,
        environment_secret=True,
        replicate_pod_events=False,
    )
    assert WorkerSettings().run_settings() == expected


def test_a_worker_reads_the_stock_workers_switch_of_pod_events(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    variable = "PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_REPLICATE_POD_EVENTS"
    monkeypatch.setenv(variable, "false")
    assert not WorkerSettings().run_settings().replicate_pod_events


def test_a_failed_job_is_kept_for_its_own_time_if_the_spec_sets_one() -> None:
    jobs = {"ttlSecondsAfterFinished": 60, "ttlSecondsAfterFailed": 0}
    apart, same = binding(jobs=jobs), binding(jobs={"ttlSecondsAfterFinished": 60})
    assert [apart.run_settings().ttl(failed=failed) for failed in (False, True)] == [60, 0]
    assert [same.run_settings().ttl(failed=failed) for failed in (False, True)] == [60, 60]
