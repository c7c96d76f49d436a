"""`workpool-operator render`: prints the Job that the operator would create for a run.

Everything that is printed is redacted first.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Literal

import typer

from workpool_operator.cli import comparison_output, output
from workpool_operator.cli.flow_run_documents import RunSelector
from workpool_operator.cli.redaction import REDACTED
from workpool_operator.cli.render_job import RenderContext, RenderedManifest, render_job
from workpool_operator.errors import KubernetesRefused, OperatorError
from workpool_operator.jobs import attribution
from workpool_operator.jobs.field_errors import format_path
from workpool_operator.jobs.provenance import trace_values
from workpool_operator.jobs.secrets import API_KEY, AUTH_STRING
from workpool_operator.kube.client import DEFAULT_KUBECONFIG, JOBS
from workpool_operator.kube.kubeconfig import Kubeconfig
from workpool_operator.parity.comparison import compare
from workpool_operator.parity.stock import stock_worker
from workpool_operator.prefect_api.endpoint import PrefectEndpoint
from workpool_operator.prefect_api.profile import URL

Format = Literal["yaml", "json"]


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command."""

    selector: RunSelector
    binding: str = ""
    output_format: Format = "yaml"
    explain: bool = False
    peer_python: str = ""
    server_dry_run: bool = False
    kubeconfig: Kubeconfig = DEFAULT_KUBECONFIG


def main(options: Options) -> None:
    """Print the manifest; exit with 1 if it is invalid or refused, or cannot be rendered."""
    with output.errors_in_one_line(), output.silence_logs():
        ok = asyncio.run(_main(options))
    if not ok:
        raise typer.Exit(1)


async def _main(options: Options) -> bool:
    async with AsyncExitStack() as stack:
        context = RenderContext(
            options.selector, options.binding, options.server_dry_run, options.kubeconfig, stack
        )
        try:
            found = await render_job(context)
            return found is not None and await _print(found, context, options)
        except OperatorError as error:
            raise OperatorError(context.redaction.redact_text(str(error))) from error


async def _print(found: RenderedManifest, context: RenderContext, options: Options) -> bool:
    if options.peer_python:
        return _compare(found, context, options)
    output.echo(_text(found, context, options))
    return await _dry_run(found, context) if options.server_dry_run else True


def _compare(found: RenderedManifest, context: RenderContext, options: Options) -> bool:
    with stock_worker(options.peer_python, environment=_environment(found.server)) as worker:
        comparison = compare(found.manifest, found.render_input, worker, credential=REDACTED)
    if options.output_format == "json":
        output.echo(output.as_json(comparison_output.as_document(comparison, context.redaction)))
    else:
        output.echo(comparison_output.as_text(comparison, context.redaction))
    return comparison.equivalent


def _environment(server: PrefectEndpoint | None) -> dict[str, str]:
    """Return Prefect's settings with which the stock worker reads blocks and variables."""
    if server is None:
        return {}
    given = {URL: server.url, API_KEY: server.api_key, AUTH_STRING: server.auth_string}
    return {name: value for name, value in given.items() if value}


async def _dry_run(found: RenderedManifest, context: RenderContext) -> bool:
    """Send the Job to the API server, which checks it and stores nothing."""
    assert context.kube is not None  # `needs_cluster` opened it
    namespace = found.sent["metadata"]["namespace"]
    try:
        warnings = await context.kube.dry_run(JOBS, namespace, found.sent)
    except KubernetesRefused as refused:
        text = attribution.rejected_fields_message(refused.causes, found.render_input) or str(
            refused
        )
        raise OperatorError(f"the API server refuses the Job: {text}") from refused
    for warning in warnings:
        output.echo_note(context.redaction.redact_text(f"the API server warns: {warning}"))
    output.echo_note(f"the API server accepts the Job in namespace {namespace!r} (dry run)")
    return True


def _text(found: RenderedManifest, context: RenderContext, options: Options) -> str:
    manifest = context.redaction.redact(found.sent)
    as_json = options.output_format == "json"
    if not options.explain:
        return output.as_json(manifest) if as_json else output.as_yaml(manifest).rstrip("\n")
    traced = trace_values(
        found.sent,
        found.render_input,
        bound=bool(options.binding),
        unpatched=found.unpatched,
    )
    if as_json:
        by_path = {format_path(path): origin for path, origin in traced.items()}
        return output.as_json({"manifest": manifest, "origins": by_path})
    return output.as_commented_yaml(manifest, traced).rstrip("\n")
