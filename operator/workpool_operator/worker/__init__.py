"""The Prefect worker type `kubernetes-operator`: the operator's RunController without its CRD.

    worker         what Prefect's guide asks of a worker type: `run`, `kill_infrastructure`, claims
    steady         Prefect's BaseWorker whose polls lose no run and no seat
    configuration  a run's job configuration, resolved with patience
    runtime        what a started worker holds: both APIs, the cluster cache, the RunController
    renderer       the Job of a claimed run, from its configuration
    reports        what a worker reports of a run beside the controller

Prefect imports this module wherever it looks for worker types: it must stay light, so that nothing
of Kubernetes is imported before a worker starts.
"""

from workpool_operator.worker.worker import KubernetesJobWorker, KubernetesJobWorkerResult

__all__ = ["KubernetesJobWorker", "KubernetesJobWorkerResult"]
