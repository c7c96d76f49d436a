"""Names and labels become valid (docs/conformance.md, 29, 30)."""

from __future__ import annotations

import re

import pytest

from tests.corpus.case import Case
from tests.corpus.rendered import job


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("infra-run", "infra-run"),
        ("infra-run-", "infra-run"),
        ("_infra_run", "infra-run"),
        ("...infra_run", "infra-run"),
        ("._-infra_run", "infra-run"),
        ("9infra-run", "9infra-run"),
        ("-infra.run", "infra-run"),
        ("infra*run", "infra-run"),
        ("infra9.-foo_bar^x", "infra9-foo-bar-x"),
    ],
)
async def test_case_29_a_jobs_name_is_made_valid(name: str, slug: str) -> None:
    manifest = await job(Case("named", run={"name": name}))
    assert re.fullmatch(f"{slug}-[0-9a-f]{{12}}", manifest["metadata"]["name"])


@pytest.mark.parametrize(
    ("key", "repaired"),
    [
        ("a-valid-dns-subdomain1/and-a-name", "a-valid-dns-subdomain1/and-a-name"),
        (
            "a-prefix-with-invalid$@*^$@-characters/and-a-name",
            "a-prefix-with-invalid-characters/and-a-name",
        ),
        ("a-name-with-invalid$@*^$@-characters", "a-name-with-invalid-characters"),
        ("/a-name-that-starts-with-slash", "a-name-that-starts-with-slash"),
        ("a-prefix/and-a-name/-with-a-slash", "a-prefix/and-a-name-with-a-slash"),
        ("_a-name-that-starts-with-underscore", "a-name-that-starts-with-underscore"),
        ("-a-name-that-starts-with-dash", "a-name-that-starts-with-dash"),
        (".a-name-that-starts-with-period", "a-name-that-starts-with-period"),
        ("a-name-that-ends-with-underscore_", "a-name-that-ends-with-underscore"),
        ("a-name-that-ends-with-dash-", "a-name-that-ends-with-dash"),
        ("a-name-that-ends-with-period.", "a-name-that-ends-with-period"),
        ("._.-a-name-with-trailing-leading-chars-__-.", "a-name-with-trailing-leading-chars"),
        ("a" * 300 + "/and-a-name", "a" * 253 + "/and-a-name"),
        ("a" * 300, "a" * 63),
        ("a" * 300 + "/" + "b" * 100, "a" * 253 + "/" + "b" * 63),
        ("Kept_case.1", "Kept_case.1"),
    ],
)
async def test_case_30_a_labels_key_is_made_valid(key: str, repaired: str) -> None:
    manifest = await job(Case("key", run={"labels": {key: "foo"}}))
    for metadata in (manifest["metadata"], manifest["spec"]["template"]["metadata"]):
        assert metadata["labels"][repaired] == "foo"


@pytest.mark.parametrize("key", ["$@*^$@", "name/$@*^$@"])
async def test_case_30_a_key_without_valid_characters_is_dropped(key: str) -> None:
    """The stock worker sends it as it is, and the API server refuses the Job."""
    manifest, without = (
        await job(Case("key", run={"labels": {key: "foo"}})),
        await job(Case("none")),
    )
    assert manifest["metadata"]["labels"] == without["metadata"]["labels"]


async def test_case_30_a_prefix_without_valid_characters_leaves_the_name() -> None:
    assert (await job(Case("key", run={"labels": {"$@*^$@/name": "foo"}})))["metadata"]["labels"][
        "name"
    ] == "foo"


@pytest.mark.parametrize(
    ("value", "repaired"),
    [
        ("valid-label-text", "valid-label-text"),
        ("text-with-invalid$@*^$@-characters", "text-with-invalid-characters"),
        ("_value-that-starts-with-underscore", "value-that-starts-with-underscore"),
        ("-value-that-starts-with-dash", "value-that-starts-with-dash"),
        (".value-that-starts-with-period", "value-that-starts-with-period"),
        ("value-that-ends-with-underscore_", "value-that-ends-with-underscore"),
        ("value-that-ends-with-dash-", "value-that-ends-with-dash"),
        ("value-that-ends-with-period.", "value-that-ends-with-period"),
        ("._.-value-with-trailing-leading-chars-__-.", "value-with-trailing-leading-chars"),
        ("a" * 100, "a" * 63),
        ("$@*^$@", ""),
        ("", ""),
    ],
)
async def test_case_30_a_labels_value_is_made_valid(value: str, repaired: str) -> None:
    assert (await job(Case("value", run={"labels": {"foo": value}})))["metadata"]["labels"][
        "foo"
    ] == repaired
