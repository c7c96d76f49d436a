"""Builds runs, states, Jobs, pods and snapshots, for tests without servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from pydantic import TypeAdapter

from workpool_operator.jobs import names
from workpool_operator.kube import models
from workpool_operator.kube.models import Job, Pod, RunObjects
from workpool_operator.prefect_api.models import Run, State, StateDetails
from workpool_operator.runs.claims import Claim
from workpool_operator.runs.snapshot import Snapshot, take_snapshot
from workpool_operator.runs.store import RunRecord

NOW = 1000.0  # seconds, monotonic
WALL = datetime(2026, 1, 1, 12, tzinfo=UTC)
RUN_ID = UUID("11111111-1111-4111-8111-111111111111")
DUE = WALL - timedelta(seconds=10)
MINE = names.transition_id(
    cluster_id="cluster", binding="data/etl", pool_id=UUID(int=1), run_id=RUN_ID
)
_job = TypeAdapter(Job)
_pod = TypeAdapter(Pod)


def id_of(text: str) -> UUID:
    return uuid5(UUID(int=0), text)


def state(
    type_: str,
    name: str = "",
    *,
    id_: str = "",
    message: str | None = None,
    data: Any = None,
    at: datetime = WALL,
    **details: Any,
) -> State:
    return State(
        type=type_,
        name=name or type_.title(),
        id=id_of(id_ or name or type_),
        timestamp=at,
        message=message,
        data=data,
        state_details=StateDetails(**details),
    )


def pending(
    id_: str = "claim", *, name: str = "Pending", at: datetime = WALL, **details: Any
) -> State:
    """A Pending state with our transition id, made on a SCHEDULED run."""
    given = {"transition_id": MINE, "scheduled_time": DUE, **details}
    return state("PENDING", name, id_=id_, at=at, **given)


def claim(id_: str = "claim", **fields: Any) -> Claim:
    made = Claim.of(pending(id_))
    assert made is not None
    return replace(made, **fields)


def run(current: State | str, *, pid: str | None = None, **fields: Any) -> Run:
    now = state(current) if isinstance(current, str) else current
    document = {
        "id": RUN_ID,
        "name": "brave-lynx",
        "flow_id": id_of("flow"),
        "state_type": now.type,
        "state_name": now.name,
        "infrastructure_pid": f"data:{pid}" if pid else None,
        **fields,
    }
    return replace(Run.of(document), state=now)


def job_name(id_: str = "claim", run_name: str = "brave-lynx") -> str:
    return names.job_name(run_name=run_name, run_id=RUN_ID, claim_id=id_of(id_))


def job(
    id_: str = "claim",
    *,
    ended: str = "",
    reason: str = "",
    ttl: int | None = None,
    deleting: bool = False,
    suspended: bool = False,
    annotations: Mapping[str, str] | None = None,
    started_at: datetime | None = None,
    created: datetime | None = None,
    noted: str = "",
    queue: str = "",
    adopted_by: str = "",
    backoff_limit: int = 0,
    failed: int = 0,
    version: str = "1",
) -> Job:
    """The Job of the claim `id_`; `ended` is "", "Complete" or "Failed"; `noted` is the status of
    its condition Suspended, `adopted_by` the claim that took it over."""
    labels = {models.RUN_LABEL: str(RUN_ID), models.CLAIM_LABEL: str(id_of(id_))}
    conditions = [{"type": ended, "status": "True", "reason": reason}] if ended else []
    conditions += [{"type": "Suspended", "status": noted}] if noted else []
    adoption = {models.CLAIM_ANNOTATION: str(id_of(adopted_by))} if adopted_by else {}
    return _job.validate_python(
        {
            "metadata": {
                "name": job_name(id_),
                "namespace": "data",
                "uid": f"uid-{id_}",
                "resourceVersion": version,
                "deletionTimestamp": WALL if deleting else None,
                "creationTimestamp": created,
                "labels": {models.QUEUE_LABEL: queue} if queue else {},
                "annotations": {**(annotations or {}), **adoption},
            },
            "spec": {
                "template": {"metadata": {"labels": labels}},
                "suspend": suspended,
                "activeDeadlineSeconds": 60,
                "backoffLimit": backoff_limit,
                "ttlSecondsAfterFinished": ttl,
            },
            "status": {"conditions": conditions, "startTime": started_at, "failed": failed},
        }
    )


def container(
    name: str = "prefect-job",
    *,
    running: datetime | None = None,
    exit_code: int | None = None,
    waiting: str = "",
    reason: str = "",
    message: str = "",
    at: datetime = WALL,
    restart_policy: str = "",
    memory_limit: str = "",
    **status: Any,
) -> dict[str, Any]:
    """One container of `pod`: its spec and its status in one; `at` is when it ended."""
    now: dict[str, Any] = {"running": {"startedAt": running}} if running else {}
    if waiting:
        now = {"waiting": {"reason": waiting, "message": message}}
    if exit_code is not None:
        ended = {"exitCode": exit_code, "reason": reason, "message": message}
        now = {"terminated": {**ended, "startedAt": at - timedelta(seconds=5), "finishedAt": at}}
    limits = {"memory": memory_limit} if memory_limit else {}
    spec = {"image": "a/b:1", "restartPolicy": restart_policy, "resources": {"limits": limits}}
    return {"name": name, "state": now, **spec, **status}


def pod(
    id_: str = "claim",
    *,
    phase: str = "Pending",
    pod_reason: str = "",
    pod_message: str = "",
    conditions: Sequence[Mapping[str, str]] = (),
    unschedulable: str = "",
    containers: Sequence[Mapping[str, Any]] = (),
    init: Sequence[Mapping[str, Any]] = (),
    spec: Mapping[str, Any] | None = None,
    number: int = 1,
    created: datetime = WALL,
    deleting: bool | datetime = False,
    recorded: str = "",
    defaults: str = "",
    version: str = "1",
    **flow: Any,
) -> Pod:
    """A pod of that Job, its `number`-th. Unless `containers` are given it has the flow's alone,
    which runs in phase Running and for the rest is as `flow` says."""
    if phase == "Running":
        flow.setdefault("running", WALL)
    listed = list(containers) or [container(**flow)]
    blocked = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    labels = {models.RUN_LABEL: str(RUN_ID), models.JOB_NAME_LABEL: job_name(id_)}
    annotations = {
        models.CONTAINER_ANNOTATION: recorded,
        models.LIMIT_RANGE_ANNOTATION: defaults and f"LimitRanger plugin set: {defaults}",
    }
    suffix = "" if number == 1 else f"-{number}"
    return _pod.validate_python(
        {
            "metadata": {
                "name": f"pod-{id_}{suffix}",
                "namespace": "data",
                "uid": f"uid-pod-{id_}{suffix}",
                "resourceVersion": version,
                "creationTimestamp": created,
                "deletionTimestamp": WALL if deleting is True else deleting or None,
                "labels": labels,
                "annotations": {name: text for name, text in annotations.items() if text},
            },
            "spec": {"containers": listed, "initContainers": list(init), **(spec or {})},
            "status": {
                "phase": phase,
                "reason": pod_reason,
                "message": pod_message,
                "conditions": [
                    *conditions,
                    *([{**blocked, "message": unschedulable}] if unschedulable else []),
                ],
                "containerStatuses": listed,
                "initContainerStatuses": list(init),
            },
        }
    )


def record(
    current: Run | None, *, answered_at: float = NOW, mine: str = "", **fields: Any
) -> RunRecord:
    """What is known of the run since `answered_at`; `mine` names our claim on it."""
    known = RunRecord(
        run=current, read_at=answered_at, answered_at=answered_at, valid_from=answered_at
    )
    return replace(known, **{"claim": claim(mine) if mine else None, **fields})


def read_at(known: RunRecord, when: float) -> RunRecord:
    """Return the record as if the run had been read then."""
    return replace(known, read_at=when, answered_at=when)


def answered(
    known: RunRecord, current: Run | None, *, at: float, asked_at: float = 0, wrote: bool = False
) -> RunRecord:
    """Return the record after an answer of the server at `at`, by default to a request at `at`."""
    return known.apply(current, asked_at=asked_at or at, now=at, transition_ids={MINE}, wrote=wrote)


def snapshot_of(
    known: RunRecord,
    *,
    now: float = NOW,
    foreign_jobs: frozenset[str] = frozenset(),
    claiming: bool = False,
    cancels: bool = False,
    **objects: Any,
) -> Snapshot:
    """Return the snapshot of a record and the cluster's objects."""
    found = RunObjects(**objects)
    return take_snapshot(
        RUN_ID,
        known,
        found,
        now=now,
        foreign_jobs=foreign_jobs,
        claiming=claiming,
        cancels=cancels,
    )


def since(known: RunRecord, now: float, **objects: Any) -> RunRecord:
    """Return the record after a snapshot of these objects, then."""
    return snapshot_of(known, now=now, **objects).record


RETRY_RUN = run(state("SCHEDULED", "AwaitingRetry", scheduled_time=WALL))
