"""The certificates that a run's pod trusts when it calls its server: a file in its container.

Prefect's client reads it where `PREFECT_API_SSL_CERT_FILE` names it, for requests and for events.
Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from workpool_operator.jobs import manifest as manifests

VARIABLE = "PREFECT_API_SSL_CERT_FILE"
VOLUME = "workpool-operator-server-ca"
_FOLDER = "/etc/workpool-operator/server-ca"
_FILE = "ca.crt"
ENTRY = {"name": VARIABLE, "value": f"{_FOLDER}/{_FILE}"}

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CASource:
    """A key of a ConfigMap or Secret in the namespace of the Jobs."""

    kind: Literal["ConfigMap", "Secret"]
    name: str
    key: str

    @property
    def volume(self) -> Object:
        """The pod's volume that holds the file."""
        items = [{"key": self.key, "path": _FILE}]
        if self.kind == "Secret":
            return {"name": VOLUME, "secret": {"secretName": self.name, "items": items}}
        return {"name": VOLUME, "configMap": {"name": self.name, "items": items}}


def mount_ca(manifest: Object, source: CASource) -> None:
    """Give the flow's container the file; a volume or mount of that name stays the template's."""
    mounted = {"name": VOLUME, "mountPath": _FOLDER, "readOnly": True}
    _add(manifests.get_mapping_path(manifest, "spec.template.spec"), "volumes", source.volume)
    _add(manifests.get_flow_container(manifest), "volumeMounts", mounted)


def _add(parent: Object, key: str, item: Object) -> None:
    """What is no list is left to the checks, which name it."""
    found = parent.get(key) or []
    if isinstance(found, list) and all(_name(each) != item["name"] for each in found):
        parent[key] = [*found, item]


def _name(item: Any) -> Any:
    return item.get("name") if isinstance(item, Mapping) else None
