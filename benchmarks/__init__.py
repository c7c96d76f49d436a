"""`make bench`: how fast runs get their Jobs, what that costs, and how the stock worker compares.

Reading order, as the data goes:

    contenders       the two programs, the cluster and server that both share, the pool of each
    recording_proxy  which requests to Prefect each sends, and when
    job_watch        when each Job was created
    processes        CPU time and memory, as the kernel counts them
    latency          single runs, one after the other: claim_path says which calls belong to one
    throughput       a queue of runs, compared with what the server can do
    load, fairness   what the operator can do if the server is not the limit: prefect_stub answers
                     Prefect's calls, stub_process runs it, loop_steps measures the event loop
    render           CPU time of rendering one manifest, alone
    statistics       figures, their targets and which of them are missed
    report           the table, and the machine and versions that the figures depend on; markdown
    pictures         charts as SVG
"""
