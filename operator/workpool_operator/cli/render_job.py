"""Renders one Job for a command:

    binding -> server -> documents of the run -> owner and claim -> manifest -> validation

The manifest comes from the operator's own code.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from workpool_operator.binding.context import Binding
from workpool_operator.cli import (
    binding_lookup,
    connections,
    flow_run_documents,
    flow_run_identity,
    output,
    template_check,
)
from workpool_operator.cli.connections import PatientPrefectApi, ServerConnection
from workpool_operator.cli.flow_run_documents import RunDocuments, RunSelector
from workpool_operator.cli.patience import PatientKubernetesClient
from workpool_operator.cli.redacting_client import RedactingClient
from workpool_operator.cli.redaction import Redaction
from workpool_operator.errors import OperatorError, RenderError
from workpool_operator.jobs import attribution, ineffective_variables, patches, validation
from workpool_operator.jobs.inputs import RenderInput
from workpool_operator.jobs.manifest import Identity
from workpool_operator.jobs.render import render_unpatched
from workpool_operator.jobs.secrets import extract_environment
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.kube.kubeconfig import Kubeconfig
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.endpoint import PrefectEndpoint
from workpool_operator.runs.claims import Owner

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RenderedManifest:
    """A manifest, also before the binding's patches; `sent` is what the operator sends, which can
    have its environment in a Secret."""

    manifest: Object
    unpatched: Object
    sent: Object
    render_input: RenderInput
    server: PrefectEndpoint | None


@dataclass
class RenderContext:
    """The options of one render, its open connections, and the secrets that it must not print.

    `binding` is the text of its option; `needs_cluster` makes a missing cluster an error.
    """

    selector: RunSelector
    binding: str
    needs_cluster: bool
    kubeconfig: Kubeconfig
    stack: AsyncExitStack
    kube: KubernetesClient | None = None
    connection: ServerConnection | None = None
    redaction: Redaction = field(default_factory=Redaction)


async def render_job(context: RenderContext) -> RenderedManifest | None:
    """Return the manifest; None if it is invalid, after printing each error."""
    binding = await _binding(context)
    server, api = await _open(binding, context)
    found = await _documents(context, api)
    if not _is_accepted(context):
        return None
    run = await flow_run_identity.identify_run(binding, found, api=api, kube=context.kube)
    for text in run.notes:
        output.echo_note(text)
    render_input = _render_input(found, run.owner)
    unpatched = await _unpatched(render_input, run.identity, api, context)
    manifest = patches.apply(unpatched, render_input.overlay.patches)
    if errors := validation.find_errors(manifest):
        for error in errors:
            text = attribution.invalid_manifest_message([error], render_input)
            output.echo_error(context.redaction.redact_text(text))
        return None
    for text in ineffective_variables.ineffective(
        render_input, namespace=run.identity.fixed_namespace if binding else ""
    ):
        output.echo_note(context.redaction.redact_text(text))
    return RenderedManifest(manifest, unpatched, _as_sent(manifest, binding), render_input, server)


def _is_accepted(context: RenderContext) -> bool:
    """Check the template of `--template` as `validate` does; print what is wrong with it."""
    if context.selector.template is None:
        return True
    found = list(template_check.check(context.selector.template))
    for finding in found:
        echo = output.echo_error if finding.severity == "error" else output.echo_note
        echo(context.redaction.redact_text(f"{finding.path_text}: {finding.message}"))
    return all(finding.severity == "warning" for finding in found)


async def _documents(context: RenderContext, api: PrefectApi | None) -> RunDocuments:
    if api is None or context.connection is None:
        return flow_run_documents.sample_documents(context.selector)
    with connections.explain_failures(context.connection):
        return await flow_run_documents.fetch_documents(context.selector, api)


async def _unpatched(
    render_input: RenderInput, identity: Identity, api: PrefectApi | None, context: RenderContext
) -> Object:
    client = RedactingClient(api.client if api else None, context.redaction)
    try:
        return await render_unpatched(render_input, identity, client=cast("PrefectClient", client))
    except RenderError as error:
        raise RenderError("", attribution.render_error_message(error, render_input)) from error


async def _binding(context: RenderContext) -> Binding | None:
    in_cluster = binding_lookup.is_in_cluster(context.binding)
    if context.needs_cluster or in_cluster or context.kubeconfig.file or context.kubeconfig.context:
        context.kube = await PatientKubernetesClient.from_environment(context.kubeconfig)
    elif context.binding and context.selector.needs_server:
        # for the binding's Secrets; the environment can have its credentials, too
        context.kube = await connections.connect_cluster()
    if context.kube:
        context.stack.push_async_exit(context.kube)
    return (
        await binding_lookup.find_binding(context.binding, kube=context.kube)
        if context.binding
        else None
    )


async def _open(
    binding: Binding | None, context: RenderContext
) -> tuple[PrefectEndpoint | None, PrefectApi | None]:
    if not context.selector.needs_server:
        return None, None
    try:
        context.connection = await connections.connect_server(
            binding, context.kube, named=context.binding
        )
    except connections.NoServer as error:
        text = f"{error}, add --binding, or render without a server: --template and --variables"
        raise OperatorError(text) from error
    server = context.connection.server
    context.redaction.add([server.api_key, server.auth_string, *dict(server.headers).values()])
    api = PatientPrefectApi(server, pool="")  # each lookup names its pool
    return server, await context.stack.enter_async_context(api)


def _render_input(found: RunDocuments, owner: Owner) -> RenderInput:
    return RenderInput(
        run=found.run,
        flow=found.flow,
        deployment=found.deployment,
        pool=found.pool,
        worker_name=owner.worker_name,
        environment=owner.environment,
        ca=owner.ca,
        template_environment=owner.template_environment,
        overlay=owner.overlay,
    )


def _as_sent(manifest: Object, binding: Binding | None) -> Object:
    """Return the manifest with its environment in a Secret, if the binding says so."""
    if binding is None or not binding.spec().jobs.environment_secret:
        return manifest
    extracted = extract_environment(manifest)
    if extracted.secret:
        name = extracted.secret["metadata"]["name"]
        output.echo_note(f"the plain values of the Job's environment go into Secret {name!r}")
    return extracted.job
