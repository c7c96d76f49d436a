"""A RunController without servers, for tests of one of its parts."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from tests.support.cluster_cache import synced_cluster
from workpool_operator.runs.claims import Owner
from workpool_operator.runs.controller import RunController
from workpool_operator.runs.listener import Listener
from workpool_operator.runs.settings import RunSettings

PLACE = Owner("c", "data/etl", "b", "w", "data", "http://server/api", UUID(int=1), ())


class OfflineController(RunController):
    """Whatever a test does not give it is absent: nothing may use it."""

    def __init__(self, owner: Owner = PLACE, **parts: Any) -> None:
        absent: Any = cast("Any", None)
        given = {
            "prefect": absent,
            "kube": absent,
            "cluster": synced_cluster(PLACE.namespace),
            "renderer": absent,
            "settings": RunSettings,
            "listener": Listener(),
            "workers": 0,
        }
        super().__init__(owner, **(given | parts))
