"""The command line; each command imports what it needs when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

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
