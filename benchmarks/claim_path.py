"""Which of a contender's requests to Prefect belong to the claim path of one run.

The path begins when the run is created and ends with the request that records the Job's name as
`infrastructure_pid`. Of the polls only the one that finds the run counts; in a burst all of them
count. Requests that recur without any run do not count, nor do log and event batches. The rule is
the same for both.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.recording_proxy import Call

ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
POLL = "POST /work_pools/{name}/get_scheduled_flow_runs"
POLL_BY_FILTER = "POST /flow_runs/filter due"  # a resync filters by other criteria
NOT_COUNTED = {
    r"POST /work_pools/[^/]+/workers/heartbeat": "heartbeat",
    r"GET /work_pools/[^/]+": "refresh of the pool",
    r"POST /work_pools/[^/]+/(queues|workers)/filter": "refresh of the pool",
    r"GET /(admin/version|health|csrf-token)": "check of the server",
    r"POST /logs/?": "log batch",
    r"POST /events(/filter)?": "event batch",
    r"GET .*/(events/in|events/out|connect)": "websocket",
    r"POST /flow_runs/filter": "resync",
}


@dataclass(frozen=True, slots=True)
class ClaimPath:
    """The requests of one run's claim path, and those of the same time that are not counted."""

    counted: Counter[str]
    not_counted: Counter[str]


def of_run(calls: Sequence[Call], run_id: str) -> ClaimPath:
    """Count the path; `calls` are all requests since just before the run was created."""
    until = next(index for index, call in enumerate(calls) if records_job(call, run_id))
    names = [name(call) for call in calls[: until + 1]]
    counted = Counter(it for it in names if it != POLL and not _kind_not_counted(it))
    polls = names.count(POLL)
    not_counted = Counter(_kind_not_counted(it) for it in names if _kind_not_counted(it))
    return ClaimPath(
        counted=counted + Counter({POLL: 1}),
        not_counted=not_counted + Counter({"poll that finds nothing new": max(polls - 1, 0)}),
    )


def is_poll(call: Call) -> bool:
    """Return whether the call asked for scheduled runs."""
    return name(call) in (POLL, POLL_BY_FILTER)


def is_claim(call: Call) -> bool:
    """Return whether the call proposed that a run is pending."""
    return call.path.endswith("/set_state") and b'"PENDING"' in call.body


def records_job(call: Call, run_id: str = "") -> bool:
    """Return whether the call recorded the name of the run's Job (of any run's) in Prefect."""
    of_run = call.method == "PATCH" and f"/flow_runs/{run_id}" in call.path
    return of_run and b"infrastructure_pid" in call.body and call.status is not None


def counted_name(call: Call) -> str:
    """Return the name of a call that belongs to claim paths, polls included; "" for others."""
    found = name(call)
    return "" if _kind_not_counted(found) else found


def name(call: Call) -> str:
    """Name a request without ids, such as `POST /flow_runs/{id}/set_state Pending`."""
    path = ID.sub("{id}", call.path.removeprefix("/api"))
    path = re.sub(r"(/work_pools)/[^/]+(?=/(get_|queues))", r"\1/{name}", path)
    if path.endswith("/set_state"):
        path += f" {_state(call)}"
    elif path == "/flow_runs/filter" and b'"next_scheduled_start_time"' in call.body:
        return POLL_BY_FILTER
    return f"{call.method} {path}"


def per_run(runs: Sequence[Counter[str]]) -> dict[str, float]:
    """Return the mean number per run of every name, the most frequent first."""
    total = sum(runs, Counter[str]())
    return {name: count / len(runs) for name, count in total.most_common()}


def _kind_not_counted(call: str) -> str:
    return next((kind for form, kind in NOT_COUNTED.items() if re.fullmatch(form, call)), "")


def _state(call: Call) -> str:
    state = json.loads(call.body)["state"]
    return str(state.get("name") or state["type"])
