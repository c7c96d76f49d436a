"""A local node starts next to others, continues after a kill, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from localnode import addresses
from localnode.node import LocalNode
from tests.support import nodes
from tests.support.nodes import Machine

# Each starts nodes of its own: one at a time, or two cores are not enough for their time limits.
pytestmark = pytest.mark.xdist_group("nodes")

LOOK_UP = f"{nodes.BUSYBOX} nslookup kubernetes.default.svc.cluster.local"


@pytest.fixture
def node() -> Iterator[LocalNode]:
    node = nodes.own_node()
    yield node
    node.down()


@pytest.fixture
def other_node() -> Iterator[LocalNode]:
    node = nodes.own_node()
    yield node
    node.down()


def test_two_nodes_run_pods_with_dns_side_by_side(node: LocalNode, other_node: LocalNode) -> None:
    both = (node, other_node)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(LocalNode.up, both))
        logs = list(pool.map(lambda each: nodes.run_job(each.kubectl, "ask", LOOK_UP), both))
    assert all("Address: 10.96.0.1" in log for log in logs)
    assert node.host_address != other_node.host_address
    node.down()
    assert other_node.is_up()
    assert nodes.run_job(other_node.kubectl, "ask-again", LOOK_UP)


def test_down_after_a_kill_leaves_nothing_on_the_machine(node: LocalNode) -> None:
    before = Machine.now(node, None)
    node.up()
    own = addresses.held_by(node.state)
    nodes.run_job(node.kubectl, "work", "true")
    assert Machine.now(node, own).processes
    nodes.kill(node)
    node.down()
    assert Machine.now(node, own) == before


def test_down_of_a_healthy_node_leaves_nothing_on_the_machine(node: LocalNode) -> None:
    before = Machine.now(node, None)
    node.up()
    own = addresses.held_by(node.state)
    nodes.run_job(node.kubectl, "work", "true")
    assert Machine.now(node, own).interface
    assert Machine.now(node, own).cgroups
    node.down()
    assert Machine.now(node, own) == before


def test_up_after_a_kill_continues_with_the_existing_objects(node: LocalNode) -> None:
    node.up()
    node.kubectl.run("create", "configmap", "kept", "--from-literal=key=value")
    nodes.kill(node)
    assert not node.is_up()
    node.up()
    assert node.kubectl.run("get", "configmap", "kept", "--output=jsonpath={.data.key}") == "value"
    assert nodes.run_job(node.kubectl, "work", f"{nodes.BUSYBOX} echo done") == "done\n"


@pytest.mark.parametrize("seconds", [pytest.param(0.3, marks=pytest.mark.extended), 2.0])
def test_up_continues_a_start_that_was_killed(node: LocalNode, seconds: float) -> None:
    before = Machine.now(node, None)
    starting = nodes.start_command(node)
    nodes.wait_for_the_end_of(starting, after_seconds=seconds)
    node.up()
    own = addresses.held_by(node.state)
    assert nodes.run_job(node.kubectl, "work", f"{nodes.BUSYBOX} echo done") == "done\n"
    node.down()
    assert Machine.now(node, own) == before


def test_a_component_that_ends_is_named_with_its_log(
    node: LocalNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.up()
    nodes.kill_component(node, "kube-scheduler")
    node.up()
    printed = capsys.readouterr().out
    log = node.state / "log" / "kube-scheduler.log"
    assert f"had ended: kube-scheduler ended by signal 9; its log: {log}" in printed
