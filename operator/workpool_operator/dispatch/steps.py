"""Every step that can be decided for a run, as plain data: at most one external write each. Pure.

`decide` chooses them, `executor` carries them out.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from workpool_operator.dispatch import claims
from workpool_operator.dispatch.claims import ClaimedRun
from workpool_operator.jobs.diagnosis import Termination, WaitReason
from workpool_operator.kube.models import Job, Pod
from workpool_operator.prefect_api.models import Run, State


@dataclass(frozen=True, slots=True)
class Nothing:
    """No rule applies: the next event decides."""


@dataclass(frozen=True, slots=True)
class Forget:
    """The run is over, or nobody's concern, and nothing of it is left to do."""


@dataclass(frozen=True, slots=True)
class Later:
    """Look again in `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Read:
    """Ask Prefect for the run."""


@dataclass(frozen=True, slots=True)
class ReadHistory:
    """Ask Prefect for the run's states, to learn whether the claim is ours."""


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The offer cannot be taken now; `late` if only because it is too old (docs/races.md, 2): a
    poll is to make another."""

    late: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """Propose Pending with our transition id."""


@dataclass(frozen=True, slots=True)
class UndoClaim:
    """A state of ours was accepted on a run that was not SCHEDULED: put back what it wrote over."""


@dataclass(frozen=True, slots=True)
class Restore:
    """Propose a final state again that something wrote over."""

    state: State


@dataclass(frozen=True, slots=True)
class CreateJob:
    """Create the Job of the run's claim."""

    claimed: ClaimedRun


@dataclass(frozen=True, slots=True)
class Adopt:
    """Note the run's claim on a Job that was made for an earlier one."""

    job: Job
    claim: claims.Claim


@dataclass(frozen=True, slots=True)
class PutBack:
    """Propose SCHEDULED, named and explained by `wait`, due in `delay` seconds."""

    wait: WaitReason
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class RecordJob:
    """Write `infrastructure_pid`."""

    name: str


@dataclass(frozen=True, slots=True)
class Explain:
    """Name the claim's sub-state by what the run waits for."""

    wait: WaitReason
    claim: claims.Claim


@dataclass(frozen=True, slots=True)
class Diagnose:
    """Read the Events of a Job without pods, or of a pod without containers."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class AskQueue:
    """Read what Kueue's Events say that the suspended Job of that name waits for."""

    name: str


@dataclass(frozen=True, slots=True)
class RenewLease:
    """Keep the deployment's concurrency slot until the run is RUNNING."""

    lease_id: UUID


@dataclass(frozen=True, slots=True)
class Crash:
    """Propose Crashed, with the last log lines of the container that the end names."""

    end: Termination


@dataclass(frozen=True, slots=True)
class Cancel:
    """Propose Cancelled."""

    message: str


@dataclass(frozen=True, slots=True)
class ConfirmGone:
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
class Report:
    """Tell a run that is RUNNING, where no sub-state can, what the later pod of its Job waits for:
    in the run's log and by an Event on the Job."""

    wait: WaitReason
    job: Job
    pod: Pod


@dataclass(frozen=True, slots=True)
class Tell:
    """Write to the run's log what no state of it says; `about` is what it is told of only once."""

    text: str
    about: str


@dataclass(frozen=True, slots=True)
class StartTtl:
    """The run's end is reported: let the Job's TTL begin (docs/races.md, 15). `note` tells the
    run's log what the report could not know."""

    job: Job
    note: str = ""


@dataclass(frozen=True, slots=True)
class Reschedule:
    """Make a run that no poll returns poll-able again (docs/races.md, 26)."""

    run: Run


# By what they reach, in the order in which the executor matches them.
LocalStep = Nothing | Later | Forget | Withdraw | Tell
PrefectStep = (
    Read | ReadHistory | Claim | UndoClaim | Restore | RecordJob | Explain | PutBack | RenewLease
    | Reschedule | Cancel | Crash
)  # fmt: skip
KubernetesStep = (
    CreateJob | Adopt | Diagnose | AskQueue | ConfirmGone | DeleteJob | StopRetries | EndPod
    | Report | StartTtl
)  # fmt: skip
Step = LocalStep | PrefectStep | KubernetesStep
