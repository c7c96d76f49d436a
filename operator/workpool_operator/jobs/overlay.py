"""What a binding puts over every Job of its pool. Pure.

Environment, labels and annotations win over those of the template, the deployment and the run. The
patches change the finished manifest last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class JobOverlay:
    """The fields of the same names in `spec.jobs`; `env` are Kubernetes' EnvVars, `patches` the
    operations of RFC 6902."""

    env: tuple[Object, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    patches: tuple[Object, ...] = ()

    @property
    def variables(self) -> frozenset[str]:
        """The names of the environment variables."""
        return frozenset(str(entry["name"]) for entry in self.env)
