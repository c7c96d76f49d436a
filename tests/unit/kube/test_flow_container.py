"""The flow container is found by name, wherever the template or a webhook lists it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.corpus.case import Case, template_with
from tests.corpus.rendered import job as rendered
from tests.support.snapshots import WALL, container, pod
from workpool_operator.errors import RenderError
from workpool_operator.jobs.template_validation import template_errors
from workpool_operator.kube.flow_container import find_index
from workpool_operator.kube.models import CONTAINER_ANNOTATION

Object = dict[str, Any]
AGENT: Object = {"name": "log-agent", "image": "busybox:1.36", "args": ["sleep", "3600"]}
FLOW: Object = {"name": "prefect-job", "image": "acme/etl:7", "args": "{{ command }}"}


@pytest.mark.parametrize(
    ("names", "recorded", "index"),
    [
        (["main"], "", 0),
        (["main", "prefect-job"], "", 1),
        (["proxy", "main"], "main", 1),
        (["proxy", "prefect-job", "main"], "main", 2),
        (["proxy", "prefect-job"], "gone", 1),
    ],
)
def test_it_is_the_recorded_container_else_prefect_job_else_the_first(
    names: list[str], recorded: str, index: int
) -> None:
    assert find_index(names, recorded=recorded) == index


# Rendering


@pytest.mark.parametrize("index", [0, 1])
async def test_rendering_fills_the_flow_container_wherever_the_template_lists_it(
    index: int,
) -> None:
    containers = [AGENT]
    containers.insert(index, FLOW)
    case = Case("order", template=template_with(pod={"containers": containers}))
    made = await rendered(case)
    listed = made["spec"]["template"]["spec"]["containers"]
    assert listed[1 - index] == AGENT
    assert listed[index]["args"] == ["prefect", "flow-run", "execute"]
    assert "PREFECT__FLOW_RUN_ID" in [entry["name"] for entry in listed[index]["env"]]


@pytest.mark.parametrize(
    ("containers", "name"),
    [
        ([AGENT, FLOW], "prefect-job"),
        ([{**FLOW, "name": "main"}, AGENT], "main"),
        ([{"image": "acme/etl:7"}], "prefect-job"),
        ([{"image": "acme/etl:7", "name": None}], "prefect-job"),
    ],
)
async def test_its_name_is_recorded_on_the_job_and_its_pods(
    containers: list[Object], name: str
) -> None:
    template = template_with(pod={"containers": containers})
    template["job_configuration"]["annotations"] = {CONTAINER_ANNOTATION: "log-agent"}
    made = await rendered(Case("recorded", template=template))
    for metadata in (made["metadata"], made["spec"]["template"]["metadata"]):
        assert metadata["annotations"][CONTAINER_ANNOTATION] == name


async def test_an_error_in_its_arguments_names_their_path() -> None:
    containers = [AGENT, {**FLOW, "args": "sh -c 'unbalanced"}]
    case = Case("quotes", template=template_with(pod={"containers": containers}))
    with pytest.raises(RenderError) as refused:
        await rendered(case)
    assert refused.value.path.endswith("containers[1].args")


# Templates


def errors(**pod_spec: Any) -> list[str]:
    return [str(fault) for fault in template_errors(template_with(pod=pod_spec))]


@pytest.mark.parametrize(
    "containers",
    [
        [AGENT, FLOW],
        [FLOW, AGENT],
        [AGENT, {"name": "prefect-job"}],
        [AGENT, {"name": "prefect-job", "args": 5, "env": {"A": "1"}}],
        [{"name": "main"}, AGENT],
        [{**FLOW, "name": "main"}, {"name": "side", "image": "a", "args": ["{{ command }}"]}],
        ["{{ sidecar }}", FLOW],
        [AGENT, "{{ flow_container }}"],
        [AGENT, {**FLOW, "name": "{{ container_name }}"}],
    ],
    ids=str,
)
def test_a_template_is_valid_wherever_it_lists_the_flow_container(
    containers: list[Object],
) -> None:
    assert errors(containers=containers) == []


def test_a_template_whose_command_is_in_another_container_is_refused_with_the_reason() -> None:
    [fault] = errors(containers=[AGENT, {**FLOW, "name": "main"}])
    assert "containers[1].name: expected 'prefect-job'" in fault
    assert "the flow runs in the first one, 'log-agent'" in fault
    assert "got 'main'" in fault


def test_a_template_with_the_flow_in_an_init_container_is_refused_with_the_reason() -> None:
    [fault] = errors(containers=[AGENT], initContainers=[{"name": "prefect-job", "image": "a"}])
    assert "initContainers[0].name" in fault
    assert "this one is for the flow's container, in `containers`" in fault


def test_only_the_flow_container_may_omit_its_image() -> None:
    [fault] = errors(containers=[{"name": "log-agent"}, {"name": "prefect-job"}])
    assert "containers[0].image" in fault


# Pods

PROXY = container("istio-proxy", running=WALL)


def test_an_injected_container_neither_starts_nor_ends_the_flow() -> None:
    waits = pod(containers=[PROXY, container(waiting="ErrImagePull")])
    assert not waits.started
    runs = pod(containers=[container("istio-proxy", exit_code=1), container(running=WALL)])
    assert runs.started
    assert not runs.flow_ended


def test_a_pod_finds_its_flow_container_by_the_recorded_name() -> None:
    main = container("main", exit_code=7)
    assert pod(containers=[PROXY, main], recorded="main").flow_ended
    assert not pod(containers=[PROXY, main]).flow_ended


@pytest.mark.parametrize(
    ("policy", "own", "code", "ended"),
    [
        ("Never", "", 7, True),
        ("OnFailure", "", 0, True),
        ("OnFailure", "", 7, False),
        ("Never", "OnFailure", 7, False),
        ("Never", "Always", 0, False),
        ("OnFailure", "Never", 7, True),
    ],
)
def test_a_flow_has_not_ended_if_its_restart_policy_starts_it_again(
    policy: str, own: str, code: int, ended: bool
) -> None:
    flow = container(exit_code=code, restart_policy=own)
    assert pod(containers=[PROXY, flow], spec={"restartPolicy": policy}).flow_ended == ended


def test_a_container_whose_end_the_kubelet_invented_has_not_started() -> None:
    ended = {"exitCode": 137, "reason": "ContainerStatusUnknown"}
    made_up = container(state={"terminated": {**ended, "message": "could not be located"}})
    assert not pod(containers=[made_up], phase="Failed").started
    known = container(state={"terminated": {**ended, "message": "It used to be Running"}})
    assert pod(containers=[known], phase="Failed").started
    assert pod(exit_code=1, at=WALL - timedelta(seconds=1), phase="Failed").started
