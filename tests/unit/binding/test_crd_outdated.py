"""The condition CRDOutdated: which fields of this version the API server drops."""

from __future__ import annotations

import copy
import json
from typing import Any, cast

import pytest

from workpool_operator import settings
from workpool_operator.api import crd, v1alpha1
from workpool_operator.binding.crd_check import crd_outdated, missing_fields
from workpool_operator.errors import KubernetesForbidden
from workpool_operator.kube.client import KubernetesClient

Object = dict[str, Any]


def served(schema: Object) -> Object:
    """The document in which the API server describes the group and version."""
    kinds = [{"group": v1alpha1.GROUP, "kind": v1alpha1.KIND, "version": v1alpha1.VERSION}]
    own = {**schema, "x-kubernetes-group-version-kind": kinds}
    return {"components": {"schemas": {"dev.WorkPoolBinding": own, "meta.v1.Time": {}}}}


def older(*paths: str) -> Object:
    """Return the schema without these fields; [] is any item of a list."""
    schema = copy.deepcopy(crd.schema())
    for path in paths:
        inner = schema
        *parents, name = path.replace("[]", ".[]").split(".")
        for parent in parents:
            inner = inner["items"] if parent == "[]" else inner["properties"][parent]
        del inner["properties"][name]
    return schema


class Api:
    def __init__(self, document: Object | None) -> None:
        self.document = document

    async def request(self, method: str, path: str) -> bytes:
        if self.document is None:
            raise KubernetesForbidden("forbidden")
        return json.dumps(self.document).encode()

    @property
    def client(self) -> KubernetesClient:
        return cast("KubernetesClient", self)


@pytest.mark.parametrize(
    "paths",
    [(), ("spec.jobs.patches",), ("spec.server.headers[].name",), ("spec.poll",), ("status",)],
)
def test_the_fields_that_an_older_schema_lacks_are_found(paths: tuple[str, ...]) -> None:
    assert missing_fields(served(older(*paths))) == list(paths)


async def test_the_condition_names_the_fields_and_the_command() -> None:
    state = await crd_outdated(Api(served(older("spec.jobs.patches", "spec.workerName"))).client)
    assert (state.status, state.reason) == ("True", "FieldsMissing")
    assert "drops spec.jobs.patches, spec.workerName. Replace it: workpool-op" in state.message


async def test_the_message_names_the_helm_release_and_at_most_five_fields(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settings, "helm_release", lambda: "home/etl")
    names = ("env", "labels", "annotations", "patches", "headers", "apiKey", "authString")
    state = await crd_outdated(Api(served(older(*(f"spec.jobs.{n}" for n in names)))).client)
    assert " and 2 more. Run helm upgrade for release 'home/etl', whose hook" in state.message


async def test_a_current_crd_is_no_problem() -> None:
    state = await crd_outdated(Api(served(crd.schema())).client)
    assert (state.status, state.reason) == ("False", "Current")


async def test_a_schema_that_cannot_be_read_is_not_checked() -> None:
    state = await crd_outdated(Api(None).client)
    assert (state.status, state.reason) == ("Unknown", "NotChecked")
