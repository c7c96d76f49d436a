"""The input of rendering: the documents of one run. Pure."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workpool_operator.errors import RenderError
from workpool_operator.jobs import environment, references
from workpool_operator.jobs.certificates import CASource
from workpool_operator.jobs.field_errors import get_path
from workpool_operator.jobs.overlay import JobOverlay
from workpool_operator.jobs.placeholders import single_placeholder

#: The stock worker's time-out for a pod that does not start.
POD_WATCH = "pod_watch_timeout_seconds"
STOCK_POD_WATCH = 60  # the default of every stock pool, so not set on purpose
#: The job variable and the configuration's field that name a worker's namespace.
NAMESPACE = "namespace"
STOCK_NAMESPACE = "default"  # the default of every stock pool, so not set on purpose
LONGEST_PENDING = 604_800  # as spec.jobs.pendingTimeoutSeconds


@dataclass(frozen=True, slots=True)
class RenderInput:
    """The Prefect server's documents of one run; `deployment` is None for a run without one.

    `environment` is what the run inherits from its binding, as Kubernetes' EnvVars, and `ca` is the
    CA that its pod trusts; `overlay` is what the binding puts over every Job.
    `template_environment` names the variables of the operator's own environment that the template
    may read.
    """

    run: Mapping[str, Any]
    flow: Mapping[str, Any]
    deployment: Mapping[str, Any] | None
    pool: Mapping[str, Any]
    worker_name: str
    environment: tuple[Mapping[str, Any], ...] = field(default=())
    ca: CASource | None = None
    template_environment: frozenset[str] = frozenset()
    overlay: JobOverlay = field(default_factory=JobOverlay)

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

    @property
    def template(self) -> Mapping[str, Any]:
        """The pool's base job template; empty if it is not a mapping."""
        template = self.pool.get("base_job_template")
        return template if isinstance(template, Mapping) else {}

    @property
    def pending_timeout(self) -> int | None:
        """The run's own pending time-out in seconds; None if the binding's applies.

        It is the stock worker's `pod_watch_timeout_seconds`. The value of a deployment or run
        always counts, that of the pool only if it differs from the stock template's.
        """
        given = self.job_variables.get(POD_WATCH)
        if given is None:
            given = pool_value(self.template, POD_WATCH)
            given = None if given == STOCK_POD_WATCH else given
        return parse_pending_timeout(given)


def pool_value(template: Mapping[str, Any], field: str) -> Any:
    """Return the pool's value for a field of the job configuration, or its variable's default."""
    value = get_path(template, (*references.MANIFEST[:1], field))
    name = single_placeholder(value)
    return references.default(template, name) if name else value


def parse_pending_timeout(value: Any) -> int | None:
    """Return the seconds, from an integer or its text; None if it is not in range."""
    if isinstance(value, bool) or not str(value).isdecimal():
        return None
    return int(value) if 1 <= int(value) <= LONGEST_PENDING else None


def _variables_of(document: Mapping[str, Any], source: str) -> dict[str, Any]:
    given = document.get("job_variables") or {}
    if not isinstance(given, Mapping):
        raise RenderError("job_variables", f"expected a mapping, got {given!r:.80}")
    try:
        return environment.collect_env(copy.deepcopy(dict(given)))
    except environment.InvalidVariable as error:
        name = f"env.{error.name}" if error.name else "env"
        raise RenderError(f"job variable {name} of {source}", str(error)) from error
