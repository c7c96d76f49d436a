"""Resolves the dependencies into the locks: every version, with its hashes."""

from __future__ import annotations

from localnode import progress
from testbed import environments

COMMON = (
    "--universal",
    "--generate-hashes",
    "--no-emit-index-url",
    "--no-header",
    "--upgrade",
)
#: The sources of each lock; the later ones agree with the runtime's on what they share.
LOCKS = {
    "requirements.lock": ("pyproject.toml",),
    "requirements-dev.lock": ("pyproject.toml", "--group=dev", "--constraint=requirements.lock"),
    "requirements-peer.lock": ("--group=peer", "--constraint=requirements.lock"),
    "localnode/go/toolchain.lock": ("localnode/go/toolchain.in",),
}


def main() -> None:
    for lock, sources in LOCKS.items():
        with progress.step(f"resolving {lock}"):
            environments.uv("compile", *COMMON, *sources, f"--output-file={lock}")
