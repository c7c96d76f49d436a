"""Resolves the project's dependencies into its locks: every version, with its hashes."""

from __future__ import annotations

from pathlib import Path

from testbed import environments, progress

COMMON = (
    "--universal",
    "--generate-hashes",
    "--no-emit-index-url",
    "--no-header",
    "--upgrade",
)
#: What each lock is made from; the later ones agree with the runtime's on what they share.
LOCKS = {
    "requirements.lock": ("pyproject.toml",),
    "requirements-dev.lock": ("pyproject.toml", "--group=dev", "--constraint=requirements.lock"),
    "requirements-peer.lock": ("--group=peer", "--constraint=requirements.lock"),
    str(Path("testbed", "go", "toolchain.lock")): (str(Path("testbed", "go", "toolchain.in")),),
}


def main() -> None:
    for lock, sources in LOCKS.items():
        with progress.step(f"resolving {lock}"):
            environments.uv("compile", *COMMON, *sources, f"--output-file={lock}")
