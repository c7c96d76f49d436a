"""Renders a run's Job from its pool's base job template and its values, and validates it.

The message of an error names the job variable behind it, and the document that set the variable.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from prefect.client.schemas.objects import Flow, FlowRun, WorkPool
from prefect.client.schemas.responses import DeploymentResponse

from workpool_operator.errors import RenderError
from workpool_operator.jobs import attribution, certificates, manifest, patches, validation
from workpool_operator.jobs.configuration import KubernetesJobConfiguration
from workpool_operator.jobs.inputs import NAMESPACE, STOCK_NAMESPACE, RenderInput, pool_value
from workpool_operator.jobs.manifest import Identity

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient


@dataclass(frozen=True, slots=True)
class RenderedJob:
    """A valid manifest, and what it was rendered from.

    `fixed_namespace` is the binding's, if it overrides the job variables; "" if they choose it.
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
        rendered = await render_manifest(render_input, identity, client=client)
    except RenderError as error:
        raise RenderError("", attribution.render_error_message(error, render_input)) from error
    except RecursionError as error:
        raise RenderError("job_variables", "nested too deeply to be rendered") from error
    return validated(render_input, rendered, fixed_namespace=identity.fixed_namespace)


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


async def render_manifest(
    render_input: RenderInput, identity: Identity, *, client: PrefectClient
) -> dict[str, Any]:
    """Render the manifest of the run's Job, named after its claim.

    Raises:
        RenderError: the template or the run's values are invalid.
        PatchRejected: a patch of the binding cannot be applied.
        PrefectUnavailable: a block or variable cannot be read at the moment.
    """
    unpatched = await render_unpatched(render_input, identity, client=client)
    operations = render_input.overlay.patches
    return patches.apply(unpatched, operations) if operations else unpatched


async def render_unpatched(
    render_input: RenderInput, identity: Identity, *, client: PrefectClient
) -> dict[str, Any]:
    """Render the manifest as it is before the binding's patches.

    Raises:
        RenderError: the template or the run's values are invalid.
        PrefectUnavailable: a block or variable cannot be read at the moment.
    """
    configuration = await KubernetesJobConfiguration.from_template_and_values(
        base_job_template=render_input.pool["base_job_template"],
        values=render_input.job_variables,
        client=client,
        template_environment=render_input.template_environment,
    )
    configuration.prepare_for_flow_run(
        FlowRun.model_validate(render_input.run),
        DeploymentResponse.model_validate(render_input.deployment)
        if render_input.deployment
        else None,
        Flow.model_validate(render_input.flow),
        WorkPool.model_validate(render_input.pool),
        render_input.worker_name,
    )
    _overlay(configuration, render_input)
    if render_input.ca:
        certificates.mount_ca(configuration.job_manifest, render_input.ca)
    identity = replace(
        identity, namespace=choose_namespace(configuration.namespace, identity, render_input)
    )
    manifest.identify(configuration.job_manifest, identity, run_name=configuration.job_name)
    manifest.record_pending_timeout(configuration.job_manifest, render_input.pending_timeout)
    return configuration.job_manifest


def _overlay(configuration: KubernetesJobConfiguration, render_input: RenderInput) -> None:
    """Set what run pods get from their binding."""
    overlay = render_input.overlay
    configuration.inherit(render_input.environment, fixed=overlay.env)
    manifest.label(configuration.job_manifest, overlay.labels)
    manifest.annotate(configuration.job_manifest, overlay.annotations)


def choose_namespace(wanted: str, identity: Identity, render_input: RenderInput) -> str:
    """Return the Job's namespace. `wanted` is that of the template and the job variables, which
    counts if the identity allows other namespaces than its own.

    The stock template's default is `default`: it counts as not set unless it is allowed.

    Raises:
        RenderError: the wanted namespace is not allowed.
    """
    own, allowed = identity.namespace, identity.allowed_namespaces
    if not allowed or wanted == own:
        return own
    if wanted in allowed:
        return wanted
    is_default = pool_value(render_input.template, NAMESPACE) in (None, "", STOCK_NAMESPACE)
    if wanted == STOCK_NAMESPACE and is_default and not render_input.job_variables.get(NAMESPACE):
        return own
    names = ", ".join(sorted({own, *allowed}))
    raise RenderError(
        "job_configuration.namespace",
        f"the binding {identity.binding} creates Jobs only in {names}, got {wanted!r:.80}. Add the "
        "namespace to spec.jobs.allowedNamespaces of the binding, or choose one of these",
    )
