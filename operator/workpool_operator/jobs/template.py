"""Whether a Job can come from a base job template at all, whatever a run's values are. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workpool_operator.errors import RenderError
from workpool_operator.jobs import manifest


def check_template(template: Mapping[str, Any]) -> None:
    """Refuse a base job template from which no Job can come.

    Raises:
        RenderError: with the path in the template and what is expected there.
    """
    found = (template.get("job_configuration") or {}).get("job_manifest")
    if not isinstance(found, dict):
        raise RenderError("job_configuration.job_manifest", "expected a Job manifest; it has none")
    for path, expected in (("apiVersion", "batch/v1"), ("kind", "Job")):
        if (value := found.get(path)) != expected and not _is_placeholder(value):
            raise RenderError(
                f"job_configuration.job_manifest.{path}", f"expected {expected!r}, got {value!r}"
            )
    spec = manifest.at(found, "spec.template.spec")
    if not _is_placeholder(spec) and not _is_placeholder(manifest.at(spec, "containers")):
        manifest.container(found)


def _is_placeholder(value: Any) -> bool:
    return isinstance(value, str) and "{{" in value
