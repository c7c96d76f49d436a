"""The command line; each command imports what it needs when it runs."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any, Literal
from uuid import UUID

import typer
from typer.core import TyperGroup

THE_RUN = "Which run"
THE_CLUSTER = "Which cluster"

KubeconfigOption = Annotated[
    str,
    typer.Option(
        "--kubeconfig",
        metavar="FILE",
        help="Default: KUBECONFIG, else ~/.kube/config.",
        rich_help_panel=THE_CLUSTER,
    ),
]
ContextOption = Annotated[
    str,
    typer.Option(
        "--context",
        metavar="NAME",
        help="Of the kubeconfig. Default: its current one.",
        rich_help_panel=THE_CLUSTER,
    ),
]


class Program(TyperGroup):
    """Ends with one line where its output cannot be written."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command; exit with 1 if standard output cannot be written."""
        try:
            try:
                return super().main(*args, **options)
            finally:
                if sys.stdout:
                    sys.stdout.flush()
        except OSError as error:
            if sys.stdout:  # else the interpreter tries once more at its end, and complains
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(f"workpool-operator: error: cannot write the output: {error.strerror}")


app = typer.Typer(
    name="workpool-operator",
    cls=Program,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(
            f"workpool-operator {version('workpool-operator')}, Prefect {version('prefect')}"
        )
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """A Kubernetes operator that is a Prefect worker."""


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
    from workpool_operator.api.crd import render

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
        typer.Option(
            "--server-dry-run",
            help="Send the Job to the cluster as a dry run. Nothing is created.",
        ),
    ] = False,
    kubeconfig: KubeconfigOption = "",
    context: ContextOption = "",
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
    from workpool_operator.cli.option_files import read_mapping, read_template
    from workpool_operator.cli.render import Options, main
    from workpool_operator.cli.run_documents import RunSelector
    from workpool_operator.kube.kubeconfig import Kubeconfig

    main(
        Options(
            wanted=RunSelector(
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
            kubeconfig=Kubeconfig(kubeconfig, context),
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
    prints it. Exit code 1 if there is an error; warnings alone do not fail.
    """
    from workpool_operator.cli.validate import main

    main(files, output_format=output)


@app.command()
def unbind(
    namespace: Annotated[
        list[str] | None,
        typer.Option(
            "--namespace",
            "-n",
            metavar="NAME",
            help="Delete the bindings of this namespace; repeatable.",
        ),
    ] = None,
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Delete those of every namespace.")
    ] = False,
    selector: Annotated[
        str,
        typer.Option("--selector", "-l", metavar="LABELS", help="Only with these labels."),
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be deleted, and stop.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
    patience_seconds: Annotated[
        float,
        typer.Option(
            min=0,
            help="Seconds to wait for a running operator before its finalizer is removed.",
        ),
    ] = 15,
    kubeconfig: KubeconfigOption = "",
    context: ContextOption = "",
) -> None:
    """Delete WorkPoolBindings; remove the finalizer if no operator is running."""
    if bool(namespace) == all_namespaces:
        raise typer.BadParameter("name the scope: --namespace NAME, or --all-namespaces")
    if not (yes or dry_run or (sys.stdin and sys.stdin.isatty())):
        text = "standard input is not a terminal: add --yes to delete, or --dry-run to only list"
        raise typer.BadParameter(text)
    from workpool_operator.cli.unbind import Options, main
    from workpool_operator.kube.kubeconfig import Kubeconfig

    main(
        Options(
            namespaces=tuple(namespace or ()),
            selector=selector,
            kubeconfig=Kubeconfig(kubeconfig, context),
            patience_seconds=patience_seconds,
            dry_run=dry_run,
            yes=yes,
        )
    )
