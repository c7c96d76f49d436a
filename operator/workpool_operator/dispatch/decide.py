"""The decision table: one snapshot in, one action out. Pure.

    Prefect state   current Job          action
    SCHEDULED       previous one alive   wait for its pods, delete it after a grace, then claim
    SCHEDULED       previous suspended   keep it; once it is resumed claim, and adopt it (suspended)
    SCHEDULED       one that we ended    restore the final state that its SIGTERM handler undid
    SCHEDULED       deadline exceeded    Crashed, the limit named
    SCHEDULED       retries in process, gone   have polls return it again
    SCHEDULED       none, offered        claim
    PENDING, mine   none                 create the Job; say why the API server refuses it (pending)
    PENDING, mine   impossible           deployment deleted: Cancelled; its Job cannot be rendered,
                                         or is refused for good: Crashed with the fix (pending)
    PENDING, mine   waits                record its name; say what it waits for (pending)
    PENDING, mine   suspended            say what it waits for, however long (suspended)
    PENDING, mine   infrastructure       back to SCHEDULED, so often as it may be (retries)
    PENDING, mine   deployment's lease   renew it until the run starts
    PENDING, other  any                  leave alone
    PENDING, stray  any                  restore what a late claim of ours wrote over
    PENDING/RUNNING Failed               Crashed: reason, exit code, remedy, last log lines (ended)
    PENDING/RUNNING Complete             Crashed after a grace: "exited 0 without reporting"
    RUNNING         suspended, no pods   AwaitingRetry
    PENDING/RUNNING node is lost         Crashed, though the pod stays (lost_nodes)
    PENDING/RUNNING gone                 Crashed after a grace and a confirming read: "vanished"
    PAUSED          ended, gone          as RUNNING if a pod is wanted; a suspended run: nothing
    CANCELLING      any                  delete the Job, then Cancelled
    RUNNING         a later pod waits    report it; Crashed after the pending time-out (pending)
    any             only sidecars live   Crashed if nothing was reported; the pod's end (sidecars)
    final           alive                after a grace: annotate with the state, then delete (final)
    unknown (404)   ours                 delete
    not read yet    any                  read, unless only Jobs with reported ends are left

Each state has an ordered list of rules, and the first that applies decides. Nothing destructive is
decided on a state that was read before the fact that asks for it. Each rule that answers a measured
trap cites its number in docs/races.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from workpool_operator.dispatch.policy import Policy
from workpool_operator.dispatch.rules import Input, Rule, first
from workpool_operator.dispatch.rules.ended import unreported
from workpool_operator.dispatch.rules.final import FINAL
from workpool_operator.dispatch.rules.pending import PENDING
from workpool_operator.dispatch.rules.running import CANCELLING, PAUSED, RUNNING
from workpool_operator.dispatch.rules.scheduled import SCHEDULED
from workpool_operator.dispatch.snapshot import Snapshot
from workpool_operator.dispatch.steps import DeleteJob, Forget, Nothing, Read, Step, UndoClaim

# By the type of a run's state; a final one has FINAL.
RULES: Mapping[str, tuple[Rule, ...]] = {
    "SCHEDULED": SCHEDULED,
    "PENDING": PENDING,
    "RUNNING": RUNNING,
    "PAUSED": PAUSED,
    "CANCELLING": CANCELLING,
}


def decide(seen: Snapshot, policy: Policy, *, wall: datetime) -> Step:
    """Return the one next action for the run; `wall` is the time of day for Kubernetes'
    timestamps."""
    record = seen.record
    if record.is_stale:
        return Read()
    if record.missing:
        return _unknown(seen, policy)
    if record.run is None:
        return Forget() if _is_settled(seen) else Read()
    if record.stray_claim:
        return UndoClaim()
    rules = FINAL if record.run.final else RULES[record.run.state_type]
    return first(rules, Input(record.run, seen, policy, wall))


def _is_settled(seen: Snapshot) -> bool:
    """The run is not offered, and all that is left of it are Jobs whose end is reported."""
    unsettled = [job for job in seen.jobs if not job.ended or unreported((job,))]
    return seen.record.offered_at is None and not seen.live_pods and not unsettled


def _unknown(seen: Snapshot, policy: Policy) -> Step:
    """Prefect does not know the run: its Jobs work in vain."""
    jobs = [job for job in seen.jobs if job.name not in seen.foreign_jobs]
    if not jobs:
        return Forget()
    if not (seen.read_since("known") and seen.age <= policy.state_age):
        return Read()
    return next((DeleteJob(job) for job in jobs if not job.deleting), Nothing())
