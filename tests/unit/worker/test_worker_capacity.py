"""The exit code of a run, and the slots of a worker with a limit."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from prefect.client.orchestration import PrefectClient
from pydantic import TypeAdapter

from tests.support.templates import default_template
from workpool_operator import settings
from workpool_operator.kube.models import Job, Pod
from workpool_operator.runs.handle import NEVER_STARTED, STOPPED, exit_code
from workpool_operator.worker.configuration import ResolvedConfiguration
from workpool_operator.worker.in_flight import InFlightRuns

NOW = datetime.now(UTC).isoformat()


def pod(*, code: int | None = None, started: bool = True, made: str = NOW, **state: Any) -> Pod:
    """A pod whose flow container ended with `code` and whose sidecar ended with 0."""
    if code is not None:
        state = {"terminated": {"exitCode": code, "startedAt": NOW if started else None}}
    document = {
        "metadata": {"name": "p", "creationTimestamp": made},
        "spec": {"containers": [{"name": "flow"}, {"name": "proxy"}]},
        "status": {
            "phase": "Failed",
            "containerStatuses": [
                {"name": "proxy", "state": {"terminated": {"exitCode": 0, "startedAt": NOW}}},
                {"name": "flow", "state": state},
            ],
        },
    }
    return TypeAdapter(Pod).validate_python(document)


def job(condition: str) -> Job:
    status = {"conditions": [{"type": condition, "status": "True"}]}
    return TypeAdapter(Job).validate_python({"metadata": {"name": "j"}, "status": status})


@pytest.mark.parametrize("code", [1, 7, 137, 143])
def test_the_exit_code_is_that_of_the_flow_container(code: int) -> None:
    assert exit_code(job("Failed"), [pod(code=code)]) == code


def test_the_newest_pod_decides() -> None:
    first = pod(code=137, made="2026-01-01T00:00:00Z")
    second = pod(code=3, made="2026-01-01T00:10:00Z")
    assert exit_code(job("Failed"), [second, first]) == 3


def test_the_exit_code_of_a_complete_job_is_0_whatever_happened_to_its_first_pod() -> None:
    assert exit_code(job("Complete"), [pod(code=137)]) == 0


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param([], id="no pod"),
        pytest.param([{"waiting": {"reason": "ImagePullBackOff"}}], id="a pod that waits"),
        pytest.param([{"code": 137, "started": False}], id="a pod deleted before its start"),
    ],
)
def test_a_flow_that_never_started_has_the_exit_code_of_a_container_that_failed_to_run(
    seen: list[dict[str, Any]],
) -> None:
    assert exit_code(None, [pod(**state) for state in seen]) == NEVER_STARTED


def test_a_pod_that_vanished_while_running_has_the_code_of_a_kill() -> None:
    assert exit_code(job("Failed"), [pod(running={"startedAt": NOW})]) == STOPPED


async def test_a_run_that_is_taken_over_gets_the_next_free_slot() -> None:
    limiter, in_flight = anyio.CapacityLimiter(1), InFlightRuns()
    first, second = uuid.uuid4(), uuid.uuid4()
    for run in (first, second):
        in_flight.add(run, has_slot=False)
    in_flight.fill_free_slots(limiter)
    assert limiter.borrowed_tokens == 1
    limiter.release_on_behalf_of(first)
    in_flight.discard(first)
    in_flight.fill_free_slots(limiter)
    assert limiter.borrowed_tokens == 1, "the second run has it, before a new run"
    limiter.release_on_behalf_of(second)
    in_flight.discard(second)
    in_flight.fill_free_slots(limiter)
    assert limiter.borrowed_tokens == 0
    assert second not in in_flight


async def test_the_template_of_a_worker_reads_the_allowed_environment_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    template = default_template()
    template["job_configuration"]["namespace"] = "{{ $REGISTRY }}{{ $OTHER }}"
    monkeypatch.setenv("REGISTRY", "registry.example")
    monkeypatch.setenv("OTHER", "hush")
    monkeypatch.setattr(settings, "template_environment", lambda: frozenset({"REGISTRY"}))
    async with PrefectClient("http://127.0.0.1:9/api") as client:
        made = await ResolvedConfiguration.from_template_and_values(template, {}, client)
    assert made.namespace == "registry.example"
