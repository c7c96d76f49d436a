"""The fields of `WorkPoolBinding`: the single source of the CRD, the parsed spec and its defaults.

Each description is for the person who sets the field: meaning, unit, default. Every field has an
effect. Rules that a schema cannot express are CEL rules, next to the field that they check.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "workpool-operator.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "WorkPoolBinding"
PLURAL = "workpoolbindings"
SHORT_NAME = "wpb"
CATEGORY = "prefect"
FINALIZER = f"{GROUP}/serving"
LONGEST_PENDING_TIMEOUT = 604_800  # a week


class CrdModel(BaseModel):
    """Base of the models: camelCase in Kubernetes, snake_case in Python."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore"
    )


def rule(expression: str, message: str, **more: str) -> dict[str, str]:
    """Return a CEL rule. `message` says what is expected and what to do."""
    return {"rule": expression, "message": message, **more}


def matching(pattern: str, message: str) -> dict[str, str]:
    """Return a rule like a schema's `pattern`, but with a message instead of the expression."""
    return rule(f"self.matches(r'{pattern}')", message)


def each_key(condition: str, message: str) -> dict[str, str]:
    """Return a rule for each `key` of a mapping; its message names the first one that breaks it."""
    found = f"self.filter(key, !({condition}))[0]"
    return rule(
        f"self.all(key, {condition})", message, messageExpression=f"{found} + ': {message}'"
    )


def rules(*validations: dict[str, str]) -> dict[str, Any]:
    """Return the schema extension that holds these CEL rules."""
    return {"x-kubernetes-validations": list(validations)}


PREFECT_NAME = matching(
    r"^[^/%]+$", "must be a name as Prefect shows it: not empty, without / and %"
)
URL_PATTERN = r"^https?://[^\s/]+(/\S*)?$"
HTTP_URL = matching(
    URL_PATTERN,
    "must be the API's address, for example http://prefect-server.prefect.svc:4200/api",
)


UUID = matching(
    r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
    "must be an id as in the address of Prefect Cloud: 8-4-4-4-12 hexadecimal digits",
)

JSON_POINTER = matching(
    r"^(/([^/~]|~0|~1)*)+$",
    "must be a JSON pointer below the Job, such as /spec/template/spec/priorityClassName",
)
LABEL_KEY = (
    "key.matches(r'^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$')"
)
NOT_OURS = r"!key.matches(r'^([^/]*\.)?(workpool-operator\.dev|prefect\.io)/')"
LabelValue = Annotated[str, Field(max_length=63)]
AnnotationValue = Annotated[str, Field(max_length=10_000)]
NAMESPACE_NAME = matching(
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    "must be the name of a namespace: lower-case letters, digits and -",
)


def object_name(kind: str) -> Any:
    """Return the field for the name of an object of that kind."""
    text = f"must be the name of a {kind}: lower-case letters, digits, - and ."
    return Field(
        max_length=253,
        description=f"The {kind}'s name.",
        json_schema_extra=rules(matching(r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", text)),
    )


def data_key(kind: str) -> Any:
    """Return the field for a key in the data of a Secret or ConfigMap."""
    text = f"must be a key of the {kind}'s data: letters, digits, -, _ and ."
    return Field(
        max_length=253,
        description=f"The key in the {kind}'s data that holds the value.",
        json_schema_extra=rules(matching(r"^[-._a-zA-Z0-9]+$", text)),
    )


class SecretKeySelector(CrdModel):
    """A key of a Secret."""

    name: str = object_name("Secret")
    key: str = data_key("Secret")


class ConfigMapKeySelector(CrdModel):
    """A key of a ConfigMap."""

    name: str = object_name("ConfigMap")
    key: str = data_key("ConfigMap")


class SecretValue(CrdModel):
    """A value that the operator reads from a Secret."""

    secret_key_ref: SecretKeySelector = Field(
        description=(
            "The Secret in the binding's namespace and the key that holds the value. A changed "
            "value is used within 15 seconds."
        )
    )


class RunSecretValue(CrdModel):
    """A value that run pods take from a Secret."""

    secret_key_ref: SecretKeySelector = Field(
        description=(
            "The Secret in the namespace of the Jobs and the key that holds the value. The "
            "operator only checks that it is valid, if it has the right to read it."
        )
    )


class KeySource(CrdModel):
    """A value from a ConfigMap or from a Secret."""

    config_map_key_ref: ConfigMapKeySelector | None = None
    secret_key_ref: SecretKeySelector | None = None

    @property
    def selector(self) -> ConfigMapKeySelector | SecretKeySelector:
        """The one of the two that is set, as a rule of the CRD requires."""
        selector = self.config_map_key_ref or self.secret_key_ref
        assert selector is not None
        return selector


class CABundle(KeySource):
    """Certificates of the authorities that signed the server's certificate."""

    config_map_key_ref: ConfigMapKeySelector | None = Field(
        default=None,
        description=(
            "The ConfigMap in the binding's namespace and the key that holds the certificates. A "
            "changed value is used within 15 seconds. Default: none."
        ),
    )
    secret_key_ref: SecretKeySelector | None = Field(
        default=None,
        description=(
            "The Secret in the binding's namespace and the key that holds the certificates. A "
            "changed value is used within 15 seconds. Default: none."
        ),
    )


class RunCABundle(KeySource):
    """Certificates that run pods trust."""

    config_map_key_ref: ConfigMapKeySelector | None = Field(
        default=None,
        description=(
            "The ConfigMap in the namespace of the Jobs and the key that holds the certificates. "
            "Default: none."
        ),
    )
    secret_key_ref: SecretKeySelector | None = Field(
        default=None,
        description=(
            "The Secret in the namespace of the Jobs and the key that holds the certificates. "
            "Default: none."
        ),
    )


class URLSource(KeySource):
    """An address in a ConfigMap or Secret."""

    config_map_key_ref: ConfigMapKeySelector | None = Field(
        default=None,
        description=(
            "The ConfigMap in the binding's namespace and the key that holds the address. A "
            "changed value is used within 15 seconds. Default: none."
        ),
    )
    secret_key_ref: SecretKeySelector | None = Field(
        default=None,
        description=(
            "The Secret in the binding's namespace and the key that holds the address. A changed "
            "value is used within 15 seconds; run pods and the status show it. Default: none."
        ),
    )


ONE_KEY_SOURCE = rule(
    "has(self.configMapKeyRef) != has(self.secretKeyRef)",
    "set exactly one of configMapKeyRef and secretKeyRef",
)


class Header(CrdModel):
    """A header that is sent in addition to the credentials."""

    name: str = Field(
        max_length=100,
        description="The header's name, for example CF-Access-Client-Id.",
        json_schema_extra=rules(
            matching(
                r"^[-!#$%&*+.^_`|~0-9A-Za-z]+$",
                "must be the name of an HTTP header: letters, digits and -",
            ),
            rule(
                "!self.matches(r'(?i)^(host|connection|upgrade|keep-alive|te|trailer|"
                "transfer-encoding|content-.*|accept.*|user-agent|proxy-.*|sec-websocket-.*|"
                "prefect-csrf-.*|x-prefect-api-version)$')",
                "the HTTP client sets this header itself: leave it out",
            ),
        ),
    )
    secret_key_ref: SecretKeySelector = Field(
        description=(
            "The Secret in the binding's namespace and the key that holds the header's value. A "
            "changed value is used within 15 seconds."
        )
    )


class WorkPoolReference(CrdModel):
    """A PrefectWorkPool of prefect-operator."""

    name: str = object_name("PrefectWorkPool")


class BaseJobTemplate(CrdModel):
    """A base job template."""

    config_map_key_ref: ConfigMapKeySelector = Field(
        description=(
            "The ConfigMap in the binding's namespace and the key that holds the template, in JSON "
            "or YAML. A changed value is read within 15 seconds."
        )
    )


class WorkPoolSpec(CrdModel):
    """The Prefect work pool to serve."""

    name: str | None = Field(
        default=None,
        max_length=200,
        description=(
            "The work pool's name in Prefect. Cannot be changed: create another binding. Default: "
            "the name of the PrefectWorkPool in ref."
        ),
        json_schema_extra=rules(
            PREFECT_NAME,
            rule("self == oldSelf", "workPool.name cannot be changed: create another binding"),
            rule(
                "!self.matches(r'(?i)^prefect')",
                "is reserved: Prefect does not allow work pools whose name starts with 'prefect'",
            ),
        ),
    )
    ref: WorkPoolReference | None = Field(
        default=None,
        description=(
            "The PrefectWorkPool (prefect.io/v1, of prefect-operator) in the binding's namespace "
            "that names pool and server, instead of name and an address in server. Its "
            "credentials are not used: set server.apiKey. Cannot be changed: create another "
            "binding. Default: none."
        ),
        json_schema_extra=rules(
            rule("self == oldSelf", "workPool.ref cannot be changed: create another binding")
        ),
    )
    type: Literal["kubernetes", "kubernetes-operator"] = Field(
        default="kubernetes",
        description=(
            "The work pool's type. A pool of another type is not served, and the condition "
            "WorkPoolFound names its type. Default: kubernetes."
        ),
    )
    creation_policy: Literal["Never", "IfNotPresent"] = Field(
        default="Never",
        description=(
            "Whether the operator creates the work pool. IfNotPresent: if the server has none of "
            "that name, also after somebody deleted it, with the template of baseJobTemplate. "
            "Default: Never."
        ),
    )
    base_job_template: BaseJobTemplate | None = Field(
        default=None,
        description=(
            "The base job template that the pool should have; the condition TemplateSynced says "
            "whether it has it. creationPolicy and syncPolicy say when the operator writes it. "
            "Default: none; a pool that is created gets the operator's own template, that of pools "
            "of type kubernetes-operator."
        ),
    )
    sync_policy: Literal["Never", "IfUnchanged"] = Field(
        default="Never",
        description=(
            "Whether the operator updates the template of a pool that exists. IfUnchanged: if "
            "baseJobTemplate changed and the pool still has the template that it had before. A "
            "template that was edited in Prefect is reported and not overwritten. Default: Never."
        ),
    )

    @property
    def pool_name(self) -> str:
        """The pool's name in Prefect: prefect-operator names a pool like its PrefectWorkPool."""
        return self.name or (self.ref.name if self.ref else "")


class CloudWorkspace(CrdModel):
    """A workspace of Prefect Cloud."""

    account_id: str = Field(
        alias="accountID",
        max_length=36,
        description="The account's id.",
        json_schema_extra=rules(UUID),
    )
    workspace_id: str = Field(
        alias="workspaceID",
        max_length=36,
        description="The workspace's id.",
        json_schema_extra=rules(UUID),
    )


class ServerReference(CrdModel):
    """A PrefectServer of prefect-operator."""

    name: str = object_name("PrefectServer")
    namespace: str | None = Field(
        default=None,
        max_length=63,
        description=(
            "The PrefectServer's namespace, in which the operator needs the right to read it. "
            "Default: the binding's namespace."
        ),
        json_schema_extra=rules(NAMESPACE_NAME),
    )


class SecretReference(CrdModel):
    """A Secret."""

    name: str = object_name("Secret")


class ClientCertificate(CrdModel):
    """A certificate with which the operator identifies itself, and its private key."""

    secret_ref: SecretReference = Field(
        description=(
            "The Secret in the binding's namespace, of type kubernetes.io/tls as cert-manager "
            "writes it: tls.crt and tls.key. A renewed certificate is used within 15 seconds."
        )
    )


class ServerTLS(CrdModel):
    """How the operator and the server prove who they are."""

    client_certificate: ClientCertificate | None = Field(
        default=None,
        description=(
            "The certificate that the server requires of its clients. Prefect's client in run pods "
            "cannot send one: requires jobs.serverURL. Default: none."
        ),
    )
    insecure_skip_verify: bool = Field(
        default=False,
        description=(
            "Accept every certificate of the server, for the operator and, unless jobs.serverURL "
            "is set, for run pods (their PREFECT_API_TLS_INSECURE_SKIP_VERIFY). Who can answer in "
            "place of the server then gets the credentials. The condition VerificationSkipped "
            "warns. Default: false."
        ),
    )


class ServerSpec(CrdModel):
    """The Prefect server that has the work pool."""

    url: str | None = Field(
        default=None,
        max_length=2000,
        json_schema_extra=rules(HTTP_URL),
        description=(
            "The address of the Prefect API as seen from the operator, with its path, for example "
            "http://prefect-server.prefect.svc:4200/api. Default: the address that urlFrom, cloud, "
            "ref or workPool.ref names."
        ),
    )
    url_from: URLSource | None = Field(
        default=None,
        json_schema_extra=rules(ONE_KEY_SOURCE),
        description=(
            "The key of a ConfigMap or Secret that holds the address, so that many bindings share "
            "it. Default: none."
        ),
    )
    cloud: CloudWorkspace | None = Field(
        default=None,
        description=(
            "The workspace of Prefect Cloud, by the two ids in the address of its UI. Requires "
            "apiKey. Default: none."
        ),
    )
    ref: ServerReference | None = Field(
        default=None,
        description=(
            "The PrefectServer (prefect.io/v1, of prefect-operator) whose Service is called. Its "
            "credentials are not used: set authString if it requires one. Default: none."
        ),
    )
    api_key: SecretValue | None = Field(
        default=None,
        description="The API key, for Prefect Cloud. Default: none.",
    )
    auth_string: SecretValue | None = Field(
        default=None,
        description=(
            "The `user:password` of a server with basic authentication "
            "(its PREFECT_SERVER_API_AUTH_STRING). Default: none."
        ),
    )
    ca_bundle: CABundle | None = Field(
        default=None,
        json_schema_extra=rules(ONE_KEY_SOURCE),
        description=(
            "The certificates of a private CA, in PEM form, that the operator trusts for this "
            "server in addition to the public ones. Run pods trust them, too, if they call the "
            "server by https. Default: none."
        ),
    )
    tls: ServerTLS | None = Field(
        default=None,
        description="A client certificate, or no verification. Default: see each field.",
    )
    headers: tuple[Header, ...] | None = Field(
        default=None,
        max_length=20,
        description=(
            "Headers that an access proxy in front of the server requires. The operator sends "
            "them with every request and to the event stream. Run pods send them, too, from a "
            "Secret that the operator creates in the namespace of the Jobs, unless jobs.headers "
            "or jobs.serverURL is set. Default: none."
        ),
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
    )


Namespace = Annotated[str, Field(max_length=63, json_schema_extra=rules(NAMESPACE_NAME))]


class RunSecretKeySelector(SecretKeySelector):
    """A key of a Secret in the namespace of the Jobs."""

    optional: bool | None = Field(
        default=None,
        description="Whether the pod starts without the Secret or its key. Default: false.",
    )


class RunConfigMapKeySelector(ConfigMapKeySelector):
    """A key of a ConfigMap in the namespace of the Jobs."""

    optional: bool | None = Field(
        default=None,
        description="Whether the pod starts without the ConfigMap or its key. Default: false.",
    )


class PodFieldSelector(CrdModel):
    """A field of the pod."""

    field_path: str = Field(
        max_length=300, description="The path of the field, such as status.hostIP."
    )


class ResourceSelector(CrdModel):
    """A resource of a container."""

    resource: str = Field(max_length=300, description="The resource, such as limits.memory.")
    container_name: str | None = Field(
        default=None, max_length=63, description="The container. Default: the flow's."
    )
    divisor: str | None = Field(
        default=None, max_length=50, description="The unit, such as 1Mi. Default: 1."
    )


class EnvVarSource(CrdModel):
    """A value that the kubelet reads when the container starts."""

    secret_key_ref: RunSecretKeySelector | None = Field(
        default=None,
        description="A key of a Secret in the namespace of the Jobs. Default: none.",
    )
    config_map_key_ref: RunConfigMapKeySelector | None = Field(
        default=None,
        description="A key of a ConfigMap in the namespace of the Jobs. Default: none.",
    )
    field_ref: PodFieldSelector | None = Field(
        default=None, description="A field of the pod. Default: none."
    )
    resource_field_ref: ResourceSelector | None = Field(
        default=None, description="A resource of a container. Default: none."
    )


class EnvVar(CrdModel):
    """An environment variable of the flow's container."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!(has(self.value) && has(self.valueFrom))",
                "value and valueFrom exclude each other: keep one of them",
            )
        )
    )

    name: str = Field(
        max_length=300,
        description="The variable's name.",
        json_schema_extra=rules(
            matching(r"^[ -<>-~]+$", "must be the name of a variable: ASCII without ="),
            rule(
                "!self.matches(r'^PREFECT_(API_(URL|KEY|AUTH_STRING|SSL_CERT_FILE|"
                "TLS_INSECURE_SKIP_VERIFY)|CLIENT_CUSTOM_HEADERS|"
                "FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR|_.*)$')",
                "is set by the operator: use serverURL, apiKey, authString, headers or caBundle of "
                "spec.jobs, or spec.server",
            ),
        ),
    )
    value: str | None = Field(
        default=None,
        max_length=32_768,
        description="The value; $(NAME) refers to an earlier variable. Default: the empty string.",
    )
    value_from: EnvVarSource | None = Field(
        default=None,
        description="Where the value comes from, instead of value. Default: none.",
        json_schema_extra=rules(
            rule(
                "[has(self.secretKeyRef), has(self.configMapKeyRef), has(self.fieldRef), "
                "has(self.resourceFieldRef)].filter(named, named).size() == 1",
                "set exactly one of secretKeyRef, configMapKeyRef, fieldRef and resourceFieldRef",
            )
        ),
    )


class PatchOperation(CrdModel):
    """One operation of a JSON patch (RFC 6902)."""

    op: Literal["add", "remove", "replace", "move", "copy", "test"] = Field(
        description="What to do at path."
    )
    path: str = Field(
        max_length=1000,
        description="The place in the Job, such as /spec/template/spec/priorityClassName.",
        json_schema_extra=rules(JSON_POINTER),
    )
    from_: str | None = Field(
        default=None,
        alias="from",
        max_length=1000,
        description="The place that move and copy read. Default: none.",
        json_schema_extra=rules(JSON_POINTER),
    )
    value: Any = Field(
        default=None,
        description="What add and replace write, and test expects. Default: none.",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    )


class JobsSpec(CrdModel):
    """How runs become Jobs."""

    namespace: str | None = Field(
        default=None,
        max_length=63,
        description=(
            "The namespace of the Jobs. Cannot be changed, because the operator would lose the "
            "Jobs of running flows. The operator needs the right to create Jobs there. A "
            "namespace other than the binding's must allow it in its annotation "
            "workpool-operator.dev/allowed-binding-namespaces. Default: the binding's namespace."
        ),
        json_schema_extra=rules(
            NAMESPACE_NAME,
            rule("self == oldSelf", "jobs.namespace cannot be changed: create another binding"),
        ),
    )
    allowed_namespaces: tuple[Namespace, ...] | None = Field(
        default=None,
        max_length=50,
        description=(
            "Other namespaces in which Jobs may be created. The job variable `namespace` of a run, "
            "its deployment or the pool's template chooses one of them, or jobs.namespace; a run "
            "that chooses another namespace ends Crashed with the reason. Each must allow it as "
            "for jobs.namespace, and has what spec.jobs names, such as Secrets. If one is taken "
            "off the list, the operator follows its Jobs until they are gone. Default: none, and "
            "the job variable has no effect."
        ),
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    server_url: str | None = Field(
        default=None,
        alias="serverURL",
        max_length=2000,
        json_schema_extra=rules(HTTP_URL),
        description=(
            "The address of the Prefect API as seen from run pods (their PREFECT_API_URL), if it "
            "differs from the operator's. Default: the address that server names."
        ),
    )
    api_key: RunSecretValue | None = Field(
        default=None,
        description=(
            "The API key that run pods use; it may have fewer rights than the operator's. "
            "Default: that of server.apiKey. If the Jobs run in another namespace, the operator "
            "copies that key to a Secret there and needs the right to write Secrets there."
        ),
    )
    auth_string: RunSecretValue | None = Field(
        default=None,
        description=(
            "The `user:password` that run pods use. Default: that of server.authString, copied to "
            "another namespace as apiKey is."
        ),
    )
    ca_bundle: RunCABundle | None = Field(
        default=None,
        json_schema_extra=rules(ONE_KEY_SOURCE),
        description=(
            "Certificates in PEM form that run pods trust when they call the server (their "
            "PREFECT_API_SSL_CERT_FILE). Default: those of server.caBundle if run pods call the "
            "server by https, copied to another namespace as apiKey is."
        ),
    )
    headers: RunSecretValue | None = Field(
        default=None,
        description=(
            "A JSON object of header names and values that run pods send with every request "
            "(their PREFECT_CLIENT_CUSTOM_HEADERS). Default: server.headers, unless serverURL is "
            "set."
        ),
    )
    environment_secret: bool = Field(
        default=False,
        description=(
            "Store the plain values of a run's environment in a Secret that belongs to its Job, "
            "so that they cannot be read with the right to read Jobs and pods alone. The operator "
            "needs the right to write Secrets there, and sends two more requests per run. "
            "Default: false."
        ),
    )
    replicate_pod_events: bool = Field(
        default=True,
        description=(
            "Send the phases of run pods to Prefect as events prefect.kubernetes.pod.*, which show "
            "in a run's timeline and start automations, as the stock worker does. Each run has "
            "three or four. Default: true."
        ),
    )
    env: tuple[EnvVar, ...] | None = Field(
        default=None,
        max_length=100,
        description=(
            "Environment variables of the flow's container of every Job. They win over those of "
            "the template, the deployment and the run. Default: none."
        ),
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
    )
    labels: dict[str, LabelValue] | None = Field(
        default=None,
        max_length=50,
        description=(
            "Labels of every Job and its pods. They win over those of the template, the deployment "
            "and the run. Default: none."
        ),
        json_schema_extra=rules(
            each_key(LABEL_KEY, "must be the key of a label, such as team or example.com/team"),
            each_key(
                "self[key].matches(r'^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$')",
                "must have the value of a label: letters, digits, -, _ and .",
            ),
            each_key(NOT_OURS, "is reserved for the operator: choose another prefix"),
        ),
    )
    annotations: dict[str, AnnotationValue] | None = Field(
        default=None,
        max_length=50,
        description=(
            "Annotations of every Job and its pods. They win over those of the template, the "
            "deployment and the run. Default: none."
        ),
        json_schema_extra=rules(
            each_key(LABEL_KEY, "must be the key of an annotation, such as example.com/team"),
            each_key(NOT_OURS, "is reserved for the operator: choose another prefix"),
        ),
    )
    patches: tuple[PatchOperation, ...] | None = Field(
        default=None,
        max_length=100,
        description=(
            "Operations of a JSON patch (RFC 6902) that change every Job, in this order, after "
            "everything else. They cannot change its name, namespace, the operator's labels, and "
            "which container runs the flow. Checked with the template: the condition TemplateValid "
            "names a patch that cannot be applied. Default: none."
        ),
    )
    ttl_seconds_after_finished: int = Field(
        default=3600,
        ge=0,
        le=2_592_000,
        description=(
            "Seconds for which a Job and its pods are kept after the run's end was reported to "
            "Prefect. A TTL in the pool's template takes precedence. Default: 3600."
        ),
    )
    ttl_seconds_after_failed: int | None = Field(
        default=None,
        ge=0,
        le=2_592_000,
        description=(
            "The same if the run ended Failed or Crashed, or the Job failed and the run is not "
            "Completed. Default: ttlSecondsAfterFinished."
        ),
    )
    pending_timeout_seconds: int = Field(
        default=600,
        ge=0,
        le=LONGEST_PENDING_TIMEOUT,
        json_schema_extra=rules(
            rule("self == 0 || self >= 10", "must be 0, for no time-out, or at least 10 seconds")
        ),
        description=(
            "Seconds for which a run may wait for its flow container to start (no node, no image, "
            "no quota) before it ends Crashed with the reason; at most a week. 0: no time-out, for "
            "example for a queue of GPU nodes. Default: 600."
        ),
    )
    max_pending_pods: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description=(
            "The maximum number of runs whose pod exists or is to be created, and has not started "
            "the flow container. While it is reached, no runs are claimed: they stay Scheduled, "
            "and a cluster that is full or still adds nodes gets no more pods. Suspended Jobs do "
            "not count. Default: no limit."
        ),
    )
    finished_grace_seconds: int = Field(
        default=3600,
        ge=0,
        le=86_400,
        description=(
            "Seconds for which the flow container may continue, for hooks and uploads, after its "
            "run reported that it completed or failed. It keeps its slot until it ends. Default: "
            "3600."
        ),
    )
    infrastructure_retries: int = Field(
        default=3,
        ge=0,
        le=20,
        description=(
            "How many times a run gets a new Job because its pod was rejected, preempted or "
            "evicted before any code of the flow ran. After that, the run ends Crashed. Default: "
            "3."
        ),
    )


class PollSpec(CrdModel):
    """How the operator polls the work pool."""

    interval_seconds: int = Field(
        default=10,
        ge=1,
        le=55,
        description=(
            "Seconds between two polls. Prefect's events cause a poll in between, so that new "
            "runs start at once. Prefect marks a pool as NOT_READY if it is not polled for 60 "
            "seconds. Default: 10."
        ),
    )
    prefetch_seconds: int = Field(
        default=10,
        ge=0,
        le=3600,
        description=(
            "Seconds before a run's scheduled time at which its Job is created, so that its pod "
            "is ready in time. Default: 10."
        ),
    )


#: The number of addresses in spec.server.
ADDRESSES = (
    "(has(self.server) ? [has(self.server.url), has(self.server.urlFrom), has(self.server.cloud), "
    "has(self.server.ref)] : []).filter(named, named).size()"
)
Queue = Annotated[str, Field(max_length=200, json_schema_extra=rules(PREFECT_NAME))]


class Spec(CrdModel):
    """Which work pool to serve, where its server is, and how its runs become Jobs."""

    work_pool: WorkPoolSpec = Field(description="The Prefect work pool to serve.")
    work_queues: tuple[Queue, ...] | None = Field(
        default=None,
        max_length=100,
        description=(
            "The work queues of the pool to serve, each once. Runs of other queues are not "
            "claimed. Default: all queues."
        ),
        json_schema_extra={
            "x-kubernetes-list-type": "set",
            **rules(
                rule("self.size() > 0", "name a queue, or leave workQueues out to serve all queues")
            ),
        },
    )
    server: ServerSpec = Field(
        default_factory=ServerSpec,
        description=(
            "The Prefect server that has the work pool. Exactly one of url, urlFrom, cloud and ref "
            "names it, or workPool.ref."
        ),
    )
    jobs: JobsSpec = Field(
        default_factory=JobsSpec,
        description="How runs become Jobs. Default: see each field.",
    )
    concurrency_limit: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description=(
            "The maximum number of runs of this binding in flight, each from its claim until its "
            "pods have ended; a suspended Job does not count. After a restart the operator counts "
            "the existing Jobs again. Default: no limit."
        ),
    )
    poll: PollSpec = Field(
        default_factory=PollSpec, description="How the operator polls the work pool."
    )
    worker_name: str | None = Field(
        default=None,
        max_length=200,
        description=(
            "The name under which Prefect lists the binding as a worker of the pool; no other "
            "worker of the pool may have it. Default: BINDING.NAMESPACE@ID, with the first 8 "
            "characters of the UID of the binding's namespace."
        ),
        json_schema_extra=rules(PREFECT_NAME),
    )
    suspend: bool = Field(
        default=False,
        description=("Claim no new runs. Existing Jobs are followed to their end. Default: false."),
    )
    deletion_policy: Literal["Orphan", "Drain", "Cancel"] = Field(
        default="Orphan",
        description=(
            "What happens to the runs in flight if the binding is deleted. Orphan: it is deleted "
            "at once, Jobs continue, and nothing reports how they end. Drain: no runs are claimed, "
            "and it is deleted when the last run has ended. Cancel: the runs are cancelled in "
            "Prefect, and it is deleted when their Jobs have ended. Can be changed during the "
            "deletion. Default: Orphan."
        ),
    )

    @classmethod
    def rules(cls) -> list[dict[str, str]]:
        """Return the CEL rules that compare fields of the spec."""
        return [
            rule(
                "has(self.workPool.name) != has(self.workPool.ref)",
                "exactly one of name and ref is needed: it names the work pool",
                fieldPath=".workPool",
            ),
            rule(
                "has(self.workPool.ref) == has(oldSelf.workPool.ref)",
                "name and ref cannot replace each other: create another binding",
                fieldPath=".workPool",
            ),
            rule(
                f"has(self.workPool.ref) || {ADDRESSES} == 1",
                "exactly one of url, urlFrom, cloud and ref is needed: it names the Prefect API",
                fieldPath=".server",
            ),
            rule(
                "!has(self.workPool.ref) || (!has(self.workPool.baseJobTemplate) && "
                "(!has(self.workPool.creationPolicy) || self.workPool.creationPolicy == 'Never'))",
                "prefect-operator creates the pool of ref and keeps its template: leave "
                "creationPolicy and baseJobTemplate out",
                fieldPath=".workPool",
            ),
            rule(
                "!has(self.workPool.syncPolicy) || self.workPool.syncPolicy == 'Never' || "
                "has(self.workPool.baseJobTemplate)",
                "syncPolicy needs a template: set baseJobTemplate.configMapKeyRef",
                fieldPath=".workPool",
            ),
            rule(
                f"!has(self.workPool.ref) || {ADDRESSES} == 0",
                "workPool.ref names the server: leave url, urlFrom, cloud and ref out",
                fieldPath=".server",
            ),
            rule(
                "!(has(self.server) && has(self.server.cloud)) || has(self.server.apiKey)",
                "cloud requires an API key: set apiKey.secretKeyRef",
                fieldPath=".server",
            ),
            rule(
                "!has(self.server) || !(has(self.server.apiKey) && has(self.server.authString))",
                "apiKey and authString exclude each other: keep the one your server uses",
                fieldPath=".server",
            ),
            rule(
                "!(has(self.server) && has(self.server.headers)) || "
                "self.server.headers.all(header, !header.name.matches(r'(?i)^authorization$') || "
                "!(has(self.server.apiKey) || has(self.server.authString)))",
                "apiKey and authString are sent as the header Authorization: keep one of the two",
                fieldPath=".server.headers",
            ),
            rule(
                "!(has(self.server) && has(self.server.tls) && "
                "has(self.server.tls.insecureSkipVerify) && "
                "self.server.tls.insecureSkipVerify && has(self.server.caBundle))",
                "tls.insecureSkipVerify ignores caBundle: keep caBundle, which verifies the server",
                fieldPath=".server",
            ),
            rule(
                "!(has(self.server) && has(self.server.tls) && "
                "has(self.server.tls.clientCertificate)) || "
                "(has(self.jobs) && has(self.jobs.serverURL))",
                "tls.clientCertificate requires jobs.serverURL, an address that run pods can call "
                "without a certificate",
                fieldPath=".server",
            ),
            rule(
                "!has(self.jobs) || !(has(self.jobs.apiKey) && has(self.jobs.authString))",
                "apiKey and authString exclude each other: keep the one your server uses",
                fieldPath=".jobs",
            ),
            rule(
                "(has(self.jobs) && has(self.jobs.namespace)) == "
                "(has(oldSelf.jobs) && has(oldSelf.jobs.namespace))",
                "jobs.namespace cannot be added or removed: create another binding",
                fieldPath=".jobs.namespace",
            ),
        ]


class Condition(CrdModel):
    """metav1.Condition."""

    type: str = Field(description="The name of the condition, in CamelCase.")
    status: Literal["True", "False", "Unknown"] = Field(description="The condition's status.")
    reason: str = Field(description="The reason as one CamelCase word, stable, for programs.")
    message: str = Field(description="The reason and what to do, for people.")
    last_transition_time: str = Field(
        description="When `status` last changed.", json_schema_extra={"format": "date-time"}
    )
    observed_generation: int = Field(description="The metadata.generation that it is about.")


class WorkPoolStatus(CrdModel):
    """The work pool as Prefect reports it."""

    name: str | None = Field(default=None, description="The pool's name.")
    id: str | None = Field(default=None, description="The pool's id.")
    type: str | None = Field(default=None, description="The pool's type.")
    paused: bool | None = Field(default=None, description="Whether the pool is paused in Prefect.")
    synced_template: str | None = Field(
        default=None,
        description=(
            "The digest of the last template that workPool.baseJobTemplate and the pool both had."
        ),
    )


class ServerStatus(CrdModel):
    """The Prefect server in use."""

    url: str | None = Field(default=None, description="Its address.")
    version: str | None = Field(default=None, description="The Prefect version of the server.")


class RunsStatus(CrdModel):
    """The numbers of runs in flight and waiting."""

    running: int = Field(default=0, description="Runs whose flow container has started.")
    pending: int = Field(default=0, description="Claimed runs whose pod has not started yet.")
    queued: int = Field(
        default=0,
        description="Due runs that wait, counted every 5 s if a poll does not read them all.",
    )


class Status(CrdModel):
    """The status that the operator reports."""

    observed_generation: int | None = Field(
        default=None, description="The metadata.generation that the status is about."
    )
    worker_name: str | None = Field(
        default=None, description="The name under which Prefect lists this binding as a worker."
    )
    holder_identity: str | None = Field(
        default=None,
        description=(
            "The replica of the operator that serves this binding: the holder of its Lease."
        ),
    )
    work_pool: WorkPoolStatus = Field(
        default_factory=WorkPoolStatus, description="The work pool as Prefect reports it."
    )
    job_namespaces: tuple[str, ...] | None = Field(
        default=None,
        description=(
            "The namespaces that are followed, if there is more than jobs.namespace: those of "
            "jobs.allowedNamespaces, and others that still have Jobs of this binding."
        ),
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    server: ServerStatus = Field(
        default_factory=ServerStatus, description="The Prefect server in use."
    )
    runs: RunsStatus = Field(
        default_factory=RunsStatus, description="The numbers of runs in flight and waiting."
    )
    last_poll_time: str | None = Field(
        default=None,
        description="The time of the last successful poll, updated at most every 30 seconds.",
        json_schema_extra={"format": "date-time"},
    )
    conditions: tuple[Condition, ...] = Field(
        default=(),
        description=(
            "The binding's conditions. Ready: due runs are claimed, or wait for something that is "
            "not a fault. Claiming: due runs are claimed now."
        ),
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    )


class WorkPoolBinding(CrdModel):
    """Binds one Prefect work pool to one cluster: the pool's flow runs become Jobs in it."""

    spec: Spec = Field(
        description="Which work pool to serve, where its server is, and how its runs become Jobs.",
    )
    status: Status = Field(
        default_factory=Status, description="The status that the operator reports."
    )
