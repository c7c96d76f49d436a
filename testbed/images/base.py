"""The image that the Dockerfile starts from where no image registry is in reach: a Debian root.

It brings what the Dockerfile asks of BASE, which is Python 3.11 with venv, and nothing to read.
"""

from __future__ import annotations

from pathlib import Path

from testbed import cache, commands, progress
from testbed.images.alone import ALONE
from testbed.images.archive import write_archive

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
    """An archive of `REFERENCE`."""
    return cache.entry(f"base-{KEY}.tar", _build)


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
    log = cache.folder() / "logs" / "debootstrap.log"
    command = ["debootstrap", "--variant=minbase", f"--include={included}", SUITE, str(root)]
    commands.run_logged([*command, *_mirror()], log=log, within=ALONE)


def _mirror() -> list[str]:
    """Where the machine's own apt gets the suite from; debootstrap's default where it does not."""
    form = ["--format", "$(REPO_URI)", f"Codename: {SUITE}"]
    return commands.run(["apt-get", "indextargets", *form]).split()[:1]


def _pack(root: Path, layer: Path) -> None:
    excluded = [f"--exclude=./{pattern}" for pattern in SUPERFLUOUS]
    commands.run(["tar", "--numeric-owner", *excluded, "-C", root, "-cf", layer, "."])
