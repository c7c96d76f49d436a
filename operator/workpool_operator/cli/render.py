"""`workpool-operator render`: the Job that the operator would create for a run, on standard output.

Nothing is printed that has not been through the redaction.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Literal

import typer

from workpool_operator.cli import comparison_output, output
from workpool_operator.cli.commented_yaml import with_comments
from workpool_operator.cli.redaction import REDACTED
from workpool_operator.cli.render_job import RenderContext, RenderedManifest, render_for
from workpool_operator.cli.run_documents import RunSelector
from workpool_operator.errors import KubernetesRefused, OperatorError
from workpool_operator.jobs import attribution
from workpool_operator.jobs.credentials import API_KEY, AUTH_STRING
from workpool_operator.jobs.field_errors import format_path
from workpool_operator.jobs.provenance import trace_values
from workpool_operator.kube.client import DEFAULT_KUBECONFIG, JOBS
from workpool_operator.kube.kubeconfig import Kubeconfig
from workpool_operator.parity.comparison import compare
from workpool_operator.parity.stock import stock_worker
from workpool_operator.prefect_api.endpoint import PrefectEndpoint
from workpool_operator.prefect_api.profile import URL

Format = Literal["yaml", "json"]


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked for, and in which form."""

    wanted: RunSelector
    binding: str = ""
    output_format: Format = "yaml"
    explain: bool = False
    peer_python: str = ""
    server_dry_run: bool = False
    kubeconfig: Kubeconfig = DEFAULT_KUBECONFIG


def main(options: Options) -> None:
    """Print the manifest; exit code 1 where there is none, or where it is refused."""
    with output.errors_in_one_line(), output.silence_logs():
        ok = asyncio.run(_main(options))
    if not ok:
        raise typer.Exit(1)


async def _main(options: Options) -> bool:
    async with AsyncExitStack() as stack:
        call = RenderContext(
            options.wanted, options.binding, options.server_dry_run, options.kubeconfig, stack
        )
        try:
            found = await render_for(call)
            return found is not None and await _answer(found, call, options)
        except OperatorError as error:
            raise OperatorError(call.redaction.redact_text(str(error))) from error


async def _answer(found: RenderedManifest, call: RenderContext, options: Options) -> bool:
    if options.peer_python:
        return _compare(found, call, options)
    output.echo(_text(found, call, options))
    return await _try(found, call) if options.server_dry_run else True


def _compare(found: RenderedManifest, call: RenderContext, options: Options) -> bool:
    with stock_worker(options.peer_python, environment=_opens(found.server)) as worker:
        comparison = compare(found.manifest, found.render_input, worker, credential=REDACTED)
    if options.output_format == "json":
        output.echo(output.as_json(comparison_output.as_document(comparison, call.redaction)))
    else:
        output.echo(comparison_output.as_text(comparison, call.redaction))
    return comparison.equivalent


def _opens(server: PrefectEndpoint | None) -> dict[str, str]:
    """Where the stock worker reads blocks and variables."""
    if server is None:
        return {}
    given = {URL: server.url, API_KEY: server.api_key, AUTH_STRING: server.auth_string}
    return {name: value for name, value in given.items() if value}


async def _try(found: RenderedManifest, call: RenderContext) -> bool:
    """Show the Job to the API server, which stores nothing."""
    assert call.kube is not None  # without one there was no way here
    namespace = found.sent["metadata"]["namespace"]
    try:
        warnings = await call.kube.dry_run(JOBS, namespace, found.sent)
    except KubernetesRefused as refused:
        text = attribution.rejected_fields_message(refused.causes, found.render_input) or str(
            refused
        )
        raise OperatorError(f"the API server refuses the Job: {text}") from refused
    for warning in warnings:
        output.echo_note(call.redaction.redact_text(f"the API server warns: {warning}"))
    output.echo_note(f"the API server takes the Job in namespace {namespace!r} (dry run)")
    return True


def _text(found: RenderedManifest, call: RenderContext, options: Options) -> str:
    manifest = call.redaction.redact(found.sent)
    as_json = options.output_format == "json"
    if not options.explain:
        return output.as_json(manifest) if as_json else output.as_yaml(manifest).rstrip()
    traced = trace_values(found.sent, found.render_input, bound=bool(options.binding))
    if as_json:
        by_path = {format_path(path): origin for path, origin in traced.items()}
        return output.as_json({"manifest": manifest, "origins": by_path})
    return with_comments(manifest, traced)
