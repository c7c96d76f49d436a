from __future__ import annotations

import json
from pathlib import Path

import pytest

from localnode import components, configuration, layout
from localnode.addresses import Addresses
from localnode.components import Component
from localnode.layout import Node

NODES = [
    Node(f"node-{n}", Path(f"/state/node-{n}"), Addresses(n), Path("/cache/bin")) for n in (1, 2)
]


def test_a_node_survives_its_command_line() -> None:
    assert [Node.from_argv(node.argv) for node in NODES] == NODES


def test_nodes_share_no_cgroup_and_no_pod_address() -> None:
    one, other = (configuration.kubelet(node)["cgroupRoot"] for node in NODES)
    assert one != other
    assert configuration.pod_network(NODES[0]) != configuration.pod_network(NODES[1])


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.name)
def test_every_file_that_a_flag_names_is_written(node: Node, tmp_path: Path) -> None:
    own = Node(node.name, tmp_path, node.addresses, node.binaries)
    configuration.write(own)
    parts = [*components.control_plane(own), *components.clients_of_the_api(own)]
    read = [file for part in parts for file in files_read_by(part)]
    assert read
    for file in read:
        assert (own.configuration / file).exists(), file


def files_read_by(part: Component) -> list[str]:
    """Below the configuration folder; what the API server makes there is not read from us."""
    values = [argument.partition("=")[2] for argument in part.argv]
    inside = [value for value in values if value.startswith(f"{layout.CONFIGURATION}/")]
    return [
        value.removeprefix(f"{layout.CONFIGURATION}/")
        for value in inside
        if not value.startswith(components.API_CERTIFICATES)
    ]


def test_each_component_has_a_token_of_its_own_and_keeps_it_to_itself(tmp_path: Path) -> None:
    node = Node("node", tmp_path, Addresses(0), Path("/cache/bin"))
    configuration.write(node)
    kubeconfigs = sorted(node.configuration.glob("*.kubeconfig"))
    tokens = {json.loads(file.read_text())["users"][0]["user"]["token"] for file in kubeconfigs}
    assert len(tokens) == len(kubeconfigs)
    assert all(file.stat().st_mode & 0o077 == 0 for file in kubeconfigs)


def test_the_key_of_the_service_accounts_outlives_a_restart(tmp_path: Path) -> None:
    node = Node("node", tmp_path, Addresses(0), Path("/cache/bin"))
    configuration.write(node)
    key = node.configuration / Path(components.SERVICE_ACCOUNT_KEY).name
    before = key.read_bytes()
    configuration.write(node)
    assert key.read_bytes() == before
