"""Completes a Job's manifest with what every Job has beyond its template. Pure.

The functions change the manifest in place: it belongs to one run.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from workpool_operator.errors import RenderError
from workpool_operator.jobs import names, scalars
from workpool_operator.kube import flow_container, models
from workpool_operator.prefect_version import prefect_version

FLOW_RUN_ID_KEY = "prefect.io/flow-run-id"
CONTAINERS = "job_manifest.spec.template.spec.containers"
LONGEST_TTL = 2**31 - 1  # Kubernetes' own limit
COMMAND = "prefect flow-run execute"
_MISPLACED = ("parallelism", "completions")  # the stock template has them in the pod's spec
# The key that identifies an item of a list: the one by which Kubernetes merges lists, too.
_ITEM_KEYS = {
    "containers": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "volumeMounts": "mountPath",
    "volumes": "name",
}

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Identity:
    """Ties a Job to its run, claim, binding and server.

    `namespace` is the Job's namespace. If there are `allowed_namespaces`, the run can choose one of
    those instead.
    """

    run_id: UUID
    claim_id: UUID
    pool_id: UUID
    binding: str
    binding_id: str
    server: str
    namespace: str
    allowed_namespaces: frozenset[str] = frozenset()

    @property
    def fixed_namespace(self) -> str:
        """The namespace of the Job, if the run cannot choose it; "" if it can."""
        return "" if self.allowed_namespaces else self.namespace

    @property
    def labels(self) -> dict[str, str]:
        """The labels of the Job and of its pod template, which is immutable (docs/races.md, 14)."""
        return {
            models.BINDING_LABEL: self.binding_id,
            models.RUN_LABEL: str(self.run_id),
            models.CLAIM_LABEL: str(self.claim_id),
            models.POOL_LABEL: str(self.pool_id),
        }

    @property
    def annotations(self) -> dict[str, str]:
        """The annotations of the Job."""
        return {
            FLOW_RUN_ID_KEY: str(self.run_id),
            models.BINDING_ANNOTATION: self.binding,
            models.SERVER_ANNOTATION: self.server,
        }


def normalise(manifest: Object) -> None:
    """Complete the parts that every Job has.

    Raises:
        RenderError: it is not the manifest of a Job.
    """
    for path, expected in (("apiVersion", "batch/v1"), ("kind", "Job")):
        if (value := manifest.get(path)) != expected:
            raise RenderError(f"job_manifest.{path}", f"expected {expected!r}, got {value!r}")
    flatten_lists(manifest)
    _leave_out_nulls(manifest.get("spec"))
    ensure_mapping(manifest, "metadata")
    spec = ensure_mapping(manifest, "spec")
    pod = ensure_mapping(
        ensure_mapping(spec, "template", within="spec."), "spec", within="spec.template."
    )
    for key in _MISPLACED:
        if key in pod:
            spec.setdefault(key, _one(pod.pop(key), key=key))
    pod.setdefault("restartPolicy", "Never")
    spec.setdefault("podReplacementPolicy", "Failed")  # else two pods can overlap
    flow = get_flow_container(manifest)
    if flow.get("name") is None:
        flow["name"] = flow_container.DEFAULT_NAME


def _leave_out_nulls(node: Any) -> None:
    """Remove fields that are null, and list items in which all fields are: a variable that is set
    to null counts as not set. Kubernetes would take the null of a quantity for 0, and that of a
    node selector for the empty string."""
    if isinstance(node, dict):
        for key in [key for key, value in node.items() if value is None]:
            del node[key]
        for value in node.values():
            _leave_out_nulls(value)
    elif isinstance(node, list):
        node[:] = [item for item in node if not _is_all_null(item)]
        for item in node:
            _leave_out_nulls(item)


def _is_all_null(item: Any) -> bool:
    return isinstance(item, dict) and bool(item) and all(v is None for v in item.values())


def _one(value: Any, *, key: str) -> int:
    """Check that the value is 1: every pod of a Job would execute the run."""
    if value != 1:
        raise RenderError(
            f"job_manifest.spec.template.spec.{key}", f"expected 1, got {value!r:.80}"
        )
    return 1


def ensure_mapping(parent: Object, key: str, *, within: str = "") -> Object:
    """Return the mapping at `key`; create it if there is none."""
    found = parent.get(key)
    if found is None:
        found = parent[key] = {}
    if not isinstance(found, dict):
        raise RenderError(f"job_manifest.{within}{key}", f"expected a mapping, got {found!r:.80}")
    return found


def get_flow_container(manifest: Mapping[str, Any]) -> Object:
    """Return the container that runs the flow.

    Raises:
        RenderError: there is none.
    """
    found = get_mapping_path(manifest, "spec.template.spec.containers")
    flow = found[flow_container_index(manifest)] if isinstance(found, list) and found else None
    if not isinstance(flow, dict):
        raise RenderError(CONTAINERS, "expected a list with the flow's container")
    return flow


def flow_container_index(manifest: Any) -> int:
    """Return that container's index; the manifest may still have placeholders."""
    containers = get_mapping_path(manifest, "spec.template.spec.containers")
    items = containers if isinstance(containers, list) else ()
    return flow_container.find_index(
        [str(item.get("name", "")) if isinstance(item, Mapping) else "" for item in items]
    )


def get_mapping_path(document: Any, path: str) -> Any:
    """Return the value at the dotted path of mappings; None if there is none."""
    for key in path.split("."):
        document = document.get(key) if isinstance(document, Mapping) else None
    return document


def set_image(container: Object) -> None:
    """Set the image, if there is none, to Prefect's own in the version that is installed here."""
    if container.get("image") is None:
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        container["image"] = f"prefecthq/prefect:{prefect_version()}-python{python}"


def set_arguments(manifest: Object) -> None:
    """Make the flow container's args a list; by default it executes its run."""
    flow = get_flow_container(manifest)
    args = flow.get("args")
    if args is None:
        args = COMMAND
    try:
        flow["args"] = _arguments(args)
    except ValueError as error:
        path = f"{CONTAINERS}[{flow_container_index(manifest)}].args"
        raise RenderError(path, f"{error}, got {args!r:.80}") from error


def _arguments(args: Any) -> list[str]:
    if isinstance(args, str):
        return shlex.split(args)
    if isinstance(args, list):
        return [scalars.text(item) for item in args]
    raise ValueError("expected a list or a command line")


def label(manifest: Object, labels: Mapping[str, Any]) -> None:
    """Add the labels to the Job and its pods; they override those of the manifest."""
    job, pod = _metadata(manifest)
    for metadata in (job, pod):
        own = ensure_mapping(metadata, "labels", within="metadata.")
        metadata["labels"] = _labels({**own, **labels})


def annotate(manifest: Object, annotations: Mapping[str, Any]) -> None:
    """Add the annotations to the Job; its pods get all annotations of the Job."""
    job, pod = _metadata(manifest)
    own = ensure_mapping(job, "annotations", within="metadata.")
    job["annotations"] = _annotations({**own, **annotations})
    if job["annotations"]:
        pod["annotations"] = (
            ensure_mapping(pod, "annotations", within="metadata.") | job["annotations"]
        )


def identify(manifest: Object, identity: Identity, *, run_name: str) -> None:
    """Set what belongs to the run's claim: name, namespace and our labels; remove the TTL, which is
    set again when the run's end is reported (docs/races.md, 15)."""
    job, pod = _metadata(manifest)
    ttl = _take_ttl(manifest["spec"])
    for metadata in (job, pod):
        metadata["labels"] = _without_own_prefix(metadata, "labels") | identity.labels
        metadata["annotations"] = _without_own_prefix(metadata, "annotations")
        metadata["annotations"][FLOW_RUN_ID_KEY] = str(identity.run_id)
        metadata["annotations"][models.CONTAINER_ANNOTATION] = str(
            get_flow_container(manifest)["name"]
        )
    job["annotations"] |= identity.annotations
    if ttl is not None:
        job["annotations"][models.TTL_ANNOTATION] = str(ttl)
    job.pop("generateName", None)
    job["namespace"] = identity.namespace
    job["name"] = names.job_name(
        run_name=run_name, run_id=identity.run_id, claim_id=identity.claim_id
    )


def record_pending_timeout(manifest: Object, seconds: int | None) -> None:
    """Record the run's own pending time-out, if any, on the Job: it must survive a restart."""
    if seconds is not None:
        annotations = manifest["metadata"].setdefault("annotations", {})
        annotations[models.PENDING_TIMEOUT_ANNOTATION] = str(seconds)


def _without_own_prefix(metadata: Object, key: str) -> Object:
    """Drop the user's keys with our prefix: the operator acts on them."""
    given = ensure_mapping(metadata, key)
    return {name: value for name, value in given.items() if not name.startswith(models.PREFIX)}


def _metadata(manifest: Object) -> tuple[Object, Object]:
    """Return the metadata of the Job and of its pods."""
    template = manifest["spec"]["template"]
    return manifest["metadata"], ensure_mapping(template, "metadata", within="spec.template.")


def _take_ttl(spec: Object) -> int | None:
    ttl = spec.pop("ttlSecondsAfterFinished", None)
    if ttl is None:
        return None
    if (seconds := _seconds(ttl)) is None:
        path = "job_manifest.spec.ttlSecondsAfterFinished"
        most = f"at most {LONGEST_TTL} seconds" if str(ttl).isdecimal() else "a number of seconds"
        raise RenderError(path, f"expected {most}, got {ttl!r:.80}")
    return seconds


def ttl_of(annotations: Mapping[str, str]) -> int | None:
    """Return the TTL in seconds that the annotations record; None if it is missing or invalid."""
    return _seconds(annotations.get(models.TTL_ANNOTATION, ""))


def _seconds(ttl: Any) -> int | None:
    text = str(ttl)
    is_short = text.isdecimal() and len(text) <= len(str(LONGEST_TTL))
    return int(text) if is_short and int(text) <= LONGEST_TTL else None


def _labels(labels: Mapping[str, Any]) -> dict[str, str]:
    """Make keys and values valid. `prefect.io/flow-run-id` is dropped: the stock worker's observer
    acts on every Job with that label (docs/races.md, 17)."""
    repaired = {
        names.label_key(str(key)): names.label_value(_text(value, of=f"labels.{key}"))
        for key, value in labels.items()
        if key != FLOW_RUN_ID_KEY
    }
    return {key: value for key, value in repaired.items() if key}


def _annotations(annotations: Mapping[str, Any]) -> dict[str, str]:
    repaired = {
        names.label_key(str(key)): _text(value, of=f"annotations.{key}")
        for key, value in annotations.items()
    }
    return {key: value for key, value in repaired.items() if key}


def _text(value: Any, *, of: str) -> str:
    if isinstance(value, (Mapping, list)):
        raise RenderError(f"job_manifest.metadata.{of}", f"expected a string, got {value!r:.80}")
    return scalars.text(value)


# Lists within lists
#
# A placeholder can be a whole list, but not some of a list's items. So that a template can fix some
# items and a run can add its own, `[fixed, "{{ placeholder }}"]` becomes one list after the values
# are filled in. No manifest that Kubernetes accepts is changed: no field is a list of lists.


def flatten_lists(node: Any, *, field: str = "") -> None:
    """Flatten every inner list below `node`, in place. A joining item replaces an earlier one with
    the same key; a null in a list of mappings counts as an empty list."""
    if isinstance(node, dict):
        for key, value in node.items():
            flatten_lists(value, field=key)
    elif isinstance(node, list):
        if any(isinstance(item, list) for item in node) or _is_null_among_mappings(node):
            node[:] = _joined(node, key=_ITEM_KEYS.get(field))
        for item in node:
            flatten_lists(item)


def _is_null_among_mappings(items: list[Any]) -> bool:
    return None in items and any(isinstance(item, dict) for item in items)


def _joined(items: list[Any], *, key: str | None) -> list[Any]:
    result: list[Any] = []
    for item in items:
        if isinstance(item, list):
            replaced = {_identity(joining, key) for joining in item} - {None}
            result = [known for known in result if _identity(known, key) not in replaced] + item
        elif item is not None:
            result.append(item)
    return result


def _identity(item: Any, key: str | None) -> str | None:
    found = item.get(key) if key and isinstance(item, dict) else None
    return None if found is None else str(found)
