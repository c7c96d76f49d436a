"""What the demo shows when the run is over, and where it sends the user next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from localnode.kubectl import Kubectl
from testbed.demo import timeline
from testbed.demo.host_operator import HostOperator
from testbed.demo.objects import NAMESPACE
from testbed.demo.prefect_api import PrefectApi
from testbed.demo.prefect_cli import DEPLOYMENT, PROGRAM, PrefectCli


def show_run(kubectl: Kubectl, api: PrefectApi, run_id: str) -> None:
    """Its Job and pod, the binding, and the time that each step took."""
    run = api.flow_run(run_id)
    namespace, job_name = run["infrastructure_pid"].split(":")
    job = f"job/{job_name}"
    selector = f"--selector=batch.kubernetes.io/job-name={job_name}"
    # The flow is Completed a second before its pod ends.
    kubectl.run("wait", "--for=condition=Complete", job, f"--namespace={namespace}")
    _show(kubectl, "get", job, f"--namespace={namespace}")
    _show(kubectl, "get", "pods", selector, f"--namespace={namespace}", "--output=wide")
    _show(kubectl, "get", "wpb", f"--namespace={NAMESPACE}")
    _show_timeline(
        timeline.steps(
            run,
            api.states(run_id),
            job=_read(kubectl, job, namespace),
            pod=_read(kubectl, "pods", namespace, selector)["items"][0],
        )
    )


def show_next_steps(
    kubectl: Kubectl, prefect: PrefectCli, *, operator: HostOperator, binding: Path
) -> None:
    """The commands to look further, and the one that ends it all."""
    page = prefect.url.removesuffix("/api")
    print(f"""
Everything stays up. Look further:
  Prefect's UI      {page}
  the cluster       export KUBECONFIG={kubectl.kubeconfig}; alias kubectl={kubectl.program}
  the binding       kubectl -n {NAMESPACE} describe wpb demo
                    (as applied: {binding})
  the operator      tail -f {operator.log}
                    (pid {operator.process.pid}, probes on port {operator.port})
  a second run      PREFECT_API_URL={prefect.url} {PROGRAM} deployment run '{DEPLOYMENT}' --watch
  end it            make down""")


def _show(kubectl: Kubectl, *arguments: str) -> None:
    print(f"\n$ kubectl {' '.join(arguments)}\n{kubectl.run(*arguments)}", end="", flush=True)


def _read(kubectl: Kubectl, what: str, namespace: str, *more: str) -> dict[str, Any]:
    answer = kubectl.run("get", what, f"--namespace={namespace}", "--output=json", *more)
    read: dict[str, Any] = json.loads(answer)
    return read


def _show_timeline(steps: dict[str, float]) -> None:
    print("\nseconds  step   (Job and pod: Kubernetes keeps whole seconds)")
    for step, seconds in steps.items():
        print(f"{seconds:7.1f}  {step}")
