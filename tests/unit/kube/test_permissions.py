"""The advice how to grant a right to an operator that was installed with Helm."""

from __future__ import annotations

from typing import cast

import pytest

from workpool_operator import settings
from workpool_operator.kube import permissions
from workpool_operator.kube.client import KubernetesClient

NO_CLUSTER = cast("KubernetesClient", None)  # no request is sent


@pytest.mark.parametrize(
    ("role", "change"),
    [
        (permissions.JOBS_ROLE, "add 'runs' to jobNamespaces"),
        (permissions.READ_SECRETS_ROLE, "add 'runs' to watchNamespaces"),
        (
            permissions.WRITE_SECRETS_ROLE,
            "set writeSecrets to true, with 'runs' among jobNamespaces",
        ),
    ],
)
async def test_the_advice_names_the_charts_value_and_the_helm_release(
    role: permissions.Role, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "helm_release", lambda: "home/etl")
    advice = await permissions.how_to_grant(NO_CLUSTER, "runs", role)
    assert advice.startswith(change)
    assert advice.endswith("in the values of Helm release 'etl' (namespace 'home') and upgrade it")
    assert "kubectl" not in advice
