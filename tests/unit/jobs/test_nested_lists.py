"""A list within a list is flattened as Kubernetes would merge the two; nothing else changes."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from workpool_operator.jobs import manifest as manifests

HOME = {"name": "home", "emptyDir": {}}
CLAIM = {"name": "home", "persistentVolumeClaim": {"claimName": "mine"}}
DATA = {"name": "data", "emptyDir": {}}


def joined(**fields: Any) -> Any:
    manifests.flatten_lists(fields)
    return fields


def test_the_items_of_an_inner_list_follow_the_fixed_ones() -> None:
    assert joined(volumes=[HOME, [DATA]]) == {"volumes": [HOME, DATA]}


def test_an_inner_list_keeps_its_position_among_fixed_items() -> None:
    assert joined(args=["--from", ["a", "b"], "--to", "c"])["args"] == [
        "--from",
        "a",
        "b",
        "--to",
        "c",
    ]


def test_a_joining_item_replaces_the_fixed_one_of_its_name() -> None:
    assert joined(volumes=[HOME, [DATA, CLAIM]]) == {"volumes": [DATA, CLAIM]}


def test_mounts_are_identified_by_their_path_and_not_by_their_volume() -> None:
    fixed = {"name": "home", "mountPath": "/home"}
    other, instead = fixed | {"mountPath": "/data"}, {"name": "data", "mountPath": "/home"}
    assert joined(volumeMounts=[fixed, [other]])["volumeMounts"] == [fixed, other]
    assert joined(volumeMounts=[fixed, [instead]])["volumeMounts"] == [instead]


def test_items_without_a_key_are_all_kept() -> None:
    toleration = {"key": "gpu"}
    assert joined(tolerations=[toleration, [toleration]])["tolerations"] == [toleration] * 2


def test_two_items_of_one_name_in_a_users_list_are_left_to_the_api_server() -> None:
    assert joined(volumes=[HOME, [DATA, DATA]]) == {"volumes": [HOME, DATA, DATA]}


@pytest.mark.parametrize("nothing", [[], None])
def test_an_empty_or_null_value_adds_nothing(nothing: Any) -> None:
    assert joined(volumes=[HOME, nothing]) == {"volumes": [HOME]}


def test_lists_are_joined_at_every_depth() -> None:
    pod = {"containers": [{"name": "a", "env": [[{"name": "X"}]]}, [{"name": "b"}]]}
    manifests.flatten_lists(pod)
    assert pod == {"containers": [{"name": "a", "env": [{"name": "X"}]}, {"name": "b"}]}


@pytest.mark.parametrize(
    "manifest",
    [
        {"args": ["a", None], "volumes": [HOME, HOME]},
        {"volumes": None, "env": {}},
        {"a": [1, "b", {"c": [True]}]},
    ],
)
def test_a_manifest_without_lists_in_lists_is_not_changed(manifest: dict[str, Any]) -> None:
    before = copy.deepcopy(manifest)
    manifests.flatten_lists(manifest)
    assert manifest == before
