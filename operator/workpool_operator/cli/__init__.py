"""The command line. Each command imports what it needs when it runs."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any, Literal
from uuid import UUID

import typer
from typer.core import TyperGroup

RUN_PANEL = "Run"
CLUSTER_PANEL = "Cluster"

KubeconfigOption = Annotated[
    str,
    typer.Option(
        "--kubeconfig",
        metavar="FILE",
        help="Kubeconfig file. Default: KUBECONFIG, else ~/.kube/config.",
        rich_help_panel=CLUSTER_PANEL,
    ),
]
ContextOption = Annotated[
    str,
    typer.Option(
        "--context",
        metavar="NAME",
        help="Context of the kubeconfig. Default: the current one.",
        rich_help_panel=CLUSTER_PANEL,
    ),
]
NamespacesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--namespace",
        "-n",
        metavar="NAME",
        help="The bindings of this namespace; repeatable.",
    ),
]
AllNamespacesOption = Annotated[
    bool, typer.Option("--all-namespaces", "-A", help="The bindings of all namespaces.")
]
ONE_SCOPE = "set either --namespace or --all-namespaces"
OutputOption = Annotated[
    Literal["text", "json"], typer.Option("--output", "-o", help="Output format.")
]


class Program(TyperGroup):
    """Reports in one line that the output cannot be written, or that Prefect is not installed."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command; exit with 1 if the output cannot be written or Prefect is missing."""
        if os.path.basename(sys.argv[0]) == "kubectl-workpool":
            options["prog_name"] = "kubectl workpool"  # as the user typed it
        try:
            try:
                return super().main(*args, **options)
            finally:
                if sys.stdout:
                    sys.stdout.flush()
        except OSError as error:
            if sys.stdout:  # else the interpreter tries again at its end, and prints a traceback
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(f"workpool-operator: error: cannot write the output: {error.strerror}")
        except ModuleNotFoundError as missing:
            if missing.name != "prefect":
                raise
            sys.exit(
                "workpool-operator: error: this command needs Prefect, which is not installed: "
                "pip install 'workpool-operator[client]'"
            )


app = typer.Typer(
    name="workpool-operator",
    cls=Program,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(requested: bool) -> None:
    if requested:
        from importlib.metadata import version

        from workpool_operator.prefect_version import prefect_version

        prefect = f"Prefect {prefect_version()}" if prefect_version() else "without Prefect"
        typer.echo(f"workpool-operator {version('workpool-operator')}, {prefect}")
        raise typer.Exit


def _keys(given: list[str] | None) -> tuple[str, ...]:
    """Return the bindings that arguments name, each as NAMESPACE/NAME."""
    for key in given or ():
        namespace, _, name = key.partition("/")
        if not (namespace and name) or "/" in name:
            raise typer.BadParameter(f"{key!r} must be NAMESPACE/NAME, such as data/etl")
    return tuple(given or ())


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
        typer.Option(
            help="Serve the bindings of this namespace; repeatable. Default: all namespaces."
        ),
    ] = None,
    selector: Annotated[
        str | None,
        typer.Option(metavar="LABELS", help="Serve only the bindings with these labels."),
    ] = None,
    health_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port of /healthz and /readyz; 0 picks a free one."),
    ] = None,
) -> None:
    """Run the operator until SIGTERM."""
    from workpool_operator.cli.run import main

    main(namespaces=namespace or [], health_port=health_port, selector=selector)


@app.command()
def crd(
    upgrade: Annotated[
        bool,
        typer.Option(
            "--upgrade", help="Apply it to the cluster, unless that has none or a newer one."
        ),
    ] = False,
    kubeconfig: KubeconfigOption = "",
    context: ContextOption = "",
) -> None:
    """Print the CustomResourceDefinition, for `kubectl apply -f -`."""
    if upgrade:
        from workpool_operator.cli.crd_upgrade import main
        from workpool_operator.kube.kubeconfig import Kubeconfig

        main(Kubeconfig(kubeconfig, context))
        return
    if kubeconfig or context:
        raise typer.BadParameter("--kubeconfig and --context need --upgrade")
    from workpool_operator.api.crd import render

    print(render(), end="")


@app.command()
def status(
    bindings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NS/NAME]...", help="Only these bindings."),
    ] = None,
    namespace: NamespacesOption = None,
    all_namespaces: AllNamespacesOption = False,
    output: OutputOption = "text",
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it again when it changes, until Ctrl-C.")
    ] = False,
    interval_seconds: Annotated[
        float, typer.Option(min=0.5, help="For --watch: seconds between two reads.")
    ] = 2,
    kubeconfig: KubeconfigOption = "",
    context: ContextOption = "",
) -> None:
    """Show bindings, their slots, and their runs in flight with phase, age and reason.

    The right to read bindings, Jobs and pods is enough. Without --namespace:
    those of the kubeconfig's namespace.
    """
    if sum((bool(bindings), bool(namespace), all_namespaces)) > 1:
        raise typer.BadParameter("set one of NS/NAME, --namespace and --all-namespaces")
    from workpool_operator.cli.overview import Selection
    from workpool_operator.cli.status import Options, main
    from workpool_operator.kube.kubeconfig import Kubeconfig

    main(
        Options(
            selection=Selection(tuple(namespace or ()), _keys(bindings)),
            all_namespaces=all_namespaces,
            output_format=output,
            watch=watch,
            interval_seconds=interval_seconds,
            kubeconfig=Kubeconfig(kubeconfig, context),
        )
    )


@app.command()
def doctor(
    bindings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NS/NAME]...",
            help="Bindings that must be Ready. Default without a namespace: those of the current "
            "one.",
        ),
    ] = None,
    namespace: NamespacesOption = None,
    all_namespaces: AllNamespacesOption = False,
    job_namespace: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Jobs may run in this namespace; repeatable."),
    ] = None,
    write_secrets: Annotated[
        bool, typer.Option("--write-secrets", help="It may write Secrets where Jobs run.")
    ] = False,
    operator: Annotated[
        str, typer.Option(metavar="URL", help="Address of the operator's probes.")
    ] = "",
    patience_seconds: Annotated[
        float, typer.Option(min=0, help="Seconds to wait until operator and bindings are ready.")
    ] = 30,
    output: OutputOption = "text",
    user: Annotated[
        str,
        typer.Option(
            "--as",
            metavar="USER",
            help="Check the rights of this account, such as system:serviceaccount:NS:NAME.",
            rich_help_panel=CLUSTER_PANEL,
        ),
    ] = "",
    kubeconfig: KubeconfigOption = "",
    context: ContextOption = "",
) -> None:
    """Check an installation: CRD, rights, operator, and the server and Jobs of bindings.

    The rights are the caller's: helm test runs it with the operator's account.
    Each fault is printed with its fix.
    """
    if namespace and all_namespaces:
        raise typer.BadParameter(ONE_SCOPE)
    from workpool_operator.cli.doctor import Options, main
    from workpool_operator.kube.kubeconfig import Kubeconfig

    main(
        Options(
            namespaces=tuple(namespace or ()) if namespace or all_namespaces else None,
            job_namespaces=tuple(job_namespace or ()),
            bindings=_keys(bindings),
            write_secrets=write_secrets,
            operator=operator,
            patience_seconds=patience_seconds,
            output_format=output,
            kubeconfig=Kubeconfig(kubeconfig, context, user),
        )
    )


@app.command()
def render(
    flow_run: Annotated[
        UUID | None,
        typer.Option(metavar="ID", help="Render this flow run.", rich_help_panel=RUN_PANEL),
    ] = None,
    deployment: Annotated[
        str,
        typer.Option(
            metavar="FLOW/NAME",
            help="Render the next run of this deployment (name or id).",
            rich_help_panel=RUN_PANEL,
        ),
    ] = "",
    pool: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Render a run of this work pool; with one of the above, override its pool.",
            rich_help_panel=RUN_PANEL,
        ),
    ] = "",
    template: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="Use this base job template, not the pool's. Alone, it needs no server.",
            rich_help_panel=RUN_PANEL,
        ),
    ] = "",
    variables: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="Job variables of a run that does not exist yet.",
            rich_help_panel=RUN_PANEL,
        ),
    ] = "",
    binding: Annotated[
        str,
        typer.Option(
            metavar="FILE[#NAME]|NS/NAME",
            help="WorkPoolBinding that serves the run, from a file or the cluster.",
            rich_help_panel=RUN_PANEL,
        ),
    ] = "",
    output: Annotated[
        Literal["yaml", "json"], typer.Option("--output", "-o", help="Output format.")
    ] = "yaml",
    explain: Annotated[
        bool, typer.Option("--explain", help="Show the source of each value.")
    ] = False,
    diff: Annotated[
        bool,
        typer.Option(
            "--diff", help="Show each difference from the stock worker's Job, and the reason."
        ),
    ] = False,
    peer_python: Annotated[
        str,
        typer.Option(
            metavar="PYTHON", help="For --diff: Python interpreter with prefect-kubernetes."
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
    PREFECT_API_URL is set. Without a binding, the active Prefect profile applies.
    """
    if not (flow_run or deployment or template or pool):
        raise typer.BadParameter("set one of --flow-run, --deployment, --pool, --template")
    if flow_run and (deployment or variables):
        other = "--deployment" if deployment else "--variables"
        text = "cannot be combined with --flow-run: the flow run has its own"
        raise typer.BadParameter(text, param_hint=other)
    if diff != bool(peer_python):
        raise typer.BadParameter("--diff and --peer-python must be used together")
    if diff and (explain or server_dry_run):
        other = "--explain" if explain else "--server-dry-run"
        text = "cannot be combined with --diff, which prints no manifest"
        raise typer.BadParameter(text, param_hint=other)
    from workpool_operator.cli.flow_run_documents import RunSelector, read_mapping, read_template
    from workpool_operator.cli.output import errors_in_one_line
    from workpool_operator.cli.render import Options, main
    from workpool_operator.kube.kubeconfig import Kubeconfig

    with errors_in_one_line():
        selector = RunSelector(
            flow_run=flow_run,
            deployment=deployment,
            pool=pool,
            template=read_template(template) if template else None,
            variables=read_mapping(variables) if variables else None,
        )
    main(
        Options(
            selector=selector,
            binding=binding,
            output_format=output,
            explain=explain,
            peer_python=peer_python,
            server_dry_run=server_dry_run,
            kubeconfig=Kubeconfig(kubeconfig, context),
        )
    )


@app.command()
def explain(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="Id or name of a flow run, or FLOW/DEPLOYMENT for its latest run. "
            "Without it: the run of --binding that has waited longest, or crashed last.",
        ),
    ] = "",
    binding: Annotated[
        str,
        typer.Option(
            metavar="FILE[#NAME]|NS/NAME",
            help="Use the Prefect server of this WorkPoolBinding.",
        ),
    ] = "",
    namespace: Annotated[
        str,
        typer.Option(
            "--namespace",
            "-n",
            metavar="NAME",
            help="Read only this namespace. Default: all, or those that you may read.",
        ),
    ] = "",
    output: OutputOption = "text",
    kubeconfig: KubeconfigOption = "",
    context: ContextOption = "",
) -> None:
    """Explain why a flow run is, or is not, running.

    It reads Prefect and the cluster with your own rights. The exit code is 1 if
    there is no answer, and 3 if a part could not be read.
    """
    if not (run or binding):
        text = "name a flow run, or with --binding NS/NAME the binding whose run waits or crashed"
        raise typer.BadParameter(text, param_hint="RUN")
    from workpool_operator.cli.explain import Options, main
    from workpool_operator.kube.kubeconfig import Kubeconfig

    main(
        Options(
            run=run,
            binding=binding,
            namespace=namespace,
            output_format=output,
            kubeconfig=Kubeconfig(kubeconfig, context),
        )
    )


@app.command()
def validate(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE|DIR", help="YAML or JSON; - is standard input."),
    ],
    output: OutputOption = "text",
    template: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="For a prefect.yaml: the base job template, instead of those of the server.",
        ),
    ] = "",
) -> None:
    """Check WorkPoolBindings, base job templates, and the job variables of a prefect.yaml.

    A template can also be a whole work pool, as prefect work-pool inspect -o json
    prints it. Only a prefect.yaml needs a server, for the templates of its pools.
    The exit code is 1 if there is an error, not for warnings.
    """
    from workpool_operator.cli.validate import main

    main(files, output_format=output, template=template)


@app.command()
def migrate(
    file: Annotated[
        str,
        typer.Argument(
            metavar="VALUES", help="The values of a prefect-worker release; - is standard input."
        ),
    ],
    output: Annotated[
        Literal["bindings", "values", "json"],
        typer.Option(
            "--output",
            "-o",
            help="The binding for kubectl, the chart's values with it in them, or both as JSON.",
        ),
    ] = "bindings",
    namespace: Annotated[
        str,
        typer.Option("--namespace", "-n", metavar="NAME", help="The namespace of the release."),
    ] = "",
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Name of the binding. Default: by the work pool's.")
    ] = "",
) -> None:
    """Turn the values of a prefect-worker chart into a binding and values of this chart.

    What cannot be carried over is named on standard error, with what to do instead.
    """
    from workpool_operator.cli.migrate import Options, main

    main(Options(file=file, namespace=namespace, name=name, output_format=output))


@app.command()
def unbind(
    namespace: NamespacesOption = None,
    all_namespaces: AllNamespacesOption = False,
    selector: Annotated[
        str,
        typer.Option(
            "--selector", "-l", metavar="LABELS", help="Delete only bindings with these labels."
        ),
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the bindings, and delete nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without confirmation.")] = False,
    patience_seconds: Annotated[
        float,
        typer.Option(
            min=0,
            help="Seconds to wait for a running operator before the finalizer is removed by force.",
        ),
    ] = 15,
    kubeconfig: KubeconfigOption = "",
    context: ContextOption = "",
) -> None:
    """Delete WorkPoolBindings; remove the finalizer if no operator is running."""
    if bool(namespace) == all_namespaces:
        raise typer.BadParameter(ONE_SCOPE)
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
