"""Levels of the environment are merged by name, whatever their form."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from prefect.client.orchestration import PrefectClient

from tests.support.prefect import stock_template
from tests.support.subjects import IDENTITY, subject
from workpool_operator.errors import RenderError
from workpool_operator.jobs import environment
from workpool_operator.jobs.render import render_job

Object = dict[str, Any]
NODE = {"valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}
TOKEN = {"valueFrom": {"secretKeyRef": {"name": "vault", "key": "t"}}}


@pytest.fixture
async def client() -> AsyncIterator[PrefectClient]:
    async with PrefectClient("http://127.0.0.1:9/api") as client:
        yield client


def entries(env: Any) -> list[Object]:
    """Return the variables as Kubernetes' list."""
    return [{"name": k, **(v if isinstance(v, dict) else {"value": v})} for k, v in env.items()]


async def environment_of(
    client: PrefectClient, *, pool: Any = None, base: Any = None, **values: Any
) -> Object:
    """Return the variables that users set, in order; null if one is unset."""
    base = base or stock_template()
    if pool is not None:
        base["variables"]["properties"]["env"]["default"] = pool
    given: dict[str, Any] = {
        level: {"env": env} for level, env in values.items() if env is not None
    }
    rendered = await render_job(subject(base=base, **given), IDENTITY, client=client)
    [container] = rendered.manifest["spec"]["template"]["spec"]["containers"]
    return {
        e["name"]: e["value"] if "value" in e else {"valueFrom": e["valueFrom"]}
        for e in container["env"]
        if not e["name"].startswith("PREFECT_")
    }


LEVELS: list[Any] = [
    {"HOST": "pool", "TOKEN": TOKEN, "LAST": "pool"},
    {"URL": "$(HOST)", "HOST": "deployment"},
    {"TOKEN": "run", "NEW": "run", "URL": "$(HOST)/x"},
]


@pytest.mark.parametrize("forms", [f"{n:03b}" for n in range(8)])
async def test_the_innermost_level_wins_and_order_is_kept_in_every_mix_of_forms(
    client: PrefectClient, forms: str
) -> None:
    pool, deployment, run = (
        entries(level) if form == "1" else level for level, form in zip(LEVELS, forms, strict=True)
    )
    found = await environment_of(client, pool=pool, deployment=deployment, run=run)
    assert list(found.items()) == [
        ("HOST", "deployment"),
        ("TOKEN", "run"),
        ("LAST", "pool"),
        ("URL", "$(HOST)/x"),
        ("NEW", "run"),
    ]


@pytest.mark.parametrize("own", [{"STAGE": "prod"}, [{"name": "STAGE", "value": "prod"}]])
async def test_a_deployment_overrides_a_list_of_the_pool(client: PrefectClient, own: Any) -> None:
    pool = [{"name": "STAGE", "value": "dev"}, {"name": "TOKEN", **TOKEN}]
    found = await environment_of(client, pool=pool, deployment=own)
    assert found == {"STAGE": "prod", "TOKEN": TOKEN}
    run = [{"name": "STAGE", "value": "x"}]
    assert (await environment_of(client, pool=pool, deployment=own, run=run))["STAGE"] == "x"


async def test_a_mapping_with_valuefrom_is_a_reference_and_a_boolean_is_yamls(
    client: PrefectClient,
) -> None:
    found = await environment_of(client, run={"REGION": "north", "DEBUG": True, "NODE_IP": NODE})
    assert found == {"REGION": "north", "DEBUG": "true", "NODE_IP": NODE}
    listed = [{"name": "DEBUG", "value": False}, {"name": "N", "value": 1.5}]
    assert await environment_of(client, run=listed) == {"DEBUG": "false", "N": "1.5"}


@pytest.mark.parametrize(
    "value",
    [{"fieldRef": {"fieldPath": "a"}}, {"a": "hush"}, ["hush"], {}, {"valueFrom": "hush"}]
    + [{"valueFrom": {"fieldRef": {}}, "value": "hush"}],
    ids=str,
)
@pytest.mark.parametrize("level", ["run", "deployment", "pool"])
async def test_any_other_mapping_or_list_is_refused_with_path_and_source_and_not_shown(
    client: PrefectClient, value: Any, level: str
) -> None:
    sources = {"run": "of the flow run", "deployment": "of the deployment", "pool": "the pool's"}
    for env in ({"NODE_IP": value}, [{"name": "NODE_IP", "value": value}]):
        with pytest.raises(RenderError) as caught:
            await environment_of(client, **{level: env})
        assert "job_configuration.env.NODE_IP: expected a string, a number" in str(caught.value)
        assert "hush" not in str(caught.value)
        assert sources[level] in str(caught.value)


async def test_a_bad_value_is_attributed_to_whoever_sets_that_variable(
    client: PrefectClient,
) -> None:
    with pytest.raises(RenderError) as caught:
        await environment_of(client, deployment={"A": ["x"], "C": "1"}, run={"B": "1"})
    assert str(caught.value).endswith("the value comes from job variable env of the deployment")


async def test_a_bad_value_of_the_pool_does_not_matter_if_a_deployment_overrides_it(
    client: PrefectClient,
) -> None:
    assert await environment_of(client, pool={"A": ["x"]}, deployment={"A": "1"}) == {"A": "1"}


@pytest.mark.parametrize("form", [dict, entries])
async def test_a_null_unsets_what_an_outer_level_sets(client: PrefectClient, form: Any) -> None:
    found = await environment_of(client, pool=form({"A": "1", "B": "2"}), run=form({"A": None}))
    assert found == {"B": "2"}


async def test_an_env_that_is_null_sets_nothing(client: PrefectClient) -> None:
    base = stock_template()
    given: dict[str, Any] = {"deployment": {"env": {"A": "1"}}, "run": {"env": None}}
    rendered = await render_job(subject(base=base, **given), IDENTITY, client=client)
    names = [
        e["name"] for e in rendered.manifest["spec"]["template"]["spec"]["containers"][0]["env"]
    ]
    assert "A" in names


def test_a_dotted_key_of_the_run_wins_over_the_deployments_mapping() -> None:
    given = environment.overlay({"env": {"A": "deployment", "B": "1"}}, {"env.A": "run"})
    assert given == {"env": {"A": "run", "B": "1"}}


@pytest.mark.parametrize("own", [{"X": "fixed", "A": "x"}, entries({"X": "fixed", "A": "x"})])
async def test_what_the_job_configuration_fixes_is_a_level_in_either_form(
    client: PrefectClient, own: Any
) -> None:
    base = stock_template()
    base["job_configuration"]["env"] = own
    found = await environment_of(client, base=base, deployment=entries({"A": "1", "B": "2"}))
    assert found == {"X": "fixed", "A": "1", "B": "2"}


@pytest.mark.parametrize("form", [dict, entries])
async def test_an_environment_joins_the_list_that_a_container_fixes(
    client: PrefectClient, form: Any
) -> None:
    base = stock_template()
    pod = base["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    pod["containers"][0]["env"] = [
        {"name": "FIXED", "value": "{{ debug }}"},
        {"name": "A", "value": "fixed"},
        "{{ env }}",
    ]
    given = {"env": form({"A": "run", "B": "2"}), "debug": True}
    rendered = await render_job(subject(base=base, run=given), IDENTITY, client=client)
    [container] = rendered.manifest["spec"]["template"]["spec"]["containers"]
    found = {e["name"]: e["value"] for e in container["env"] if len(e["name"]) < 6}
    assert found == {"A": "run", "B": "2", "FIXED": "true"}


async def test_an_env_of_another_form_is_refused_with_what_is_expected(
    client: PrefectClient,
) -> None:
    for env in ("A=1", 3, ["A=1"], [{"value": "1"}]):
        with pytest.raises(RenderError, match=r"env.*: expected a"):
            await environment_of(client, run=env)
