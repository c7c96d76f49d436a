"""Templates and values with blocks and variables of a server, which the test creates once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.corpus.case import Case, Object, template_with


@dataclass(frozen=True)
class Names:
    """The names on the server: a Secret block, a block of our own type, and variables."""

    secret: str
    settings: str
    settings_id: str
    word: str
    document: str


SETTINGS: Object = {
    "host": "warehouse",
    "port": 5432,
    "labels": {"team": "data"},
    "hosts": [{"name": "first"}, {"name": "second"}],
    "image": "registry.example/flows:{{ image }}",
}
DOCUMENT: Object = {"nodeSelector": {"disk": "ssd"}, "gpus": 1}


def cases(names: Names) -> list[Case]:
    secret = f"{{{{ prefect.blocks.secret.{names.secret} }}}}"
    settings = f"prefect.blocks.wpo-settings.{names.settings}"
    return [
        *_blocks(secret, settings),
        *_references(names),
        *_variables(names),
        *_missing(settings),
    ]


def _blocks(secret: str, settings: str) -> list[Case]:
    return [
        Case("a secret in the run's env", run={"env": {"PASSWORD": secret}}),
        Case("a secret in the deployment's env", deployment={"env": {"PASSWORD": secret}}),
        Case("a secret by a dot key", deployment={"env.PASSWORD": secret}),
        Case("a secret in a text", run={"env": {"URL": f"db://me:{secret}@host"}}),
        Case("a secret as a default", template=template_with(variables={"image": secret})),
        Case("a secret in a list", run={"env": [{"name": "PASSWORD", "value": secret}]}),
        Case("a secret in the template", template=_annotated(secret)),
        Case("a field", run={"env": {"HOST": f"{{{{ {settings}.host }}}}"}}),
        Case("a number", template=_annotated(f"{{{{ {settings}.port }}}}")),
        Case("a number in a text", template=_annotated(f"port {{{{ {settings}.port }}}}")),
        Case("a mapping", run={"labels": f"{{{{ {settings}.labels }}}}"}),
        Case("a path with an index", run={"env": {"A": f"{{{{ {settings}.hosts[1].name }}}}"}}),
        Case("a value with a placeholder", run={"image": f"{{{{ {settings}.image }}}}"}),
        Case(
            "a block and a variable in one text",
            run={"image": f"{secret}/{{{{ {settings}.host }}}}"},
        ),
    ]


def _references(names: Names) -> list[Case]:
    reference: Any = {"$ref": {"block_document_id": names.settings_id}}
    return [
        Case("a whole block", run={"affinity": reference}, template=_pod("affinity")),
        Case("a whole block in the template", template=template_with(pod={"affinity": reference})),
        Case("a whole block in a list", run={"more": [reference]}, template=_pod("more")),
    ]


def _variables(names: Names) -> list[Case]:
    word, document = (f"{{{{ prefect.variables.{n} }}}}" for n in (names.word, names.document))
    return [
        Case("a variable", run={"image": word}),
        Case("a variable in a text", run={"image": f"registry.example/{word}:1"}),
        Case("a variable in the template", template=template_with(container={"workingDir": word})),
        Case("a variable that is a mapping", run={"affinity": document}, template=_pod("affinity")),
        Case("a mapping in a text", template=_annotated(f"all of {document}")),
        Case("a variable that is not there", run={"image": "{{ prefect.variables.nothing_here }}"}),
        Case("none in a text", run={"image": "x{{ prefect.variables.nothing_here }}y"}),
    ]


def _missing(settings: str) -> list[Case]:
    return [
        Case("no such block", run={"image": "{{ prefect.blocks.secret.nothing-here }}"}),
        Case("no such type", run={"image": "{{ prefect.blocks.nothing-here.x }}"}),
        Case("no such field", run={"image": f"{{{{ {settings}.nothing }}}}"}),
        Case("no block's name", run={"image": "{{ prefect.blocks.secret }}"}),
        Case(
            "a mapping of a block in a text", template=_annotated(f"x {{{{ {settings}.labels }}}}")
        ),
        Case(
            "no such document",
            run={"labels": {"$ref": {"block_document_id": "99999999-9999-4999-8999-999999999999"}}},
        ),
    ]


def _annotated(value: Any) -> Object:
    return template_with(metadata={"annotations": {"note": value}})


def _pod(variable: str) -> Object:
    return template_with(pod={variable: f"{{{{ {variable} }}}}"})
