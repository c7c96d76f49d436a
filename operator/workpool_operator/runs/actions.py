"""Every step that can be decided for a run, as plain data: at most one external write each. Pure.

`decide` chooses them, `executor` carries them out.
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
    """No rule applies: the next event decides."""


@dataclass(frozen=True, slots=True)
class ForgetRun:
    """The run is over, or nobody's concern, and nothing of it is left to do."""


@dataclass(frozen=True, slots=True)
class RequeueAfter:
    """Look again in `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class RefreshRun:
    """Ask Prefect for the run."""


@dataclass(frozen=True, slots=True)
class RefreshStateHistory:
    """Ask Prefect for the run's states, to learn whether the claim is ours."""


@dataclass(frozen=True, slots=True)
class DropOffer:
    """The offer cannot be taken now; `is_expired` if only because it is too old (docs/races.md, 2):
    a poll is to make another."""

    is_expired: bool = False


@dataclass(frozen=True, slots=True)
class ClaimRun:
    """Propose Pending with our transition id."""


@dataclass(frozen=True, slots=True)
class RevertClaim:
    """A state of ours was accepted on a run that was not SCHEDULED: put back what it wrote over."""


@dataclass(frozen=True, slots=True)
class RestoreState:
    """Propose a final state again that something wrote over."""

    state: State


@dataclass(frozen=True, slots=True)
class CreateJob:
    """Create the Job of the run's claim."""

    claimed: ClaimedRun


@dataclass(frozen=True, slots=True)
class AdoptJob:
    """Note the run's claim on a Job that was made for an earlier one."""

    job: Job
    claim: claims.Claim


@dataclass(frozen=True, slots=True)
class Postpone:
    """Propose SCHEDULED, named and explained by `wait`, due in `delay` seconds."""

    wait: WaitReason
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class RecordInfrastructurePid:
    """Write `infrastructure_pid`."""

    name: str


@dataclass(frozen=True, slots=True)
class ReportWaiting:
    """Name the claim's sub-state by what the run waits for."""

    wait: WaitReason
    claim: claims.Claim


@dataclass(frozen=True, slots=True)
class ReadEvents:
    """Read the Events of a Job without pods, or of a pod without containers."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class ReadQueueEvents:
    """Read what Kueue's Events say that the suspended Job of that name waits for."""

    name: str


@dataclass(frozen=True, slots=True)
class RenewLease:
    """Keep the deployment's concurrency slot until the run is RUNNING."""

    lease_id: UUID


@dataclass(frozen=True, slots=True)
class ReportCrashed:
    """Propose Crashed, with the last log lines of the container that the end names."""

    end: Termination


@dataclass(frozen=True, slots=True)
class ReportCancelled:
    """Propose Cancelled."""

    message: str


@dataclass(frozen=True, slots=True)
class ConfirmJobDeleted:
    """Look with a live GET whether the Job is really gone."""

    name: str


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Delete the Job; `final` is written on it first, for the pod may write over it. `note` tells
    the run's log what is cut off."""

    job: Job
    final: State | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class StopRetries:
    """Have the Job start no pod in the place of one that fails from now on."""

    job: Job


@dataclass(frozen=True, slots=True)
class EndPod:
    """Have the kubelet end the pod, which stays with its log."""

    pod: Pod


@dataclass(frozen=True, slots=True)
class PostWaitEvent:
    """Tell a run that is RUNNING, where no sub-state can, what the later pod of its Job waits for:
    in the run's log and by an Event on the Job."""

    wait: WaitReason
    job: Job
    pod: Pod


@dataclass(frozen=True, slots=True)
class LogToRun:
    """Write to the run's log what no state of it says; `about` is what it is told of only once."""

    text: str
    about: str


@dataclass(frozen=True, slots=True)
class SetJobTTL:
    """The run's end is reported: let the Job's TTL begin (docs/races.md, 15). `note` tells the
    run's log what the report could not know."""

    job: Job
    note: str = ""


@dataclass(frozen=True, slots=True)
class Reschedule:
    """Make a run that no poll returns poll-able again (docs/races.md, 26)."""

    run: Run


# By what they reach, in the order in which the executor matches them.
LocalAction = NoAction | RequeueAfter | ForgetRun | DropOffer | LogToRun
PrefectAction = (
    RefreshRun
    | RefreshStateHistory
    | ClaimRun
    | RevertClaim
    | RestoreState
    | RecordInfrastructurePid
    | ReportWaiting
    | Postpone
    | RenewLease
    | Reschedule
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
    | EndPod
    | PostWaitEvent
    | SetJobTTL
)
Action = LocalAction | PrefectAction | KubernetesAction
