"""Which of two CRDs is newer."""

from __future__ import annotations

import pytest

from workpool_operator.api import crd
from workpool_operator.cli.crd_upgrade import is_newer


def of_version(version: str | None) -> dict[str, object]:
    annotations = {} if version is None else {crd.VERSION_ANNOTATION: version}
    return {"metadata": {"annotations": annotations}}


@pytest.mark.parametrize(
    ("found", "ours", "newer"),
    [
        (None, "0.1.0", False),
        ("0.1.0", "0.1.0", False),
        ("0.1.0", "0.2.0", False),
        ("0.10.0", "0.9.0", True),
        ("1.0.0", "0.9.9", True),
        ("0.2.0rc1", "0.2.0", False),
        ("unreadable", "0.1.0", False),
    ],
)
def test_a_crd_of_a_higher_version_is_newer(found, ours, newer):
    assert is_newer(of_version(found), of_version(ours)) is newer


def test_a_crd_without_annotations_is_older():
    assert not is_newer({"metadata": {"annotations": None}}, crd.manifest())


def test_the_crd_says_which_version_it_is_from():
    assert crd.manifest()["metadata"]["annotations"][crd.VERSION_ANNOTATION][0].isdigit()
