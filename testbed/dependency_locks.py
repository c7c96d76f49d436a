"""Resolves the dependencies into the locks: every version, with its hashes."""

from __future__ import annotations

from localnode import progress
from testbed import environments
from testbed.state import CHECKOUT

COMMON = (
    "--universal",
    "--generate-hashes",
    "--no-emit-index-url",
    "--no-header",
    "--upgrade",
)
#: The sources of each lock; a later one agrees with an earlier one on what they share.
LOCKS = {
    "requirements.lock": ("pyproject.toml", "--extra=client", "--extra=tracing"),
    "requirements-dev.lock": (
        *("pyproject.toml", "--extra=worker", "--extra=tracing", "--group=dev", "--group=docs"),
        "--constraint=requirements.lock",
    ),
    "requirements-peer.lock": ("--group=peer", "--constraint=requirements-dev.lock"),
    "testbed/images/run.lock": ("--group=run", "--constraint=requirements-dev.lock"),
    "localnode/go/toolchain.lock": ("localnode/go/toolchain.in",),
    # The other supported versions of Prefect: each `.in` overrides the range of pyproject.toml.
    **{
        source.removesuffix(".in") + ".lock": (
            *("pyproject.toml", source),
            *("--extra=worker", "--group=dev", f"--override={source}"),
        )
        for source in (
            str(file.relative_to(CHECKOUT))
            for file in sorted(environments.PREFECT_LOCKS.glob("prefect-*.in"))
        )
    },
}


def main() -> None:
    for lock, sources in LOCKS.items():
        with progress.step(f"resolving {lock}"):
            environments.uv("compile", *COMMON, *sources, f"--output-file={lock}")
