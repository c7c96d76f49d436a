"""Renders and validates a run's Job, and attributes its errors to whoever set the values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workpool_operator.errors import RenderError
from workpool_operator.jobs import attribution, validation
from workpool_operator.jobs.inputs import RenderInput
from workpool_operator.jobs.manifest import Identity
from workpool_operator.jobs.render import render_manifest

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient


@dataclass(frozen=True, slots=True)
class RenderedJob:
    """A valid manifest, and what it was rendered from.

    `fixed_namespace` is the binding's, which overrides the job variables; "" if they choose it.
    """

    render_input: RenderInput
    manifest: dict[str, Any]
    fixed_namespace: str = ""

    @property
    def namespace(self) -> str:
        """The namespace of the Job."""
        return str(self.manifest["metadata"]["namespace"])


async def render_job(
    render_input: RenderInput, identity: Identity, *, client: PrefectClient
) -> RenderedJob:
    """Render and validate the run's Job.

    Raises:
        RenderError: it is invalid; the message names each path, the value, what is expected, and
            the job variable that the value comes from.
        PrefectUnavailable: a block or variable cannot be read at the moment.
    """
    try:
        manifest = await render_manifest(render_input, identity, client=client)
    except RenderError as error:
        raise RenderError("", attribution.render_error_message(error, render_input)) from error
    except RecursionError as error:
        raise RenderError("job_variables", "nested too deeply to be rendered") from error
    return validated(render_input, manifest, fixed_namespace=identity.namespace)


def validated(
    render_input: RenderInput, manifest: dict[str, Any], *, fixed_namespace: str = ""
) -> RenderedJob:
    """Validate a rendered manifest.

    Raises:
        RenderError: it has errors.
    """
    if errors := validation.find_errors(manifest):
        raise RenderError("", attribution.invalid_manifest_message(errors, render_input))
    return RenderedJob(render_input, manifest, fixed_namespace)
