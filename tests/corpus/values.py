"""Values that contain placeholders: they are data, unless they refer to a block."""

from __future__ import annotations

from tests.corpus.case import Case, template_with

TEXT = "{{ image }} of {{ nothing }}"
BOTH = template_with(
    metadata={"annotations": {"note": "{{ first }} {{ second }}", "sole": "{{ first }}"}}
)

CASES = [
    Case("a value that names a variable", run={"annotations": {"note": TEXT}}),
    Case("an environment that names a variable", run={"env": {"A": TEXT}, "image": "x:1"}),
    Case(
        "a value that names the other of its text",
        template=BOTH,
        run={"first": "{{ second }}", "second": "{{ first }}"},
    ),
    Case("a command with braces", run={"command": "python -c 'print({{1: 2}})'"}),
    Case("a command that names a variable", run={"command": "echo {{ image }}", "image": "x:1"}),
    Case("a label that names a variable", run={"labels": {"a": "{{ image }}"}}),
    Case("a run called by a placeholder", run_name="{{ ctx.flow.name }}"),
    Case(
        "a default that names a variable", template=template_with(variables={"image": "{{ name }}"})
    ),
    Case("a list of placeholders", run={"env": [{"name": "A", "value": "{{ image }}"}]}),
    Case("an image that names itself", run={"image": "{{ image }}"}),
    Case("lists within a list", template=template_with(container={"args": [["a", "b"], "c"]})),
    Case(
        "a null among volumes",
        template=template_with(pod={"volumes": [{"name": "v", "emptyDir": {}}, "{{ more }}"]}),
        run={"more": None},
    ),
    Case(
        "a list among volumes",
        template=template_with(pod={"volumes": [{"name": "v", "emptyDir": {}}, "{{ more }}"]}),
        run={"more": [{"name": "w", "emptyDir": {}}]},
    ),
    Case(
        "a list of the run over a mapping of the deployment",
        deployment={"env": {"A": "1"}},
        run={"env": [{"name": "B", "value": "2"}]},
    ),
    Case(
        "a mapping of the run over a list of the deployment",
        deployment={"env": [{"name": "B", "value": "2"}]},
        run={"env": {"A": "1"}},
    ),
    Case(
        "an empty list of the run over a mapping", deployment={"env": {"A": "1"}}, run={"env": []}
    ),
    Case("a null of the run over a mapping", deployment={"env": {"A": "1"}}, run={"env": None}),
    Case("a null of the deployment", deployment={"env": None}, run={"env": {"A": "1"}}),
    Case(
        "a mapping with a placeholder, in a text",
        template=template_with(metadata={"annotations": {"note": "all: {{ first }} {{ second }}"}}),
        run={"first": {"a": ["{{ second }}"]}, "second": "x"},
    ),
    Case("a megabyte", run={"env": {"BIG": "x" * 2**20}}),
    Case(
        "a template of a megabyte",
        template=template_with(variables={f"v{n}": "x" * 1000 for n in range(1000)}),
    ),
]
