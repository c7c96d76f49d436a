"""Whether the API server refuses the Jobs of further runs for now, so that these stay Scheduled
instead of being claimed. Pure.

A quota that is exhausted refuses every Job, or every pod. The claimed runs that it refuses wait,
and the first of them probes it; nothing more is claimed meanwhile. If the API server names a time
to wait (Retry-After, as its priority and fairness does), no Job of any run is sent before then.
"""

from __future__ import annotations

from uuid import UUID

from workpool_operator.jobs.diagnosis import how_to_free
from workpool_operator.runs.capacity import UNLIMITED, InFlight, Shortage
from workpool_operator.runs.store import NEVER, RunRecord

# Once a quota has room again, one claimed run may be without a pod, after each second twice as
# many: if the room is for one run, not all due runs are claimed to wait for it.
SLOW_START_SECONDS = 10


def exhausted_quota(record: RunRecord | None) -> str:
    """Return which quota refuses the run's Job or pods now, with its figures; "" if none does."""
    if record is None or record.claim is None:
        return ""
    if record.refusal:
        return record.refusal.quota
    podless_since = record.since.get("podless")
    if podless_since is None or record.events_read_at < podless_since:
        return ""
    return record.event_reason.quota if record.event_reason else ""


class BackPressure:
    """What the API server refuses to the runs of one owner. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._quotas: dict[UUID, str] = {}  # by the run that waits; the longest wait is first
        self._room_since = NEVER  # when the last of them stopped to wait
        self._retry_at = NEVER
        self._retry_after = 0.0

    @property
    def probe(self) -> UUID | None:
        """The run whose Job is tried again soon, to find out whether the quota has room."""
        return next(iter(self._quotas), None)

    def note_quota(self, run_id: UUID, quota: str, *, now: float) -> bool:
        """Record which quota refuses the run's Job or pods, "" for none; return whether that ends
        the wait of the probe."""
        if quota:
            self._quotas[run_id] = quota
            return False
        was_probe = self.probe == run_id
        self._quotas.pop(run_id, None)
        if was_probe and not self._quotas:
            self._room_since = now
        return was_probe

    def is_probed_by_other(self, run_id: UUID) -> bool:
        """Return whether the run need not wait for the quota, because another one does."""
        return self.probe not in (None, run_id)

    def note_retry_after(self, seconds: float, *, now: float) -> float:
        """Record that the API server asked to wait for so many seconds; return the seconds for
        which no Job is sent."""
        self._retry_at, self._retry_after = max(self._retry_at, now + seconds), seconds
        return self._retry_at - now

    def paused_seconds(self, now: float) -> float:
        """Return for how many seconds the API server wants no Jobs."""
        return max(0.0, self._retry_at - now)

    def holds_claims(self, now: float) -> bool:
        """Return whether the Job of a run that is claimed now would be refused."""
        return bool(self._quotas) or now < self._retry_at

    def free_slots(self, in_flight: InFlight, *, now: float) -> float:
        """Return how many more runs may be claimed."""
        if self.holds_claims(now):
            return 0
        seconds = now - self._room_since
        allowed = 2.0 ** int(seconds) if seconds < SLOW_START_SECONDS else UNLIMITED
        return max(0, allowed - len(in_flight.claimed))

    def shortage(self, in_flight: InFlight, *, now: float) -> Shortage | None:
        """Return why no further run may be claimed; None if runs may be claimed."""
        if self.free_slots(in_flight, now=now) > 0:
            return None
        if now < self._retry_at:
            return Shortage(
                "TooManyRequests",
                f"The Kubernetes API server limits the rate of requests (Retry-After: "
                f"{self._retry_after:.0f} s): no Job is created and no run is claimed before then. "
                "If this recurs, give the operator a priority level of its own.",
            )
        quota = next(iter(self._quotas.values()), "")
        if not quota:
            text = "A ResourceQuota has just got room again: runs are claimed slowly at first."
            return Shortage("QuotaExceeded", text)
        name, _, figures = quota.partition(", ")
        facts = f" ({figures})" if figures else ""
        return Shortage(
            "QuotaExceeded",
            f"ResourceQuota {name} is exhausted{facts}. Claimed runs that wait for it: "
            f"{len(self._quotas)}. No further runs are claimed until it has room: "
            f"{how_to_free(quota)}.",
        )
