"""workpool-operator: a Kubernetes operator that is a Prefect worker.

One `WorkPoolBinding` binds one Prefect work pool to one cluster. The data's order is the
reading order:

    handlers             kopf: one daemon per binding
    binding.session      one served pool: what it needs, what runs, what its status says
    runs.poller          which scheduled runs are due and fit
    runs.workqueue       one key per flow run, one at a time
    runs.reconciler      snapshot -> decide -> execute
    runs.snapshot        the run's record and its objects in the cluster, as one snapshot
    runs.decide          the decision table (pure)
    runs.executor        one idempotent external write per action

`kube` and `prefect_api` are the only two edges; `jobs` is the pure vocabulary between them.
"""
