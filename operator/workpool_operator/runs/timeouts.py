"""Graces and time-outs of the decision table, in seconds. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """All are fixed but the last three, which are the binding's."""

    state_age: float = 2.0  # a claim, or a step that ends something, wants a state no older
    report_grace: float = 10.0
    status_grace: float = 10.0  # the pods' watch may be behind the Jobs', as after an outage
    vanish_grace: float = 5.0
    final_grace: float = 30.0
    kubelet_grace: float = 30.0  # to end a pod, beside the pod's own terminationGracePeriodSeconds
    cancel_grace: float = 60.0
    previous_job_grace: float = 60.0
    podless_grace: float = 2.0
    creating_grace: float = 15.0
    diagnosis_age: float = 10.0
    lease_renewal: float = 45.0  # a deployment may ask for a lease of 60 s
    node_grace: float = 20.0  # beyond the pod's own: a kubelet that lives has ended it long before
    pending_timeout: int = 600
    infrastructure_retries: int = 3
    finished_grace: int = 3600
