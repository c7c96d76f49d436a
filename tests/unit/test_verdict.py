"""What people read: every text names the fact and the fix."""

from __future__ import annotations

import pytest

from tests.support.snapshots import job, pod
from workpool_operator.jobs import verdict
from workpool_operator.jobs.verdict import End, Wait
from workpool_operator.kube.views import Event, Job, Pod

FAILED = job(ended="Failed", reason="BackoffLimitExceeded")
DEADLINE = job(ended="Failed", reason="DeadlineExceeded")
COMPLETE = job(ended="Complete")


def failed_pod(code: int, **fields: str) -> Pod:
    return pod(phase="Failed", exit_code=code, **fields)


@pytest.mark.parametrize(
    ("what", "of", "pods", "parts"),
    [
        ("an error", FAILED, [failed_pod(1, reason="Error")], ["code 1 (Error)", "its log"]),
        ("any other code", FAILED, [failed_pod(7)], ["exited with code 7"]),
        ("not executable", FAILED, [failed_pod(126)], ["code 126", "permissions"]),
        ("no such command", FAILED, [failed_pod(127)], ["code 127", "check the command"]),
        ("a start error", FAILED, [failed_pod(128, reason="StartError")], ["StartError", "128"]),
        ("SIGKILL", FAILED, [failed_pod(137, reason="Error")], ["code 137", "memory"]),
        ("SIGTERM", FAILED, [failed_pod(143)], ["code 143", "drained"]),
        (
            "no memory",
            FAILED,
            [failed_pod(137, reason="OOMKilled", memory_limit="64Mi")],
            ["limit of 64Mi", "OOMKilled", "Raise the limit"],
        ),
        (
            "a termination message",
            FAILED,
            [failed_pod(3, message="disk full\n")],
            ["code 3", "disk full"],
        ),
        (
            "an evicted pod",
            FAILED,
            [failed_pod(137, pod_reason="Evicted")],
            ["evicted by the kubelet (Evicted)", "code 137"],
        ),
        (
            "a pod without statuses",
            FAILED,
            [pod(phase="Failed", pod_reason="NodeLost")],
            ["NodeLost"],
        ),
        ("no pod at all", FAILED, [], ["The Job failed: BackoffLimitExceeded"]),
        ("the deadline", DEADLINE, [failed_pod(143)], ["of 60 s", "DeadlineExceeded", "Raise"]),
        (
            "no report",
            COMPLETE,
            [pod(phase="Succeeded", exit_code=0)],
            ["code 0", "prefect flow-run"],
        ),
    ],
    ids=lambda value: value.replace(" ", "_") if isinstance(value, str) else "",
)
def test_an_end_names_its_reason_and_its_remedy(
    what: str, of: Job, pods: list[Pod], parts: list[str]
) -> None:
    message = verdict.ended(of, pods).message
    assert all(part in message for part in parts), message


def test_an_end_carries_the_exit_code() -> None:
    assert verdict.ended(FAILED, [failed_pod(7)]).exit_code == 7
    assert verdict.ended(COMPLETE, []).exit_code == 0
    assert verdict.ended(FAILED, []).exit_code is None


def test_a_vanished_job_is_named_with_what_was_seen_last() -> None:
    assert "Job brave-lynx-1 vanished" in verdict.vanished("brave-lynx-1", []).message
    seen = verdict.vanished("brave-lynx-1", [failed_pod(137, reason="OOMKilled")]).message
    assert "Last seen: Container 'prefect-job' was killed" in seen


def test_the_end_that_a_deletion_brings_about_is_no_cause_of_it() -> None:
    for code in (137, 143):
        message = verdict.vanished("a", [failed_pod(code, reason="Error")]).message
        assert "Last seen" not in message
        assert "Retry the run" in message


def test_a_process_killed_for_memory_is_told_even_where_its_container_exits_0() -> None:
    killed = pod(phase="Succeeded", exit_code=0, reason="OOMKilled", memory_limit="64Mi")
    assert verdict.out_of_memory([killed]).startswith("A process of container 'prefect-job'")
    assert "limit of 64Mi" in verdict.ended(COMPLETE, [killed]).message
    assert verdict.out_of_memory([failed_pod(137, reason="Error")]) == ""


@pytest.mark.parametrize(
    ("waiting", "category", "part"),
    [
        ("ErrImagePull", "ImagePullBackOff", "pull secret"),
        ("ImagePullBackOff", "ImagePullBackOff", "(image a/b:1)"),
        ("InvalidImageName", "InvalidImageName", "Correct the image"),
        ("CreateContainerConfigError", "CreateContainerConfigError", "Create the Secret"),
        ("CrashLoopBackOff", "CrashLoopBackOff", "the reason"),
    ],
)
def test_a_container_that_waits_names_the_category_and_the_remedy(
    waiting: str, category: str, part: str
) -> None:
    wait = verdict.waiting([pod(waiting=waiting, message="the reason")])
    assert wait is not None
    assert wait.category == category
    assert "the reason" in wait.message
    assert part in wait.message
    assert wait.hopeless == (waiting == "InvalidImageName")


def test_a_pod_that_no_node_takes_says_why() -> None:
    wait = verdict.waiting([pod(unschedulable="0/1 nodes: Insufficient memory.")])
    assert wait is not None
    assert wait.category == "Unschedulable"
    assert "Insufficient memory. Lower the resource requests" in wait.message


@pytest.mark.parametrize(
    "calm",
    [pod(), pod(waiting="ContainerCreating"), pod(phase="Running"), failed_pod(1)],
    ids=["new", "creating", "running", "ended"],
)
def test_a_pod_that_waits_for_nobody_has_no_reason(calm: Pod) -> None:
    assert verdict.waiting([calm]) is None


def test_the_newest_warning_explains_a_job_without_pods() -> None:
    events = [
        Event(reason="FailedCreate", message="forbidden: old", type="Warning"),
        Event(reason="FailedCreate", message="exceeded quota: pods", type="Warning"),
        Event(reason="SuccessfulCreate", message="created", type="Normal"),
    ]
    wait = verdict.refused(events, what="Job a")
    assert wait is not None
    assert wait.category == "FailedCreate"
    assert wait.message.startswith("Job a: exceeded quota: pods (FailedCreate).")
    assert verdict.refused(events[2:], what="Job a") is None


def test_the_pending_time_out_names_its_length_and_the_wait() -> None:
    wait = Wait("Unschedulable", "no node takes the pod.")
    message = verdict.never_started(wait, seconds=600).message
    assert "pendingTimeoutSeconds (600 s). Unschedulable: no node takes the pod." in message
    assert "never started" in verdict.never_started(None, seconds=600).message


def test_log_lines_follow_the_reason_and_are_cut_from_the_front() -> None:
    end = End("It ended.")
    assert verdict.with_logs(end, "") == "It ended."
    assert verdict.with_logs(end, "one\ntwo\n") == "It ended.\n\nLast log lines:\none\ntwo"
    long = verdict.with_logs(end, "first " + "x" * 9000 + " last")
    assert len(long) <= verdict.MESSAGE_LENGTH
    assert long.endswith(" last")
    assert "first" not in long
    assert len(verdict.with_logs(End("y" * 9000), "log")) <= verdict.MESSAGE_LENGTH
