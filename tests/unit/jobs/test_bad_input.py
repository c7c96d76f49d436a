"""Any template and any values give a Job or an error that names a path."""

from __future__ import annotations

import asyncio
import copy
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prefect.client.orchestration import PrefectClient

from tests.support.prefect import stock_template
from tests.support.subjects import IDENTITY, subject
from tests.support.templates import default_template
from workpool_operator.errors import RenderError
from workpool_operator.jobs import ineffective_variables, validation
from workpool_operator.jobs.field_errors import Path
from workpool_operator.jobs.render import render_job
from workpool_operator.jobs.template_validation import template_errors, template_warnings

Object = dict[str, Any]
Outcome = Callable[..., Object | str]

ODD_TEXTS = [
    *("{{ image }}", "{{ env }}", "{{ absent }}", "a {{ image }} b", "{{ env.A }}", "{{ $HOME }}"),
    *("{{ prefect.blocks.foo }}", "{{", "}}", "{{ ctx.flow.name }}", "{{ image[0] }}", "{{ . }}"),
    *("x" * 300, "$@*", "\0", "\u202e", "\ud800", "1e400", "NaN", "null", "- a: &b *b", ""),
]
NAMES = ["image", "env", "labels", "command", "name", "cpu_limit", "env.A", "a.b", "x", ".", "a[0]"]
KEYS = [*NAMES, "value", "valueFrom", "$ref", "block_document_id", "spec", "properties", "default"]

texts = st.sampled_from(ODD_TEXTS) | st.text(max_size=12)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
documents = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | texts, inner, max_size=4)
    ),
    max_leaves=12,
)
# As Prefect's server lets them through.
letters = st.characters(exclude_categories=["Cs"], exclude_characters="/%&><")
names = st.text(letters, min_size=1, max_size=300)
# A key $ref is a reference to a block, and an invalid one has an error of its own.
label_keys = texts.filter(lambda key: key != "$ref")
variables = st.dictionaries(st.sampled_from(NAMES) | texts, documents, max_size=3)
often = settings(max_examples=150, suppress_health_check=list(HealthCheck))


def paths(document: Any, path: Path = ()) -> Iterator[Path]:
    yield path
    children = document.items() if isinstance(document, dict) else ()
    for key, child in children or (enumerate(document) if isinstance(document, list) else ()):
        yield from paths(child, (*path, key))


PATHS = [path for path in paths(stock_template()) if path]


@pytest.fixture(scope="module")
def outcome() -> Iterator[Callable[..., Object | str]]:
    """`outcome(run={...})` returns the manifest or the error; the client has no server."""
    with asyncio.Runner() as runner:
        client = runner.run(_client())

        def make(**given: Any) -> Object | str:
            try:
                rendered = runner.run(render_job(subject(**given), IDENTITY, client=client))
            except RenderError as error:
                return str(error)
            ineffective_variables.ineffective(subject(**given), namespace="data")
            return rendered.manifest

        yield make
        runner.run(client.__aexit__(None, None, None))


async def _client() -> PrefectClient:
    return await PrefectClient("http://127.0.0.1:9/api").__aenter__()


def assert_sound(found: Object | str) -> None:
    """Assert that it is a Job that JSON can express, or an error that begins with a path."""
    if isinstance(found, str):
        assert found.startswith(("job_", "job variable", "variables")), found
        assert "Traceback" not in found
    else:
        assert validation.find_errors(found) == []
        assert json.loads(json.dumps(found)) == found or "NaN" in json.dumps(found)


@often
@given(variables, variables)
def test_any_values_give_a_job_or_an_error_with_a_path(
    outcome: Outcome, run: Object, deployment: Object
) -> None:
    assert_sound(outcome(run=run, deployment=deployment))


def test_half_a_character_in_what_prefect_serialises_is_refused(outcome: Outcome) -> None:
    found = outcome(run={"image": {"\ud800": None}}, deployment={"name": "{{ image }}"})
    assert isinstance(found, str)
    assert found.startswith("job_variables: '\\ud800' contains half a character")


@often
@given(st.sampled_from(PATHS), documents, variables)
def test_any_value_anywhere_in_a_template_gives_a_job_or_an_error(
    outcome: Outcome, path: Path, value: Any, run: Object
) -> None:
    base = stock_template()
    node: Any = base
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    assert all(str(error) for error in template_errors(base))
    assert all(str(warning) for warning in template_warnings(base))
    assert_sound(outcome(base=base, run=run))


@often
@given(documents)
def test_anything_instead_of_a_template_is_an_error(outcome: Outcome, base: Any) -> None:
    assert template_errors(base)
    assert isinstance(outcome(base=base), str)


@often
@given(names, st.dictionaries(label_keys, names | st.just("$@*"), max_size=3))
def test_any_name_of_run_flow_deployment_and_pool_gives_a_job(
    outcome: Outcome, name: str, labels: Object
) -> None:
    found = outcome(names=name, run={"labels": labels})
    assert isinstance(found, dict)
    for key, value in found["metadata"]["labels"].items():
        assert len(key.split("/")[-1]) <= 63
        assert len(value) <= 63
    assert len(found["metadata"]["name"]) <= 63


def test_a_value_with_a_placeholder_in_it_is_never_expanded_again(outcome: Outcome) -> None:
    found = outcome(run={"env": {"A": "{{ image }}"}, "command": "echo '{{ env }}'", "image": "a"})
    assert isinstance(found, dict)
    container = found["spec"]["template"]["spec"]["containers"][0]
    assert container["args"] == ["echo", "{{ env }}"]
    assert {"name": "A", "value": "{{ image }}"} in container["env"]


@pytest.mark.parametrize("base", [stock_template(), default_template()], ids=["stock", "ours"])
def test_good_templates_have_no_errors(outcome: Outcome, base: Object) -> None:
    assert [str(error) for error in template_errors(base)] == []
    assert isinstance(outcome(base=base), dict)


@pytest.mark.parametrize("depth", [50, 400])
def test_deeply_nested_values_give_a_job_or_an_error(outcome: Outcome, depth: int) -> None:
    nested: Any = "a"
    for _ in range(depth):
        nested = {"a": [nested]}
    for run in ({"image": nested}, {"labels": nested}, {"env": nested}):
        found = outcome(run=run)
        assert_sound(found)
        assert isinstance(found, dict) or len(found) < 2000
    deep = stock_template()
    deep["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]["affinity"] = nested
    assert isinstance(template_errors(deep), list)
    assert isinstance(list(template_warnings(deep)), list)


def test_a_template_of_a_megabyte_is_validated_and_rendered_in_time(outcome: Outcome) -> None:
    base = stock_template()
    pod = base["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    volumes = [{"name": f"v{n}", "emptyDir": {"medium": f"{{{{ m{n} }}}}"}} for n in range(16_000)]
    pod["volumes"] = volumes
    for number in range(0, 16_000, 4):
        base["variables"]["properties"][f"m{number}"] = {"type": "string", "default": "Memory"}
    assert len(json.dumps(base)) > 1_000_000
    begun = time.process_time()
    assert template_errors(base) == []
    warning = next(template_warnings(copy.deepcopy(base)))
    assert "a variable that the template declares" in str(warning)
    assert isinstance(outcome(base=base), dict)
    assert time.process_time() - begun < 10
