"""The stock template and its variables: each alone, with unusual values, and all together."""

from __future__ import annotations

from typing import Any

from tests.corpus.case import Case
from tests.support.prefect import stock_template

LONG = "l" * 300

#: By variable: what users set, what they set by mistake, what is falsy, null or of another type.
VALUES: dict[str, list[Any]] = {
    "name": ["nightly-load", "Nightly Load!", "", None, "$@*", LONG, "none", "123"],
    "env": [{}, {"A": "1"}, {"A": ""}, {"A": None}, {"A": 1, "B": 1.5, "C": True}, [], None],
    "labels": [{}, {"team": "data"}, {"a/b": "c d"}, {"a b": "c"}, {"big": LONG}, {"": "x"}, None],
    "command": ["prefect flow-run execute", "", None, "sh -c 'echo \"a b\" && exit 3'", "python"],
    "annotations": [{}, {"note": "a b/c {}"}, {"Bad Key/x y": "v"}, {"big": LONG}, None],
    "namespace": ["default", "other", "", None],
    "image": ["registry.example/team/image:1.2", "image@sha256:" + "0" * 64, "", None],
    "service_account_name": ["runner", "", None],
    "image_pull_policy": ["Always", "Never", "IfNotPresent", "", None],
    "backoff_limit": [0, 1, 6, None, "0", False, 0.0],
    "finished_job_ttl": [0, 1, 86400, None, "60"],
    "job_watch_timeout_seconds": [0, 600, None, "30"],
    "pod_watch_timeout_seconds": [0, 120, "30"],
    "stream_output": [True, False, "yes"],
    "cluster_config": [None],
    "cpu_request": ["100m", "2", 2, "", None],
    "cpu_limit": ["1500m", 0.5, None],
    "memory_request": ["128Mi", "1Gi", "", None],
    "memory_limit": ["2Gi", 1073741824, None],
    "unknown_to_the_template": ["x", None, {"a": 1}],
}

ALL = {
    "name": "all",
    "env": {"A": "1", "B": "two words"},
    "labels": {"team": "data", "example.org/cost-center": "42"},
    "command": "prefect flow-run execute",
    "annotations": {"example.org/note": "everything at once"},
    "namespace": "jobs",
    "image": "registry.example/team/image:1.2",
    "service_account_name": "runner",
    "image_pull_policy": "Always",
    "backoff_limit": 3,
    "finished_job_ttl": 3600,
    "job_watch_timeout_seconds": 100,
    "pod_watch_timeout_seconds": 100,
    "stream_output": False,
    "cpu_request": "100m",
    "cpu_limit": "1",
    "memory_request": "128Mi",
    "memory_limit": "512Mi",
}


def _alone() -> list[Case]:
    return [
        Case(
            f"{variable}={str(value)[:40]!r} as {type(value).__name__}",
            deployment={variable: value},
        )
        for variable, values in VALUES.items()
        for value in values
    ]


def _of_the_server() -> list[Case]:
    """Return the template that Prefect's server, and so its UI, offers."""
    return [
        Case("the server's template, nothing set", template=stock_template()),
        *(
            Case(
                f"the server's template, {variable}",
                template=stock_template(),
                run={variable: value},
            )
            for variable, value in ALL.items()
        ),
    ]


def _by_the_run() -> list[Case]:
    """Return a case in which the run's value overrides the deployment's."""
    return [
        Case(f"{variable} of the run", deployment={variable: values[-1]}, run={variable: values[0]})
        for variable, values in VALUES.items()
    ]


CASES = [
    Case("nothing set"),
    Case("all set by the deployment", deployment=ALL),
    Case("all set by the run", run=ALL),
    Case("all set for a run without deployment", deployment=None, run=ALL),
    Case("a run without deployment", deployment=None),
    Case("all null", deployment=dict.fromkeys(ALL)),
    Case("all set, then null by the run", deployment=ALL, run=dict.fromkeys(ALL)),
    *_alone(),
    *_by_the_run(),
    *_of_the_server(),
]
