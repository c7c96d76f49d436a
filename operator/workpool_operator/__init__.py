"""workpool-operator: a Kubernetes operator that is a Prefect worker.

One `WorkPoolBinding` binds one Prefect work pool to one cluster. Read the modules in the order in
which a flow run passes through them:

    handlers             watches bindings by kopf
    binding.holder       holds the Lease of one binding
    binding.lifecycle    does what only the holder does: finalizer, sessions, release
    binding.session      serves one binding: preflight checks, connection, status
    runs.poller          finds scheduled runs that are due and for which a slot is free
    runs.workqueue       queues the ids of flow runs; one run is handled once at a time
    runs.reconciler      takes a snapshot, decides, executes
    runs.snapshot        joins the run's record with its Jobs and pods
    runs.decide          is the decision table (pure)
    runs.executor        carries out one action: one step that can be repeated

`kube` and `prefect_api` are the only modules that talk to the outside. `jobs` renders Jobs and
explains them; most of it is pure.
"""
