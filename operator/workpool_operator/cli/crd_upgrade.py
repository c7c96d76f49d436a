"""`workpool-operator crd --upgrade`: applies this version's CRD over the one that the cluster has.

It takes no field away from the bindings of another, newer release: a newer CRD stays as it is. It
creates none either, because that right cannot be limited to one name.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from workpool_operator.api import crd
from workpool_operator.cli import output
from workpool_operator.cli.patience import PatientKubernetesClient
from workpool_operator.errors import (
    KubernetesForbidden,
    KubernetesNotFound,
    KubernetesRefused,
    OperatorError,
)
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.kube.kubeconfig import Kubeconfig

APPLY_PATCH = "application/apply-patch+yaml"
_APPLY = {"fieldManager": "workpool-operator", "force": "true"}
_WITHOUT_THE_RIGHT = (
    "Grant get and patch of this CRD, or set the chart's crds.upgrade to false and apply the CRD "
    "yourself: workpool-operator crd | kubectl apply --server-side --force-conflicts -f -"
)
_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

Object = dict[str, Any]


def main(kubeconfig: Kubeconfig) -> None:
    """Upgrade the CRD; exit with 1 if the API server refuses it."""
    with output.errors_in_one_line(), output.silence_logs():
        asyncio.run(_run(kubeconfig))


async def _run(kubeconfig: Kubeconfig) -> None:
    try:
        await _upgrade(kubeconfig)
    except KubernetesForbidden as refused:
        raise OperatorError(f"{refused}. {_WITHOUT_THE_RIGHT}") from refused


async def _upgrade(kubeconfig: Kubeconfig) -> None:
    manifest = crd.manifest()
    name = manifest["metadata"]["name"]
    async with await PatientKubernetesClient.from_environment(kubeconfig) as kube:
        try:
            found = json.loads(await kube.request("GET", f"{_PATH}/{name}"))
        except KubernetesNotFound:
            text = "is not installed: nothing to upgrade. Install it: workpool-operator crd"
            output.echo_note(f"CRD {name} {text} | kubectl apply --server-side -f -")
            return
        if is_newer(found, manifest):
            theirs, ours = version_of(found), version_of(manifest)
            output.echo_note(f"CRD {name} is of version {theirs}, newer than {ours}: left as it is")
            return
        await _apply(kube, name, manifest)
    output.echo(f"CRD {name}: version {version_of(manifest)} applied")


async def _apply(kube: KubernetesClient, name: str, manifest: Object) -> None:
    try:
        await kube.request(
            "PATCH", f"{_PATH}/{name}", query=_APPLY, body=manifest, content_type=APPLY_PATCH
        )
    except KubernetesForbidden:
        raise
    except KubernetesRefused as refused:
        raise OperatorError(f"the API server refuses the CRD: {refused}") from refused


def version_of(manifest: Object) -> str:
    """Return the version of this project that the CRD is from, "" before it was recorded."""
    return str((manifest["metadata"].get("annotations") or {}).get(crd.VERSION_ANNOTATION, ""))


def is_newer(found: Object, than: Object) -> bool:
    """Return whether a CRD is from a newer version than another one."""
    return _numbers(version_of(found)) > _numbers(version_of(than))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
