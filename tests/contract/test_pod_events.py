"""The events of pods: those of the stock worker's observer, which runs in a process of its own, and
what a real Prefect server has of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import yaml
from pydantic import TypeAdapter

from testbed.environments import PEER
from testbed.state import CHECKOUT
from tests.corpus import pods
from tests.corpus.pods import CASES, Object
from tests.support.controller import OWNER
from tests.support.endpoint import Endpoint
from tests.support.polling import poll
from tests.support.prefect import PrefectApi as Server
from workpool_operator.jobs.pod_event import occurred, pod_event, read_phase
from workpool_operator.kube.models import RUN_LABEL, Job, Pod
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.endpoint import PrefectEndpoint
from workpool_operator.runs.pod_events import PodEvents

STOCK = Path(__file__).parents[1] / "support" / "stock_observer.py"
JOB = TypeAdapter(Job).validate_python(
    {
        "metadata": {
            "name": pods.LABELS["batch.kubernetes.io/job-name"],
            "annotations": {"workpool-operator.dev/server": OWNER.server_url},
        }
    }
)
_pod = TypeAdapter(Pod)

# A life whose pod is found unschedulable, gets a node, and runs out of memory.
LIFE = [
    pods.pod("Pending"),
    pods.pod("Pending", conditions=[pods.unschedulable("1 Insufficient cpu.")]),
    pods.pod("Pending", pods.waiting("ContainerCreating")),
    pods.pod("Running", pods.running()),
    pods.pod("Failed", pods.ended(137, "OOMKilled")),
]


def stock_events(documents: list[Object]) -> list[Object]:
    """Return the events of the stock worker's observer, one for each version of a pod."""
    done = subprocess.run(
        [PEER.python, "-I", STOCK],
        input=json.dumps(documents),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    events: list[Object] = json.loads(done.stdout)
    return events


def uid_of(number: int) -> str:
    return str(UUID(int=number))


@pytest.fixture(scope="module")
def stock() -> dict[str, Object]:
    """The stock worker's event of each case."""
    documents = []
    for number, case in enumerate(CASES):
        document = json.loads(json.dumps(case.pod))
        document["metadata"]["uid"] = uid_of(number)
        documents.append(document)
    return dict(zip((case.name for case in CASES), stock_events(documents), strict=True))


def ours(case: pods.Case) -> Object:
    document = json.loads(json.dumps(case.pod))
    document["metadata"]["uid"] = uid_of(CASES.index(case))
    pod = _pod.validate_python(document)
    phase = read_phase(pod)
    at = occurred(pod, phase) or datetime.now(UTC)
    return pod_event(pod, phase, at=at, follows=None, worker_type="kubernetes")


def comparable(event: Object) -> Object:
    """Return the event without what depends on the moment or on the version of Prefect."""
    at = datetime.fromisoformat(event["occurred"])
    age = datetime.now(UTC) - at
    related = [
        {key: value for key, value in each.items() if key != "prefect.version"}
        for each in event["related"]
    ]
    return {
        **event,
        "occurred": "now" if age.total_seconds() < 60 else at.isoformat(),
        "related": related,
        "follows": event.get("follows"),
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_event_equals_the_stock_workers_except_where_that_is_silent_or_wrong(
    case: pods.Case, stock: dict[str, Object]
) -> None:
    theirs, made = comparable(stock[case.name]), comparable(ours(case))
    if case.stock is None:
        assert made == theirs
        return
    resource = theirs["resource"]
    name = theirs["event"].removeprefix("prefect.kubernetes.pod.")
    diagnosis, reason = (resource.get(f"kubernetes.{key}", "") for key in ("diagnosis", "reason"))
    assert (name, diagnosis, reason) == case.stock
    assert made["related"] == theirs["related"]
    assert made["occurred"] == theirs["occurred"]


@pytest.fixture
async def prefect(prefect_server: Endpoint) -> AsyncIterator[PrefectApi]:
    async with PrefectApi(PrefectEndpoint(prefect_server.url), pool="etl") as api:
        yield api


def sender(prefect: PrefectApi) -> PodEvents:
    return PodEvents(OWNER, api=prefect, is_enabled=lambda: True)


def note(events: PodEvents, document: Object, *, claimed_here: bool = True) -> None:
    pod = _pod.validate_python(document)
    events.update(UUID(pod.run_id), [JOB], [pod], claimed_here=claimed_here)


def of_today(uid: str) -> list[Object]:
    """Return the life of a pod that was created today."""
    text = json.dumps(LIFE).replace("2026-01-01", f"{datetime.now(UTC):%Y-%m-%d}")
    for time in ("12:00:00", "12:00:03", "12:00:09"):
        text = text.replace(time, f"00:00:{time[-2:]}")
    documents: list[Object] = json.loads(text)
    for document in documents:
        document["metadata"]["uid"] = uid
    return documents


async def recorded(api: Server, uid: str, *, count: int) -> list[Object]:
    """Return the events of the pod in the order in which they occurred, once there are so many."""
    body = {
        "filter": {"resource": {"id": [f"prefect.kubernetes.pod.{uid}"]}, "order": "ASC"},
        "limit": 50,
    }

    async def read() -> list[Object]:
        found: list[Object] = (await api.one("POST", "/events/filter", body))["events"]
        return found

    return await poll(read, until=lambda found: len(found) >= count)


async def test_the_server_has_the_events_of_a_life_with_the_ids_of_the_stock_worker(
    api: Server, prefect: PrefectApi
) -> None:
    uid = str(uuid4())
    life = of_today(uid)
    events = sender(prefect)
    for document in life:
        note(events, document)
    await events.flush()
    found = await recorded(api, uid, count=4)
    theirs = {event["id"]: event for event in stock_events(life)}
    assert {event["id"] for event in found} == set(theirs)
    assert [event["event"].rpartition(".")[2] for event in found[2:]] == ["running", "evicted"]
    assert [event["resource"].get("kubernetes.diagnosis") for event in found[2:]] == [
        None,
        "OOMKilled",
    ]
    assert {event["resource"].get("kubernetes.diagnosis") for event in found[:2]} == {
        None,
        "Unschedulable.InsufficientResources",
    }
    for event in found:
        assert event["related"][0]["prefect.resource.id"] == f"prefect.flow-run.{pods.RUN_ID}"
    assert found[3]["follows"] == found[2]["id"]


async def test_a_restart_sends_only_what_the_server_does_not_have(
    api: Server, prefect: PrefectApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid = str(uuid4())
    life = of_today(uid)
    first, successor = sender(prefect), sender(prefect)
    note(first, life[0])
    note(first, life[3])
    await first.flush()
    await recorded(api, uid, count=2)
    sent: list[Object] = []

    async def write_events(events: list[dict[str, Any]]) -> None:
        sent.extend(events)

    monkeypatch.setattr(prefect, "write_events", write_events)
    note(successor, life[3], claimed_here=False)
    await successor.flush()
    assert sent == []
    note(successor, life[4], claimed_here=False)
    await successor.flush()
    assert [event["event"] for event in sent] == ["prefect.kubernetes.pod.evicted"]


async def test_the_automation_of_the_page_cancels_a_run_without_an_image(
    api: Server, prefect: PrefectApi, pool: str
) -> None:
    text = (CHECKOUT / "docs/pod-events.md").read_text()
    automation = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    uid = str(uuid4())
    # The server is shared: no pod of another test may start it.
    automation["trigger"]["match"]["prefect.resource.id"] = f"prefect.kubernetes.pod.{uid}"
    made = await api.one("POST", "/automations/", automation)
    deployment = await api.create_deployment(flow="load", name="nightly", pool=pool)
    run = await api.create_run(deployment["id"])
    labels = {**pods.LABELS, RUN_LABEL: run["id"]}
    blocked = pods.pod("Pending", pods.waiting("ErrImagePull"), uid=uid, labels=labels)
    blocked["metadata"]["creationTimestamp"] = datetime.now(UTC).isoformat()
    try:
        events = sender(prefect)
        note(events, blocked)
        await events.flush()
        await api.wait_for_state(run["id"], "CANCELLED", "CANCELLING", seconds=30)
    finally:
        await api.request("DELETE", f"/automations/{made['id']}")
