"""Server addresses that are well formed but probably wrong."""

from __future__ import annotations

import pytest

from workpool_operator.binding.addresses import address_warnings, is_cloud

ID = "1ab2c3d4-0000-4000-8000-000000000000"
CLOUD = f"https://api.prefect.cloud/api/accounts/{ID}/workspaces/{ID}"


@pytest.mark.parametrize(
    "url",
    [
        "http://prefect-server.prefect.svc:4200/api",
        "https://prefect.example.com/api/",
        "https://gateway.example.com/tools/prefect/api",
        "http://10.0.0.1/api",
        "http://[fd00::1]:4200/api",
        CLOUD,
    ],
)
def test_a_correct_address_gives_no_warning(url):
    assert list(address_warnings(url)) == []


@pytest.mark.parametrize(
    ("url", "fix"),
    [
        ("http://prefect:4200", "http://prefect:4200/api"),
        ("http://prefect:4200/", "http://prefect:4200/api"),
        ("http://prefect:4200/dashboard", "http://prefect:4200/api"),
        ("http://prefect:4200/apis", "http://prefect:4200/api"),
        ("http://me:geheim@prefect:4200", "http://prefect:4200/api"),
        ("http://localhost:4200/api", "the name of a Service"),
        ("http://prefect.localhost/api", "the name of a Service"),
        ("http://LOCALHOST/api", "the name of a Service"),
        ("http://127.0.0.2:4200/api", "the name of a Service"),
        ("http://0.0.0.0:4200/api", "the name of a Service"),
        ("http://[::1]:4200/api", "the name of a Service"),
        (f"https://app.prefect.cloud/account/{ID}/workspace/{ID}", CLOUD),
        (f"https://app.prefect.cloud/account/{ID}/workspace/{ID}/work-pools", CLOUD),
        ("https://app.prefect.cloud", "/accounts/ACCOUNT_ID/workspaces/WORKSPACE_ID"),
        ("https://api.prefect.cloud", "/accounts/ACCOUNT_ID/workspaces/WORKSPACE_ID"),
        ("https://api.prefect.cloud/api", "/accounts/ACCOUNT_ID/workspaces/WORKSPACE_ID"),
        (CLOUD.replace("https", "http"), CLOUD),
    ],
)
def test_a_common_mistake_gives_one_warning_with_the_fix(url, fix):
    [warning] = address_warnings(url)
    assert fix in warning
    assert "geheim" not in warning


def test_only_hosts_of_prefect_cloud_are_prefect_cloud():
    assert is_cloud(CLOUD)
    assert not any(
        map(is_cloud, ("https://prefect.cloud.example.com/api", "https://x", "http://["))
    )
