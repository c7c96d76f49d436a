"""How a message says that a right is granted, where the operator was installed by Helm."""

from __future__ import annotations

from typing import cast

import pytest

from workpool_operator import settings
from workpool_operator.kube import permissions
from workpool_operator.kube.client import KubernetesClient

NO_CLUSTER = cast("KubernetesClient", None)  # nothing is asked of it


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
async def test_the_value_of_the_chart_is_named_and_the_release_that_has_it(
    role: permissions.Role, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "helm_release", lambda: "home/etl")
    told = await permissions.how_to_grant(NO_CLUSTER, "runs", role)
    assert told.startswith(change)
    assert told.endswith("in the values of Helm release 'etl' (namespace 'home') and upgrade it")
    assert "kubectl" not in told
