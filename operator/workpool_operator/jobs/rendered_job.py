"""A run's Job before it is posted: rendered, looked at, and where it has faults, whose they are."""

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
    """A manifest without known faults, and what it was made from.

    `fixed_namespace` is the binding's, whatever the job variables say; "" if they choose it.
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
    """The run's Job.

    Raises:
        RenderError: it can have none; the text names each place, the value, what is expected, and
            the job variable that it comes from.
        PrefectUnavailable: a block or variable cannot be read now.
    """
    try:
        manifest = await render_manifest(render_input, identity, client=client)
    except RenderError as error:
        raise RenderError("", attribution.render_error_message(error, render_input)) from error
    except RecursionError as error:
        raise RenderError("job_variables", "nested more deeply than can be rendered") from error
    return validated(render_input, manifest, fixed_namespace=identity.namespace)


def validated(
    render_input: RenderInput, manifest: dict[str, Any], *, fixed_namespace: str = ""
) -> RenderedJob:
    """The draft of a manifest that was rendered for the subject.

    Raises:
        RenderError: it has faults.
    """
    if found := validation.find_errors(manifest):
        raise RenderError("", attribution.invalid_manifest_message(found, render_input))
    return RenderedJob(render_input, manifest, fixed_namespace)
