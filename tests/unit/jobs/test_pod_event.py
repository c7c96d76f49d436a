"""The event of each phase of a pod; tests/contract/test_pod_events.py has the stock worker's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from pydantic import TypeAdapter

from tests.corpus import pods
from tests.corpus.pods import CASES, Case
from workpool_operator.jobs.pod_event import occurred, pod_event, read_phase
from workpool_operator.kube.models import Pod
from workpool_operator.prefect_version import prefect_version

NOW = datetime(2026, 1, 1, 13, tzinfo=UTC)
_pod = TypeAdapter(Pod)


def event_of(document: dict[str, Any], **options: Any) -> dict[str, Any]:
    pod = _pod.validate_python(document)
    phase = read_phase(pod)
    given = {"follows": None, "worker_type": "kubernetes", **options}
    return pod_event(pod, phase, at=occurred(pod, phase) or NOW, **given)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_event_has_the_phase_the_diagnosis_and_the_reason(case: Case) -> None:
    made = event_of(case.pod)
    resource = made["resource"]
    found = (
        made["event"].removeprefix("prefect.kubernetes.pod."),
        resource.get("kubernetes.diagnosis", ""),
        resource.get("kubernetes.reason", ""),
    )
    assert found == (case.event, case.diagnosis, case.reason)


@pytest.mark.parametrize(
    ("document", "at"),
    [
        (pods.pod("Pending", pods.running("i")), pods.CREATED),
        (pods.pod("Running", pods.running(at=pods.STARTED)), pods.STARTED),
        (pods.pod("Running", pods.running(), pods.running("m", at=pods.ENDED)), pods.ENDED),
        (pods.pod("Running"), pods.CREATED),
        (pods.pod("Failed", pods.ended(1, "Error"), init=[pods.ended(0, "", "i")]), pods.ENDED),
        (pods.pod("Failed", init=[pods.ended(1, "Error", "i")]), pods.ENDED),
        (pods.pod("Failed"), NOW.isoformat()),
        (pods.pod("Unknown"), NOW.isoformat()),
    ],
)
def test_an_event_occurred_when_kubernetes_says_so(document: dict[str, Any], at: str) -> None:
    assert datetime.fromisoformat(event_of(document)["occurred"]) == datetime.fromisoformat(at)


def test_an_event_names_its_run_deployment_flow_pool_and_worker() -> None:
    made = event_of(pods.pod("Pending"), worker_type="kubernetes-operator")
    assert made["resource"] == {
        "prefect.resource.id": "prefect.kubernetes.pod.55555555-5555-4555-8555-555555555555",
        "prefect.resource.name": "brave-lynx-0123456789ab-x7f2k",
        "kubernetes.namespace": "data",
    }
    names = {r["prefect.resource.role"]: r["prefect.resource.name"] for r in made["related"]}
    assert names == {
        "flow-run": "brave-lynx",
        "deployment": "nightly",
        "flow": "load",
        "work-pool": "etl",
        "worker": "etl.data-0a1b2c3d",
    }
    assert made["related"][-1] == {
        "prefect.resource.id": "prefect.worker.kubernetes-operator.etl-data-0a1b2c3d",
        "prefect.resource.role": "worker",
        "prefect.resource.name": "etl.data-0a1b2c3d",
        "prefect.worker-type": "kubernetes-operator",
        "prefect.version": prefect_version(),
    }


def test_a_run_without_a_deployment_or_a_name_has_an_event_without_them() -> None:
    labels = {
        key: value
        for key, value in pods.LABELS.items()
        if "deployment" not in key and key != "prefect.io/flow-run-name"
    }
    run, *others = event_of(pods.pod("Pending", labels=labels))["related"]
    assert run == {
        "prefect.resource.id": f"prefect.flow-run.{pods.RUN_ID}",
        "prefect.resource.role": "flow-run",
    }
    assert [r["prefect.resource.role"] for r in others] == ["flow", "work-pool", "worker"]


def test_pod_phase_restarts_and_diagnosis_make_the_id() -> None:
    documents = [
        pods.pod("Pending"),
        pods.pod("Pending", pods.waiting("ErrImagePull")),
        pods.pod("Running", pods.running()),
        pods.pod("Running", pods.running(restarts=1)),
        pods.pod("Running", pods.running(), uid="66666666-6666-4666-8666-666666666666"),
    ]
    ids = [event_of(document)["id"] for document in documents]
    assert len(set(ids)) == len(ids)
    assert ids[1] == event_of(pods.pod("Pending", pods.waiting("ImagePullBackOff")))["id"]
    assert ids[0] == "721eb3f5-bf72-5370-9687-8e2c1c72a4ff"


def test_an_event_names_the_one_before_it() -> None:
    before = UUID(int=7)
    assert event_of(pods.pod("Pending"), follows=before)["follows"] == str(before)
    assert "follows" not in event_of(pods.pod("Pending"))
