"""The input of rendering: the documents of one run. Pure."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workpool_operator.errors import RenderError
from workpool_operator.jobs import environment
from workpool_operator.jobs.certificates import CASource


@dataclass(frozen=True, slots=True)
class RenderInput:
    """The Prefect server's documents of one run; `deployment` is None for a run without one.

    `environment` is what the run inherits from its binding, as Kubernetes' EnvVars, and `ca` is the
    CA that its pod trusts. `template_environment` names the variables of the operator's own
    environment that the template may read.
    """

    run: Mapping[str, Any]
    flow: Mapping[str, Any]
    deployment: Mapping[str, Any] | None
    pool: Mapping[str, Any]
    worker_name: str
    environment: tuple[Mapping[str, Any], ...] = field(default=())
    ca: CASource | None = None
    template_environment: frozenset[str] = frozenset()

    @property
    def job_variables(self) -> dict[str, Any]:
        """The deployment's variables, overridden by the run's; `env` is merged.

        Raises:
            RenderError: they are not a mapping, or their `env` is invalid.
        """
        return environment.overlay(
            _variables_of(self.deployment or {}, "the deployment"),
            _variables_of(self.run, "the flow run"),
        )


def _variables_of(document: Mapping[str, Any], source: str) -> dict[str, Any]:
    given = document.get("job_variables") or {}
    if not isinstance(given, Mapping):
        raise RenderError("job_variables", f"expected a mapping, got {given!r:.80}")
    try:
        return environment.collect_env(copy.deepcopy(dict(given)))
    except environment.InvalidVariable as error:
        name = f"env.{error.name}" if error.name else "env"
        raise RenderError(f"job variable {name} of {source}", str(error)) from error
