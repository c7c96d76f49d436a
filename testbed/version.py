"""The version, whose one place is pyproject.toml, and the files that repeat it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from testbed.state import CHECKOUT

FILES = (
    "Dockerfile",
    "README.md",
    "charts/workpool-operator/Chart.yaml",
    "docs/install.md",
    "docs/quickstart.md",
    "manifests/base/kustomization.yaml",
)
#: What comes before the version: an image's name, a key of YAML, a label.
_BEFORE = r'\bworkpool-operator:|\bnewTag: |^(?:version|appVersion): |image\.version="'
_REPEATED = re.compile(rf"({_BEFORE})\d+\.\d+\.\d+(?:[-.]?(?:dev|a|b|rc)\d*)?", re.MULTILINE)


def current() -> str:
    """Return the version of the package, the image, the chart and the manifests."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    return str(project["version"])


def repeated() -> dict[Path, str]:
    """Return the content that each file with the version should have."""
    version = current()
    return {
        CHECKOUT / name: _REPEATED.sub(rf"\g<1>{version}", (CHECKOUT / name).read_text())
        for name in FILES
    }
