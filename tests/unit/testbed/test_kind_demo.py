"""`make demo` where Docker and kind are installed: neither root nor Debian, no node of our own."""

from __future__ import annotations

import http.server
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from localnode import debian
from testbed import bootstrap, demo, images

#: What only the node without Docker needs.
UNUSED = ("apt-get", "buildah", "debootstrap", "dpkg", "go", "initdb", "ip", "iptables", "unshare")
DOCKER = """case "$*" in
  "network inspect"*) echo "fc00::1 127.0.0.1";;
  "container inspect"*) echo 127.0.0.1;;
  "image inspect"*) test -e "$STATE/built";;
  build*) touch "$STATE/built";;
  *crictl*) exit 1;;
esac"""
KIND = 'case "$1" in create) touch "$WORKPOOL_OPERATOR_STATE/mine/kubeconfig";; esac'
KUBECTL = """case "$*" in
  *"apply -f -") cat > /dev/null;;
  *nodePort*) printf "$NODE_PORT";;
  *"get jobs"*) echo job.batch/hello;;
esac"""


class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()


@pytest.fixture
def node_port() -> Iterator[int]:
    """Return the port of a Prefect server that answers every request."""
    with http.server.HTTPServer(("127.0.0.1", 0), Healthy) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def calls(tmp_path: Path, node_port: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of a user, on Fedora, with Docker, kind and kubectl; the file of what is called."""
    programs = tmp_path / "bin"
    programs.mkdir()
    ours = ("prefect", "python", "workpool-operator")
    scripts = dict.fromkeys((*UNUSED, *ours), "") | {
        "docker": DOCKER,
        "kind": KIND,
        "kubectl": KUBECTL,
    }
    for name, script in scripts.items():
        program = programs / name
        program.write_text(f'#!/bin/sh\necho {name} "$@" >> "$STATE/calls"\n{script}\n')
        program.chmod(0o755)
    (tmp_path / "os-release").write_text("ID=fedora\n")
    monkeypatch.setattr(debian, "RELEASE", tmp_path / "os-release")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("STATE", str(tmp_path))
    monkeypatch.setenv("NODE_PORT", str(node_port))
    monkeypatch.setenv("CLUSTER_NAME", "mine")
    monkeypatch.setenv("WORKPOOL_OPERATOR_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("WORKPOOL_OPERATOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CLUSTER", raising=False)
    monkeypatch.delenv("RUN_IMAGE", raising=False)
    monkeypatch.setattr(images, "engine", images.engine.__wrapped__)
    return tmp_path / "calls"


@pytest.mark.usefixtures("calls")
def test_no_package_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    bootstrap.install_packages("demo")
    assert capsys.readouterr().out == ""


def test_the_demo_runs_to_its_end_with_docker_kind_and_kubectl_alone(calls: Path) -> None:
    demo.main()
    called = calls.read_text()
    assert "kind create cluster --wait=180s --name=mine" in called
    assert "docker build" in called
    assert "kind load image-archive" in called
    assert "kubectl apply -f manifests/base/crd.yaml" in called
    assert "prefect deployment run hello/demo --watch" in called
    programs = {line.partition(" ")[0] for line in called.splitlines()}
    assert programs.isdisjoint(UNUSED)
