"""Each right of the table, taken away by itself on the real API server: a condition names it, and
`workpool-operator doctor`."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from testbed.clusters import Cluster
from tests.support.fault_proxy import FaultProxy
from tests.support.kube import Kube, Object
from tests.support.polling import poll
from workpool_operator.api.v1alpha1 import Spec
from workpool_operator.binding import preflight_checks, rights_review
from workpool_operator.binding.consent import Consent
from workpool_operator.binding.context import Binding
from workpool_operator.binding.secrets import RunSecrets
from workpool_operator.binding.server_source import find_server
from workpool_operator.cli.doctor import check_rights
from workpool_operator.errors import BindingFault
from workpool_operator.kube import rights
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.kube.kubeconfig import Kubeconfig
from workpool_operator.kube.rights import Scope
from workpool_operator.prefect_api.endpoint import PrefectEndpoint

ACCOUNT = "operator"
SPEC = Spec.model_validate(
    {
        "workPool": {"name": "etl"},
        "server": {
            "url": "https://prefect:4200/api",
            "authString": {"secretKeyRef": {"name": "auth", "key": "value"}},
        },
        "jobs": {"environmentSecret": True},
    }
)
KEY = {"secretKeyRef": {"name": "ca", "key": "ca.crt"}}
#: Each reads an object of another kind.
REFERENCES = tuple(
    Spec.model_validate(fields)
    for fields in (
        {"workPool": {"name": "etl"}, "server": {"ref": {"name": "prefect"}}},
        {"workPool": {"ref": {"name": "etl"}}, "server": {}},
        {
            "workPool": {"name": "etl"},
            "server": {"urlFrom": {"configMapKeyRef": {"name": "prefect", "key": "url"}}},
        },
        {"workPool": {"name": "etl"}, "server": {"urlFrom": KEY}},
    )
)


def role(*, without: tuple[str, str, str] = ("", "", "")) -> Object:
    """All rights of the table but one, which no rule then grants."""
    rules = [
        {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
        for rule in rights.RULES
        for verb, group, resource in rule.permissions
        if (verb, group, resource) != without
    ]
    metadata = {"name": ACCOUNT}
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": metadata,
        "rules": rules,
    }


@pytest.fixture
async def client(
    kube: Kube, kube_proxy: FaultProxy, namespace: str, cluster: Cluster, tmp_path: Path
) -> AsyncIterator[KubernetesClient]:
    """The operator's client in this namespace, with exactly the rights of the Role `operator`."""
    await kube.create("serviceaccounts", namespace, {"metadata": {"name": ACCOUNT}})
    await kube.apply("roles", namespace, role())
    here = f"--namespace={namespace}"
    grant = ("--role=operator", f"--serviceaccount={namespace}:{ACCOUNT}", here)
    cluster.kubectl.run("create", "rolebinding", ACCOUNT, *grant)
    token = cluster.kubectl.run("create", "token", ACCOUNT, here).strip()
    file = kube_proxy.write_kubeconfig(tmp_path / "limited", token=token)
    async with await KubernetesClient.from_environment(Kubeconfig(str(file))) as limited:
        limited.namespace = namespace
        yield limited


async def messages(client: KubernetesClient, namespace: str) -> str:
    """What the operator's checks say now, of a binding that needs every right."""
    client._rights._entries.clear()

    def binding(spec: Spec) -> Binding:
        return Binding(namespace, "etl", spec=lambda: spec, generation=lambda: 1, status={})

    found = [(await rights_review.rights_granted(client, binding(SPEC))).message]
    server = PrefectEndpoint(str(SPEC.server.url), auth_string="a:b")
    secrets = RunSecrets(binding(SPEC), client, binding_id="id")
    consent = Consent(client, binding_namespace=namespace)
    for check in (
        preflight_checks.check_jobs_permitted(client, namespace, consent),
        secrets.ensure(server, namespace),
        *(find_server(spec, namespace=namespace, kube=client) for spec in REFERENCES),
    ):
        try:
            await check
        except BindingFault as fault:
            found.append(str(fault))
    return "\n".join(found)


def says(text: str, verb: str, resource: str) -> bool:
    """Whether a message names them: of a review, or of a request that was refused."""
    reviewed = re.search(rf"(not|[,;]) {verb} {resource}(?![/\w])", text)
    return bool(reviewed) or f'cannot {verb} resource "{resource}"' in text


@pytest.mark.parametrize("scope", Scope)
async def test_each_verb_that_is_taken_away_is_named_with_its_grant(
    kube: Kube, client: KubernetesClient, namespace: str, scope: Scope
) -> None:
    async def read() -> str:
        return await messages(client, namespace)

    assert "may not" not in await poll(read, until=lambda text: "Grant it" not in text)
    for rule in rights.rules(scope):
        for verb, group, resource in rule.permissions:
            await kube.apply("roles", namespace, role(without=(verb, group, resource)))
            named = partial(says, verb=verb, resource=resource)
            text = await poll(read, until=named, seconds=5)
            assert "Grant it: " in text
            results = await check_rights(client, scope, namespace)
            [missing] = [result for result in results if result.message]
            assert (missing.message + ", ").startswith(f"missing {verb} {resource},")
            assert missing.fix
