"""Each allowed difference from the stock worker's Job covers its case, and is documented."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.corpus.case import Object
from workpool_operator.kube import models
from workpool_operator.parity import acceptance, differences
from workpool_operator.parity.differences import find_differences
from workpool_operator.parity.flat_manifest import ABSENT

PAGE = Path(__file__).parents[3] / "docs" / "migration.md"
STOCK: Object = {
    "metadata": {
        "generateName": "run-",
        "namespace": "default",
        "labels": {"prefect.io/flow-run-id": "1", "team": "data"},
        "annotations": {},
    },
    "spec": {
        "ttlSecondsAfterFinished": 60,
        "template": {
            "spec": {
                "parallelism": 1,
                "containers": [
                    {
                        "name": "prefect-job",
                        "image": "flows:1",
                        "env": [
                            {"name": "PREFECT_API_KEY", "value": "secret"},
                            {"name": "PREFECT_LOGGING_LEVEL", "value": "DEBUG"},
                            {"name": "A", "value": "1"},
                            {"name": "B", "value": "2"},
                        ],
                    }
                ],
            }
        },
    },
}
WORKER = {"PREFECT_LOGGING_LEVEL": "DEBUG", "REGION": "eu-1"}


def ours() -> Object:
    """Return the Job that the operator renders."""
    changed = copy.deepcopy(STOCK)
    changed["metadata"] = {
        "name": "run-0123456789ab",
        "namespace": "data",
        "labels": {"team": "data", models.RUN_LABEL: "1"},
        "annotations": {"prefect.io/flow-run-id": "1", models.TTL_ANNOTATION: "60"},
    }
    del (
        changed["spec"]["ttlSecondsAfterFinished"],
        changed["spec"]["template"]["spec"]["parallelism"],
    )
    changed["spec"]["parallelism"] = 1
    env = container(changed)["env"]
    env[:2] = [
        {"name": "PREFECT_API_KEY", "valueFrom": {"secretKeyRef": {"name": "x", "key": "y"}}}
    ]
    return changed


def container(manifest: Object) -> Object:
    found: Object = manifest["spec"]["template"]["spec"]["containers"][0]
    return found


def undocumented(stock: Object, changed: Object) -> list[str]:
    found = find_differences(stock, changed, environment=WORKER)
    return [each.path for each in found if each.rule is None]


def test_a_manifest_does_not_differ_from_itself() -> None:
    assert find_differences(STOCK, copy.deepcopy(STOCK)) == []


def test_every_difference_of_our_job_has_a_rule() -> None:
    found = find_differences(STOCK, ours(), environment=WORKER)
    assert {each.rule for each in found} == {
        "name",
        "own labels and annotations",
        "`prefect.io/flow-run-id`",
        "credentials",
        "the worker's own environment",
        "namespace",
        "TTL",
        "`parallelism`, `completions` in the pod's spec",
    }


_ENV = "spec.template.spec.containers[0].env"


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda changed: changed["metadata"].update(name="x" * 58), "metadata.name"),
        (lambda changed: changed["metadata"]["labels"].pop("team"), "metadata.labels.team"),
        (
            lambda changed: changed["metadata"]["labels"].update(team="other"),
            "metadata.labels.team",
        ),
        (lambda changed: changed["metadata"]["labels"].update(new="x"), "metadata.labels.new"),
        (
            lambda changed: changed["metadata"]["annotations"].pop(models.TTL_ANNOTATION),
            "spec.ttlSecondsAfterFinished",
        ),
        (lambda changed: changed["spec"].pop("parallelism"), "spec.template.spec.parallelism"),
        (
            lambda changed: container(changed).update(image="flows:2"),
            "spec.template.spec.containers[0].image",
        ),
        (
            lambda changed: container(changed).update(tty=True),
            "spec.template.spec.containers[0].tty",
        ),
        (lambda changed: container(changed)["env"].pop(), f"{_ENV}.B.value"),
        (lambda changed: container(changed)["env"].reverse(), _ENV),
        (lambda changed: container(changed)["env"][1].update(value="2"), f"{_ENV}.A.value"),
    ],
)
def test_a_difference_without_a_rule_is_reported(change: Any, path: str) -> None:
    changed = ours()
    change(changed)
    assert path in undocumented(STOCK, changed)


def test_a_credential_in_plain_text_has_no_rule() -> None:
    changed = ours()
    container(changed)["env"][0] = {"name": "PREFECT_API_KEY", "value": "other"}
    assert undocumented(STOCK, changed) == [f"{_ENV}.PREFECT_API_KEY.value"]


def test_a_lost_setting_that_is_not_the_workers_has_no_rule() -> None:
    found = find_differences(STOCK, ours(), environment={})
    assert [each.path for each in found if each.rule is None] == [
        f"{_ENV}.PREFECT_LOGGING_LEVEL.name",
        f"{_ENV}.PREFECT_LOGGING_LEVEL.value",
    ]


def test_a_number_differs_from_its_text() -> None:
    (found,) = find_differences({"spec": {"backoffLimit": 1}}, {"spec": {"backoffLimit": True}})
    assert found.rule is None


def test_a_difference_reads_as_one_line() -> None:
    found = find_differences({"metadata": {"labels": {"a.b/c": "x"}}}, {"metadata": {"labels": {}}})
    assert [str(each) for each in found] == [
        "metadata.labels[\"a.b/c\"]: stock 'x', ours absent (no rule)"
    ]
    assert found[0].ours is ABSENT


def test_the_documentation_lists_the_same_rules() -> None:
    rows = [
        (name.strip(), here.strip())
        for line in PAGE.read_text().splitlines()
        if line.startswith("| ")
        for name, here in [line.replace("\\|", "").split("|")[1:3]]
    ]
    known = [
        *((rule.name, rule.here) for rule in differences.RULES),
        *((outcome.name, outcome.here) for outcome in acceptance.ACCEPTED_HERE),
        *((outcome.name, outcome.here) for outcome in acceptance.REFUSED_HERE),
    ]
    assert [rule for rule in known if rule not in rows] == []
    first = rows.index(known[0])
    last = rows.index(known[-1])
    listed = [row for row in rows[first : last + 1] if row[0] != "part"]
    assert listed == known
