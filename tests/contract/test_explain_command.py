"""`workpool-operator explain` names what holds a run: each situation is brought about on the real
servers, and read with a person's rights."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from tests.support.command import Command, CommandResult
from tests.support.prefect import Object, stock_template

UNKNOWN = "00000000-0000-4000-8000-000000000001"
LONG_AGO = "2026-01-01T00:00:00Z"
KIND = {"apiVersion": "workpool-operator.dev/v1alpha1", "kind": "WorkPoolBinding"}
RBAC = "rbac.authorization.k8s.io"


@dataclass(frozen=True)
class Explained:
    """What the command printed as JSON."""

    result: CommandResult

    @property
    def document(self) -> Any:
        return json.loads(self.result.out)

    @property
    def reasons(self) -> list[str]:
        return [each["reason"] for each in self.document["reasons"]]

    @property
    def unread(self) -> str:
        return " ".join(f"{each['what']}: {each['why']}" for each in self.document["unread"])

    def answer(self, reason: str) -> Object:
        """Return the answer, which has this reason."""
        found = self.document["answer"]
        assert found["reason"] == reason, self.result.out
        return found


Explain = Callable[..., Awaitable[Explained]]


@pytest.fixture
def command(cluster, tmp_path) -> Command:
    return Command(tmp_path, {"KUBECONFIG": str(cluster.kubeconfig)})


@pytest.fixture
def server_of(command, prefect_server) -> str:
    """A binding in a file, that only names the server."""
    spec = {"workPool": {"name": "any"}, "server": {"url": prefect_server.url}}
    metadata = {"name": "any", "namespace": "any"}
    return str(command.write("server.yaml", {**KIND, "metadata": metadata, "spec": spec}))


@pytest.fixture
def explain(command, server_of, namespace, crd) -> Explain:
    """`await explain(run["id"])`, with the rights of an administrator, in the test's namespace."""

    async def run(name: str, *options: str, code: int = 0) -> Explained:
        words = ["explain", name, "-n", namespace, "--binding", server_of, "-o", "json", *options]
        result = await asyncio.to_thread(command.here, *words)
        assert result.code == code, result.everything
        return Explained(result)

    return run


@pytest.fixture
def make(api, suspended_pool):
    """`await make(concurrency_limit=1)`: a run of a new deployment, due now."""

    async def create(*, due_in: float = 0, **deployment: Any) -> Object:
        made = await api.create_deployment(
            flow="hello", name=uuid.uuid4().hex[:8], pool=suspended_pool["name"], **deployment
        )
        due = datetime.now(UTC) + timedelta(seconds=due_in)
        return await api.create_run(made["id"], due=due)

    return create


async def test_what_holds_a_run_in_prefect_is_named_with_the_runs_that_take_its_slots(
    api, explain, make, suspended_pool
):
    pool = f"/work_pools/{suspended_pool['name']}"
    queue = f"{pool}/queues/default"
    later = await make(due_in=3570)
    assert "in 59m" in (await explain(later["id"])).answer("NotDue")["message"]
    holder = await make(concurrency_limit=1)
    await api.set_state(holder["id"], "PENDING")
    run = await api.create_run(holder["deployment_id"])
    await api.request("PATCH", pool, {"concurrency_limit": 1, "is_paused": True})
    await api.request("PATCH", queue, {"concurrency_limit": 1, "is_paused": True})
    found = await explain(run["id"])
    assert found.reasons == ["QueuePaused", "WorkPoolPaused", "DeploymentFull", "NotServed"]
    assert "prefect work-queue resume 'default'" in found.answer("QueuePaused")["nextStep"]
    slots = found.document["reasons"][2]
    assert "1 of 1 slots are taken" in slots["message"]
    assert [each["name"] for each in slots["holders"]] == [holder["name"]]
    await api.request("PATCH", queue, {"is_paused": False})
    await api.request("PATCH", pool, {"is_paused": False})
    full = await explain(run["id"])
    assert full.reasons == ["QueueFull", "WorkPoolFull", "DeploymentFull", "NotServed"]
    for reason in full.document["reasons"][:2]:
        assert [each["id"] for each in reason["holders"]] == [holder["id"]]
    await api.set_state(run["id"], "PENDING")  # refused for the slot, as a claim would be
    put_off = (await explain(run["id"])).answer("PutOff")
    assert "AwaitingConcurrencySlot" in put_off["message"]
    assert "prefect gcl update" in put_off["nextStep"]


async def test_a_binding_leads_to_its_run_that_has_waited_longest_or_crashed_last(
    api, kube, command, make, suspended_pool, prefect_server, namespace, crd, binding
):
    await binding(workPool={"name": suspended_pool["name"]})
    words = ["explain", "--binding", f"{namespace}/pool", "-o", "json"]

    async def explain() -> Explained:
        result = await asyncio.to_thread(command.here, *words)
        assert result.code == 0, result.everything
        return Explained(result)

    nothing = await explain()
    assert nothing.reasons == ["NoOperator", "NothingWaits"]
    assert nothing.document["flowRun"]["id"] is None
    ended = await make()
    await api.set_state(ended["id"], "CRASHED", message="out of luck", force=True)
    crashed = await explain()
    assert "out of luck" in crashed.answer("Crashed")["message"]
    assert "crashed last" in crashed.document["chosen"]["why"]
    holder, waits = await make(due_in=-300), await make(due_in=-200)
    await make(due_in=-100)
    await api.set_state(holder["id"], "RUNNING", force=True)
    await api.request("PATCH", f"/work_pools/{suspended_pool['name']}", {"concurrency_limit": 1})
    longest = await explain()
    assert longest.document["flowRun"]["id"] == waits["id"]
    assert "longest of 2 that wait" in longest.document["chosen"]["why"]
    full = longest.answer("WorkPoolFull")
    assert [(each["id"], each["unseen"]) for each in full["holders"]] == [(holder["id"], True)]
    assert f"explain {holder['id']} has the command that ends" in full["nextStep"]


async def test_the_latest_run_of_a_deployment_is_explained_and_what_keeps_the_next_from_existing(
    api, explain, make, suspended_pool
):
    made = await api.create_deployment(
        flow="hello",
        name=uuid.uuid4().hex[:8],
        pool=suspended_pool["name"],
        paused=True,
        schedules=[{"schedule": {"interval": 86400}, "active": False}],
    )
    name = f"hello/{made['name']}"
    paused = (await explain(name)).answer("SchedulePaused")
    assert paused["nextStep"] == f"prefect api POST /deployments/{made['id']}/resume_deployment"
    await api.request("POST", f"/deployments/{made['id']}/resume_deployment")
    [schedule] = made["schedules"]
    await api.request(
        "PATCH", f"/deployments/{made['id']}/schedules/{schedule['id']}", {"active": False}
    )
    inactive = (await explain(name)).answer("SchedulePaused")
    assert f"resume '{name}' {schedule['id']}" in inactive["nextStep"]
    alone = await api.create_deployment(
        flow="hello", name=uuid.uuid4().hex[:8], pool=suspended_pool["name"]
    )
    start = f"prefect deployment run 'hello/{alone['name']}'"
    assert (await explain(f"hello/{alone['name']}")).answer("NotScheduled")["nextStep"] == start
    trigger = {"type": "event", "posture": "Reactive", "expect": ["x"], "threshold": 1, "within": 0}
    action = {"type": "run-deployment", "source": "selected", "deployment_id": made["id"]}
    automation = {
        "name": f"nightly-{made['name']}",
        "enabled": False,
        "trigger": trigger,
        "actions": [action],
    }
    created = await api.one("POST", "/automations/", automation)
    assert automation["name"] in (await explain(name)).answer("AutomationPaused")["message"]
    await api.request("DELETE", f"/automations/{created['id']}")
    run = await api.create_run(made["id"])
    await api.set_state(run["id"], "CRASHED", message="out of luck", force=True)
    ended = await explain(name)
    assert ended.reasons == ["Crashed", "SchedulePaused"]
    assert "out of luck" in ended.answer("Crashed")["message"]
    assert ended.document["flowRun"]["id"] == run["id"]
    assert [each["what"] for each in ended.document["timeline"]] == ["Scheduled", "Crashed"]


async def test_a_run_that_others_hold_or_that_waits_for_a_person_says_so(api, explain, make):
    run = await make()
    await api.set_state(run["id"], "PENDING")
    (await explain(run["id"])).answer("HeldByClient")
    await api.request("PATCH", f"/flow_runs/{run['id']}/labels", {"prefect.worker.name": "stock-1"})
    offline = await explain(run["id"])
    assert "Worker 'stock-1'" in offline.answer("WorkerOffline")["message"]
    assert offline.document["claimedBy"]["name"] == "worker stock-1"
    await api.set_state(run["id"], "RUNNING")
    assert (await explain(run["id"])).reasons == ["PodGone", "WorkerOffline"]
    await api.set_state(run["id"], "PAUSED", name="Suspended", force=True)
    assert (
        f"/flow_runs/{run['id']}/resume"
        in (await explain(run["id"])).answer("Suspended")["nextStep"]
    )
    await api.set_state(run["id"], "CANCELLING", name="Cancelling", force=True)
    (await explain(run["id"])).answer("Cancelling")
    alone = await api.create_run(run["deployment_id"])
    flow_id = alone["flow_id"]
    body = {"flow_id": flow_id, "name": f"alone-{flow_id[:8]}", "state": {"type": "SCHEDULED"}}
    lonely = await api.one("POST", "/flow_runs/", body)
    (await explain(lonely["name"])).answer("NoWorkPool")
    heartbeat = {"name": "stock-1", "heartbeat_interval_seconds": 30}
    pool = run["work_pool_name"]
    await api.request("POST", f"/work_pools/{pool}/workers/heartbeat", heartbeat)
    assert "stock-1" in (await explain(alone["id"])).answer("Due")["message"]


async def test_what_holds_a_run_in_its_binding_is_named(
    api, kube, explain, make, suspended_pool, operator, binding, prefect_proxy, namespace
):
    template = stock_template(nodeSelector={"no": "such-node"})
    pool = f"/work_pools/{suspended_pool['name']}"
    await api.request("PATCH", pool, {"base_job_template": template})
    process = await operator()
    served = await binding(
        workPool={"name": suspended_pool["name"]},
        server={"url": prefect_proxy.url},
        concurrencyLimit=1,
        poll={"intervalSeconds": 1},
    )
    await served.ready()
    holder, run = await make(), await make()
    await api.wait(holder["id"], until=lambda run: run["state_name"] == "Unschedulable")
    claimed = await explain(holder["id"])
    assert "0/1 nodes are available" in claimed.answer("Unschedulable")["message"]
    assert claimed.document["claimedBy"]["name"] == f"binding {namespace}/pool"
    await served.condition("Claiming", "False", reason="AtCapacity")
    full = (await explain(run["id"])).answer("BindingAtCapacity")
    assert [each["id"] for each in full["holders"]] == [holder["id"]]
    refusal = prefect_proxy.on("POST", rf"{run['id']}/set_state$").answer(
        403, json={"detail": "no"}
    )
    await served.patch(concurrencyLimit=2)
    await refusal.wait()
    events = "involvedObject.name=pool,reason=ClaimRefused"
    await _wait_for_event(kube, namespace, events)
    await served.condition("Claiming", "True")
    refused = (await explain(run["id"])).answer("ClaimRefused")
    assert f"({run['id']}) is claimed not before" in refused["message"]
    await served.patch(suspend=True)
    await served.condition("Claiming", "False", reason="Suspended")
    (await explain(run["id"])).answer("BindingSuspended")
    await served.patch(suspend=False, workQueues=["other"])
    assert (
        f"{namespace}/pool serves only other"
        in (await explain(run["id"])).answer("QueueNotServed")["message"]
    )
    missing = {"secretKeyRef": {"name": "missing", "key": "key"}}
    await served.patch(workQueues=None, server={"apiKey": missing})
    await served.condition("Ready", "False", reason="SecretNotFound")
    not_ready = (await explain(run["id"])).answer("BindingNotReady")
    assert "SecretNotFound" in not_ready["message"]
    await process.terminate()
    (await explain(run["id"])).answer("NoOperator")
    status = {"lastPollTime": LONG_AGO, "conditions": _ready(), "holderIdentity": "killed"}
    await kube.patch(
        "workpoolbindings", namespace, "pool", {"status": status}, subresource="status"
    )
    silent = (await explain(run["id"])).answer("OperatorSilent")
    assert "No operator has polled" in silent["message"]


async def test_a_run_that_nothing_readable_holds_leads_to_the_log_of_its_own_operator(
    api, kube, explain, make, suspended_pool, binding, namespace
):
    container = {"name": "operator", "image": "operator"}
    spec = {"containers": [container], "nodeSelector": {"no": "such-node"}}
    await kube.create("pods", namespace, {"metadata": {"name": "its-operator"}, "spec": spec})
    await binding(workPool={"name": suspended_pool["name"]})
    identity = {"holderIdentity": f"its-operator_{uuid.uuid4()}"}
    status = {"conditions": _ready(), "workPool": {"id": suspended_pool["id"]}, **identity}
    await kube.patch(
        "workpoolbindings", namespace, "pool", {"status": status}, subresource="status"
    )
    run = await make(due_in=-120)
    unexplained = (await explain(run["id"])).answer("Unexplained")
    logs = f"kubectl -n {namespace} logs its-operator | grep {run['id']}"
    assert logs in unexplained["nextStep"]


def _ready() -> list[Object]:
    """The status of a binding whose operator was killed."""
    condition = {"reason": "Polling", "message": "Due runs are claimed.", "status": "True"}
    when = {"lastTransitionTime": LONG_AGO, "observedGeneration": 1}
    return [{"type": type_, **condition, **when} for type_ in ("Ready", "Claiming")]


async def _wait_for_event(kube, namespace: str, fields: str) -> None:
    async with asyncio.timeout(20):
        while True:
            path = f"/api/v1/namespaces/{namespace}/events"
            answer = await kube.http.get(path, params={"fieldSelector": fields})
            if answer.json()["items"]:
                return
            await asyncio.sleep(0.2)


@pytest.fixture
def account(cluster, kube, namespace, tmp_path):
    """`await account(rules)`: the options for a user with only these rights."""

    async def grant(*rules: Object) -> tuple[str, str]:
        name = f"user-{uuid.uuid4().hex[:6]}"
        await kube.create("serviceaccounts", namespace, {"metadata": {"name": name}})
        await kube.create("roles", namespace, {"metadata": {"name": name}, "rules": list(rules)})
        subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
        role = {"apiGroup": RBAC, "kind": "Role", "name": name}
        bound = {"metadata": {"name": name}, "roleRef": role, "subjects": [subject]}
        await kube.create("rolebindings", namespace, bound)
        token = cluster.kubectl.run("create", "token", name, f"--namespace={namespace}").strip()
        config = yaml.safe_load(cluster.kubeconfig.read_text())
        config["users"] = [
            {"name": each["name"], "user": {"token": token}} for each in config["users"]
        ]
        config["contexts"][0]["context"]["namespace"] = namespace
        file = tmp_path / name
        file.write_text(yaml.safe_dump(config))
        return "--kubeconfig", str(file)

    return grant


def reads(*resources: str) -> Object:
    groups = ["", "batch", "workpool-operator.dev"]
    return {"verbs": ["get", "list"], "apiGroups": groups, "resources": list(resources)}


@pytest.fixture
async def claimed(api, make, suspended_pool, operator, binding):
    """A run whose Job is suspended, with its operator and its binding."""
    process = await operator()
    served = await binding(workPool={"name": suspended_pool["name"]})
    await served.ready()
    run = await make()
    run = await api.wait(run["id"], until=lambda run: run["state_name"] == "JobSuspended")
    return run, process, served


async def test_a_claimed_run_is_explained_by_what_can_be_read_and_what_is_missing_is_named(
    explain, claimed, kube, namespace, command, account
):
    run, process, served = claimed
    found = await explain(run["id"])
    assert "kubectl" in found.answer("JobSuspended")["message"]
    assert found.document["claimedBy"]["name"] == f"binding {namespace}/pool"
    shown = [each["what"] for each in found.document["timeline"]]
    order = ["Scheduled", "Pending", "Created", "JobSuspended"]
    assert [each for each in shown if each in order] == order
    without_pods = await account(reads("workpoolbindings", "jobs"))
    await _explained_without_pods(explain, run, namespace, without_pods)
    await _explained_as_text(command, run, namespace, without_pods)
    await _explained_without_cluster(explain, run, await account())
    await _explained_without_prefect(explain, run, namespace, command)
    process.kill()
    await served.remove()
    assert (await explain(run["id"])).reasons == ["JobSuspended", "BindingGone"]
    await kube.delete_all("jobs", namespace)
    (await explain(run["id"])).answer("JobGone")


async def _explained_without_pods(explain, run, namespace, limited) -> None:
    found = await explain(run["id"], *limited, code=3)
    found.answer("JobSuspended")
    assert f"pods in namespace {namespace}" in found.unread
    assert f"namespace {namespace}:" in found.unread  # whose id proves the claim; the Job names it
    assert found.document["claimedBy"]["name"] == f"binding {namespace}/pool"


async def _explained_as_text(command, run, namespace, limited) -> None:
    url = ["--binding", str(command.home / "server.yaml")]
    done = await asyncio.to_thread(command.here, "explain", run["name"], *url, *limited)
    assert done.code == 3, done.everything
    assert f"claimed by binding {namespace}/pool" in done.out
    assert "answer: JobSuspended: Job" in done.out
    assert "note: cannot read workpoolbindings: " in done.err
    assert "kubectl auth can-i list workpoolbindings -A" in done.err


async def _explained_without_cluster(explain, run, limited) -> None:
    nothing = await explain(run["id"], *limited, code=3)
    nothing.answer("JobSuspended")  # the state of the run says so
    no_cluster = await explain(run["id"], "--kubeconfig", "/nonexistent", code=3)
    assert "/nonexistent does not exist" in no_cluster.unread
    no_cluster.answer("JobSuspended")


async def _explained_without_prefect(explain, run, namespace, command) -> None:
    closed = "http://127.0.0.1:9/api"
    spec = {"workPool": {"name": "any"}, "server": {"url": closed}}
    other = command.write("closed.yaml", {**KIND, "metadata": {"name": "any"}, "spec": spec})
    alone = await explain(run["id"], "--binding", str(other), code=3)
    assert f"Job {namespace}/" in alone.answer("JobSuspended")["message"]
    assert closed in alone.unread
    (await explain(UNKNOWN, "--binding", str(other), code=1)).answer("NoJob")


async def test_a_run_that_is_not_there_is_reported_with_the_names_that_are(
    api, explain, make, command, server_of, namespace, kube
):
    first = await make()
    missing = (await explain(UNKNOWN, code=1)).answer("NotFound")
    assert "It was deleted, or is a run of another server" in missing["message"]
    await kube.create("jobs", namespace, _job_of(UNKNOWN, server="http://other.example/api"))
    other = await explain(UNKNOWN)
    assert "http://other.example/api" in other.answer("OtherServer")["message"]
    second = await api.create_run(first["deployment_id"], name=first["name"])
    options = ("--binding", server_of)
    ambiguous = await asyncio.to_thread(command.here, "explain", first["name"], *options)
    assert f"2 flow runs are named '{first['name']}'" in ambiguous.error
    assert second["id"] in ambiguous.error
    unknown = await asyncio.to_thread(command.here, "explain", f"{first['name']}x", *options)
    assert f"Did you mean '{first['name']}'" in unknown.error
    nowhere = await asyncio.to_thread(command.here, "explain", "hello/nothing-at-all", *options)
    assert "has no deployment 'hello/nothing-at-all'" in nowhere.error


async def test_a_limit_whose_slot_has_a_lease_and_no_run_names_the_lease(api, explain, make):
    run = await make(concurrency_limit=1)
    lease = {"names": [f"deployment:{run['deployment_id']}"], "slots": 1, "lease_duration": 60}
    await api.request("POST", "/v2/concurrency_limits/increment-with-lease", lease)
    full = (await explain(run["id"])).answer("DeploymentFull")
    assert "1 of them have a lease and no run that is active" in full["message"]
    assert full["holders"] == []


async def test_a_binding_without_quota_or_that_is_being_deleted_claims_no_further_run(
    api, kube, explain, make, suspended_pool, operator, binding, namespace
):
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}}
    quota["spec"] = {"hard": {"count/jobs.batch": "0"}}
    await kube.apply("resourcequotas", namespace, quota)
    await kube.wait(
        "resourcequotas", namespace, "none", until=lambda it: it.get("status", {}).get("hard")
    )
    await operator()
    served = await binding(
        workPool={"name": suspended_pool["name"]},
        poll={"intervalSeconds": 1},
        deletionPolicy="Drain",
    )
    await served.ready()
    claimed = await make()
    await served.condition("Claiming", "False", reason="QuotaExceeded")
    run = await make()
    refused = (await explain(claimed["id"])).answer("QuotaExceeded")
    assert "exceeded quota: none" in refused["message"]
    full = (await explain(run["id"])).answer("BindingNotClaiming")
    assert "ResourceQuota none is exhausted" in full["message"]
    assert f"kubectl -n {namespace} get resourcequota,jobs,pods" in full["nextStep"]
    await served.delete()
    (await explain(run["id"])).answer("BindingDeleting")


async def test_how_far_a_claimed_run_is_shows_before_its_container_has_started(
    kube, explain, make, suspended_pool, operator, binding, kube_proxy, account, namespace, tmp_path
):
    process = await operator(kubeconfig=kube_proxy.write_kubeconfig(tmp_path / "operator"))
    served = await binding(workPool={"name": suspended_pool["name"]}, poll={"intervalSeconds": 1})
    await served.ready()
    creation = kube_proxy.on("POST", "/jobs$").hold()
    run = await make()
    await creation.wait()
    pending = await explain(run["id"])
    assert "its Job is not created yet" in pending.answer("JobPending")["message"]
    assert pending.document["claimedBy"]["name"] == f"binding {namespace}/pool"
    limited = await account(reads("workpoolbindings"))
    assert (
        "It is claimed since"
        in (await explain(run["id"], *limited, code=3)).answer("Claimed")["message"]
    )
    process.kill()
    job = _job_of(run["id"], server="any")
    job["spec"] |= {"suspend": False, "parallelism": 0}  # no pod is created for it
    await kube.create("jobs", namespace, job)
    assert (
        f"Job {namespace}/other has no pod yet"
        in (await explain(run["id"])).answer("PodPending")["message"]
    )
    labels = {**job["metadata"]["labels"], "batch.kubernetes.io/job-name": "other"}
    pod = {**job["spec"]["template"]["spec"], "nodeName": "no-such-node"}
    await kube.create("pods", namespace, {"metadata": {"name": "a", "labels": labels}, "spec": pod})
    starting = (await explain(run["id"])).answer("PodStarting")
    assert "Pod a on node no-such-node is Pending" in starting["message"]


async def test_a_request_that_a_server_puts_off_is_sent_again_for_the_person_who_asks(
    explain, make, command, prefect_proxy, kube_proxy
):
    run = await make()
    soon = {"Retry-After": "1"}
    refusals = [
        prefect_proxy.on("GET", rf"{run['id']}$").once().answer(429, headers=soon),
        kube_proxy.on("GET", "/jobs$").once().answer(429, headers=soon),
    ]
    spec = {"workPool": {"name": "any"}, "server": {"url": prefect_proxy.url}}
    file = command.write("limited.yaml", {**KIND, "metadata": {"name": "any"}, "spec": spec})
    kubeconfig = kube_proxy.write_kubeconfig(command.home / "limited")
    found = await explain(run["id"], "--binding", str(file), "--kubeconfig", str(kubeconfig))
    found.answer("NotServed")
    assert found.document["unread"] == []
    assert all(refusal.fired for refusal in refusals)
    prefect_proxy.on("GET", rf"{run['id']}$").answer(429, headers={"Retry-After": "30"})
    later = await explain(run["id"], "--binding", str(file), code=1)
    assert "limits the rate of requests: try again in 30 s" in later.unread


def _job_of(run_id: str, *, server: str) -> Object:
    """A suspended Job as another server's binding makes it."""
    prefix = "workpool-operator.dev/"
    labels = {f"{prefix}flow-run-id": run_id}
    annotations = {f"{prefix}server": server, f"{prefix}binding": "data/etl"}
    pod = {"restartPolicy": "Never", "containers": [{"name": "prefect-job", "image": "none"}]}
    spec = {"suspend": True, "template": {"metadata": {"labels": labels}, "spec": pod}}
    return {
        "metadata": {"name": "other", "labels": labels, "annotations": annotations},
        "spec": spec,
    }
