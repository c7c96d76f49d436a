"""`workpool-operator status` with a person's rights, with and without access to Prefect."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
import termios
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.command import Command
from tests.support.kube import APIS
from tests.support.operator import PROGRAM
from tests.support.polling import poll
from tests.support.preloaded import Preloaded

VIEW = [
    {
        "apiGroups": ["workpool-operator.dev"],
        "resources": ["workpoolbindings"],
        "verbs": ["get", "list", "watch"],
    },
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list", "watch"]},
    {
        "apiGroups": [""],
        "resources": ["pods", "events", "namespaces"],
        "verbs": ["get", "list", "watch"],
    },
]
RBAC = APIS["roles"]


@pytest.fixture
def person(kube, namespace, cluster, kube_proxy, tmp_path):
    """`await person(rules)` returns the command of an account with these rights here."""

    async def command(rules, **env: str) -> Command:
        await kube.create("serviceaccounts", namespace, {"metadata": {"name": "person"}})
        role = {"apiVersion": RBAC.removeprefix("/apis/"), "kind": "Role"}
        await kube.apply(
            "roles", namespace, {**role, "metadata": {"name": "person"}, "rules": rules}
        )
        here = f"--namespace={namespace}"
        account = f"--serviceaccount={namespace}:person"
        cluster.kubectl.run("create", "rolebinding", "person", "--role=person", account, here)
        token = cluster.kubectl.run("create", "token", "person", here).strip()
        file: Path = kube_proxy.write_kubeconfig(tmp_path / "person", token=token)
        return Command(tmp_path, {"KUBECONFIG": str(file), **env})

    return command


@pytest.fixture
async def served(api, binding, operator, suspended_pool, kube, namespace):
    """A binding with one run in flight, whose Job is suspended."""
    await operator()
    name = suspended_pool["name"]
    made = await binding("etl", workPool={"name": name}, concurrencyLimit=3)
    await made.ready()
    deployment = await api.create_deployment(flow="hello", name=name, pool=name)
    run = await api.create_run(deployment["id"])
    await poll(lambda: kube.list("jobs", namespace), until=bool, seconds=30)
    return deployment, run


async def test_whoever_may_view_the_namespace_sees_bindings_slots_and_runs(
    served, person, namespace
):
    _, run = served
    viewer = await person(VIEW)
    done = await viewer("status", "-n", namespace)
    assert done.code == 0, done.everything
    lines = done.out.splitlines()
    assert lines[0].split() == (
        ["NAMESPACE", "BINDING", "POOL", "READY", "STATUS", "SLOTS", "QUEUED", "LAST", "POLL"]
        + ["AGE"]
    )
    assert lines[1].split()[:2] + [lines[1].split()[3]] == [namespace, "etl", "True"]
    assert lines[4].split()[:3] == [run["name"], f"{namespace}/etl", "Suspended"]
    assert f"{run['name']}: JobSuspended: The Job is suspended" in done.out
    document = json.loads((await viewer("status", f"{namespace}/etl", "-o", "json")).out)
    assert [each["id"] for each in document["runs"]] == [run["id"]]
    assert document["bindings"][0]["concurrencyLimit"] == 3
    assert document["notes"] == []


async def test_a_part_that_may_not_be_read_is_a_note_and_the_rest_is_shown(
    served, person, namespace
):
    viewer = await person(VIEW[:1])
    done = await viewer("status", "-n", namespace)
    assert done.code == 0, done.everything
    assert f"{namespace}   etl" in done.out
    assert f"note: runs in namespace {namespace} are missing: jobs.batch is forbidden" in done.err


async def test_a_claimed_run_without_a_job_is_explained_by_prefect_if_it_can_be_asked(
    api, kube, served, person, namespace
):
    deployment, _ = served
    quota = {"spec": {"hard": {"count/jobs.batch": "1"}}, "metadata": {"name": "few"}}
    await kube.apply(
        "resourcequotas", namespace, {"apiVersion": "v1", "kind": "ResourceQuota", **quota}
    )
    await kube.wait(
        "resourcequotas",
        namespace,
        "few",
        until=lambda quota: quota.get("status", {}).get("used") == {"count/jobs.batch": "1"},
    )
    run = await api.create_run(deployment["id"])
    await api.wait(run["id"], until=lambda run: run["state_name"] == "QuotaExceeded")
    viewer = await person(VIEW)

    async def shown(**env):
        return await viewer("status", f"{namespace}/etl", **env)

    done = await poll(shown, until=lambda done: "NoJob" in done.out, seconds=20)
    [line] = [line for line in done.out.splitlines() if " NoJob " in line]
    assert line.split()[0] == run["name"]
    assert f"{run['name']}: QuotaExceeded: " in done.out
    alone = await shown(PREFECT_API_URL="http://127.0.0.1:1/api")
    assert alone.code == 0, alone.everything
    assert f"{namespace}/etl: a claimed run has no Job, and Prefect cannot be asked" in alone.err
    assert "cannot reach http://127.0.0.1:1/api (PREFECT_API_URL)" in alone.err


async def test_watch_prints_what_has_changed_and_outlives_a_failed_request(
    crd, person, binding, namespace, kube_proxy, tmp_path
):
    viewer = await person(VIEW)
    await binding("etl", suspend=True)
    arguments = ("status", "-n", namespace, "-o", "json", "--watch", "--interval-seconds=0.5")
    log, env = tmp_path / "out", {"PATH": os.environ["PATH"], **viewer.env}
    process = Preloaded(arguments, log=log, env=env)
    process.start()

    async def documents() -> list[dict]:
        return [json.loads(line) for line in log.read_text().splitlines()]

    async def shown() -> list[list[str]]:
        return [[each["name"] for each in found["bindings"]] for found in await documents()]

    try:
        await poll(shown, until=lambda it: it == [["etl"]])
        await binding("later", suspend=True)
        await poll(shown, until=lambda it: it == [["etl"], ["etl", "later"]])
        kube_proxy.on("GET", "/workpoolbindings$").once().answer(503)
        [*_, failed, later] = await poll(documents, until=lambda it: len(it) == 4)
        assert failed["notes"][0].startswith("not up to date: cannot reach ")
        assert later["notes"] == []
        assert failed["bindings"] == later["bindings"]
        process.send(signal.SIGINT)
        assert process.wait(seconds=10) == 0
    finally:
        process.stop(number=signal.SIGKILL)


def started(*arguments: str, stdout: int, env: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([PROGRAM, *arguments], stdout=stdout, env=env)


async def test_on_a_terminal_the_table_is_live_and_its_last_state_stays(
    crd, person, binding, namespace
):
    viewer = await person(VIEW)
    await binding("etl", suspend=True)
    primary, secondary = pty.openpty()
    termios.tcsetwinsize(secondary, (40, 200))
    os.set_blocking(primary, False)
    env = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", **viewer.env}
    arguments = ("status", "-n", namespace, "--watch", "--interval-seconds=0.5")
    process = started(*arguments, stdout=secondary, env=env)
    shown: list[str] = []

    async def screen() -> str:
        with suppress(BlockingIOError):
            shown.append(os.read(primary, 1_000_000).decode())
        return "".join(shown)

    try:
        await poll(screen, until=lambda text: "etl" in text)
        await binding("later", suspend=True)
        await poll(screen, until=lambda text: "later" in text)
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, 10) == 0
    finally:
        process.kill()
        process.wait()
        os.close(secondary)
    text = await screen()
    os.close(primary)
    assert "\x1b[1mNAMESPACE" in text  # bold
    assert "\x1b[?25h" in text  # the cursor is back
    assert "Traceback" not in text


async def test_what_cannot_be_read_at_all_is_one_error_with_the_fix(person, crd):
    stranger = await person([])
    done = await stranger("status", "-A")
    assert "workpoolbindings.workpool-operator.dev is forbidden" in done.error
    assert "Name the namespaces that you may read: --namespace NAME" in done.error


async def test_a_binding_that_does_not_exist_is_an_error(person, crd, namespace):
    viewer = await person(VIEW)
    done = await viewer("status", f"{namespace}/none")
    assert f"there is no binding {namespace}/none" in done.error
    empty = await viewer("status", "-n", namespace)
    assert (empty.code, empty.out) == (0, "")
    assert f"note: no bindings in namespace {namespace} of http" in empty.err


async def test_a_silent_operator_leads_to_its_log_in_the_namespace_of_its_pod(
    binding, kube, person, namespace
):
    spec = {"containers": [{"name": "a", "image": "a"}], "nodeSelector": {"no": "such-node"}}
    await kube.create("pods", namespace, {"metadata": {"name": "its-operator"}, "spec": spec})
    await binding("etl")
    past = "2026-01-01T00:00:00Z"
    ready = {"type": "Ready", "status": "True", "reason": "Polling", "message": "Fine."}
    status = {
        "conditions": [{**ready, "lastTransitionTime": past, "observedGeneration": 1}],
        "lastPollTime": past,
        "holderIdentity": "its-operator_1",
    }
    await kube.patch("workpoolbindings", namespace, "etl", {"status": status}, subresource="status")
    viewer = await person(VIEW)
    shown = await asyncio.to_thread(viewer.here, "status", "-n", namespace)
    assert f"{namespace}/etl: OperatorSilent: No operator has polled for it" in shown.out
    assert f"kubectl -n {namespace} logs its-operator | grep -E 'WARNING|ERROR'" in shown.out
