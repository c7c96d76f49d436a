"""Defines our own base job template, of pools of type `kubernetes-operator`.

It has the variables that a deployment may set, and the Job's manifest that uses them. The pod meets
the restricted Pod Security Standard, whatever its image is. No value of a deployment can make it
root or privileged, or mount a folder of the node: that takes a change of the pool's template. Every
variable is used once, in the manifest or in another field of the job configuration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from prefect.workers.base import BaseVariables
from pydantic import BaseModel, Field
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

if TYPE_CHECKING:
    from pydantic_core.core_schema import WithDefaultSchema

#: On its own volume: in an image whose user is root, other users cannot write to the home folder.
HOME = "/home/prefect"
HOME_VOLUME = "prefect-home"
#: On its own volume, too: Prefect pulls a flow's code into a folder below it, and starts it there.
TEMPORARY = "/tmp"
TEMPORARY_VOLUME = "prefect-tmp"
_UNPRIVILEGED = 1000

# Kubernetes' own pattern, or a reference to a block or variable, which is resolved for each run.
_QUANTITY = r"^(\d+(\.\d*)?|\.\d+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?$|\{\{.+\}\}"
Cpus = Annotated[str, Field(pattern=_QUANTITY, examples=["500m"])]
Bytes = Annotated[str, Field(pattern=_QUANTITY, examples=["512Mi"])]
Seconds = Annotated[int, Field(ge=1)]
UserId = Annotated[int, Field(ge=1)]  # 0 is root
GroupId = Annotated[int, Field(ge=0)]  # images for OpenShift give write access to group 0
# The volumes that the restricted standard allows: no folder of the node is among them.
VolumeField = Literal[
    "name",
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
]


class _FormSchema(GenerateJsonSchema):
    """Gives a nullable field the schema of its value: else Prefect's form offers a choice of types.
    Prefect's server accepts null for every field anyway."""

    def default_schema(self, schema: WithDefaultSchema) -> JsonSchemaValue:
        inner = schema["schema"]
        if inner["type"] == "nullable":
            schema = {**schema, "schema": inner["schema"]}
        found = super().default_schema(schema)
        return {key: value for key, value in found.items() if (key, value) != ("default", None)}


class SecretReference(BaseModel):
    """A Secret of the Job's namespace."""

    name: str = Field(title="Name", description="The Secret's name.")


class Toleration(BaseModel):
    """A taint of nodes on which the pod may run anyway."""

    key: str | None = Field(default=None, title="Key", description="Key of the taint. Empty: any.")
    operator: Literal["Equal", "Exists"] = Field(
        default="Equal", title="Operator", description="How the value is compared."
    )
    value: str | None = Field(default=None, title="Value", description="Value of the taint.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, title="Effect", description="Effect of the taint. Empty: any."
    )
    tolerationSeconds: int | None = Field(
        default=None,
        title="Toleration Seconds",
        description="Seconds for which NoExecute is tolerated.",
    )


class VolumeMount(BaseModel):
    """Where a volume is mounted in the flow's container."""

    name: str = Field(title="Name", description="The volume's name.")
    mountPath: str = Field(title="Mount Path", description="The folder in the container.")
    subPath: str | None = Field(
        default=None, title="Sub Path", description="A folder of the volume instead of its root."
    )
    readOnly: bool = Field(
        default=False, title="Read Only", description="Whether the mount is read-only."
    )


class KubernetesJobVariables(BaseVariables):
    """The variables that a deployment may set on a pool of type kubernetes-operator."""

    @classmethod
    def model_json_schema(cls, *args: Any, **options: Any) -> dict[str, Any]:
        """Return the `variables` half of the template."""
        return super().model_json_schema(*args, **{"schema_generator": _FormSchema} | options)

    image: str | None = Field(
        default=None,
        title="Image",
        description="The container image of the flow. Empty: Prefect's own, in the version that "
        "the operator was built with.",
        examples=["docker.io/prefecthq/prefect:3-latest"],
    )
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] = Field(
        default="IfNotPresent",
        title="Image Pull Policy",
        description="When the node pulls the image.",
    )
    image_pull_secrets: list[SecretReference] = Field(
        default_factory=list,
        title="Image Pull Secrets",
        description="Secrets with the credentials of the image's registry, such as "
        '[{"name": "registry"}].',
    )
    namespace: str = Field(
        default="default",
        title="Namespace",
        description="The namespace of a worker's Jobs. Under a WorkPoolBinding, "
        "spec.jobs.namespace counts instead, unless spec.jobs.allowedNamespaces has it.",
    )
    service_account_name: str | None = Field(
        default=None,
        title="Service Account Name",
        description="The service account of the pod. Empty: the namespace's default.",
    )
    annotations: dict[str, str] = Field(
        default_factory=dict,
        title="Annotations",
        description="Annotations of the Job and its pods.",
    )
    cpu_request: Cpus | None = Field(
        default=None,
        title="CPU Request",
        description="CPUs that the node must have free, such as 500m or 2. Empty: none.",
    )
    cpu_limit: Cpus | None = Field(
        default=None,
        title="CPU Limit",
        description="CPUs that the flow gets at most, such as 500m or 2. Empty: no limit.",
    )
    memory_request: Bytes | None = Field(
        default=None,
        title="Memory Request",
        description="Memory that the node must have free, such as 512Mi or 4Gi. Empty: none.",
    )
    memory_limit: Bytes | None = Field(
        default=None,
        title="Memory Limit",
        description="Memory beyond which the flow is killed, such as 512Mi or 4Gi. Empty: no "
        "limit.",
    )
    node_selector: dict[str, str] = Field(
        default_factory=dict,
        title="Node Selector",
        description='Labels that a node must have to run the pod, such as {"disk": "ssd"}.',
    )
    tolerations: list[Toleration] = Field(
        default_factory=list,
        title="Tolerations",
        description="Taints of nodes on which the pod may run anyway, such as "
        '[{"key": "gpu", "operator": "Exists"}].',
    )
    affinity: dict[str, Any] = Field(
        default_factory=dict,
        title="Affinity",
        description="Which nodes and other pods the pod must, or should, be near to or apart "
        "from: a pod's affinity in Kubernetes.",
    )
    priority_class_name: str | None = Field(
        default=None,
        title="Priority Class Name",
        description="The priority class of the pod. Empty: the cluster's default.",
    )
    volumes: list[dict[VolumeField, Any]] = Field(
        default_factory=list,
        title="Volumes",
        description='Volumes of the pod as in Kubernetes, such as [{"name": "data", "emptyDir": '
        f"{{}}}}]. One named {HOME_VOLUME} becomes the flow's home.",
    )
    volume_mounts: list[VolumeMount] = Field(
        default_factory=list,
        title="Volume Mounts",
        description="Where the volumes are mounted in the flow's container, such as "
        '[{"name": "data", "mountPath": "/data"}].',
    )
    working_directory: str | None = Field(
        default=HOME,
        title="Working Directory",
        description="The folder in which the container starts; a deployment's relative path is "
        "relative to it. Empty: the image's own.",
    )
    run_as_user: UserId | None = Field(
        default=_UNPRIVILEGED,
        title="Run As User",
        description="UID of the pod's processes, whatever the image's user is. 0 (root) is "
        "refused.",
    )
    run_as_group: GroupId | None = Field(
        default=_UNPRIVILEGED, title="Run As Group", description="GID of the pod's processes."
    )
    fs_group: GroupId | None = Field(
        default=_UNPRIVILEGED,
        title="File System Group",
        description="GID that owns the pod's volumes; a supplementary group of its processes.",
    )
    active_deadline_seconds: Seconds | None = Field(
        default=None,
        title="Active Deadline Seconds",
        description="Seconds after which the Job is stopped and its run ends Crashed. Empty: "
        "never.",
    )
    backoff_limit: int = Field(
        default=0,
        ge=0,
        title="Backoff Limit",
        description="How often Kubernetes replaces a pod that failed. With 0, a run whose pod is "
        "evicted is scheduled again by Prefect.",
    )
    finished_job_ttl: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        title="Finished Job TTL",
        description="Seconds for which a finished Job is kept. Empty: the binding's or the "
        "worker's setting, by default an hour.",
    )


def default_manifest() -> dict[str, Any]:
    """Return the manifest of our template. A placeholder that is an item of a list can be a list,
    which is flattened (jobs/manifest.py)."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "spec": {
            "activeDeadlineSeconds": "{{ active_deadline_seconds }}",
            "backoffLimit": "{{ backoff_limit }}",
            "ttlSecondsAfterFinished": "{{ finished_job_ttl }}",
            "template": {"spec": _pod()},
        },
    }


def _pod() -> dict[str, Any]:
    return {
        "restartPolicy": "Never",
        "serviceAccountName": "{{ service_account_name }}",
        "imagePullSecrets": "{{ image_pull_secrets }}",
        "priorityClassName": "{{ priority_class_name }}",
        "nodeSelector": "{{ node_selector }}",
        "tolerations": "{{ tolerations }}",
        "affinity": "{{ affinity }}",
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": "{{ run_as_user }}",
            "runAsGroup": "{{ run_as_group }}",
            "fsGroup": "{{ fs_group }}",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container()],
        "volumes": [
            {"name": HOME_VOLUME, "emptyDir": {}},
            {"name": TEMPORARY_VOLUME, "emptyDir": {}},
            "{{ volumes }}",
        ],
    }


def _container() -> dict[str, Any]:
    return {
        "name": "prefect-job",
        "image": "{{ image }}",
        "imagePullPolicy": "{{ image_pull_policy }}",
        "args": "{{ command }}",
        "workingDir": "{{ working_directory }}",
        # The variable `env` is in the job configuration, and overrides what is fixed here.
        "env": [
            {"name": "HOME", "value": HOME},
            {"name": "PREFECT_HOME", "value": f"{HOME}/.prefect"},
        ],
        "resources": {
            "requests": {"cpu": "{{ cpu_request }}", "memory": "{{ memory_request }}"},
            "limits": {"cpu": "{{ cpu_limit }}", "memory": "{{ memory_limit }}"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": HOME_VOLUME, "mountPath": HOME},
            {"name": TEMPORARY_VOLUME, "mountPath": TEMPORARY},
            "{{ volume_mounts }}",
        ],
    }
