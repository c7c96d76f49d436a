"""A real Prefect server accepts our own template and checks a deployment's values against it."""

from __future__ import annotations

import uuid

import httpx
import pytest

from tests.support.templates import TYPE, default_template

PROPERTIES = default_template()["variables"]["properties"]
#: Null is not a value of an enumeration, as in Prefect's own templates.
FREE = [name for name, schema in PROPERTIES.items() if "enum" not in schema]


@pytest.fixture
async def pool(api):
    """Create a pool of our own type with our own template; its name."""
    name = f"pool-{uuid.uuid4().hex[:8]}"
    body = {"name": name, "type": TYPE, "base_job_template": default_template()}
    await api.one("POST", "/work_pools/", body)
    yield name
    await api.delete_pool(name)


async def test_the_server_stores_the_template_unchanged(api, pool):
    found = await api.read_pool(pool)
    assert (found["type"], found["base_job_template"]) == (TYPE, default_template())


async def test_a_deployment_can_set_all_variables_at_once(api, pool):
    values = {
        "name": "nightly",
        "env": {"LEVEL": "high", "PREFECT_LOGGING_LEVEL": None},
        "image_pull_secrets": [{"name": "registry"}],
        "memory_limit": "{{ prefect.variables.memory }}",
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "volumes": [{"name": "data", "emptyDir": {"sizeLimit": "1Gi"}}],
        "volume_mounts": [{"name": "data", "mountPath": "/data", "readOnly": True}],
        "run_as_user": 2000,
    }
    made = await api.create_deployment(flow="f", name="d", pool=pool, job_variables=values)
    assert made["job_variables"] == values


@pytest.mark.parametrize("variable", FREE)
async def test_a_deployment_can_unset_what_the_pool_sets(api, pool, variable):
    await api.create_deployment(flow="f", name="d", pool=pool, job_variables={variable: None})


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("memory_limit", "1 GB", "memory_limit"),
        ("run_as_user", 0, "0 is less than the minimum of 1"),
        ("tolerations", [{"operator": "Like"}], r"tolerations\[0\].operator"),
        ("volume_mounts", [{"name": "data", "mountPath": 7}], r"volume_mounts\[0\].mountPath"),
        ("volumes", [{"name": "node", "hostPath": {"path": "/"}}], "'hostPath' is not one of"),
        ("backoff_limit", "three", "'three' is not"),
    ],
)
async def test_an_invalid_value_is_refused_when_the_deployment_is_created(
    api, pool, variable, value, complaint
):
    with pytest.raises(httpx.HTTPStatusError, match=complaint):
        await api.create_deployment(flow="f", name="d", pool=pool, job_variables={variable: value})
