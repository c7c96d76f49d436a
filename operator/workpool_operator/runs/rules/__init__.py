"""The input of the decision table's rules, and how a list of rules is evaluated. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ParamSpec

from workpool_operator.kube.models import Job
from workpool_operator.prefect_api.models import Run
from workpool_operator.runs.actions import Action, NoAction
from workpool_operator.runs.claims import Claim, ClaimedRun
from workpool_operator.runs.settings import Timeouts
from workpool_operator.runs.snapshot import Snapshot
from workpool_operator.runs.store import Fact

P = ParamSpec("P")


@dataclass(frozen=True)
class Input:
    """A run that Prefect knows, its snapshot, the time-outs, the time of day by the clock of
    Kubernetes, and by how much that of Prefect is ahead of it."""

    run: Run
    snapshot: Snapshot
    timeouts: Timeouts
    wall: datetime
    prefect_ahead: timedelta

    def in_cluster_time(self, stamp: datetime) -> datetime:
        """Return what the clock of Kubernetes showed at a timestamp of Prefect's."""
        return stamp - self.prefect_ahead

    @property
    def deferred_seconds(self) -> float:
        """The seconds until the run may be claimed, after a refused claim."""
        not_before = self.snapshot.record.not_before
        until = self.in_cluster_time(not_before) if not_before else self.wall
        return (until - self.wall).total_seconds()

    @property
    def is_recent(self) -> bool:
        """The server answered with the run's state at most `timeouts.state_age` seconds ago."""
        return self.snapshot.age <= self.timeouts.state_age

    @property
    def yields_to_claims(self) -> bool:
        """Other runs are being claimed. A report that the run waits costs as much as a claim, so it
        comes after them, but not for long."""
        return self.snapshot.claiming and self.remaining("known", self.timeouts.claims_first) > 0

    def is_sure(self, fact: Fact) -> bool:
        """Return whether the run was read after the fact was first seen, and recently."""
        return self.snapshot.read_since(fact) and self.is_recent

    def remaining(self, fact: Fact, grace: float) -> float:
        """Return how many seconds are left of a grace that began when the fact was first seen."""
        return grace - self.snapshot.seconds_since(fact)


@dataclass(frozen=True)
class ClaimedInput(Input):
    """The input of rules for a run that we claimed."""

    claim: Claim

    @property
    def claimed(self) -> ClaimedRun:
        """The run with its claim."""
        return ClaimedRun(self.run, self.claim)


# A rule returns None if it does not apply: the next one in its list is evaluated.
Rule = Callable[[Input], Action | None]
ClaimedRule = Callable[[ClaimedInput], Action | None]
JobRule = Callable[[Input, Job], Action | None]
ClaimedJobRule = Callable[[ClaimedInput, Job], Action | None]


def first(rules: Iterable[Callable[P, Action | None]], *args: P.args, **kwargs: P.kwargs) -> Action:
    """Return the action of the first rule that applies; NoAction if none does."""
    found = (rule(*args, **kwargs) for rule in rules)
    return next((action for action in found if action is not None), NoAction())
