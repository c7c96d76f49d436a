"""Why a run waits and how it ended: every message has the fact and the fix."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.support.snapshots import WALL, container, job, pod
from workpool_operator.jobs import diagnosis, reasons
from workpool_operator.jobs.diagnosis import Termination, WaitReason
from workpool_operator.kube.models import Event, Job, Pod

FAILED = job(ended="Failed", reason="BackoffLimitExceeded")
DEADLINE = job(ended="Failed", reason="DeadlineExceeded")
COMPLETE = job(ended="Complete")


def failed_pod(code: int, **fields: Any) -> Pod:
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
        (
            "no pod at all",
            FAILED,
            [],
            ["The Job failed: BackoffLimitExceeded", "pod was deleted", "`kubectl get events`"],
        ),
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
    message = diagnosis.termination(of, pods).message
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(
    ("of", "pods", "reason"),
    [
        (FAILED, [failed_pod(1)], "Error"),
        (FAILED, [failed_pod(137, reason="OOMKilled")], "OOMKilled"),
        (FAILED, [], "BackoffLimitExceeded"),
        (DEADLINE, [failed_pod(143)], "DeadlineExceeded"),
        (COMPLETE, [pod(phase="Succeeded", exit_code=0)], "Unreported"),
        (COMPLETE, [], "Unreported"),
        (FAILED, [pod(phase="Failed", exit_code=143, deleting=True)], "PodDeleted"),
    ],
)
def test_an_end_has_a_reason_of_the_closed_list(of: Job, pods: list[Pod], reason: str) -> None:
    assert diagnosis.termination(of, pods).reason == reason
    assert reasons.crashed(reason) == reason


def test_a_reason_that_is_not_in_the_closed_list_counts_as_other() -> None:
    assert reasons.crashed("SomethingOfAWebhook") == reasons.OTHER
    assert reasons.waiting("SomethingOfAScheduler") == reasons.OTHER


def test_an_end_carries_the_exit_code() -> None:
    assert diagnosis.termination(FAILED, [failed_pod(7)]).exit_code == 7
    assert diagnosis.termination(COMPLETE, []).exit_code == 0
    assert diagnosis.termination(FAILED, []).exit_code is None


def test_a_vanished_job_is_reported_with_its_last_known_end() -> None:
    assert "Job brave-lynx-1 vanished" in diagnosis.job_vanished("brave-lynx-1", []).message
    seen = diagnosis.job_vanished("brave-lynx-1", [failed_pod(137, reason="OOMKilled")]).message
    assert "Last seen: Container 'prefect-job' was killed" in seen


def test_an_end_that_the_deletion_itself_causes_is_not_named_as_its_cause() -> None:
    for code in (137, 143):
        message = diagnosis.job_vanished("a", [failed_pod(code, reason="Error")]).message
        assert "Last seen" not in message
        assert "Retry the run" in message


def test_an_out_of_memory_kill_is_reported_even_if_the_container_exits_0() -> None:
    killed = pod(phase="Succeeded", exit_code=0, reason="OOMKilled", memory_limit="64Mi")
    assert diagnosis.out_of_memory([killed]).startswith("A process of container 'prefect-job'")
    assert "limit of 64Mi" in diagnosis.termination(COMPLETE, [killed]).message
    assert diagnosis.out_of_memory([failed_pod(137, reason="Error")]) == ""


@pytest.mark.parametrize(
    ("defaults", "advice"),
    [
        ("memory limit for container prefect-job", "the default of a LimitRange"),
        ("cpu, memory limit for container prefect-job", "the default of a LimitRange"),
        ("cpu limit for container prefect-job", "Raise the limit"),
        ("memory request for container prefect-job", "Raise the limit"),
        ("memory limit for container proxy", "Raise the limit"),
        ("memory limit for init container prefect-job", "Raise the limit"),
    ],
)
def test_a_memory_limit_that_the_namespace_set_is_not_looked_for_in_the_job(
    defaults: str, advice: str
) -> None:
    killed = pod(
        phase="Failed", exit_code=137, reason="OOMKilled", memory_limit="64Mi", defaults=defaults
    )
    assert advice in diagnosis.termination(FAILED, [killed]).message


# Which end counts

SOON = WALL + timedelta(seconds=5)
PROXY = container("istio-proxy", exit_code=143, reason="Error", at=SOON, restart_policy="Always")
AGENT = container("agent", exit_code=137, reason="OOMKilled", at=SOON, memory_limit="1Gi")
FETCH = container("fetch", exit_code=1, reason="Error")


@pytest.mark.parametrize(
    ("pods", "parts", "of"),
    [
        pytest.param(
            [pod(phase="Failed", init=[PROXY], exit_code=3)],
            "Container 'prefect-job' exited with code 3",
            ("pod-claim", "prefect-job"),
            id="a native sidecar that was stopped after it",
        ),
        pytest.param(
            [
                pod(
                    phase="Failed",
                    containers=[
                        AGENT,
                        container(exit_code=137, reason="OOMKilled", memory_limit="64Mi"),
                    ],
                )
            ],
            "Container 'prefect-job' was killed for using more memory than its limit of 64Mi",
            ("pod-claim", "prefect-job"),
            id="a classic sidecar that was killed after it",
        ),
        pytest.param(
            [pod(phase="Failed", containers=[AGENT, container(exit_code=0)])],
            "Container 'prefect-job' exited with code 0 without reporting",
            ("pod-claim", "prefect-job"),
            id="a sidecar that failed next to it",
        ),
        pytest.param(
            [pod(phase="Failed", init=[PROXY, FETCH], waiting="PodInitializing")],
            "Container 'fetch' exited with code 1",
            ("pod-claim", "fetch"),
            id="an init container that failed before it",
        ),
        pytest.param(
            [
                pod(
                    phase="Failed",
                    init=[FETCH],
                    state={"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}},
                )
            ],
            "Container 'fetch' exited with code 1",
            ("pod-claim", "fetch"),
            id="an init container, not the end that the kubelet makes up",
        ),
        pytest.param(
            [
                pod(phase="Failed", exit_code=1),
                pod(phase="Failed", exit_code=9, number=2, created=SOON),
            ],
            "exited with code 9",
            ("pod-claim-2", "prefect-job"),
            id="the newest pod",
        ),
    ],
)
def test_the_end_is_that_of_the_flows_container_or_of_an_init_container_before_it(
    pods: list[Pod], parts: str, of: tuple[str, str]
) -> None:
    end = diagnosis.termination(FAILED, pods)
    assert parts in end.message
    assert (end.pod, end.container) == of


def test_the_memory_of_other_containers_is_not_the_runs() -> None:
    assert diagnosis.out_of_memory([pod(phase="Failed", containers=[AGENT, container()])]) == ""
    assert diagnosis.out_of_memory([pod(phase="Failed", init=[PROXY], exit_code=1)]) == ""


# Who ended a pod

KILLED: dict[str, Any] = {"phase": "Failed", "exit_code": 137, "reason": "Error"}
DISK = "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. "
EMPTY_DIR = 'Usage of EmptyDir volume "scratch" exceeds the limit "1Gi". '
CONTAINER_DISK = 'Container prefect-job exceeded its local ephemeral storage limit "10Mi". '
NODE_DISK = "The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi. "
NODE_MEMORY = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 90Mi. "


@pytest.mark.parametrize(
    ("message", "facts"),
    [
        (DISK, ["limit of containers 10Mi", "Raise the ephemeral-storage limit"]),
        (CONTAINER_DISK, ['limit "10Mi"', "Raise the ephemeral-storage limit"]),
        (EMPTY_DIR, ['"scratch" exceeds the limit "1Gi"', "Raise the volume's sizeLimit"]),
        (NODE_DISK, ["low on resource: ephemeral-storage", "node's disk is full"]),
        (NODE_MEMORY, ["low on resource: memory", "raise the memory request"]),
        ("The node had condition: [PIDPressure]. ", ["PIDPressure", "Retry the run"]),
    ],
)
def test_an_eviction_has_its_own_cause_limit_and_advice(message: str, facts: list[str]) -> None:
    evicted = pod(pod_reason="Evicted", pod_message=message, **KILLED)
    text = diagnosis.termination(FAILED, [evicted]).message
    for fact in ["evicted by the kubelet", *facts, "exited with code 137"]:
        assert fact in text
    assert ("memory" in text) == ("memory" in message)


@pytest.mark.parametrize(
    ("reason", "facts"),
    [
        ("PreemptionByScheduler", ["higher priority", "priority class"]),
        ("DeletionByTaintManager", ["taint", "tolerate"]),
        ("EvictionByEvictionAPI", ["drained", "Retry the run"]),
        ("DeletionByPodGC", ["node no longer exists", "Retry the run"]),
        ("TerminationByKubelet", ["in response to imminent node shutdown", "Retry the run"]),
    ],
)
def test_a_disruption_is_explained_by_its_own_reason(reason: str, facts: list[str]) -> None:
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": reason,
        "message": "Pod was terminated in response to imminent node shutdown.",
    }
    text = diagnosis.termination(FAILED, [pod(conditions=[condition], **KILLED)]).message
    for fact in [reason, *facts]:
        assert fact in text
    assert "memory" not in text
    gone = pod(phase="Failed", conditions=[condition], containers=[container()])
    assert reason in diagnosis.termination(FAILED, [gone]).message


def test_a_disruption_that_did_not_happen_is_not_reported() -> None:
    condition = {"type": "DisruptionTarget", "status": "False", "reason": "DeletionByPodGC"}
    assert (
        "DeletionByPodGC"
        not in diagnosis.termination(FAILED, [pod(conditions=[condition])]).message
    )


def test_a_container_that_the_kubelet_lost_gets_no_invented_exit_code_or_cause() -> None:
    ended = {"exitCode": 137, "reason": "ContainerStatusUnknown", "message": "not located"}
    text = diagnosis.termination(FAILED, [pod(phase="Failed", state={"terminated": ended})]).message
    assert (
        "lost container 'prefect-job' (ContainerStatusUnknown), so its exit code is unknown" in text
    )
    assert "memory" not in text


def test_a_sigkill_of_a_pod_that_is_being_deleted_is_not_blamed_on_memory() -> None:
    text = diagnosis.termination(FAILED, [pod(deleting=True, **KILLED)]).message
    assert "was deleted" in text
    assert "memory" not in text


def test_a_pod_that_the_operator_stopped_is_reported_with_its_flows_end() -> None:
    stopped = pod(
        phase="Failed",
        exit_code=7,
        pod_reason="DeadlineExceeded",
        spec={"activeDeadlineSeconds": 1},
    )
    assert (
        diagnosis.termination(FAILED, [stopped]).message
        == "Container 'prefect-job' exited with code 7."
    )


# Init containers


def minutes(count: int) -> Any:
    return WALL - timedelta(minutes=count)


def test_a_long_running_init_container_is_named_with_its_time() -> None:
    fetch = container("fetch", running=WALL - timedelta(seconds=95))
    working = pod(init=[fetch], waiting="PodInitializing")
    wait = diagnosis.wait_reason(working, WALL)
    assert wait is not None
    assert wait.category == "Initializing"
    assert wait.message.startswith("Container 'fetch' has been running for 95 s.")
    assert "set activeDeadlineSeconds" in wait.message
    assert diagnosis.is_initializing(working)
    assert diagnosis.wait_reason(working, WALL - timedelta(seconds=85)) is None


def test_an_init_container_that_hangs_until_the_jobs_deadline_is_named() -> None:
    for hung in (container("fetch", running=WALL), container("fetch", exit_code=137)):
        stuck = pod(init=[container("first", exit_code=0), hung], waiting="PodInitializing")
        text = diagnosis.termination(DEADLINE, [stuck]).message
        assert "Its init container 'fetch' had not finished." in text
        assert "'first'" not in text
    assert "init container" not in diagnosis.termination(DEADLINE, [failed_pod(143)]).message


def test_the_time_of_ordinary_init_containers_adds_up_and_that_of_sidecars_does_not() -> None:
    init = [
        container("proxy", running=minutes(60), restart_policy="Always", started=True),
        container("fetch", exit_code=0, at=minutes(30)),
        container("migrate", running=minutes(10)),
        container("last", waiting="PodInitializing"),
    ]
    assert diagnosis.initializing_seconds(pod(init=init), WALL) == 5 + 600


def test_a_native_sidecar_that_never_started_is_the_reason_to_wait() -> None:
    proxy = {"name": "proxy", "running": minutes(1), "restart_policy": "Always"}
    waits = pod(init=[container(**proxy, started=False)], waiting="PodInitializing")
    wait = diagnosis.wait_reason(waits, WALL)
    assert wait is not None
    assert (wait.category, wait.container) == ("SidecarNotStarted", "proxy")
    assert "startup probe has not passed" in wait.message
    assert not diagnosis.is_initializing(waits)
    assert diagnosis.wait_reason(pod(init=[container(**proxy, started=True)]), WALL) is None
    again = pod(init=[container(**proxy, started=False, restartCount=3)])
    found = diagnosis.wait_reason(again, WALL)
    assert found is not None
    assert found.category == "CrashLoopBackOff"


def test_a_sidecar_without_its_image_is_not_the_flows_reason_to_wait() -> None:
    blocked = container("agent", waiting="ErrImagePull")
    flow = container(waiting="ContainerCreating")
    assert diagnosis.wait_reason(pod(containers=[blocked, flow]), WALL) is None


@pytest.mark.parametrize(
    ("waiting", "category", "part"),
    [
        ("ErrImagePull", "ImagePullBackOff", "pull secret"),
        ("ImagePullBackOff", "ImagePullBackOff", "(image a/b:1)"),
        ("InvalidImageName", "InvalidImageName", "Correct the image"),
        ("CreateContainerConfigError", "CreateContainerConfigError", "base job template, or in sp"),
        ("CrashLoopBackOff", "CrashLoopBackOff", "the reason"),
    ],
)
def test_a_container_that_waits_names_the_category_and_the_remedy(
    waiting: str, category: str, part: str
) -> None:
    wait = diagnosis.wait_reason(pod(waiting=waiting, message="the reason"), WALL)
    assert wait is not None
    assert wait.category == category
    assert "the reason" in wait.message
    assert part in wait.message
    assert wait.is_permanent == (waiting == "InvalidImageName")


def test_an_unschedulable_pod_is_explained_by_the_scheduler() -> None:
    wait = diagnosis.wait_reason(pod(unschedulable="0/1 nodes: Insufficient memory."), WALL)
    assert wait is not None
    assert wait.category == "Unschedulable"
    assert "Insufficient memory. Lower the resource requests" in wait.message


@pytest.mark.parametrize(
    "calm",
    [pod(), pod(waiting="ContainerCreating"), pod(phase="Running"), failed_pod(1)],
    ids=["new", "creating", "running", "ended"],
)
def test_a_pod_that_makes_progress_has_no_reason_to_wait(calm: Pod) -> None:
    assert diagnosis.wait_reason(calm, WALL) is None


def test_the_newest_warning_explains_a_job_without_pods() -> None:
    events = [
        Event(reason="FailedCreate", message="forbidden: old", type="Warning"),
        Event(reason="FailedCreate", message="exceeded quota: pods", type="Warning"),
        Event(reason="SuccessfulCreate", message="created", type="Normal"),
    ]
    wait = diagnosis.no_pods_reason(events, what="Job a")
    assert wait is not None
    assert wait.category == "FailedCreate"
    assert wait.message.startswith("Job a: exceeded quota: pods (FailedCreate).")
    assert diagnosis.no_pods_reason(events[2:], what="Job a") is None


def test_the_pending_time_out_names_its_length_and_the_wait() -> None:
    wait = WaitReason("Unschedulable", "No node can run the pod.")
    message = diagnosis.never_started(wait, None, seconds=600).message
    assert message == (
        "Not started within pendingTimeoutSeconds (600 s). Unschedulable: No node can run the pod."
    )
    message = diagnosis.never_started(None, pod(), seconds=600).message
    assert message.startswith("Pod pod-claim did not start the flow's container within")


def test_log_lines_follow_the_reason_and_are_cut_from_the_front() -> None:
    end, longest = Termination("It ended.", "Error"), Termination("y" * 9000, "Error")
    assert diagnosis.with_logs(end, "") == "It ended."
    assert diagnosis.with_logs(end, "one\ntwo\n") == "It ended.\n\nLast log lines:\none\ntwo"
    long = diagnosis.with_logs(end, "first " + "x" * 9000 + " last")
    assert len(long) <= diagnosis.MESSAGE_LENGTH
    assert long.endswith(" last")
    assert "first" not in long
    assert len(diagnosis.with_logs(longest, "log")) <= diagnosis.MESSAGE_LENGTH


def test_the_kubelets_message_for_a_removed_log_is_not_taken_for_the_log() -> None:
    answer = "unable to retrieve container logs for containerd://d84d5a1c"
    assert diagnosis.with_logs(Termination("It ended.", "Error"), answer) == "It ended."


def test_characters_that_a_database_refuses_are_dropped_from_the_message() -> None:
    text = diagnosis.with_logs(
        Termination("It\x00 ended.", "Error"), "one\x00\x1b[31m\ttwo\n\ud800three"
    )
    assert text == "It ended.\n\nLast log lines:\none[31m\ttwo\nthree"
