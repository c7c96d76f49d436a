"""Finds what tests leave behind: processes of one test, namespaces and interfaces of a run."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from contextlib import suppress
from pathlib import Path

from localnode import addresses
from testbed.clusters import Cluster
from tests.support import marks
from tests.support.run import TestRun

#: How long a process may take to end after its test.
GRACE_SECONDS = 2.0
#: A namespace is deleted once the kubelet has ended its pods.
NAMESPACE_SECONDS = 60.0
RUN_LABEL = "workpool-operator.dev/test-run"
TEST_ANNOTATION = "workpool-operator.dev/test"


def end_processes(mark: str) -> list[marks.Process]:
    """Kill the processes that still have the mark after their test, and return them."""
    deadline = time.monotonic() + GRACE_SECONDS
    while (left := marks.processes(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in left:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    return left


def of_run(run: TestRun) -> list[str]:
    """Return what the run's tests left, except for interfaces, which its cluster can still use."""
    left = [f"process {p.pid} {p.command}" for p in end_processes(run.id)]
    if run.made("cluster"):
        left += [f"namespace {name}" for name in _lasting_namespaces(run.cluster(), run.id)]
    return left


def clear(run: TestRun) -> None:
    """Remove what the tests of an interrupted run had no time to remove."""
    end_processes(run.id)
    if not run.made("cluster"):
        return
    kubectl = run.cluster().kubectl
    for namespace in _namespaces(run.cluster(), run.id):
        query = ["get", "workpoolbindings", "--namespace", namespace, "--output", "name"]
        for binding in kubectl.run(*query).split():
            # The operator that would remove its finalizer has ended.
            free = '{"metadata": {"finalizers": null}}'
            kubectl.run("patch", binding, "--namespace", namespace, "--type=merge", "-p", free)
        kubectl.run("delete", "namespace", namespace, "--wait=false")


def interfaces() -> set[str]:
    """Return the host's interfaces of local nodes that no longer exist."""
    links = (path.name for path in Path("/sys/class/net").iterdir())
    return {
        link
        for link in links
        if (number := re.fullmatch(r"localnode(\d+)", link)) and not _is_held(int(number[1]))
    }


def _lasting_namespaces(cluster: Cluster, run: str) -> list[str]:
    """Return the run's namespaces that are not deleted in time, each with its test."""
    deadline = time.monotonic() + NAMESPACE_SECONDS
    while left := _namespaces(cluster, run):
        if time.monotonic() > deadline:
            break
        time.sleep(1)
    return [f"{name} of {test}" for name, test in left.items()]


def _is_held(number: int) -> bool:
    record = addresses.REGISTRY / str(number)
    return record.exists() and Path(record.read_text()).exists()


def _namespaces(cluster: Cluster, run: str) -> dict[str, str]:
    """Return the run's namespaces: name -> test."""
    query = ["get", "namespaces", "--selector", f"{RUN_LABEL}={run}", "--output", "json"]
    found = [item["metadata"] for item in json.loads(cluster.kubectl.run(*query))["items"]]
    return {meta["name"]: meta["annotations"][TEST_ANNOTATION] for meta in found}
