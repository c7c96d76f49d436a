"""`make bench`: the time from a flow run to its Job, ours beside the stock worker's.

Reading order, as the data goes:

    site        what both sides share: cluster, Prefect server, a proxy before it
    ground      what each has of its own: namespace, pool, deployment
    sides       the two programs that serve a pool, each as a process of its own
    arrivals    when each Job was seen, by a watch
    calls       which requests of a side belong to a run's claim path
    trial       one run after the other, on one side
    usage       memory and processor time of a process, by the kernel's count
    render      processor time of making one manifest, alone
    figures     samples -> percentiles, targets and what misses them
    facts       machine, load and versions, on which all of it depends
    report      the tables
"""
