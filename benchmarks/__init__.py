"""`make bench`: the time from a flow run to its Job, ours and the stock worker's.

Reading order, as the data goes:

    contenders  the two programs, the servers that both share, the pool that each has
    measure     one run after the other, on one contender: when its Job was seen, what it used
    claim_path  which calls to Prefect belong to a run's claim
    render      CPU time of rendering one manifest, alone
    statistics  samples -> percentiles, targets and which of them are missed
    report      the tables, and the machine and versions that the figures depend on
"""
