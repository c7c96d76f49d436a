"""A RunController without servers, to test one of its parts."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from tests.support.cluster_cache import synced_cluster
from workpool_operator.runs.claims import Owner
from workpool_operator.runs.controller import RunController
from workpool_operator.runs.listener import Listener
from workpool_operator.runs.settings import RunSettings

OWNER = Owner("c", "data/etl", "b", "w", "data", "http://server/api", UUID(int=1), ())


class OfflineController(RunController):
    """Parts that a test does not pass are None, so that any use of them fails."""

    def __init__(self, owner: Owner = OWNER, **parts: Any) -> None:
        absent: Any = cast("Any", None)
        given = {
            "prefect": absent,
            "kube": absent,
            "cluster": synced_cluster(OWNER.namespace),
            "renderer": absent,
            "settings": RunSettings,
            "listener": Listener(),
            "workers": 0,
        }
        super().__init__(owner, **(given | parts))
