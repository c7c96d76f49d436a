"""How values are filled into a template (docs/conformance.md, 38 to 40, 42).

Blocks and variables of a server are in tests/contract/test_equal_to_stock_blocks.py.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.corpus.case import RUN, Case, Object, template_with
from tests.corpus.rendered import container, job, variables


async def annotation(value: Any, values: Object) -> Any:
    """Return what a value in the template is rendered to."""
    manifest = await job(Case("place", template=template_with(pod={"place": value}), run=values))
    return manifest["spec"]["template"]["spec"].get("place", "removed")


@pytest.mark.parametrize(
    ("pool", "own", "expected"),
    [
        ({}, {"env.FOO": "dotted"}, {"FOO": "dotted"}),
        ({}, {"env.FOO": "1", "env.BAR": "2"}, {"FOO": "1", "BAR": "2"}),
        ({}, {"env.FOO": "dotted", "env": {"FOO": "nested"}}, {"FOO": "nested"}),
        ({}, {"env": {"FOO": "nested"}, "env.FOO": "dotted"}, {"FOO": "nested"}),
        ({}, {"env.FOO": "dotted", "env": {"BAR": "nested"}}, {"FOO": "dotted", "BAR": "nested"}),
        ({"BASE": "pool", "FOO": "pool"}, {"env.FOO": "own"}, {"BASE": "pool", "FOO": "own"}),
    ],
)
async def test_case_38_dot_keys_are_paths_and_nested_values_win(
    pool: Object, own: Object, expected: Object
) -> None:
    template = template_with(variables={"env": pool})
    found = variables(await job(Case("dots", template=template, deployment=own)))
    assert {name: found.get(name) for name in expected} == expected


async def test_case_38_a_dot_key_reaches_into_any_variable() -> None:
    template = template_with(container={"image": "{{ build.image }}:{{ build.tag }}"})
    own = {"build.image": "flows", "build.tag": "3"}
    assert container(await job(Case("dots", template=template, run=own)))["image"] == "flows:3"


async def test_case_38_neither_the_template_nor_the_values_are_changed() -> None:
    template = template_with(variables={"env": {"A": "1"}})
    own = {"env.B": "2", "env": {"C": "3"}}
    before = copy.deepcopy((template, own))
    case = Case("kept", template=template, deployment=own, run=own)
    await job(case)
    assert (template, own) == before


@pytest.mark.parametrize(
    ("value", "values", "expected"),
    [
        ("{{ a }}", {"a": "text"}, "text"),
        ("{{ a }}", {"a": 3}, 3),
        ("{{ a }}", {"a": 1.5}, 1.5),
        ("{{ a }}", {"a": True}, True),
        ("{{ a }}", {"a": False}, False),
        ("{{ a }}", {"a": 0}, 0),
        ("{{ a }}", {"a": ""}, ""),
        ("{{ a }}", {"a": []}, []),
        ("{{ a }}", {"a": {}}, {}),
        ("{{ a }}", {"a": None}, "removed"),
        ("{{ a }}", {"a": {"b": [1, {"c": None, "d": 2}]}}, {"b": [1, {"d": 2}]}),
        ([{"k": "{{ a }}"}, {"k": 1}], {"a": None}, [{"k": 1}]),
        ({"cpu": "{{ a }}"}, {"a": None}, {}),
        ("{{ a }}", {}, "removed"),
        ("{{a}}", {"a": 3}, 3),
        ("x{{ a }}y", {"a": 3}, "x3y"),
        ("x{{ a }}y", {"a": None}, "xNoney"),
        ("x{{ a }}y", {}, "xy"),
        ("{{ a }}{{ b }}", {"a": 1, "b": 2}, "12"),
        ("{{ a.b[1].c }}", {"a": {"b": [0, {"c": 3}]}}, 3),
        ({"k": {"l": "{{ a }}"}}, {"a": 3}, {"k": {"l": 3}}),
        ({"k": "{{ a }}", "l": 1}, {}, {"l": 1}),
        (["{{ a }}", "b", "{{ c }}"], {"a": 3}, [3, "b"]),
        ([{"k": "{{ a }}"}], {}, [{}]),
        ({"fixed": [1, True, None, 0.5, ""]}, {}, {"fixed": [1, True, None, 0.5, ""]}),
        ("{{ a | upper }}", {"a": "x"}, "{{ a | upper }}"),
    ],
)
async def test_case_39_the_three_rules_of_interpolation(
    value: Any, values: Object, expected: Any
) -> None:
    """A single placeholder becomes the typed value, one within a string its text. A missing or null
    value removes the field."""
    assert await annotation(value, values) == expected


@pytest.mark.parametrize("command", ["", None])
async def test_case_39_a_falsy_command_counts_as_not_set(command: str | None) -> None:
    """The container's own arguments are an exception: an empty string is an empty list."""
    manifest = await job(
        Case("command", template=template_with(container={"args": None}), run={"command": command})
    )
    assert container(manifest)["args"] == ["prefect", "flow-run", "execute"]


async def test_case_39_values_become_strings_if_the_field_requires_it() -> None:
    found = variables(await job(Case("typed", run={"env": {"A": 1, "B": True, "C": 0.5}})))
    assert (found["A"], found["B"], found["C"]) == ("1", "true", "0.5")


async def test_case_39_a_list_over_a_mapping_is_merged_with_it_by_name() -> None:
    """The stock worker fails, or turns the keys of a list's entry into variables."""
    listed: Object = {"env": [{"name": "B", "value": "2"}]}
    template = template_with(variables={"env": {"A": "1"}})
    for case in (
        Case("of the pool", template=template, run=listed),
        Case("of the deployment", deployment={"env": {"A": "1"}}, run=listed),
    ):
        found = variables(await job(case))
        assert (found["A"], found["B"]) == ("1", "2")


async def test_case_39_an_empty_list_of_the_run_leaves_the_deployments_mapping() -> None:
    manifest = await job(Case("empty", deployment={"env": {"A": "1"}}, run={"env": []}))
    assert variables(manifest)["A"] == "1"


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("{{ ctx.flow.name }}", "hello"),
        ("{{ ctx.flow_run.name }}", "brave-lynx"),
        ("{{ ctx.flow.name }}/{{ ctx.flow_run.name }}", "hello-brave-lynx"),
        ("etl-{{ ctx.flow.name }}", "etl-hello"),
        ("{{ ctx.flow_run.id }}", str(RUN)),
        ("{{ ctx.nothing }}", "ctx-nothing"),
        (None, "brave-lynx"),
        ("", "brave-lynx"),
    ],
)
async def test_case_40_a_name_may_be_made_of_flow_and_run(name: str | None, slug: str) -> None:
    manifest = await job(Case("name", run={"name": name}))
    assert manifest["metadata"]["name"].rpartition("-")[0] == slug


@pytest.mark.parametrize(
    "values",
    [
        {"a": "{{ b }}", "b": "expanded"},
        {"a": "x{{ b }}y", "b": "expanded"},
        {"a": "{{ $HOME }}"},
        {"a": {"deep": ["{{ b }}"]}, "b": "expanded"},
    ],
)
async def test_case_42_an_inserted_value_is_not_expanded_again(values: Object) -> None:
    assert await annotation("{{ a }}", values) == values["a"]
    assert str(values["a"]) in await annotation("before {{ a }} {{ b }}", values)


async def test_case_42_what_is_sent_to_the_pod_is_what_the_user_gave() -> None:
    manifest = await job(Case("env", run={"env": {"A": "{{ image }}"}, "image": "x:1"}))
    assert variables(manifest)["A"] == "{{ image }}"
