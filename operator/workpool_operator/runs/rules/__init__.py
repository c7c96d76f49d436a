"""What a rule of the decision table looks at, and how a list of rules is asked. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import ParamSpec

from workpool_operator.kube.models import Job
from workpool_operator.prefect_api.models import Run
from workpool_operator.runs.actions import Action, NoAction
from workpool_operator.runs.claims import Claim, ClaimedRun
from workpool_operator.runs.snapshot import Snapshot
from workpool_operator.runs.timeouts import Timeouts

P = ParamSpec("P")


@dataclass(frozen=True)
class Input:
    """A run that Prefect knows, its snapshot, the time-outs, and the time of day for Kubernetes'
    timestamps."""

    run: Run
    snapshot: Snapshot
    timeouts: Timeouts
    wall: datetime

    @property
    def is_recent(self) -> bool:
        """The server answered with the run's state a moment ago."""
        return self.snapshot.age <= self.timeouts.state_age

    def is_sure(self, fact: str) -> bool:
        """Return whether the run was read after the fact was first seen, and a moment ago."""
        return self.snapshot.read_since(fact) and self.is_recent

    def remaining(self, fact: str, grace: float) -> float:
        """Return how many seconds are left of a grace that began when the fact was first seen."""
        return grace - self.snapshot.seconds_since(fact)


@dataclass(frozen=True)
class ClaimedInput(Input):
    """A run that is under a claim of ours."""

    claim: Claim

    @property
    def claimed(self) -> ClaimedRun:
        """The run with its claim."""
        return ClaimedRun(self.run, self.claim)


# A rule answers None where it does not apply: the next one in its list is asked.
Rule = Callable[[Input], Action | None]
ClaimedRule = Callable[[ClaimedInput], Action | None]
JobRule = Callable[[Input, Job], Action | None]
ClaimedJobRule = Callable[[ClaimedInput, Job], Action | None]


def first(rules: Iterable[Callable[P, Action | None]], *args: P.args, **kwargs: P.kwargs) -> Action:
    """Return the answer of the first rule that has one; Nothing if none has."""
    answers = (rule(*args, **kwargs) for rule in rules)
    return next((step for step in answers if step is not None), NoAction())
