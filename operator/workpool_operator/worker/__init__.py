"""The Prefect worker type `kubernetes-operator`: the operator's engine without its CRD.

    worker         what Prefect's guide asks of a worker type: `run`, `kill_infrastructure`, claims
    steady         Prefect's BaseWorker whose polls lose no run and no seat
    configuration  a run's job configuration, resolved with patience
    runtime        what a started worker holds: both APIs, its claims, an engine per namespace
    claims         a claim that is provable, so that a worker that dies in between loses no run
    engine         one namespace: reflectors, caches and the operator's own reconcilers
    follower       one run's Job, from its creation until its end is reported

Prefect imports this module wherever it looks for worker types: it must stay light, so that nothing
of Kubernetes is imported before a worker starts.
"""

from workpool_operator.worker.worker import KubernetesJobWorker, KubernetesJobWorkerResult

__all__ = ["KubernetesJobWorker", "KubernetesJobWorkerResult"]
