"""Settings of a RunController, from a binding's spec or a worker's settings. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

QUOTA_PROBE_SECONDS = 1.0  # between two attempts while a quota is exhausted


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Graces and time-outs of the decision table, in seconds; `infrastructure_retries` is a count.

    A binding sets the last three; a worker sets two of them, not the number of retries. A
    `pending_timeout` of 0 is none.
    """

    state_age: float = 2.0  # a claim, and what ends something, needs a state this recent
    report_grace: float = 10.0
    status_grace: float = 10.0  # the watch of pods can be behind that of Jobs
    vanish_grace: float = 5.0
    final_grace: float = 30.0
    kubelet_grace: float = 30.0  # to end a pod, after its terminationGracePeriodSeconds
    cancel_grace: float = 60.0
    previous_job_grace: float = 60.0
    podless_grace: float = 2.0
    claims_first: float = 60.0  # while other runs are claimed, a wait is reported so much later
    claims_recheck: float = 2.0  # how often such a wait looks whether they still are
    creating_grace: float = 15.0
    diagnosis_age: float = 10.0
    lease_renewal: float = 45.0  # a deployment can set leases of 60 s
    node_grace: float = 20.0  # after the pod's own: a running kubelet ends it earlier
    pending_timeout: int = 600
    infrastructure_retries: int = 3
    finished_grace: int = 3600


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How runs and their Jobs are treated.

    `job_ttl` is the number of seconds for which a Job is kept after its run's end was reported,
    unless its template sets a TTL; `failed_job_ttl` the same for a failure (None: `job_ttl`). With
    `environment_secret` the plain environment of a Job goes into a Secret. Offered runs are claimed
    if `claims`; runs in flight are cancelled if `cancels`. With `replicate_pod_events` Prefect gets
    an event for each phase of a pod.
    """

    timeouts: Timeouts = field(default_factory=Timeouts)
    job_ttl: int = 3600
    failed_job_ttl: int | None = None
    environment_secret: bool = False
    replicate_pod_events: bool = True
    claims: bool = True
    cancels: bool = False

    def ttl(self, *, failed: bool) -> int:
        """Return for how many seconds an ended Job is kept, unless its template says so."""
        own = self.failed_job_ttl if failed else None
        return self.job_ttl if own is None else own


@dataclass(frozen=True, slots=True)
class PollSettings:
    """How a work pool is polled: every `interval` seconds, for runs that are due within `prefetch`
    seconds, until `concurrency_limit` are in flight or the pods of `max_pending_pods` have not
    started (None: any number)."""

    interval: float = 10.0
    prefetch: float = 10.0
    concurrency_limit: int | None = None
    max_pending_pods: int | None = None
