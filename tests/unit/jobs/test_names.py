"""Names and ids are computed, valid, and the same in every repetition."""

from __future__ import annotations

import re
import sys
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slugify import slugify

from workpool_operator.jobs import names

RUN = UUID("11111111-1111-4111-8111-111111111111")
CLAIM = UUID("22222222-2222-4222-8222-222222222222")
DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?")


def name_of(run_name: str) -> str:
    return names.job_name(run_name=run_name, run_id=RUN, claim_id=CLAIM)


@pytest.mark.parametrize(
    ("run_name", "slug"),
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
        ("Grüße aus Köln", "grusse-aus-koln"),
        ("caf&eacute; &#233; O'Neill 1,000", "cafe-e-o-neill-1000"),
        ("$@*", "run"),
        ("", "run"),
    ],
)
def test_a_jobs_name_is_the_runs_and_its_hash(run_name: str, slug: str) -> None:
    name, _, digest = name_of(run_name).rpartition("-")
    assert name == slug
    assert re.fullmatch("[0-9a-f]{12}", digest)


@settings(max_examples=200)
@given(st.text(alphabet=st.characters(max_codepoint=127), max_size=100))
def test_a_plain_name_is_the_slug_that_transliteration_would_give(run_name: str) -> None:
    length = names.JOB_NAME_LENGTH - 13
    assert name_of(run_name).rpartition("-")[0] == (slugify(run_name, max_length=length) or "run")


def test_a_plain_name_is_made_without_a_search_on_the_disk(monkeypatch) -> None:
    def search(name: str) -> None:
        raise AssertionError(name)

    monkeypatch.setattr(sys.modules["slugify.slugify"], "import_module", search)
    assert name_of("Brave Lynx").startswith("brave-lynx-")
    assert names.label_value("not valid!") == "not-valid"


@settings(max_examples=100)
@given(st.text(max_size=300))
def test_every_name_is_a_dns_label_of_at_most_57_characters(run_name: str) -> None:
    name = name_of(run_name)
    assert len(name) <= 57
    assert DNS_LABEL.fullmatch(name)


def test_a_long_name_keeps_its_hash() -> None:
    assert name_of("x" * 300)[-13:] == name_of("y")[-13:]
    assert len(name_of("x" * 300)) == 57


def test_a_repeated_claim_gives_the_same_name_and_a_new_claim_another() -> None:
    assert name_of("a") == name_of("a")
    assert name_of("a") != names.job_name(run_name="a", run_id=RUN, claim_id=RUN)
    assert name_of("a") != names.job_name(run_name="a", run_id=CLAIM, claim_id=CLAIM)


def test_a_name_is_recognised_after_its_run_was_renamed() -> None:
    assert names.is_job_name(name_of("before"), run_id=RUN, claim_id=CLAIM)
    assert not names.is_job_name(name_of("before"), run_id=RUN, claim_id=RUN)
    assert not names.is_job_name("", run_id=RUN, claim_id=CLAIM)


def test_a_transition_id_depends_on_cluster_binding_pool_and_run() -> None:
    base: dict[str, Any] = {"cluster_id": "c", "binding": "ns/b", "pool_id": RUN, "run_id": CLAIM}
    others: list[dict[str, Any]] = [
        {"cluster_id": "d"},
        {"binding": "ns/c"},
        {"pool_id": CLAIM},
        {"run_id": RUN},
    ]
    made = {names.transition_id(**{**base, **other}) for other in [{}, {}, *others]}
    assert len(made) == 5


def test_a_sub_states_id_is_its_own() -> None:
    first = names.substate_transition_id(claim_id=CLAIM, name="Unschedulable")
    assert first == names.substate_transition_id(claim_id=CLAIM, name="Unschedulable")
    assert first != names.substate_transition_id(claim_id=CLAIM, name="ImagePullBackOff")
    assert first != names.substate_transition_id(claim_id=RUN, name="Unschedulable")


def test_a_bindings_id_is_a_label_value() -> None:
    assert LABEL_VALUE.fullmatch(names.binding_id(cluster_id="c" * 300, binding="ns/b" * 99))


@pytest.mark.parametrize(
    ("key", "repaired"),
    [
        ("a-valid-dns-subdomain1/and-a-name", "a-valid-dns-subdomain1/and-a-name"),
        (
            "a-prefix-with-invalid$@*^$-characters/and-a-name",
            "a-prefix-with-invalid-characters/and-a-name",
        ),
        ("a-name-with-invalid$@*^$-characters", "a-name-with-invalid-characters"),
        ("/a-name-that-starts-with-slash", "a-name-that-starts-with-slash"),
        ("a-prefix/and-a-name/-with-a-slash", "a-prefix/and-a-name-with-a-slash"),
        ("_a-name-that-starts-with-underscore", "a-name-that-starts-with-underscore"),
        ("-a-name-that-starts-with-dash", "a-name-that-starts-with-dash"),
        (".a-name-that-starts-with-period", "a-name-that-starts-with-period"),
        ("a-name-that-ends-with-underscore_", "a-name-that-ends-with-underscore"),
        ("a-name-that-ends-with-dash-", "a-name-that-ends-with-dash"),
        ("a-name-that-ends-with-period.", "a-name-that-ends-with-period"),
        ("._.-a-name-with-trailing-leading-chars-__-.", "a-name-with-trailing-leading-chars"),
        ("a-prefix/Kept_case.1", "a-prefix/Kept_case.1"),
        ("a" * 300 + "/and-a-name", "a" * 253 + "/and-a-name"),
        ("a" * 300, "a" * 63),
        ("a" * 300 + "/" + "b" * 100, "a" * 253 + "/" + "b" * 63),
        ("$@*^$@", ""),
        ("$@*^$@/name", "name"),
    ],
)
def test_a_label_key_is_repaired_as_the_stock_worker_repairs_it(key: str, repaired: str) -> None:
    """Except that a key without valid characters is dropped; the stock worker sends it."""
    assert names.label_key(key) == repaired


@pytest.mark.parametrize(
    ("value", "repaired"),
    [
        ("valid-label-text", "valid-label-text"),
        ("text-with-invalid$@*^$-characters", "text-with-invalid-characters"),
        ("_value-that-starts-with-underscore", "value-that-starts-with-underscore"),
        ("-value-that-starts-with-dash", "value-that-starts-with-dash"),
        (".value-that-starts-with-period", "value-that-starts-with-period"),
        ("value-that-ends-with-underscore_", "value-that-ends-with-underscore"),
        ("value-that-ends-with-dash-", "value-that-ends-with-dash"),
        ("value-that-ends-with-period.", "value-that-ends-with-period"),
        ("._.-value-with-trailing-leading-chars-__-.", "value-with-trailing-leading-chars"),
        ("Kept_case.1", "Kept_case.1"),
        ("a" * 100, "a" * 63),
        ("$@*^$@", ""),
    ],
)
def test_a_label_value_is_repaired(value: str, repaired: str) -> None:
    assert names.label_value(value) == repaired


@settings(max_examples=100)
@given(st.text(max_size=200))
def test_every_repaired_value_is_valid(value: str) -> None:
    repaired = names.label_value(value)
    assert len(repaired) <= 63
    assert LABEL_VALUE.fullmatch(repaired)


def test_a_worker_is_called_by_its_binding_and_cluster() -> None:
    cluster = str(uuid4())
    name = names.worker_name(cluster_id=cluster, namespace="data", name="etl")
    assert name == f"etl.data@{cluster[:8]}"
