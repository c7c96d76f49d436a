"""An error of a run names the path, the value, what is expected, and who set it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest
from prefect.client.orchestration import PrefectClient

from tests.support.prefect import stock_template
from tests.support.subjects import IDENTITY, subject
from workpool_operator.errors import Cause, RenderError
from workpool_operator.jobs import attribution
from workpool_operator.jobs.render import render_job

Object = dict[str, Any]
CONTAINER = "job_manifest.spec.template.spec.containers[0]"
SECRET = "{{ prefect.blocks.secret.token }}"


@pytest.fixture
async def client() -> AsyncIterator[PrefectClient]:
    """A client without a server: rendering without blocks and variables sends no request."""
    async with PrefectClient("http://127.0.0.1:9/api") as client:
        yield client


def with_default(name: str, value: Any) -> Object:
    base = stock_template()
    base["variables"]["properties"][name]["default"] = value
    return base


def with_container(**fields: Any) -> Object:
    base = stock_template()
    spec = base["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    spec["containers"][0].update(fields)
    return base


async def why(client: PrefectClient, **given: Any) -> str:
    """Return the error of the run."""
    with pytest.raises(RenderError) as caught:
        await render_job(subject(**given), IDENTITY, client=client)
    return str(caught.value)


@pytest.mark.parametrize(
    ("given", "facts"),
    [
        (
            {"run": {"image": "Bad Image"}},
            [f"{CONTAINER}.image", "'Bad Image'", "[registry/]name", "image of the flow run"],
        ),
        ({"deployment": {"image": "Bad Image"}}, ["job variable image of the deployment"]),
        (
            {"run": {"image": "Bad Image"}, "deployment": {"image": "busybox"}},
            ["job variable image of the flow run"],
        ),
        (
            {"base": with_default("image", "Bad Image")},
            ["the pool's default of job variable image"],
        ),
        (
            {"base": with_container(name="X y")},
            ["the value is hard-coded in the pool's base job template"],
        ),
        (
            {"base": with_container(image="{{ registry }} {{ image }}"), "run": {"image": "a"}},
            ["job variable image of the flow run", "job variable registry, which is not set"],
        ),
        (
            {"base": with_container(image="{{ prefect.variables.image }}b a")},
            ["{{ prefect.variables.image }} in the pool's base job template"],
        ),
        (
            {"run": {"memory_limit": "lots"}, "deployment": {"cpu_limit": "many"}},
            ["'lots'", "memory_limit of the flow run", "'many'", "cpu_limit of the deployment"],
        ),
        (
            {"run": {"command": "sh -c 'x"}},
            [f"{CONTAINER}.args", "No closing quotation", "job variable command of the flow run"],
        ),
        (
            {"run": {"labels": ["a"]}},
            ["job_configuration.labels", "job variable labels of the flow run", "type 'object'"],
        ),
        (
            {"run": {"image": 5}},
            ["expected a string, got 5", "job variable image of the flow run"],
        ),
        ({"run": {"env": {"A=B": 1}}}, ["env[", "'A=B'", "job variable env of the flow run"]),
        ({"run": {"env.A=B": 1}}, ["'A=B'", "job variable env of the flow run"]),
        (
            {"run": {"env": {"TOKEN": "{{ prefect.blocks.foo }}"}}},
            ["job variable env.TOKEN", "prefect.blocks.foo"],
        ),
        (
            {"run": {"env": {"TOKEN": {"$ref": []}}}},
            ["job variable env.TOKEN", "block_document_id"],
        ),
        (
            {"run": {"env.A": "2", "env.A.B": "1"}},
            ["job variable env.A.B"],
        ),
        ({"run": ["a"]}, ["job_variables", "expected a mapping, got ['a']"]),
        ({"base": {"job_configuration": []}}, ["job_configuration: expected a mapping"]),
    ],
    ids=str,
)
async def test_a_crash_names_the_path_the_value_and_the_variable(
    client: PrefectClient, given: Object, facts: list[str]
) -> None:
    if "prefect.variables" in str(given):
        client.read_variable_by_name = nothing  # type: ignore[method-assign]
    text = await why(client, **given)
    for fact in facts:
        assert fact in text


async def nothing(name: str) -> None:
    """No variable has that name."""


async def test_a_variable_that_does_not_match_the_pools_schema_is_named_with_it(
    client: PrefectClient,
) -> None:
    given: Object = {"run": {"finished_job_ttl": "soon", "cpu_limit": 2, "stream_output": "a"}}
    text = await why(client, **given)
    assert "ttlSecondsAfterFinished: expected a number of seconds, got 'soon'" in text
    assert "job variable finished_job_ttl of the flow run: expected type 'integer'" in text
    assert (
        "job variable cpu_limit of the flow run: expected type 'string' (the pool's schema)" in text
    )


async def test_an_invalid_schema_does_not_fail_the_message(client: PrefectClient) -> None:
    for schema in ({"type": "nonsense"}, {"$ref": "#/definitions/none"}, {"$ref": "http://a/b"}):
        base = stock_template()
        base["variables"]["properties"]["image"] = schema
        assert "'Bad Image'" in await why(client, base=base, run={"image": "Bad Image"})


def test_what_the_api_server_refuses_is_attributed_to_a_variable() -> None:
    cause = Cause("spec.template.spec.serviceAccountName", 'Invalid value: "Bad Name": must be ...')
    text = attribution.rejected_fields_message(
        [cause], subject(run={"service_account_name": "Bad Name"})
    )
    assert text == (
        'job_manifest.spec.template.spec.serviceAccountName: Invalid value: "Bad Name": must be '
        "...; the value comes from job variable service_account_name of the flow run"
    )


@pytest.mark.parametrize(
    "given",
    [
        {"base": with_container(image=SECRET)},
        {"run": {"image": SECRET}},
        {"deployment": {"image": {"$ref": {"block_document_id": "1"}}}},
        {"base": with_default("image", f"registry/{SECRET}")},
    ],
    ids=str,
)
async def test_the_value_of_a_block_is_never_shown(given: Object, client: PrefectClient) -> None:
    class Block:
        data: ClassVar = {"value": "A Secret Token"}

    async def read(*_: Any, **__: Any) -> Block:
        return Block()

    client.read_block_document_by_name = read  # type: ignore[method-assign,assignment]
    client.read_block_document = read  # type: ignore[method-assign,assignment]
    text = await why(client, **given)
    assert f"{CONTAINER}.image" in text
    assert "Secret Token" not in text
    refused = Cause("spec.template.spec.containers[0].image", 'Invalid value: "A Secret Token"')
    assert "Secret Token" not in attribution.rejected_fields_message([refused], subject(**given))


async def test_a_value_above_128_kib_is_refused_before_a_job_is_created(
    client: PrefectClient,
) -> None:
    text = await why(client, run={"env": {"ARCHIVE": "A" * 204_800}})
    assert f"{CONTAINER}.env[" in text
    assert "argument list too long" in text
    assert "got 204,809 bytes; the value comes from job variable env of the flow run" in text
    text = await why(client, run={"command": "echo " + "A" * 204_800})
    assert f"{CONTAINER}.args[1]" in text
    assert "job variable command of the flow run" in text


async def test_a_unit_without_a_number_is_an_error(client: PrefectClient) -> None:
    base = with_container(resources={"limits": {"memory": "{{ mem }}Gi"}})
    assert "expected a quantity" in await why(client, base=base)


async def test_an_unlisted_variable_of_the_operators_environment_is_reported_as_empty(
    client: PrefectClient,
) -> None:
    text = await why(client, base=with_container(image="{{ $IMAGE }}"))
    assert "the operator reads IMAGE only if WORKPOOL_OPERATOR_TEMPLATE_ENVIRONMENT" in text


async def test_beyond_five_errors_are_counted_and_not_listed(client: PrefectClient) -> None:
    env = {f"A={number}": "" for number in range(20)}
    text = await why(client, run={"env": env})
    assert "And 15 more" in text
    assert len(text) < 2000
