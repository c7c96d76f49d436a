"""`python -m testbed.timeline JOB`: the seconds from a run's creation to each of its steps.

Reads Prefect's state history at PREFECT_API_URL and the timestamps of Kubernetes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterable
from datetime import datetime
from typing import Any

Object = dict[str, Any]
NAMESPACE = "data"
RUN_ID = "prefect.io/flow-run-id"


def steps(run: Object, history: Iterable[Object], *, job: Object, pod: Object) -> dict[str, float]:
    """Return the seconds from the run's creation to each step, in their order.

    Kubernetes cuts its timestamps to whole seconds: such a step counts as no earlier than the one
    before, which caused it.
    """
    states = sorted(history, key=lambda state: str(state["timestamp"]))
    moments = {
        "run created": run["created"],
        "claimed by the operator": _entered(states, "PENDING"),
        "Job created": job["metadata"]["creationTimestamp"],
        "pod running": _started(pod),
        "flow running": _entered(states, "RUNNING"),
        "completed": _entered(states, "COMPLETED"),
    }
    began, last, seconds = datetime.fromisoformat(run["created"]), 0.0, {}
    for step, moment in moments.items():
        last = max(last, (datetime.fromisoformat(moment) - began).total_seconds())
        seconds[step] = last
    return seconds


def _entered(history: Iterable[Object], state_type: str) -> str:
    moment: str = next(state["timestamp"] for state in history if state["type"] == state_type)
    return moment


def _started(pod: Object) -> str:
    state = pod["status"]["containerStatuses"][0]["state"]
    moment: str = (state.get("terminated") or state["running"])["startedAt"]
    return moment


def main(job_name: str) -> None:
    job = _kubectl(job_name)
    pods = _kubectl("pods", f"--selector=batch.kubernetes.io/job-name={job['metadata']['name']}")
    run_id = job["metadata"]["annotations"][RUN_ID]
    run = _prefect(f"/flow_runs/{run_id}")
    history = _prefect(f"/flow_run_states/?flow_run_id={run_id}")
    print("\nseconds  step   (Job and pod: Kubernetes keeps whole seconds)")
    for step, seconds in steps(run, history, job=job, pod=pods["items"][0]).items():
        print(f"{seconds:7.1f}  {step}")


def _kubectl(*what: str) -> Any:
    argv = ["kubectl", "get", f"--namespace={NAMESPACE}", "--output=json", *what]
    return json.loads(subprocess.check_output(argv))


def _prefect(path: str) -> Any:
    with urllib.request.urlopen(os.environ["PREFECT_API_URL"] + path, timeout=30) as answer:
        return json.load(answer)


if __name__ == "__main__":
    main(sys.argv[1])
