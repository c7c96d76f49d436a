"""The base of the Dockerfile if no image registry is used: a Debian root file system.

It has what the Dockerfile requires of BASE, Python 3.11 with venv, and no documentation.
"""

from __future__ import annotations

from pathlib import Path

from localnode import cache, commands, progress
from localnode.archive import write_archive
from testbed import state
from testbed.images.isolate import ISOLATED

SUITE = "bookworm"  # its Python is 3.11, like that of the Dockerfile's own BASE
PACKAGES = ("ca-certificates", "python3-minimal", "python3-venv")
SUPERFLUOUS = (
    "var/cache/apt/*",
    "var/lib/apt/lists/*",
    "var/log/*",
    "usr/share/doc/*",
    "usr/share/info/*",
    "usr/share/locale/*",
    "usr/share/man/*",
)
KEY = cache.key([SUITE, *PACKAGES, *SUPERFLUOUS])
REFERENCE = f"localhost/workpool-operator-base:{KEY}"


def base_archive() -> Path:
    """Return an archive of `REFERENCE`."""
    return state.cache().entry(f"base-{KEY}.tar", _build)


def _build(target: Path) -> None:
    scratch = target.with_suffix(".scratch")
    cache.discard(scratch)  # what an interrupted build left
    scratch.mkdir()
    root, layer = scratch / "root", scratch / "layer.tar"
    with progress.step("making a Debian root as the base of the images (debootstrap)"):
        _debootstrap(root)
        _pack(root, layer)
        write_archive(target, reference=REFERENCE, layer=layer)
    cache.discard(scratch)


def _debootstrap(root: Path) -> None:
    included = ",".join(PACKAGES)
    log = state.cache().log("debootstrap")
    command = ["debootstrap", "--variant=minbase", f"--include={included}", SUITE, str(root)]
    commands.run_logged([*command, *_mirror()], log=log, within=ISOLATED)


def _mirror() -> list[str]:
    """Return the mirror that the machine's own apt uses for the suite, if it uses one."""
    form = ["--format", "$(REPO_URI)", f"Codename: {SUITE}"]
    return commands.run(["apt-get", "indextargets", *form]).split()[:1]


def _pack(root: Path, layer: Path) -> None:
    excluded = [f"--exclude=./{pattern}" for pattern in SUPERFLUOUS]
    commands.run(["tar", "--numeric-owner", *excluded, "-C", root, "-cf", layer, "."])
