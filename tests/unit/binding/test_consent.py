"""The annotation by which a namespace consents, and the command that adds to it."""

from __future__ import annotations

import json
import shlex
from typing import cast

import pytest

from tests.support.clock import FakeClock
from workpool_operator.api.v1alpha1 import Spec
from workpool_operator.binding.consent import (
    ANNOTATION,
    Consent,
    allowed_namespaces,
    annotate_command,
)
from workpool_operator.binding.context import Binding
from workpool_operator.errors import BindingFault, KubernetesNotFound
from workpool_operator.kube.client import KubernetesClient


@pytest.mark.parametrize(
    ("annotation", "namespaces"),
    [
        ("", set()),
        (" , ", set()),
        ("data", {"data"}),
        ("data, ml ,", {"data", "ml"}),
        ("*", {"*"}),
    ],
)
def test_the_annotation_lists_namespaces_separated_by_commas(
    annotation: str, namespaces: set[str]
) -> None:
    assert allowed_namespaces(annotation) == namespaces


@pytest.mark.parametrize("annotation", ["", ",", " "])
def test_the_command_sets_an_empty_annotation(annotation: str) -> None:
    text = annotate_command(annotation, binding_namespace="data", job_namespace="runs")
    assert text == f"kubectl annotate namespace runs --overwrite {ANNOTATION}=data"


def test_the_command_keeps_allowed_namespaces_and_does_not_show_them() -> None:
    text = annotate_command("finance", binding_namespace="data", job_namespace="runs")
    assert "finance" not in text
    *_, assignment = shlex.split(text)
    read = "kubectl get namespace runs -o jsonpath="
    key = r"workpool-operator\.dev/allowed-binding-namespaces"
    assert assignment == f"{ANNOTATION}=$({read}'{{.metadata.annotations.{key}}}'),data"


class Namespaces:
    """An API server whose namespaces allow all bindings. Counts the reads."""

    def __init__(self) -> None:
        self.reads = 0

    async def request(self, method: str, path: str) -> bytes:
        self.reads += 1
        return json.dumps({"metadata": {"name": "runs", "annotations": {ANNOTATION: "*"}}}).encode()


async def test_a_consent_is_cached_for_ten_seconds() -> None:
    kube, clock = Namespaces(), FakeClock()
    consent = Consent(cast("KubernetesClient", kube), binding_namespace="data", clock=clock)
    await consent.check("runs")
    clock.advance(9.9)
    await consent.check("runs")
    assert kube.reads == 1
    clock.advance(0.1)
    await consent.check("runs")
    assert kube.reads == 2


class Absent:
    """An API server without any namespace."""

    async def request(self, method: str, path: str) -> bytes:
        raise KubernetesNotFound("not found")


@pytest.mark.parametrize(
    ("namespace", "field"),
    [
        ("runs", "spec.jobs.namespace"),
        ("more", "spec.jobs.allowedNamespaces[1]"),
        ("gone", "spec.jobs.allowedNamespaces"),  # taken off the list during the check
    ],
)
async def test_a_missing_namespace_is_reported_with_the_field_that_names_it(
    namespace: str, field: str
) -> None:
    spec = Spec.model_validate(
        {
            "workPool": {"name": "etl"},
            "server": {"url": "http://prefect:4200/api"},
            "jobs": {"namespace": "runs", "allowedNamespaces": ["runs", "more"]},
        }
    )
    binding = Binding("data", "etl", spec=lambda: spec, generation=lambda: 1, status={})
    kube = cast("KubernetesClient", Absent())
    consent = Consent(kube, binding_namespace="data", field=binding.field_of)
    with pytest.raises(BindingFault) as fault:
        await consent.read(namespace)
    assert str(fault.value).startswith(f"Namespace {namespace!r} ({field}) does not exist.")
