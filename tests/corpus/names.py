"""Names and labels of runs, flows and users: templated, long, in other scripts, empty."""

from __future__ import annotations

from tests.corpus.case import Case, template_with

TEMPLATED = [
    "{{ ctx.flow.name }}",
    "{{ ctx.flow_run.name }}",
    "{{ ctx.flow.name }}/{{ ctx.flow_run.name }}",
    "{{ ctx.flow.name }}-{{ ctx.flow_run.id }}",
    "{{ ctx.nothing }}",
    "{{ nothing }}",
    "{{ ctx.flow_run.deployment_id }}-x",
    "etl {{ ctx.flow_run.name }} {{ nothing }}",
]
UNUSUAL = [
    " ",
    "-",
    "$@*^$@",
    "Grüße aus Köln",
    "数据管道",
    "🚀",
    "UPPER_case.1",
    "x" * 300,
    "a\nb",
]
KEYS = [
    "/starts-with-slash",
    "_under",
    "-dash",
    ".dot",
    "ends_",
    "ends-",
    "ends.",
    "a/b/c",
    "A.example/x",
    "a_b.example/x",
    "x" * 300,
    "p" * 300 + "/x",
    "ex..ample/x",
    "$@*^$@",
    "$@*^$@/name",
    "name/$@*^$@",
    "example.org/",
    "ключ",
    "example.org/Kept_case.1",
]

CASES = [
    *(Case(f"a name of the user's: {name}", deployment={"name": name}) for name in TEMPLATED),
    *(Case(f"a run called {name[:20]!r}", run_name=name) for name in UNUSUAL),
    *(Case(f"a flow called {name[:20]!r}", flow_name=name) for name in UNUSUAL),
    *(Case(f"a label value {text[:20]!r}", run={"labels": {"x": text}}) for text in ["", *UNUSUAL]),
    *(Case(f"a label key {key[:24]!r}", run={"labels": {key: "v"}}) for key in KEYS),
    *(Case(f"an annotation's key {key[:24]!r}", run={"annotations": {key: "v"}}) for key in KEYS),
    Case(
        "two keys that become one",
        run={"labels": {"a$b": "first", "a-b": "second"}},
    ),
    Case(
        "Prefect's own labels replaced",
        run={"labels": {"prefect.io/flow-name": "mine", "app.kubernetes.io/name": "mine"}},
    ),
    Case("the run's id as a label", run={"labels": {"prefect.io/flow-run-id": "forged"}}),
    Case("our own label forged", run={"labels": {"workpool-operator.dev/flow-run-id": "forged"}}),
    Case(
        "labels in the template that are invalid",
        template=template_with(metadata={"labels": {"a b": "c d", "$": "x", "": "y"}}),
    ),
]
