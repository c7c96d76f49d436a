"""What each image is built from, and the reference that follows from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from localnode import cache
from testbed.state import CHECKOUT


@dataclass(frozen=True)
class Recipe:
    """One target of a Dockerfile."""

    name: str
    target: str
    sources: tuple[str, ...] = ()  # files and folders of the checkout that the target copies
    file: str = "Dockerfile"
    base: Recipe | None = None  # whose image it starts from, where that is not the engine's base

    def starts_from(self, base: str) -> str:
        """Return the image that the Dockerfile gets as its BASE; `base` is the engine's."""
        return self.base.reference(base) if self.base else base

    def key(self, base: str) -> str:
        """Changes with the base, the Dockerfile and the content of every source."""
        parts: list[bytes | str] = [self.starts_from(base), self.target]
        for path in self._files():
            parts += [str(path), (CHECKOUT / path).read_bytes()]
        return cache.key(parts)

    def reference(self, base: str) -> str:
        return f"localhost/{self.name}:{self.key(base)}"

    def _files(self) -> Iterator[Path]:
        for source in (self.file, ".dockerignore", *self.sources):
            yield from _files_below(CHECKOUT / source)


RUN = Recipe(
    "workpool-operator-run",
    target="run",
    file="testbed/images/run.Dockerfile",
    sources=("testbed/images/run.lock", "examples/flows"),
)
ROOTFUL = Recipe(
    "workpool-operator-rootful",
    target="rootful",
    file="testbed/images/rootful.Dockerfile",
    base=RUN,
)
OPERATOR = Recipe(
    "workpool-operator",
    target="operator",
    sources=(
        "requirements.lock",
        "requirements-dev.lock",
        "pyproject.toml",
        "LICENSE",
        "operator",
    ),
)


def _files_below(path: Path) -> Iterator[Path]:
    found = sorted(path.rglob("*")) if path.is_dir() else [path]
    for file in found:
        if file.is_file() and "__pycache__" not in file.parts:
            yield file.relative_to(CHECKOUT)
