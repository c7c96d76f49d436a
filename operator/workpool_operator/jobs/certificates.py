"""Mounts the CA that a run's pod trusts when it calls its server. Pure.

Prefect's client reads the file that `PREFECT_API_SSL_CERT_FILE` names, for requests and events.
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
        """The volume that holds the file."""
        items = [{"key": self.key, "path": _FILE}]
        if self.kind == "Secret":
            return {"name": VOLUME, "secret": {"secretName": self.name, "items": items}}
        return {"name": VOLUME, "configMap": {"name": self.name, "items": items}}


def mount_ca(manifest: Object, source: CASource) -> None:
    """Mount the file in the flow's container, unless the template has that volume or mount."""
    mounted = {"name": VOLUME, "mountPath": _FOLDER, "readOnly": True}
    _add(manifests.get_mapping_path(manifest, "spec.template.spec"), "volumes", source.volume)
    _add(manifests.get_flow_container(manifest), "volumeMounts", mounted)


def _add(parent: Object, key: str, item: Object) -> None:
    """Append the item; validation reports a field that is not a list."""
    found = parent.get(key) or []
    if isinstance(found, list) and all(_name(each) != item["name"] for each in found):
        parent[key] = [*found, item]


def _name(item: Any) -> Any:
    return item.get("name") if isinstance(item, Mapping) else None
