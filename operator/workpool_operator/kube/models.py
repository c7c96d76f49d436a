"""Models the few fields of Job, Pod, Event and Lease that the operator reads.

A model is validated from the API's bytes. Fields that it does not name are dropped before a Python
object exists, so that a cached pod takes about 1.5 KiB instead of 50. Models have no logic except
for properties that name what the fields mean. No I/O.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from datetime import datetime
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

from pydantic import (
    AliasGenerator,
    AliasPath,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass

from workpool_operator.errors import KubernetesUnavailable
from workpool_operator.kube import flow_container

PREFIX = "workpool-operator.dev/"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
BINDING_LABEL = PREFIX + "binding"
RUN_LABEL = PREFIX + "flow-run-id"
CLAIM_LABEL = PREFIX + "claim-id"
POOL_LABEL = PREFIX + "work-pool-id"
SERVER_ANNOTATION = PREFIX + "server"
BINDING_ANNOTATION = PREFIX + "binding"
TTL_ANNOTATION = PREFIX + "ttl-seconds-after-finished"
FINAL_STATE_ANNOTATION = PREFIX + "final-state"
POD_RETRY_ANNOTATION = PREFIX + "pod-retried-at"  # a change has the Job controller sync the Job
CONTAINER_ANNOTATION = PREFIX + "container"
CLAIM_ANNOTATION = CLAIM_LABEL  # the claim that adopted a Job of an earlier claim
LIMIT_RANGE_ANNOTATION = "kubernetes.io/limit-ranger"  # which defaults of a LimitRange a pod got
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
PENDING_TIMEOUT_ANNOTATION = PREFIX + "pending-timeout-seconds"
SECRET_LABEL = PREFIX + "secret"
WAITS_FOR_JOB_LABEL = PREFIX + "waits-for-job"
JOB_NAME_LABEL = "batch.kubernetes.io/job-name"
STOP_DEADLINE_SECONDS = 1  # a pod's activeDeadlineSeconds: the least that the API server accepts
LEASE_LABEL = PREFIX + "lease"  # what a Lease is for: "binding" or "replica"
REPLICAS_LABEL = PREFIX + "replicas"  # on a replica's Lease: with which it shares bindings
MANAGED = {"app.kubernetes.io/managed-by": "workpool-operator"}

_CONFIG = ConfigDict(extra="ignore", alias_generator=AliasGenerator(validation_alias=to_camel))
T = TypeVar("T")
V = TypeVar("V")


def _read(labels: Any) -> Any:
    """Keep the labels or annotations that the operator reads: all of them would take as much memory
    as everything else of a Job and its pod."""
    if not isinstance(labels, dict):
        return labels or {}
    return {k: v for k, v in labels.items() if k.startswith(PREFIX) or k in _READ_KEYS}


_READ_KEYS = frozenset({QUEUE_LABEL, JOB_NAME_LABEL, LIMIT_RANGE_ANNOTATION})
ReadLabels = Annotated[dict[str, str], BeforeValidator(_read)]


def _describing(labels: Any) -> Any:
    """Keep the labels that name a pod's run, deployment, flow, work pool and worker in Prefect.

    Most are the same for many pods: each text is kept once.
    """
    if not isinstance(labels, dict):
        return labels or {}
    kept = ((k, v) for k, v in labels.items() if k in _DESCRIBING)
    return {sys.intern(k): sys.intern(v) if isinstance(v, str) else v for k, v in kept}


_DESCRIBING = frozenset(
    f"prefect.io/{key}"
    for key in (
        "flow-run-name",
        *("deployment-id", "deployment-name"),
        *("flow-id", "flow-name"),
        *("work-pool-id", "work-pool-name"),
        "worker-name",
    )
)
PrefectLabels = Annotated[dict[str, str], BeforeValidator(_describing)]
Strings = Annotated[dict[str, str], BeforeValidator(lambda value: value or {})]
# The API sends an absent list as null or not at all.
Items = Annotated[tuple[V, ...], BeforeValidator(lambda value: value or ())]


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Metadata:
    """The metadata of any object, with the labels and annotations that are read; a watch's bookmark
    has only the resource version. Equal objects can have different versions: they differ in what is
    not read."""

    name: str = ""
    uid: str = ""
    namespace: str = ""
    resource_version: str = dataclasses.field(default="", compare=False)
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: ReadLabels = Field(default_factory=dict)
    annotations: ReadLabels = Field(default_factory=dict)

    @property
    def key(self) -> str:
        """NAMESPACE/NAME."""
        return f"{self.namespace}/{self.name}"

    @property
    def version(self) -> int:
        """See `version_of`."""
        return version_of(self.resource_version)


def version_of(resource_version: str) -> int:
    """Return the resource version, which orders the objects of one kind; 0 if not a number."""
    return int(resource_version) if resource_version.isdigit() else 0


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Condition:
    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Waiting:
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Running:
    started_at: datetime | None = None


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Terminated:
    exit_code: int
    reason: str = ""
    message: str = ""
    signal: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def has_run(self) -> bool:
        """Whether a process ran. The kubelet reports a 137 (ContainerStatusUnknown) also for a
        container without a process; only its message shows whether there was one."""
        return self.started_at is not None or "used to be Running" in self.message


@dataclass(frozen=True, slots=True, config=_CONFIG)
class ContainerState:
    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


@dataclass(frozen=True, slots=True, config=_CONFIG)
class ContainerStatus:
    """The status of a container; `started` if its startup probe has passed and its postStart hook
    has ended."""

    name: str
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()
    restart_count: int = 0
    started: bool | None = None

    @property
    def has_run(self) -> bool:
        """Whether a process of the container is running or has run."""
        ends = (self.state.terminated, self.last_state.terminated)
        return bool(self.state.running) or any(end.has_run for end in ends if end)


@dataclass(frozen=True, slots=True, config=_CONFIG)
class PodStatus:
    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    start_time: datetime | None = None
    conditions: Items[Condition] = ()
    init_container_statuses: Items[ContainerStatus] = ()
    container_statuses: Items[ContainerStatus] = ()


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Resources:
    limits: Strings = Field(default_factory=dict)


@dataclass(frozen=True, slots=True, config=_CONFIG)
class ContainerSpec:
    name: str
    image: str = ""
    restart_policy: str = ""
    resources: Resources = Field(default_factory=Resources)


@dataclass(frozen=True, slots=True, config=_CONFIG)
class PodSpec:
    containers: Items[ContainerSpec] = ()
    init_containers: Items[ContainerSpec] = ()
    restart_policy: str = "Never"
    active_deadline_seconds: int | None = None
    termination_grace_period_seconds: int = 30
    node_name: str = ""


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Pod:
    """A pod of a flow run's Job."""

    metadata: Metadata
    spec: PodSpec = Field(default_factory=PodSpec)
    status: PodStatus = Field(default_factory=PodStatus)
    prefect_labels: PrefectLabels = Field(
        default_factory=dict, validation_alias=AliasPath("metadata", "labels")
    )

    @property
    def run_id(self) -> str:
        """The id of the pod's flow run; "" if its label is missing or not a UUID."""
        return _uuid(self.metadata.labels.get(RUN_LABEL))

    @property
    def job_name(self) -> str:
        return self.metadata.labels.get(JOB_NAME_LABEL, "")

    @property
    def ended(self) -> bool:
        """Whether all containers have ended and none is started again."""
        return self.status.phase in ("Succeeded", "Failed")

    @property
    def deleting(self) -> bool:
        return self.metadata.deletion_timestamp is not None

    @property
    def is_stopped(self) -> bool:
        """Whether the operator had the kubelet end the pod, because its flow container had
        ended."""
        return self.spec.active_deadline_seconds == STOP_DEADLINE_SECONDS

    @property
    def flow_container(self) -> str:
        """The name of the flow container; "" if the pod has no containers."""
        names = [container.name for container in self.spec.containers]
        recorded = self.metadata.annotations.get(CONTAINER_ANNOTATION, "")
        return names[flow_container.find_index(names, recorded=recorded)] if names else ""

    @property
    def flow_status(self) -> ContainerStatus | None:
        """The status of the flow container; None until the kubelet reports one."""
        name = self.flow_container
        return next((s for s in self.status.container_statuses if s.name == name), None)

    @property
    def started(self) -> bool:
        """Whether the flow container is running or has run."""
        return self.flow_status is not None and self.flow_status.has_run

    @property
    def flow_ended(self) -> bool:
        """Whether the flow container has ended and its restart policy does not start it again."""
        end = self.flow_status.state.terminated if self.flow_status else None
        if end is None or self.ended:
            return self.ended
        return not self._restarts(self.flow_container, exit_code=end.exit_code)

    @property
    def has_classic_sidecars(self) -> bool:
        """Whether another ordinary container is running, which the kubelet does not end by
        itself."""
        others = (s for s in self.status.container_statuses if s.name != self.flow_container)
        return any(status.state.terminated is None for status in others)

    def _restarts(self, container: str, *, exit_code: int) -> bool:
        own = {spec.name: spec.restart_policy for spec in self.spec.containers}
        policy = own.get(container) or self.spec.restart_policy
        return policy == "Always" or (policy == "OnFailure" and exit_code != 0)

    @property
    def init_statuses(self) -> tuple[ContainerStatus, ...]:
        """The statuses of the init containers that are not native sidecars."""
        statuses = self.status.init_container_statuses
        return tuple(status for status in statuses if status.name not in self.sidecar_names)

    @property
    def sidecar_names(self) -> frozenset[str]:
        """The names of the native sidecars: init containers that keep running next to the flow."""
        return frozenset(c.name for c in self.spec.init_containers if c.restart_policy == "Always")


@dataclass(frozen=True, slots=True, config=_CONFIG)
class JobStatus:
    start_time: datetime | None = None
    failed: int = 0
    conditions: Items[Condition] = ()


@dataclass(frozen=True, slots=True, config=_CONFIG)
class TemplateMetadata:
    labels: ReadLabels = Field(default_factory=dict)


@dataclass(frozen=True, slots=True, config=_CONFIG)
class PodTemplate:
    metadata: TemplateMetadata = Field(default_factory=TemplateMetadata)

    @property
    def labels(self) -> dict[str, str]:
        return self.metadata.labels


@dataclass(frozen=True, slots=True, config=_CONFIG)
class JobSpec:
    template: PodTemplate = Field(default_factory=PodTemplate)
    suspend: bool = False
    backoff_limit: int = 6
    active_deadline_seconds: int | None = None
    ttl_seconds_after_finished: int | None = None


class FinalState(NamedTuple):
    """The final state of a run as FINAL_STATE_ANNOTATION has it: TYPE/NAME/MESSAGE, with "/" and
    "%" in the name encoded as in a URL."""

    type: str
    name: str
    message: str

    def as_annotation(self) -> str:
        """Return the annotation's value."""
        name = self.name.replace("%", "%25").replace("/", "%2F")
        return f"{self.type}/{name}/{self.message}"

    @classmethod
    def of_annotation(cls, text: str) -> FinalState:
        """Return the state of an annotation; earlier releases did not encode the name."""
        type_, _, rest = text.partition("/")
        name, _, message = rest.partition("/")
        return cls(type_, name.replace("%2F", "/").replace("%25", "%"), message)


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Job:
    """A Job of a flow run. Its identity is read from the pod template, whose labels cannot be
    changed (docs/races.md, 14); only a claim that adopted the Job is in an annotation."""

    metadata: Metadata
    spec: JobSpec = Field(default_factory=JobSpec)
    status: JobStatus = Field(default_factory=JobStatus)

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def run_id(self) -> str:
        """The id of the Job's flow run; "" if its label is missing or not a UUID."""
        return _uuid(self.spec.template.labels.get(RUN_LABEL))

    @property
    def claim_id(self) -> str:
        """The claim under which the Job runs: the one that adopted it, else the one that created
        it."""
        created_by = self.spec.template.labels.get(CLAIM_LABEL, "")
        return self.metadata.annotations.get(CLAIM_ANNOTATION) or created_by

    @property
    def binding(self) -> str:
        """NAMESPACE/NAME of the binding that created the Job; "" without one."""
        return self.metadata.annotations.get(BINDING_ANNOTATION, "")

    @property
    def server(self) -> str:
        """The address of the Prefect server of its run, as the operator reaches it; "" if it is
        unknown."""
        return self.metadata.annotations.get(SERVER_ANNOTATION, "")

    @property
    def queue(self) -> str:
        """The Kueue queue in which the Job waits; "" without one."""
        return self.metadata.labels.get(QUEUE_LABEL, "")

    @property
    def pending_timeout(self) -> int | None:
        """The run's own pending time-out in seconds; None if the binding's applies."""
        given = self.metadata.annotations.get(PENDING_TIMEOUT_ANNOTATION, "")
        return int(given) if given.isdecimal() else None

    @property
    def final_state(self) -> FinalState | None:
        """The run's final state, if the operator deleted the Job because it outlived its run."""
        text = self.metadata.annotations.get(FINAL_STATE_ANNOTATION)
        return None if text is None else FinalState.of_annotation(text)

    @property
    def deleting(self) -> bool:
        return self.metadata.deletion_timestamp is not None

    def condition(self, *types: str) -> Condition | None:
        """Return the first condition of these types that is True."""
        return next(
            (c for c in self.status.conditions if c.type in types and c.status == "True"), None
        )

    @property
    def ended(self) -> bool:
        """Whether the Job is Complete or Failed. FailureTarget and `active` change while a pod is
        still running (docs/races.md, 9)."""
        return self.condition("Complete", "Failed") is not None

    @property
    def failed(self) -> bool:
        return self.condition("Failed") is not None

    @property
    def suspended(self) -> bool:
        """Whether the Job is suspended: it has no pods until it is resumed."""
        return self.spec.suspend and not self.ended

    @property
    def was_suspended(self) -> bool:
        """Whether the Job controller has recorded a suspension, now or earlier."""
        return any(condition.type == "Suspended" for condition in self.status.conditions)

    @property
    def start_time(self) -> datetime | None:
        """When the Job was last started or resumed; None until the Job controller records a
        resume, because `status.startTime` is the earlier start until then."""
        return None if self.condition("Suspended") else self.status.start_time

    @property
    def retries(self) -> bool:
        """Whether the Job replaces its pod if that fails."""
        return self.status.failed < self.spec.backoff_limit

    @property
    def exceeded_deadline(self) -> bool:
        """Whether the Job failed because it exceeded its activeDeadlineSeconds."""
        failed = self.condition("Failed")
        return failed is not None and failed.reason == "DeadlineExceeded"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunObjects:
    """A run's objects in the cluster, and its deleted objects as they were last seen."""

    jobs: tuple[Job, ...] = ()
    pods: tuple[Pod, ...] = ()
    deleted_jobs: tuple[Job, ...] = ()
    deleted_pods: tuple[Pod, ...] = ()


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Event:
    """A core/v1 Event; it can explain why a Job has no pod or a pod no container."""

    reason: str = ""
    message: str = ""
    type: str = ""
    count: int | None = None
    event_time: datetime | None = None
    first_timestamp: datetime | None = None
    last_timestamp: datetime | None = None

    @property
    def time(self) -> datetime | None:
        """When it happened last."""
        return self.last_timestamp or self.event_time or self.first_timestamp


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Namespace:
    metadata: Metadata


@dataclass(frozen=True, slots=True, config=_CONFIG)
class LeaseSpec:
    """Everything of a Lease that its holder writes; as the API sends it, also if edited by hand."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Lease:
    """A coordination.k8s.io/v1 Lease."""

    metadata: Metadata
    spec: LeaseSpec = Field(default_factory=LeaseSpec)

    @property
    def holder(self) -> str:
        """The holder's identity; "" without a holder."""
        return self.spec.holder_identity or ""


@dataclass(frozen=True, slots=True, config=_CONFIG)
class ResourceRule:
    """What may be done with some resources; with `resource_names`, only with objects of these
    names."""

    verbs: Items[str] = ()
    api_groups: Items[str] = ()
    resources: Items[str] = ()
    resource_names: Items[str] = ()

    def allows(self, *, verb: str, group: str, resource: str) -> bool:
        """Return whether the rule allows the verb for every object of the resource, which can be a
        subresource such as `pods/log`."""
        _, slash, subresource = resource.partition("/")
        named = {"*", resource} | ({f"*/{subresource}"} if slash else set())
        return (
            not self.resource_names
            and not {"*", verb}.isdisjoint(self.verbs)
            and not {"*", group}.isdisjoint(self.api_groups)
            and not named.isdisjoint(self.resources)
        )


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Rights:
    """What a user may do in a namespace; if `incomplete`, also more: an authorizer could not say
    all."""

    resource_rules: Items[ResourceRule] = ()
    incomplete: bool = False

    def allow(self, *, verb: str, group: str, resource: str) -> bool:
        """Return whether a rule allows the verb for every object of the resource."""
        return any(
            rule.allows(verb=verb, group=group, resource=resource) for rule in self.resource_rules
        )


@dataclass(frozen=True, slots=True, config=_CONFIG)
class SelfSubjectRulesReview:
    status: Rights


@dataclass(frozen=True, slots=True, config=_CONFIG)
class ListMeta:
    resource_version: str = ""
    continue_: str = Field(default="", validation_alias="continue")


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Page(Generic[V]):
    """One page of a list."""

    metadata: ListMeta
    items: Items[V] = ()


@dataclass(frozen=True, slots=True, config=_CONFIG)
class WatchEvent(Generic[V]):
    """One line of a watch: ADDED, MODIFIED, DELETED, BOOKMARK, or ERROR with a Status."""

    type: str
    object: V


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Cause:
    field: str = ""
    message: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, config=_CONFIG)
class StatusDetails:
    causes: Items[Cause] = ()
    retry_after_seconds: int = 0


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Status:
    """metav1.Status: why the API server refused a request."""

    code: int = 0
    reason: str = ""
    message: str = ""
    details: StatusDetails = Field(default_factory=StatusDetails)


def decode(view: TypeAdapter[T], body: bytes) -> T:
    """Return the answer, decoded.

    Raises:
        KubernetesUnavailable: the answer is not of this type.
    """
    try:
        return view.validate_json(body)
    except ValidationError as error:
        raise KubernetesUnavailable(not_a_kubernetes_answer(first_mismatch(error))) from error


def first_mismatch(error: ValidationError) -> str:
    """Return the path of the first mismatch and what was expected, without the value."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")


def not_a_kubernetes_answer(why: str) -> str:
    """Return the message for an answer that is not from a Kubernetes API."""
    return f"this is not the answer of a Kubernetes API ({why})"


def _uuid(label: str | None) -> str:
    """Return the label if it is a UUID, else ""."""
    return label if label and is_uuid(label) else ""


def is_uuid(text: str) -> bool:
    """Return whether the text is a UUID in the form that the operator writes: lower-case, with
    hyphens."""
    return _UUID.fullmatch(text) is not None
