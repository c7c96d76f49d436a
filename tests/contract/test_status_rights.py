"""Rights that the operator lacks in a namespace are a condition of the bindings there."""

from __future__ import annotations

import pytest

from tests.support.binding import Binding
from tests.support.exposition import Exposition
from tests.support.promises import AT_ONCE, SOON
from workpool_operator.binding.consent import ANNOTATION
from workpool_operator.handlers import REVIEW_SECONDS

SEES_BINDINGS_ONLY = [
    {
        "apiGroups": ["workpool-operator.dev"],
        "resources": ["workpoolbindings"],
        "verbs": ["get", "list", "watch", "patch"],
    },
    {
        "apiGroups": ["workpool-operator.dev"],
        "resources": ["workpoolbindings/status"],
        "verbs": ["patch"],
    },
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
]
HOLDS_LEASES = [
    {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "verbs": ["get", "list", "watch", "create", "patch"],
    }
]
SEES_BINDINGS = SEES_BINDINGS_ONLY + HOLDS_LEASES
MAKES_JOBS = [
    {
        "apiGroups": ["batch"],
        "resources": ["jobs"],
        "verbs": ["create", "get", "list", "watch", "patch", "delete"],
    },
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch", "patch"]},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["list"]},
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
]
READS_THE_NAMESPACE = [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]}]


@pytest.fixture
def restricted(kube, kube_proxy, namespace, cluster, tmp_path):
    """`await restricted(rules)` returns the kubeconfig of a ServiceAccount with these rights."""

    async def grant(rules: list) -> None:
        role = {"metadata": {"name": "operator"}, "rules": READS_THE_NAMESPACE + rules}
        await kube.apply("roles", namespace, typed("Role", role))

    async def kubeconfig(rules: list):
        await kube.create("serviceaccounts", namespace, {"metadata": {"name": "operator"}})
        await grant(rules)
        cluster.kubectl.run(
            *("create", "rolebinding", "operator", "--role=operator"),
            *(f"--serviceaccount={namespace}:operator", f"--namespace={namespace}"),
        )
        token = cluster.kubectl.run("create", "token", "operator", f"--namespace={namespace}")
        return kube_proxy.write_kubeconfig(tmp_path / "restricted", token=token.strip())

    vars(kubeconfig)["grant"] = grant
    return kubeconfig


def typed(kind: str, manifest: dict) -> dict:
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, **manifest}


async def test_missing_rights_for_jobs_are_reported_until_they_are_granted(
    binding, operator, restricted, namespace
):
    process = await operator(kubeconfig=await restricted(SEES_BINDINGS))
    served = await binding()
    fault = await served.condition(
        "JobsPermitted", "False", reason="JobsForbidden", seconds=AT_ONCE
    )
    for named in ("create jobs", "list pods", f"namespace {namespace!r}", "create rolebinding"):
        assert named in fault["message"]
    assert f"--serviceaccount={namespace}:operator" in fault["message"]
    await restricted.grant(SEES_BINDINGS + MAKES_JOBS)
    await served.ready(seconds=SOON)
    lines = [line for line in process.log.splitlines() if "WARNING" in line or "ERROR" in line]
    assert len(lines) <= 4, "\n".join(lines)  # Ready, jobs and pods: once each


async def test_a_revoked_right_is_reported_within_15_s_with_the_value_of_the_chart(
    binding, operator, restricted, namespace
):
    kubeconfig = await restricted(SEES_BINDINGS + MAKES_JOBS)
    await operator(kubeconfig=kubeconfig, WORKPOOL_OPERATOR_HELM_RELEASE="home/etl")
    served = await binding()
    await served.ready()
    await restricted.grant(SEES_BINDINGS)
    fault = await served.condition("JobsPermitted", "False", reason="JobsForbidden", seconds=SOON)
    assert f'Grant it: set jobNamespaces to ["{namespace}"] in' in fault["message"]
    assert "values of Helm release 'etl' (namespace 'home')" in fault["message"]
    await restricted.grant(SEES_BINDINGS + MAKES_JOBS)
    await served.ready(seconds=SOON)


async def test_a_right_that_the_release_grants_comes_back_by_an_upgrade_with_the_same_values(
    binding, operator, restricted, namespace
):
    release = {
        "WORKPOOL_OPERATOR_HELM_RELEASE": "home/etl",
        "WORKPOOL_OPERATOR_HELM_JOB_NAMESPACES": f"other,{namespace}",
    }
    await operator(kubeconfig=await restricted(SEES_BINDINGS), **release)
    served = await binding()
    fault = await served.condition("JobsPermitted", "False", reason="JobsForbidden", seconds=SOON)
    assert (
        "Grant it: upgrade Helm release 'etl' (namespace 'home') with the same" in fault["message"]
    )


async def test_a_secret_that_may_not_be_read_is_reported(
    binding, operator, restricted, prefect_server
):
    kubeconfig = await restricted(SEES_BINDINGS + MAKES_JOBS[:-1])
    await operator(kubeconfig=kubeconfig)
    reference = {"secretKeyRef": {"name": "prefect", "key": "auth"}}
    served = await binding(server={"url": prefect_server.url, "authString": reference})
    fault = await served.condition(
        "CredentialsValid", "False", reason="SecretForbidden", seconds=AT_ONCE
    )
    assert "spec.server.authString" in fault["message"]


async def test_a_missing_job_namespace_is_reported_and_used_once_it_exists(
    kube, binding, operator, namespace, prefect_server
):
    elsewhere = f"{namespace}-jobs"
    await operator()
    served = await binding(jobs={"namespace": elsewhere, "serverURL": prefect_server.url})
    fault = await served.condition(
        "JobsPermitted", "False", reason="NamespaceNotFound", seconds=AT_ONCE
    )
    assert f"kubectl create namespace {elsewhere}" in fault["message"]
    metadata = {"name": elsewhere, "annotations": {ANNOTATION: namespace}}
    await kube.create("namespaces", "", {"metadata": metadata})
    await served.ready(seconds=SOON)
    await kube.delete("namespaces", "", elsewhere)


async def test_an_operator_that_may_not_list_bindings_says_so_and_starts_once_it_may(
    binding, operator, restricted
):
    process = await operator(kubeconfig=await restricted([]), ready=False)
    served = await binding()
    await process.says("cannot list WorkPoolBindings")
    assert "workpoolbindings.workpool-operator.dev is forbidden" in await process.complaint(
        "readyz"
    )
    await restricted.grant(SEES_BINDINGS + MAKES_JOBS)
    await served.ready(seconds=SOON)
    assert process.log.count("cannot list WorkPoolBindings") == 2  # when it begins, when it ends


async def test_a_namespace_without_rights_keeps_no_other_one_unserved(
    kube, binding, operator, restricted, namespace, pool, prefect_server
):
    elsewhere = f"{namespace}-more"
    kubeconfig = await restricted(SEES_BINDINGS + MAKES_JOBS)
    exposition = Exposition()
    process = await operator(
        also_in=elsewhere, kubeconfig=kubeconfig, ready=False, **exposition.settings
    )
    await (await binding()).ready()
    key = "namespace_watched{binding_namespace="
    watched, unwatched = f'{key}"{namespace}"}}', f'{key}"{elsewhere}"}}'
    await exposition.shows({watched: 1, unwatched: 0})
    assert f'in the namespace "{elsewhere}"' in await process.complaint("readyz")
    await kube.create("namespaces", "", {"metadata": {"name": elsewhere}})
    rules = READS_THE_NAMESPACE + SEES_BINDINGS + MAKES_JOBS
    await kube.create("roles", elsewhere, {"metadata": {"name": "operator"}, "rules": rules})
    subject = {"kind": "ServiceAccount", "name": "operator", "namespace": namespace}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "operator"}
    bound = {"metadata": {"name": "operator"}, "roleRef": reference, "subjects": [subject]}
    await kube.create("rolebindings", elsewhere, bound)
    late = Binding(kube, elsewhere, "late")
    await late.apply(workPool={"name": pool}, server={"url": prefect_server.url})
    await late.ready(seconds=REVIEW_SECONDS + SOON)
    await process.ready()
    await exposition.shows({watched: 1, unwatched: 1})
    await late.remove()
    await kube.delete("namespaces", "", elsewhere)


async def test_an_operator_that_may_not_hold_leases_says_so_on_the_binding_and_when_probed(
    binding, operator, restricted, namespace
):
    process = await operator(
        kubeconfig=await restricted(SEES_BINDINGS_ONLY + MAKES_JOBS), ready=False
    )
    served = await binding()
    fault = await served.condition("Ready", "False", reason="LeaseForbidden", seconds=AT_ONCE)
    assert "leases.coordination.k8s.io is forbidden" in fault["message"]
    assert f"kubectl -n {namespace} create rolebinding workpool-operator" in fault["message"]
    assert "cannot keep its Lease" in await process.complaint("readyz")
    await restricted.grant(SEES_BINDINGS + MAKES_JOBS)
    await served.ready(seconds=SOON)
    await process.ready()


async def test_a_binding_is_served_without_a_right_that_only_its_reports_need(
    binding, operator, restricted
):
    less = [rule for rule in MAKES_JOBS if rule["resources"] != ["pods/log"]]
    process = await operator(kubeconfig=await restricted(SEES_BINDINGS + less))
    served = await binding()
    await served.ready()
    fault = await served.condition(
        "RightsGranted", "False", reason="RightsMissing", seconds=AT_ONCE
    )
    assert "get pods/log (to quote the last lines of a container that failed)" in fault["message"]
    assert process.log.count("get pods/log") == 1


async def test_an_operator_that_may_not_write_a_status_says_so_when_probed(
    binding, operator, restricted
):
    all_rules = SEES_BINDINGS + MAKES_JOBS
    process = await operator(kubeconfig=await restricted(all_rules))
    served = await binding()
    await served.ready()
    await restricted.grant([rule for rule in all_rules if "/status" not in rule["resources"][0]])
    await served.patch(suspend=True)
    await process.says("cannot write its status")
    assert "cannot write its status" in await process.complaint("readyz")
    await restricted.grant(all_rules)
    await served.condition("Claiming", "False", reason="Suspended", seconds=AT_ONCE)
    await process.ready()
