"""A row of the decision table as a test states it: what is known, and the action that follows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.support.snapshots import (
    NOW,
    WALL,
    job,
    job_name,
    pending,
    pod,
    read_at,
    record,
    run,
    since,
    snapshot_of,
    state,
)
from workpool_operator.jobs.diagnosis import WaitReason
from workpool_operator.kube.models import FINAL_STATE_ANNOTATION
from workpool_operator.runs.actions import Action, RestoreState
from workpool_operator.runs.decide import decide
from workpool_operator.runs.settings import Timeouts
from workpool_operator.runs.store import RunRecord

POLICY = Timeouts()
LONG = 1000.0
NAME = job_name()
FINAL = {FINAL_STATE_ANNOTATION: "CRASHED/Crashed/out of memory"}
QUOTA = WaitReason("QuotaExceeded", "exceeded quota")
SCHEDULED = state("SCHEDULED", "Scheduled", scheduled_time=WALL)
RETRY = state("SCHEDULED", "AwaitingRetry", scheduled_time=WALL)
UI_RETRY = state("SCHEDULED", "AwaitingRetry", message="Retry from the UI", scheduled_time=WALL)
CLAIMED = run(pending())
RECORDED = run(pending(), pid=NAME)
RUNNING = run("RUNNING", pid=NAME, start_time=WALL)
CANCELLING = run("CANCELLING", pid=NAME)
STOPPING = run("CANCELLING", pid=NAME, start_time=WALL)
FAILED = job(ended="Failed", reason="BackoffLimitExceeded")
OOM = pod(phase="Failed", exit_code=137, reason="OOMKilled")
DEADLINE = job(ended="Failed", reason="DeadlineExceeded")


@dataclass(frozen=True)
class Case:
    """`ago`: for how long every fact has held; `answered_ago`: how long ago the
    server reported the state."""

    sentence: str
    known: RunRecord
    action: type[Action] | Action
    objects: dict[str, Any] = field(default_factory=dict)
    ago: float = LONG
    answered_ago: float = 0.0


def decide_at(case: Case, *, now: float = NOW, timeouts: Timeouts = POLICY) -> Action:
    known = read_at(case.known, NOW - case.ago - 1)
    known = since(known, NOW - case.ago, **case.objects)
    known = read_at(known, NOW - case.answered_ago)
    return decide(snapshot_of(known, now=now, **case.objects), timeouts, wall=WALL)


def offered(current: Any, ago: float = 0.5, **fields: Any) -> RunRecord:
    return record(current, offered_at=NOW - ago, **fields)


def waiting_for(wait: WaitReason, **fields: Any) -> RunRecord:
    return record(CLAIMED, mine="claim", refusal=wait, **fields)


def check(case: Case) -> None:
    action = decide_at(case)
    if isinstance(case.action, type):
        assert isinstance(action, case.action), action
    else:
        assert _plain(action) == _plain(case.action)


def sentence(case: Case) -> str:
    """The row's name in a report."""
    return case.sentence.replace(" ", "_")


def _plain(action: Action) -> str:
    """Return the action without the ids and the time of a state that the table itself created."""
    if isinstance(action, RestoreState):
        return f"{action.state.type} {action.state.name} {action.state.message}"
    return repr(action)
