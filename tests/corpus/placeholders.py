"""Placeholders in every position and every spelling."""

from __future__ import annotations

from tests.corpus.case import Case, template_with

CASES = [
    Case(
        "Jinja's filters are none of Prefect's",
        template=template_with(container={"image": "{{ image | default('x') }}"}),
    ),
    Case(
        "spaces and braces",
        template=template_with(
            metadata={
                "annotations": {
                    "a": "{{image}}",
                    "b": "{{   image   }}",
                    "c": "{ {image} }",
                    "d": "{{{image}}}",
                    "e": "}}{{",
                }
            }
        ),
        run={"image": "x:1"},
    ),
    Case(
        "the same variable twice in a text",
        template=template_with(
            metadata={"annotations": {"a": "{{ image }} and {{ image }} and {{ nothing }}"}}
        ),
        run={"image": "x:1"},
    ),
    Case(
        "a placeholder in a key is not expanded",
        template=template_with(metadata={"annotations": {"{{ image }}": "a"}}),
    ),
    Case(
        "lists of lists",
        template=template_with(
            pod={
                "hostAliases": [
                    {"ip": "{{ ip }}", "hostnames": ["{{ host }}", "b", "{{ nothing }}"]}
                ]
            }
        ),
        run={"ip": "10.0.0.1"},
    ),
    Case(
        "a path into a variable",
        template=template_with(container={"image": "{{ build.image }}:{{ build.tags[0] }}"}),
        run={"build": {"image": "flows", "tags": ["1", "2"]}},
    ),
    Case(
        "a path by dot keys",
        template=template_with(container={"image": "{{ build.image }}"}),
        run={"build.image": "flows:3"},
    ),
    Case(
        "a worker's variable in a text",
        template=template_with(
            metadata={
                "annotations": {"region": "in {{ $CLUSTER_REGION }}", "none": "{{ $NOT_SET }}x"}
            }
        ),
    ),
    Case(
        "a worker's variable alone",
        template=template_with(metadata={"annotations": {"region": "{{ $CLUSTER_REGION }}"}}),
    ),
    Case(
        "a worker's variable in a value", run={"annotations": {"region": "{{ $CLUSTER_REGION }}"}}
    ),
    Case(
        "a worker's variable in a default",
        template=template_with(variables={"image": "flows:{{ $CLUSTER_REGION }}"}),
    ),
    Case("resources of the default variables", run={"cpu_request": "1", "memory_limit": "1Gi"}),
    Case(
        "a null in the template",
        template=template_with() | {"variables": {"properties": {"image": {"default": None}}}},
    ),
    Case(
        "variables without properties",
        template=template_with() | {"variables": {"image": {"default": "x"}}},
    ),
    Case(
        "a command within a longer text, not set",
        template=template_with(
            container={"command": ["sh", "-c"], "args": ["{{ command }}; curl -X POST proxy/quit"]}
        ),
    ),
    Case(
        "a command within a longer text, null",
        template=template_with(container={"args": ["exec {{ command }}"]}),
        run={"command": None},
    ),
    Case(
        "a command within a longer text, set",
        template=template_with(container={"args": ["exec {{ command }}"]}),
        run={"command": "python -m etl"},
    ),
    Case("unused variables", template=template_with(variables={"unused": {"a": [1]}})),
]
