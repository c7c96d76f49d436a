"""Debian packages: which ones are missing, and their installation.

A package counts as installed if what it provides is there, however it came.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from localnode import commands, progress
from localnode.cache import Cache
from localnode.errors import SetupError

RELEASE = Path("/etc/os-release")


@dataclass(frozen=True)
class Package:
    name: str
    #: What shows that it is there: a program, a path (with wildcards) or a Python module.
    proof: str
    proof_elsewhere: str = ""  # on other systems, where it differs

    def is_installed(self) -> bool:
        return _exists(self.proof) or _exists(self.proof_elsewhere)


#: What a node runs on, besides the programs that are built.
NODE = (
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


def missing(packages: Iterable[Package]) -> list[str]:
    return [package.name for package in packages if not package.is_installed()]


def install(names: list[str], cache: Cache, *, otherwise: str = "") -> None:
    """Install the packages; `otherwise` says what else a user of another system can do."""
    wanted = " ".join(names)
    if not _is_debian():
        raise SetupError(
            f"{wanted} (named as in Debian) missing, and only on Debian are packages installed"
            f" automatically: install what provides them{otherwise}"
        )
    if os.geteuid() != 0:
        raise SetupError(f"{wanted} missing: run this as root, or 'apt-get install {wanted}'")
    with progress.step("installing the Debian packages"):
        try:
            _apt(cache, "install", *names)
        except SetupError:
            # Perhaps an interrupted installation, or package lists that are absent or outdated.
            _run(cache, "dpkg", "--configure", "-a")
            _apt(cache, "update")
            _apt(cache, "install", *names)


def _exists(proof: str) -> bool:
    if proof.startswith("/"):
        return any(Path("/").glob(proof[1:]))
    if proof.startswith("import "):
        return importlib.util.find_spec(proof.removeprefix("import ")) is not None
    return shutil.which(proof) is not None


def _apt(cache: Cache, verb: str, *arguments: str) -> None:
    options = ("--yes", "--no-install-recommends", "--option=DPkg::Lock::Timeout=600")
    _run(cache, "apt-get", verb, *arguments, *options)


def _run(cache: Cache, *argv: str) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    commands.run_logged(argv, log=cache.log(argv[0]), env=environment)


def _is_debian() -> bool:
    if not RELEASE.exists():
        return False
    facts = dict(line.split("=", 1) for line in RELEASE.read_text().splitlines() if "=" in line)
    names = f"{facts.get('ID', '')} {facts.get('ID_LIKE', '')}"
    return "debian" in names.replace('"', "").split()
