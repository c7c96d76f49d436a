"""The command line; each command imports what it needs when it runs."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

import typer

THE_RUN = "Which run"

app = typer.Typer(
    name="workpool-operator",
    help="A Kubernetes operator that is a Prefect worker.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command()
def run(
    namespace: Annotated[
        list[str] | None,
        typer.Option(help="Serve the bindings of this namespace; repeatable. Default: all."),
    ] = None,
    health_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port of /healthz and /readyz; 0 picks a free one."),
    ] = None,
) -> None:
    """Run the operator until SIGTERM."""
    from workpool_operator.cli.run import main

    main(namespaces=namespace or [], health_port=health_port)


@app.command()
def crd() -> None:
    """Print the CustomResourceDefinition, for `kubectl apply -f -`."""
    from workpool_operator.binding.crd import render

    print(render(), end="")


@app.command()
def render(
    flow_run: Annotated[
        UUID | None,
        typer.Option(metavar="ID", help="This flow run.", rich_help_panel=THE_RUN),
    ] = None,
    deployment: Annotated[
        str,
        typer.Option(
            metavar="FLOW/NAME",
            help="The next run of this deployment, by name or id.",
            rich_help_panel=THE_RUN,
        ),
    ] = "",
    pool: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Of this work pool; with one of the above, instead of its own pool.",
            rich_help_panel=THE_RUN,
        ),
    ] = "",
    template: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="A base job template, instead of the pool's. Alone, no server is asked.",
            rich_help_panel=THE_RUN,
        ),
    ] = "",
    variables: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="Job variables of a run that is not there yet.",
            rich_help_panel=THE_RUN,
        ),
    ] = "",
    binding: Annotated[
        str,
        typer.Option(
            metavar="FILE[#NAME]|NS/NAME",
            help="The WorkPoolBinding that serves it: in a file, or in the cluster.",
            rich_help_panel=THE_RUN,
        ),
    ] = "",
    output: Annotated[
        Literal["yaml", "json"], typer.Option("--output", "-o", help="How it is printed.")
    ] = "yaml",
    explain: Annotated[
        bool, typer.Option("--explain", help="Say of each value where it comes from.")
    ] = False,
    diff: Annotated[
        bool,
        typer.Option("--diff", help="Show what the stock worker makes otherwise, and why."),
    ] = False,
    peer_python: Annotated[
        str,
        typer.Option(
            metavar="PYTHON", help="For --diff: an interpreter that has prefect-kubernetes."
        ),
    ] = "",
    server_dry_run: Annotated[
        bool,
        typer.Option("--server-dry-run", help="Ask the kubeconfig's API server to take it."),
    ] = False,
) -> None:
    """Print the Job that the operator would create for a run.

    Secrets are redacted. The Prefect server is the binding's, unless
    PREFECT_API_URL is set; without a binding, that of the prefect command.
    """
    if not (flow_run or deployment or template or pool):
        raise typer.BadParameter("name one of --flow-run, --deployment, --pool, --template")
    if flow_run and (deployment or variables):
        other = "--deployment" if deployment else "--variables"
        raise typer.BadParameter(f"a flow run has its own: leave {other} out", param_hint=other)
    if diff != bool(peer_python):
        raise typer.BadParameter("--diff and --peer-python belong together")
    if diff and (explain or server_dry_run):
        raise typer.BadParameter("prints no manifest: leave --explain and --server-dry-run out")
    from workpool_operator.cli.inputs import read_mapping, read_template
    from workpool_operator.cli.material import Wanted
    from workpool_operator.cli.render import Options, main

    main(
        Options(
            wanted=Wanted(
                flow_run=flow_run,
                deployment=deployment,
                pool=pool,
                template=read_template(template) if template else None,
                variables=read_mapping(variables) if variables else None,
            ),
            binding=binding,
            output_format=output,
            explain=explain,
            peer_python=peer_python,
            server_dry_run=server_dry_run,
        )
    )


@app.command()
def validate(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE|DIR", help="YAML or JSON; - reads standard input."),
    ],
    output: Annotated[
        Literal["text", "json"], typer.Option("--output", "-o", help="How findings are printed.")
    ] = "text",
) -> None:
    """Check WorkPoolBindings and base job templates offline.

    A template may also be a whole pool, as prefect work-pool inspect -o json
    prints it. Exit code 1: something is wrong; warnings alone are no fault.
    """
    from workpool_operator.cli.validate import main

    main(files, output_format=output)


@app.command()
def unbind(
    namespace: Annotated[
        list[str] | None,
        typer.Option(help="Delete the bindings of this namespace; repeatable. Default: all."),
    ] = None,
    selector: Annotated[str, typer.Option(help="Only those with these labels.")] = "",
    patience_seconds: Annotated[
        float, typer.Option(min=0, help="How long an operator may take to let go of them.")
    ] = 15,
) -> None:
    """Delete bindings, also where no operator is left to let go of them."""
    from workpool_operator.cli.unbind import main

    main(namespaces=namespace or [], selector=selector, patience_seconds=patience_seconds)
