"""The final state of a run in an annotation of its Job."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.snapshots import job
from workpool_operator.kube.models import FINAL_STATE_ANNOTATION, FinalState

TYPES = st.sampled_from(["COMPLETED", "FAILED", "CRASHED", "CANCELLED"])


@given(TYPES, st.text(), st.text())
def test_an_annotated_state_is_read_as_it_was_written(type_: str, name: str, message: str) -> None:
    state = FinalState(type_, name, message)
    marked = job(annotations={FINAL_STATE_ANNOTATION: state.as_annotation()})
    assert marked.final_state == state


@pytest.mark.parametrize(
    ("text", "state"),
    [
        (
            "CRASHED/Crashed/exit 1: a/b, 100%",
            FinalState("CRASHED", "Crashed", "exit 1: a/b, 100%"),
        ),
        ("FAILED/90% Done/", FinalState("FAILED", "90% Done", "")),
        ("CRASHED", FinalState("CRASHED", "", "")),
    ],
)
def test_the_annotation_of_an_earlier_release_is_still_read(text: str, state: FinalState) -> None:
    assert job(annotations={FINAL_STATE_ANNOTATION: text}).final_state == state


def test_a_name_without_reserved_characters_is_written_as_it_is() -> None:
    state = FinalState("CRASHED", "Crashed", "a/b, 100%")
    assert state.as_annotation() == "CRASHED/Crashed/a/b, 100%"


def test_a_job_without_the_annotation_has_no_final_state() -> None:
    assert job().final_state is None
