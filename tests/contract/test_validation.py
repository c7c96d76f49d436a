"""Errors of `jobs.validation`, compared with a real API server: none in what the server accepts,
because such a run must not crash, and all that it refuses without a path.
"""

from __future__ import annotations

import json
import random
from typing import Any

import httpx
import pytest

from tests.support.kube import Kube, Object, path
from tests.support.manifests import CONTAINER, VALUES, places, with_value
from workpool_operator.jobs import validation
from workpool_operator.jobs.field_errors import FieldError, Path
from workpool_operator.jobs.validation import find_errors

MANY = 1500  # of some 12000, another choice in each run
# Where the API server is content and we are not, on purpose.
STRICTER = ("image", "restartPolicy")


async def tried(kube: Kube, job: Object) -> httpx.Response:
    """Return the answer to a dry run."""
    return await kube.http.post(
        path("jobs", "default"),
        params={"dryRun": "All"},
        content=json.dumps(job),
        headers={"Content-Type": "application/json"},
    )


async def test_any_value_in_any_field_is_refused_only_if_the_api_server_refuses_it(
    kube: Kube,
) -> None:
    shape = validation.job_type()
    every = [
        (place, value)
        for key in ("metadata", "spec")
        for place in places(shape.fields[key], (key,))
        for value in VALUES
    ]
    seed = random.randrange(10**6)
    for place, value in random.Random(seed).sample(every, MANY):
        job = with_value(place, value)
        answer, found = await tried(kube, job), find_errors(job)
        why = f"seed {seed}: {place} = {value!r}: {answer.status_code} {answer.text[:300]}, {found}"
        if answer.is_success:
            assert [fault for fault in found if not _is_ours(fault)] == [], why
        elif answer.status_code == 400:
            assert found or "parsing time" in answer.text, why


def _is_ours(fault: FieldError) -> bool:
    return fault.path[-1] in STRICTER


@pytest.mark.parametrize(
    "quantity",
    ["1", "1Gi", ".5", "5.", "+1", " 1 ", "1e3", "1E", "1E+3", 1.5, 10**30, 1e22, "9" * 400]
    + ["", "lots", "1 Gi", "1GB", "1K", "1e", "1.2.3", "-1", True, "1e400", "0x10", "٣", "1 "]
    + [
        "1\n",
        "1_000",
        "1mi",
        "1ki",
        "1k",
        "1n",
        "1u",
        "1m",
        "-.5",
        "1e3.5",
        "1Ei",
        "1Eie",
        "\t1",
        "-0",
        "  ",
    ],
    ids=repr,
)
async def test_quantities_are_valid_exactly_if_the_api_server_accepts_them(
    kube: Kube, quantity: Any
) -> None:
    job = with_value((*CONTAINER, "resources"), {"limits": {"memory": quantity}})
    answer = await tried(kube, job)
    assert answer.is_success == (find_errors(job) == []), answer.text


@pytest.mark.parametrize("quantity", [".", "Gi", "e3", "+", "-", "+Gi", "-k", "+."])
async def test_a_quantity_without_a_number_is_an_error_although_the_api_server_reads_0(
    kube: Kube, quantity: str
) -> None:
    job = with_value((*CONTAINER, "resources"), {"limits": {"memory": quantity}})
    assert (await tried(kube, job)).is_success
    assert find_errors(job) != []


_VARIABLE: Path = (*CONTAINER, "env", 0)
_FIELD = {"fieldRef": {"fieldPath": "status.hostIP"}}
_KEY = {"secretKeyRef": {"name": "vault", "key": "token"}}
_MOUNTED = [{"name": "data", "mountPath": "/data"}]
_POD: Path = ("spec", "template", "spec")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *(
            ((*_POD, "serviceAccountName"), name)
            for name in ("etl", "a.b", "Foo_", "a" * 254, "-a")
        ),
        *(((*_POD, "runtimeClassName"), name) for name in ("runc", "Foo_")),
        *(((*_POD, "priorityClassName"), name) for name in ("Foo_",)),
        *(((*_POD, "nodeName"), name) for name in ("node-1.example", "Node_1")),
        *(((*_POD, "nodeSelector"), {key: "a"}) for key in ("disk", "a.b/c", "a b", "/a", "A/b")),
        *(((*_POD, "nodeSelector"), {"a": text}) for text in ("", "x.Y_z", "b c", "x" * 64, "-")),
        *(((*CONTAINER, "ports"), [{"containerPort": port}]) for port in (1, 65535, 65536, 0)),
        *(((*CONTAINER, "volumeMounts"), mounts) for mounts in (_MOUNTED, [])),
        *(((*_VARIABLE, "valueFrom"), source) for source in (_FIELD, _KEY, {}, _FIELD | _KEY)),
        ((*_VARIABLE, "valueFrom"), {"secretKeyRef": {"name": "vault"}}),
        ((*_VARIABLE, "valueFrom"), {"configMapKeyRef": {"name": "vault"}}),
        ((*_VARIABLE, "valueFrom"), {"fieldRef": {}}),
        ((*_VARIABLE, "valueFrom"), {"resourceFieldRef": {}}),
        (("metadata", "annotations"), {"a": "x" * 262_143}),
        (("metadata", "annotations"), {"a": "x" * 262_144}),
        ((*_POD, "activeDeadlineSeconds"), 0),
    ],
    ids=lambda value: str(value)[:50],
)
async def test_names_and_references_are_valid_exactly_if_the_api_server_accepts_them(
    kube: Kube, place: Path, value: Any
) -> None:
    job = with_value(place, value)
    for entry in job["spec"]["template"]["spec"]["containers"][0].get("env", ()):
        entry["name"] = "A"
    answer = await tried(kube, job)
    assert answer.is_success == (find_errors(job) == []), (answer.text[:300], find_errors(job))


@pytest.mark.parametrize("mounts", [_MOUNTED, [*_MOUNTED, {"name": "data", "mountPath": "/data"}]])
async def test_mounts_are_valid_exactly_if_the_api_server_accepts_them(
    kube: Kube, mounts: Any
) -> None:
    job = with_value((*CONTAINER, "volumeMounts"), mounts)
    job["spec"]["template"]["spec"]["volumes"] = [{"name": "data", "emptyDir": {}}]
    answer = await tried(kube, job)
    assert answer.is_success == (find_errors(job) == []), answer.text[:300]


async def test_an_object_is_too_large_only_if_the_api_server_refuses_it(
    kube: Kube, namespace: str
) -> None:
    """A dry run stores nothing and so refuses no size: this Job is really created. The API server's
    error is then about labels that it generates itself."""
    job = with_value((*CONTAINER, "args"), ["x" * 100_000] * 17)
    job["spec"]["suspend"] = True
    [fault] = find_errors(job)
    assert "the limit for one object" in str(fault)
    assert (await kube.http.post(path("jobs", namespace), json=job)).is_error


@pytest.mark.parametrize(
    "name",
    ["A", "a b", "1a", "a.b-c", "~", " ", "", "a=b", "ü", "a\n", "a\x7f", "=", "A" * 5000],
    ids=repr,
)
async def test_names_of_variables_are_valid_exactly_if_the_api_server_accepts_them(
    kube: Kube, name: str
) -> None:
    job = with_value((*CONTAINER, "env"), [{"name": name, "value": ""}])
    answer = await tried(kube, job)
    assert answer.is_success == (find_errors(job) == []), answer.text


@pytest.mark.parametrize(
    "name", ["a", "a-b", "1", "a" * 63, "a" * 64, "A", "a_b", "-a", "a-", "a.b"]
)
async def test_names_of_containers_are_valid_exactly_if_the_api_server_accepts_them(
    kube: Kube, name: str
) -> None:
    job = with_value((*CONTAINER, "name"), name)
    answer = await tried(kube, job)
    assert answer.is_success == (find_errors(job) == []), answer.text


@pytest.mark.parametrize(
    ("request_", "limit"), [("1", "1000m"), ("1.1", "1"), ("1Gi", "1G"), ("1G", "1Gi"), (2, "1")]
)
async def test_requests_fit_their_limits_exactly_if_the_api_server_accepts_them(
    kube: Kube, request_: Any, limit: str
) -> None:
    resources = {"requests": {"memory": request_}, "limits": {"memory": limit}}
    job = with_value((*CONTAINER, "resources"), resources)
    answer = await tried(kube, job)
    assert answer.is_success == (find_errors(job) == []), answer.text
