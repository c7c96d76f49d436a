"""Values are data, even with placeholders; only references to blocks and variables are expanded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from prefect.client.orchestration import PrefectClient

from tests.support.subjects import container, env, render, with_container
from workpool_operator.jobs import placeholders


@pytest.fixture
async def client() -> AsyncIterator[PrefectClient]:
    async with PrefectClient("http://127.0.0.1:9/api") as client:
        yield client


@pytest.mark.parametrize(
    "value",
    ["{{ name }}", "a {{name}} b", {"a": ["{{ x.y[0] }}"]}, "{{ $HOME }}", "{{{{ name }}", 3, None],
)
def test_an_escaped_value_is_restored_unchanged(value: Any) -> None:
    inert = placeholders.escape({"v": value})
    assert "{{ name }}" not in str(inert)
    assert placeholders.unescape(inert) == {"v": value}


def test_references_to_blocks_and_variables_in_values_are_not_escaped() -> None:
    text = "{{ prefect.blocks.secret.key }}{{ prefect.variables.team }}{{ other }}"
    inert = placeholders.escape(text)
    assert inert.startswith("{{ prefect.blocks.secret.key }}{{ prefect.variables.team }}")
    assert "{{ other }}" not in inert


async def test_case_42_an_inserted_value_is_not_expanded_again(client: PrefectClient) -> None:
    base = with_container(image="{{ image }}-{{ name }}")
    base["variables"]["properties"]["image"]["default"] = "{{ name }}"
    values = {"image": "reg/{{ name }}", "name": "{{ image }}", "env": {"B": "{{ name }}"}}
    manifest = await render(client, base=base, deployment=values)
    assert container(manifest)["image"] == "reg/{{ name }}-{{ image }}"
    assert env(manifest)["B"] == "{{ name }}"
    default = container(await render(client, base=base, deployment={"name": "n"}))["image"]
    assert default == "{{ name }}-n"


async def test_placeholders_in_the_pools_environment_are_expanded(
    client: PrefectClient,
) -> None:
    base = with_container(image="{{ image }}")
    entry = {"valueFrom": {"secretKeyRef": {"name": "db-{{ name }}", "key": "url"}}}
    for default in (
        {"A": "{{ image }} {{ $HOME }}", "B": entry},
        [{"name": "A", "value": "{{ image }} {{ $HOME }}"}, {"name": "B", **entry}],
    ):
        base["variables"]["properties"]["env"]["default"] = default
        values = {"image": "reg/{{ name }}", "name": "load"}
        found = env(await render(client, base=base, deployment=values))
        assert found["A"] == "reg/{{ name }} "
        assert found["B"]["secretKeyRef"]["name"] == "db-load"


async def test_a_template_reads_nothing_of_the_operators_environment(
    client: PrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    manifest = await render(client, base=with_container(image="a:1{{ $AWS_SECRET_ACCESS_KEY }}"))
    assert container(manifest)["image"] == "a:1"


async def test_a_template_reads_what_the_settings_allow(
    client: PrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY", "registry.example")
    monkeypatch.setenv("OTHER", "hush")
    base = with_container(image="{{ $REGISTRY }}/flows:{{ $OTHER }}1", name="{{ $REGISTRY }}")
    manifest = await render(client, base=base, template_environment=["REGISTRY", "REGION"])
    assert container(manifest)["image"] == "registry.example/flows:1"
    assert container(manifest)["name"] == "registry.example"


async def test_a_value_cannot_read_what_a_template_may(
    client: PrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY", "registry.example")
    given = {"env": {"A": "{{ $REGISTRY }}"}}
    manifest = await render(client, run=given, template_environment=["REGISTRY"])
    assert env(manifest)["A"] == "{{ $REGISTRY }}"
