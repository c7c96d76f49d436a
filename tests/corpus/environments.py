"""Environments: mappings and lists, of pool, deployment and run, merged and unset."""

from __future__ import annotations

from typing import Any

from tests.corpus.case import Case, template_with
from workpool_operator.jobs.certificates import CASource

SIGTERM = "PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR"


def secret(name: str, key: str = "password") -> dict[str, Any]:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": "warehouse", "key": key}}}


def plain(name: str, value: Any = "1") -> dict[str, Any]:
    return {"name": name, "value": value}


FIELD = {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
CONFIG = {"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "etl", "key": "mode"}}}
OF_THE_POOL = {"A": "pool", "B": "pool", "EMPTY": ""}
DEFAULTS = template_with(variables={"env": OF_THE_POOL})
FIXED = template_with(configuration={"env": OF_THE_POOL})
BOTH = template_with(
    configuration={"env": {"X": "fixed", "A": "fixed"}}, variables={"env": OF_THE_POOL}
)
LISTED = template_with(variables={"env": [plain("A", "pool"), secret("PASSWORD")]})
HARD_CODED = template_with(container={"env": [secret("PASSWORD"), plain("A", "template"), FIELD]})

_TEMPLATES = {
    "no defaults": template_with(),
    "pool defaults": DEFAULTS,
    "fixed in the configuration": FIXED,
    "fixed and defaults": BOTH,
    "a list as default": LISTED,
    "a hard-coded list": HARD_CODED,
}
_VALUES: dict[str, tuple[Any, Any]] = {
    "nothing": ({}, {}),
    "a deployment's": ({"env": {"A": "deployment"}}, {}),
    "a run's": ({}, {"env": {"A": "run"}}),
    "both": ({"env": {"A": "deployment", "C": "deployment"}}, {"env": {"C": "run"}}),
    "an empty text": ({"env": {"A": ""}}, {}),
    "a null": ({"env": {"A": None}}, {"env": {"B": None}}),
    "dot keys": ({"env.A": "deployment", "env.D": "deployment"}, {"env.A": "run"}),
    "dot keys and a mapping": ({"env.A": "dotted", "env": {"B": "nested"}}, {}),
    "a list": ({"env": [plain("A", "deployment"), secret("TOKEN")]}, {}),
    "a list of the run": ({"env": [plain("A", "deployment")]}, {"env": [plain("B", "run")]}),
}


def _crossed() -> list[Case]:
    return [
        Case(f"env: {template}, {values}", template=_TEMPLATES[template], deployment=own, run=run)
        for template in _TEMPLATES
        for values, (own, run) in _VALUES.items()
    ]


def _of_one_list(name: str, *entries: Any) -> Case:
    return Case(f"env list: {name}", deployment={"env": list(entries)})


_NODE = {"valueFrom": FIELD["valueFrom"]}
_LEVELS = [
    Case(
        "env levels: a list of each, innermost wins, order kept",
        template=template_with(
            variables={"env": [plain("HOST", "pool"), secret("PW"), plain("Z")]}
        ),
        deployment={"env": [plain("URL", "$(PW)@$(HOST)"), plain("HOST", "deployment")]},
        run={"env": [secret("HOST"), plain("NEW", "run")]},
    ),
    Case(
        "env levels: a list of the pool, then mappings",
        template=template_with(variables={"env": [plain("A", "pool"), plain("B", "pool")]}),
        deployment={"env": {"A": "deployment"}},
        run={"env": {"B": None}},
    ),
    Case(
        "env levels: a mapping of the pool, then lists",
        template=DEFAULTS,
        deployment={"env": [plain("A", "deployment")]},
        run={"env": [plain("B", "run"), secret("C")]},
    ),
    Case(
        "env levels: a dotted key of the run over a mapping of the deployment",
        deployment={"env": {"A": "deployment"}},
        run={"env.A": "run"},
    ),
    Case(
        "env levels: a list in the configuration",
        template=template_with(configuration={"env": [plain("A", "fixed"), plain("B", "fixed")]}),
        deployment={"env": {"A": "deployment"}},
    ),
    Case("env: a reference in a mapping", run={"env": {"NODE": _NODE, "A": "1"}}),
    Case("env: booleans in a mapping", run={"env": {"DEBUG": True, "QUIET": False}}),
    Case(
        "env: placeholders of the template's author in a default",
        template=template_with(
            variables={"env": {"IMAGE": "{{ image }} of {{ region }}", "NAME": "{{ name }}"}}
        ),
        run={"image": "flows:1", "region": "eu", "env": {"A": "1"}},
    ),
    Case(
        "env: placeholders of the template's author in a default list",
        template=template_with(variables={"env": [plain("IMAGE", "{{ image }}")]}),
        run={"image": "flows:1"},
    ),
]

CASES = [
    *_crossed(),
    *_LEVELS,
    _of_one_list("references of each kind", secret("PASSWORD"), FIELD, CONFIG),
    _of_one_list("a null value", plain("A", None), plain("B")),
    _of_one_list("neither value nor reference", {"name": "A"}, plain("B")),
    _of_one_list("a number", plain("A", 1), plain("B", True)),
    _of_one_list("the server, replaced", plain("PREFECT_API_URL", "http://other/api")),
    _of_one_list("the server by reference", secret("PREFECT_API_URL")),
    _of_one_list("the same name twice", plain("A", "first"), plain("A", "second")),
    _of_one_list("a value and a reference of one name", plain("A", "plain"), secret("A")),
    _of_one_list("no names", {"value": "1"}),
    _of_one_list("texts", "A=1"),
    _of_one_list("a key of its own", plain("PREFECT_API_KEY", "of-the-user")),
    _of_one_list("a behaviour on SIGTERM", plain(SIGTERM, "reschedule")),
    _of_one_list("an empty behaviour on SIGTERM", plain(SIGTERM, ""), secret("A")),
    Case(
        "env list: a behaviour on SIGTERM, with retries",
        run={"env": [plain(SIGTERM, "die"), secret("A")], "backoff_limit": 1},
    ),
    _of_one_list("a behaviour on SIGTERM by reference", secret(SIGTERM)),
    Case("env: the server is replaced", run={"env": {"PREFECT_API_URL": "http://other/api"}}),
    Case("env: the server is unset", run={"env": {"PREFECT_API_URL": None}}),
    Case("env: the run's id is replaced", run={"env": {"PREFECT__FLOW_RUN_ID": "x"}}),
    Case("env: the run's id is unset", run={"env": {"PREFECT__FLOW_RUN_ID": None}}),
    Case("env: a key of the user's own", run={"env": {"PREFECT_API_KEY": "of-the-user"}}),
    Case("env: the key is unset", run={"env": {"PREFECT_API_KEY": None}}),
    Case("env: behaviour on SIGTERM", run={"env": {SIGTERM: "die"}}),
    Case("env: no behaviour on SIGTERM", run={"env": {SIGTERM: ""}}),
    Case("env: behaviour, with retries", run={"env": {SIGTERM: "die"}, "backoff_limit": 2}),
    Case(
        "env: behaviour by reference, with retries",
        run={"env": [secret(SIGTERM)], "backoff_limit": 2},
    ),
    Case("env: unicode and quotes", run={"env": {"GRUSS": "Grüße, \"Köln\" & 'Bonn' \\ $(A)"}}),
    Case("env: three hundred", run={"env": {f"V{number}": str(number) for number in range(300)}}),
    Case("env: a mapping inside", run={"env": {"A": {"b": 1}, "L": [1, 2]}}),
    Case(
        "env: hard-coded without the placeholder, run id in the way",
        template=template_with(container={"env": [plain("PREFECT__FLOW_RUN_ID", "fixed")]}),
    ),
    Case(
        "env: hard-coded behaviour on SIGTERM",
        template=template_with(container={"env": [plain(SIGTERM, "die")]}),
    ),
    Case(
        "env: hard-coded, no names",
        template=template_with(container={"env": [{"value": "1"}, plain("A")]}),
    ),
    Case("env: none in the container", template=template_with(container={"env": None})),
    Case("env: the binding's CA", ca=CASource("ConfigMap", "server", "ca.pem")),
    Case(
        "env: the binding's CA next to other volumes",
        template=template_with(
            container={"volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]},
            pod={"volumes": [{"name": "scratch", "emptyDir": {}}]},
        ),
        ca=CASource("Secret", "server", "ca.pem"),
    ),
    Case(
        "env: entries of a list with a variable inside",
        template=template_with(
            container={"env": [plain("STAGE", "{{ stage }}"), secret("{{ secret_name }}")]},
            variables={"stage": "prod", "secret_name": None},
        ),
        run={"secret_name": "TOKEN"},
    ),
    Case(
        "envFrom together with env",
        template=template_with(container={"envFrom": [{"secretRef": {"name": "warehouse"}}]}),
    ),
]
