"""How far a run in flight is, and what it waits for, by its Job and pods alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.support.snapshots import RUN_ID, WALL, job, pod
from workpool_operator.cli.runs_in_flight import runs_in_flight
from workpool_operator.kube.models import BINDING_ANNOTATION, Event

JOB = job(created=WALL - timedelta(seconds=90), annotations={BINDING_ANNOTATION: "data/etl"})
NAMES = {JOB.metadata.uid: "brave-lynx"}


def only(*pods, of=JOB):
    [run] = runs_in_flight([of], pods, names=NAMES, now=WALL)
    return run


@pytest.mark.parametrize(
    ("pods", "phase", "reason"),
    [
        ((), "Pending", ""),
        ((pod(),), "Starting", ""),
        (
            (pod(waiting="ImagePullBackOff", message="no such image"),),
            "Starting",
            "ImagePullBackOff",
        ),
        ((pod(unschedulable="0/1 nodes"),), "Starting", "Unschedulable"),
        ((pod(phase="Running"),), "Running", ""),
        ((pod(phase="Running", deleting=True),), "Ending", ""),
    ],
)
def test_the_phase_and_the_reason_are_those_of_the_newest_pod(pods, phase, reason):
    run = only(*pods)
    assert (run.phase, run.reason) == (phase, reason)
    assert (run.run_id, run.name, run.binding) == (str(RUN_ID), "brave-lynx", "data/etl")
    assert (run.job, run.since) == (JOB.name, JOB.metadata.creation_timestamp)


def test_a_suspended_job_says_how_to_resume_it():
    run = only(of=replace(job(suspended=True), metadata=JOB.metadata))
    assert (run.phase, run.reason) == ("Suspended", "JobSuspended")
    assert "To resume it: kubectl -n data patch job" in run.message


def test_a_run_whose_job_and_pods_have_ended_is_not_in_flight():
    ended = job(ended="Complete")
    assert runs_in_flight([ended], [pod(phase="Succeeded")], names={}, now=WALL) == []
    assert runs_in_flight([ended], [pod(phase="Running")], names={}, now=WALL)[0].phase == "Running"


def test_events_explain_a_wait_that_job_and_pod_do_not():
    run = only()
    assert run.is_unexplained
    refused = Event("FailedCreate", "pods is forbidden: exceeded quota", "Warning")
    explained = run.explained_by([Event("Created", "ok", "Normal"), refused])
    assert explained.reason == "FailedCreate"
    assert explained.message.startswith(f"Job {JOB.name}: pods is forbidden: exceeded quota")
    assert run.explained_by([]) == run
    assert not only(pod(phase="Running")).is_unexplained


def test_pods_without_a_job_that_is_ours_are_left_out():
    assert runs_in_flight([], [pod(phase="Running")], names={}, now=WALL) == []
