"""The Prefect worker type `kubernetes-operator`: the operator's RunController without its CRD.

    worker           implements Prefect's worker interface on top of a RunController
    resilient        Prefect's BaseWorker, made resilient to API errors
    in_flight        the runs in flight, and their slots
    configuration    resolves a run's job configuration, with retries
    renderer         renders the Job of a claimed run from its configuration
    runtime          composes the APIs, the cluster cache and the RunController
    reports          reports that a worker makes in addition to the controller's
    infrastructure   deletes the Job of a run that is being cancelled
    settings, prefect_settings   the worker's own settings and those that it inherits

Prefect imports this module when it collects worker types: it must stay light, so that nothing of
Kubernetes is imported before a worker starts.
"""

from workpool_operator.worker.worker import KubernetesJobWorker, KubernetesJobWorkerResult

__all__ = ["KubernetesJobWorker", "KubernetesJobWorkerResult"]
