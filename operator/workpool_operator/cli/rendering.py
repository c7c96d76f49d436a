"""One render on a person's behalf: what it needs is found, opened and closed here.

    binding -> server -> Material (documents) -> place and claim -> manifest -> faults

Rendering itself is the operator's own.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, cast

from prefect.client.orchestration import PrefectClient

from workpool_operator.binding.context import Binding
from workpool_operator.cli import (
    access,
    bindings,
    material,
    output,
    template_check,
    whereabouts,
)
from workpool_operator.cli.access import Access
from workpool_operator.cli.material import Material, Wanted
from workpool_operator.cli.redaction import Redaction
from workpool_operator.cli.watched import WatchedClient
from workpool_operator.cli.whereabouts import Whereabouts
from workpool_operator.errors import RenderError
from workpool_operator.jobs import attribution, ineffective_variables, validation
from workpool_operator.jobs.environment_secret import extract_environment
from workpool_operator.jobs.inputs import RenderInput
from workpool_operator.jobs.render import render_manifest
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.kube.kubeconfig import Kubeconfig
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.endpoint import PrefectEndpoint

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A manifest, as the operator would send it, and what it was made from."""

    manifest: Object
    sent: Object
    render_input: RenderInput
    server: PrefectEndpoint | None


@dataclass
class Call:
    """What one call of the command asks for and has open, and what it must not tell.

    `binding` is the text of its option; `needs_cluster` says that there is no answer without one.
    """

    wanted: Wanted
    binding: str
    needs_cluster: bool
    kubeconfig: Kubeconfig
    stack: AsyncExitStack
    kube: KubernetesClient | None = None
    access: Access | None = None
    redaction: Redaction = field(default_factory=Redaction)


async def rendered(call: Call) -> Rendered | None:
    """The manifest, or None after its faults have been printed."""
    binding = await _binding(call)
    server, api = await _open(binding, call)
    found = await _material(call, api)
    if not _is_accepted(call):
        return None
    here = await whereabouts.find(binding, found, api=api, kube=call.kube)
    for text in here.notes:
        output.note(text)
    render_input = _subject(found, here)
    manifest = await _manifest(render_input, here, api, call)
    if faults := validation.find_errors(manifest):
        for fault in faults:
            output.fail(
                call.redaction.text(attribution.invalid_manifest_message([fault], render_input))
            )
        return None
    for text in ineffective_variables.ineffective(
        render_input, namespace=here.place.namespace if binding else ""
    ):
        output.note(call.redaction.text(text))
    return Rendered(manifest, _as_sent(manifest, binding), render_input, server)


def _is_accepted(call: Call) -> bool:
    """Whether `validate` takes the template that the options name; what it finds is printed."""
    if call.wanted.template is None:
        return True
    found = list(template_check.check(call.wanted.template))
    for finding in found:
        say = output.fail if finding.severity == "error" else output.note
        say(call.redaction.text(f"{finding.where}: {finding.message}"))
    return all(finding.severity == "warning" for finding in found)


async def _material(call: Call, api: PrefectApi | None) -> Material:
    if api is None or call.access is None:
        return material.stand_ins(call.wanted)
    with access.failures_told(call.access):
        return await material.gather(call.wanted, api)


async def _manifest(
    render_input: RenderInput, here: Whereabouts, api: PrefectApi | None, call: Call
) -> Object:
    client = WatchedClient(api.client if api else None, call.redaction)
    try:
        return await render_manifest(
            render_input, here.identity, client=cast(PrefectClient, client)
        )
    except RenderError as error:
        raise RenderError("", attribution.render_error_message(error, render_input)) from error


async def _binding(call: Call) -> Binding | None:
    in_cluster = bindings.is_in_cluster(call.binding)
    if call.needs_cluster or in_cluster or call.kubeconfig.file or call.kubeconfig.context:
        call.kube = await KubernetesClient.from_environment(call.kubeconfig)
    elif call.binding and call.wanted.needs_server:
        call.kube = await access.cluster()  # for its Secrets; the environment may have them, too
    if call.kube:
        call.stack.push_async_exit(call.kube)
    return await bindings.find(call.binding, kube=call.kube) if call.binding else None


async def _open(
    binding: Binding | None, call: Call
) -> tuple[PrefectEndpoint | None, PrefectApi | None]:
    if not call.wanted.needs_server:
        return None, None
    call.access = await access.server(binding, call.kube, named=call.binding)
    server = call.access.server
    call.redaction.learn([server.api_key, server.auth_string, *dict(server.headers).values()])
    api = PrefectApi(server, pool="")  # what is looked up names its pool
    return server, await call.stack.enter_async_context(api)


def _subject(found: Material, here: Whereabouts) -> RenderInput:
    return RenderInput(
        run=found.run,
        flow=found.flow,
        deployment=found.deployment,
        pool=found.pool,
        worker_name=here.place.worker_name,
        environment=here.place.environment,
        ca=here.place.ca,
        template_environment=here.place.template_environment,
    )


def _as_sent(manifest: Object, binding: Binding | None) -> Object:
    """With its environment in a Secret, where the binding asks for that."""
    if binding is None or not binding.spec().jobs.environment_secret:
        return manifest
    detached = extract_environment(manifest)
    if detached.secret:
        name = detached.secret["metadata"]["name"]
        output.note(f"the plain values of its environment are in Secret {name}, made with it")
    return detached.job
