"""Every action that can be decided for a run, as plain data: one step that can be repeated. Pure.

`decide` chooses an action, `executor` carries it out.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from workpool_operator.jobs.diagnosis import Termination, WaitReason
from workpool_operator.kube.models import Job, Pod
from workpool_operator.prefect_api.models import Run, State
from workpool_operator.runs import claims
from workpool_operator.runs.claims import ClaimedRun


@dataclass(frozen=True, slots=True)
class NoAction:
    """Wait for the next event."""


@dataclass(frozen=True, slots=True)
class ForgetRun:
    """Forget the run: nothing is left to do for it."""


@dataclass(frozen=True, slots=True)
class RequeueAfter:
    """Decide again in `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class RefreshRun:
    """Read the run from Prefect."""


@dataclass(frozen=True, slots=True)
class RefreshStateHistory:
    """Read the run's states from Prefect, to find our claim."""


@dataclass(frozen=True, slots=True)
class DropOffer:
    """Drop the offer of a poll. `is_expired`: the run is still due, so that another poll is, too:
    the offer is too old (docs/races.md, 2), or no Job is created for now."""

    is_expired: bool = False


@dataclass(frozen=True, slots=True)
class PollAgain:
    """Have a poll offer the run: it was put off, and is due again."""


@dataclass(frozen=True, slots=True)
class ClaimRun:
    """Propose PENDING with our transition id."""


@dataclass(frozen=True, slots=True)
class RevertClaim:
    """Restore the state that a stray claim of ours overwrote."""


@dataclass(frozen=True, slots=True)
class RestoreState:
    """Propose a final state again that was overwritten."""

    state: State


@dataclass(frozen=True, slots=True)
class CreateJob:
    """Create the Job of the run's claim."""

    claimed: ClaimedRun


@dataclass(frozen=True, slots=True)
class AdoptJob:
    """Annotate a Job of an earlier claim with the run's current claim."""

    job: Job
    claim: claims.Claim


@dataclass(frozen=True, slots=True)
class Postpone:
    """Propose SCHEDULED, due in `delay` seconds; `wait` gives name and message."""

    wait: WaitReason
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class RecordInfrastructurePid:
    """Write `infrastructure_pid`."""

    name: str


@dataclass(frozen=True, slots=True)
class ReportWaiting:
    """Report what the run waits for, as the name of the claim's sub-state."""

    wait: WaitReason
    claim: claims.Claim


@dataclass(frozen=True, slots=True)
class ReadEvents:
    """Read the Events of a Job without pods, or of a pod without containers."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class ReadQueueEvents:
    """Read from Kueue's Events what the suspended Job of that name waits for."""

    name: str


@dataclass(frozen=True, slots=True)
class RenewLease:
    """Renew the lease of the deployment's concurrency slot."""

    lease_id: UUID


@dataclass(frozen=True, slots=True)
class ReportCrashed:
    """Propose CRASHED, with the last log lines of the container in `end`."""

    end: Termination


@dataclass(frozen=True, slots=True)
class CancelRun:
    """Propose CANCELLING, as a person does who cancels the run."""


@dataclass(frozen=True, slots=True)
class ReportCancelled:
    """Propose CANCELLED."""

    message: str


@dataclass(frozen=True, slots=True)
class ConfirmJobDeleted:
    """Check with a GET whether the Job was deleted."""

    name: str


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Delete the Job. `final` is annotated on the Job first, because the pod can overwrite the
    run's state. `note` goes to the run's log."""

    job: Job
    final: State | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class StopRetries:
    """Set the Job's backoffLimit to 0, so that it replaces no failed pod."""

    job: Job


@dataclass(frozen=True, slots=True)
class RetryPods:
    """Have the Job controller try at once to create the pod that a quota refused: by itself it
    waits for up to a minute."""

    job: Job


@dataclass(frozen=True, slots=True)
class EndPod:
    """Have the kubelet end the pod; the pod and its log are kept."""

    pod: Pod


@dataclass(frozen=True, slots=True)
class PostWaitEvent:
    """Report what a replacement pod of a RUNNING run waits for, in the run's log and by an Event on
    the Job: only a PENDING run has sub-states."""

    wait: WaitReason
    job: Job
    pod: Pod


@dataclass(frozen=True, slots=True)
class LogToRun:
    """Write `text` to the run's log, once for each object `about`."""

    text: str
    about: str


@dataclass(frozen=True, slots=True)
class SetJobTTL:
    """Set the Job's TTL, because the run's end is reported (docs/races.md, 15). `note` goes to the
    run's log."""

    job: Job
    note: str = ""


@dataclass(frozen=True, slots=True)
class Reschedule:
    """Change the run's retry type, so that polls return it again (docs/races.md, 26)."""

    run: Run


# By what they reach, in the order in which the executor matches them.
LocalAction = NoAction | RequeueAfter | ForgetRun | DropOffer | PollAgain | LogToRun
ReadAction = RefreshRun | RefreshStateHistory
PrefectAction = (
    ClaimRun
    | RevertClaim
    | RestoreState
    | RecordInfrastructurePid
    | ReportWaiting
    | Postpone
    | RenewLease
    | Reschedule
    | CancelRun
    | ReportCancelled
    | ReportCrashed
)
KubernetesAction = (
    CreateJob
    | AdoptJob
    | ReadEvents
    | ReadQueueEvents
    | ConfirmJobDeleted
    | DeleteJob
    | StopRetries
    | RetryPods
    | EndPod
    | PostWaitEvent
    | SetJobTTL
)
Action = LocalAction | ReadAction | PrefectAction | KubernetesAction
