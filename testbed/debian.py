"""The Debian packages that the testbed runs on: which are missing, and their installation.

Promises: asks for nothing that is there, in whatever way it came, and says what it installs first.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from testbed import cache, commands, progress
from testbed.errors import TestbedError

RELEASE = Path("/etc/os-release")


@dataclass(frozen=True)
class Package:
    name: str
    #: What shows that it is there: a program, a path (with wildcards) or a Python module.
    proof: str

    def is_installed(self) -> bool:
        if self.proof.startswith("/"):
            return any(Path("/").glob(self.proof[1:]))
        if self.proof.startswith("import "):
            return importlib.util.find_spec(self.proof.removeprefix("import ")) is not None
        return shutil.which(self.proof) is not None


PYTHON = (
    Package("ca-certificates", "/etc/ssl/certs/*"),
    Package("python3-venv", "import ensurepip"),
)
LOCAL_NODE = (
    Package("runc", "runc"),
    Package("containernetworking-plugins", "/usr/lib/cni/ptp"),
    Package("iptables", "iptables"),
    Package("iproute2", "ip"),
    Package("mount", "mount"),
    Package("util-linux", "unshare"),
    Package("openssl", "openssl"),
    # Not the dynamic one of package busybox: it is the only file of the pods' sandbox image.
    Package("busybox-static", "/var/lib/dpkg/info/busybox-static.list"),
)
IMAGES = (
    Package("buildah", "buildah"),
    Package("debootstrap", "debootstrap"),
)
GIT = (Package("git", "git"),)
POSTGRESQL = (Package("postgresql", "/usr/lib/postgresql/*/bin/postgres"),)


def missing(packages: Iterable[Package]) -> list[str]:
    return [package.name for package in packages if not package.is_installed()]


def install(names: list[str]) -> None:
    """Installs the packages, of which it said before that they are missing."""
    wanted = " ".join(names)
    if not _is_debian():
        raise TestbedError(
            f"{wanted} (named as in Debian) missing, and only on Debian are they installed by"
            " themselves: install what provides them, or start Docker and get a cluster by kind"
        )
    if os.geteuid() != 0:
        raise TestbedError(f"{wanted} missing: run this as root, or 'apt-get install {wanted}'")
    with progress.step("installing the Debian packages"):
        try:
            _apt("install", *names)
        except TestbedError:
            # Perhaps an interrupted installation, or lists that are absent or outdated.
            _run("dpkg", "--configure", "-a")
            _apt("update")
            _apt("install", *names)


def _apt(verb: str, *arguments: str) -> None:
    options = ("--yes", "--no-install-recommends", "--option=DPkg::Lock::Timeout=600")
    _run("apt-get", verb, *arguments, *options)


def _run(*argv: str) -> None:
    commands.run_logged(
        argv,
        log=cache.folder() / "logs" / f"{argv[0]}.log",
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
    )


def _is_debian() -> bool:
    if not RELEASE.exists():
        return False
    facts = dict(line.split("=", 1) for line in RELEASE.read_text().splitlines() if "=" in line)
    names = f"{facts.get('ID', '')} {facts.get('ID_LIKE', '')}"
    return "debian" in names.replace('"', "").split()
