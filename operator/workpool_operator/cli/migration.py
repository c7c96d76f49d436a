"""Turns the values of a prefect-worker release into a binding and values of this project's chart,
and names what cannot be carried over. Does no I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from workpool_operator.api.v1alpha1 import API_VERSION, KIND
from workpool_operator.binding.consent import annotate_command
from workpool_operator.cli.findings import Finding
from workpool_operator.cli.worker_chart import VALUES, Value, fits
from workpool_operator.jobs.field_errors import Path, parse_path
from workpool_operator.suggestions import did_you_mean

CLOUD = "https://api.prefect.cloud/api"
_LONGEST_POLL, _LONGEST_PREFETCH = 55, 3600
_TEMPLATE_KEY = "baseJobTemplate.json"  # of the ConfigMaps of prefect-worker
_ESCAPED = '{{ "{{" }}'  # Helm renders the objects in its values, and placeholders are to stay
# Of PREFECT_ settings: what the operator sets for run pods, and what only a worker reads.
_SET_BY_OPERATOR = re.compile(r"PREFECT_API_(URL|KEY|AUTH_STRING|SSL_CERT_FILE|TLS_.*)$")
_POD_EVENTS = "PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_REPLICATE_POD_EVENTS"
_FALSE = ("0", "f", "false", "n", "no", "off")  # as Prefect reads a setting
_OF_WORKERS = re.compile(r"PREFECT_(WORKER|KUBERNETES|INTEGRATIONS)_")

Object = dict[str, Any]


@dataclass(slots=True)
class Migration:
    """A binding, the ConfigMap of its template if the values have one, the values of the chart, and
    what was found. `sources` are the values from which fields of the spec come."""

    binding: Object
    config_map: Object | None = None
    chart_values: Object = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    sources: dict[Path, Path] = field(default_factory=dict)

    @property
    def manifests(self) -> list[Object]:
        """What `kubectl apply` takes."""
        return [*([self.config_map] if self.config_map else []), self.binding]

    @property
    def all_values(self) -> Object:
        """The values of the chart, with the binding in them."""
        metadata = {k: v for k, v in self.binding["metadata"].items() if k in ("name", "namespace")}
        more: Object = {"bindings": [{**metadata, "spec": self.binding["spec"]}]}
        if self.config_map:
            data = {k: v.replace("{{", _ESCAPED) for k, v in self.config_map["data"].items()}
            more["extraObjects"] = [{**self.config_map, "data": data}]
        return self.chart_values | more

    def source_of(self, path: Path) -> Path:
        """Return the value behind a field of the binding, () if there is none."""
        while path and path not in self.sources:
            path = path[:-1]
        return self.sources.get(path, ())


def migrate(values: Mapping[str, Any], *, namespace: str = "", name: str = "") -> Migration:
    """Return what replaces the release; `namespace` is its own, `name` that of the binding."""
    given = dict(_leaves(values))
    findings = list(_faults(values))
    wrong = {finding.path for finding in findings}
    right = {path: value for path, value in given.items() if parse_path(path) not in wrong}
    made = _Writer(right, namespace=namespace, name=name)
    made.write()
    made.result.findings = [*findings, *_not_carried(right), *made.result.findings]
    return made.result


def _leaves(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value that the chart has, with its path."""
    if path in VALUES:
        yield path, values
    elif isinstance(values, Mapping):
        for key, value in values.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))


def _faults(values: Any, path: str = "") -> Iterator[Finding]:
    """Yield unknown values, and those of a wrong kind."""
    if path in VALUES:
        if not fits(values, VALUES[path].kind):
            yield Finding(parse_path(path), f"must be {VALUES[path].kind}, is {_shown(values)}")
        return
    if not _keys_below(path):
        parent, _, key = path.rpartition(".")
        hint = did_you_mean(key, sorted(_keys_below(parent)))
        text = f"is not a value of prefect-worker{hint}, so it is left out"
        yield Finding(parse_path(path), text, "warning")
    elif isinstance(values, Mapping):
        for key, value in values.items():
            yield from _faults(value, f"{path}.{key}" if path else str(key))
    elif values is not None:
        yield Finding(parse_path(path), f"must be a mapping, is {_shown(values)}")


def _keys_below(path: str) -> set[str]:
    """Return the keys that the chart has directly below the path."""
    prefix = f"{path}." if path else ""
    below = (known.removeprefix(prefix) for known in VALUES if known.startswith(prefix))
    return {known.partition(".")[0] for known in below}


def _shown(value: Any) -> str:
    """Return the kind of a value, which can be a credential, and the value of a short scalar."""
    if isinstance(value, bool | int | float):
        return repr(value)
    kinds = {Mapping: "a mapping", list: "a list", str: "a string"}
    return next((name for kind, name in kinds.items() if isinstance(value, kind)), "null")


def _not_carried(given: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield each value that has no counterpart, unless it is the default."""
    for path, value in given.items():
        known = VALUES[path]
        if known.instead and value not in (None, known.default):
            yield Finding(parse_path(path), f"is not carried over: {known.instead}", "warning")


class _Writer:
    """Writes the result, part by part."""

    def __init__(self, given: Mapping[str, Any], *, namespace: str, name: str) -> None:
        self._given = given
        pool = str(self._get("worker.config.workPool"))
        self._name = name or re.sub(r"[^a-z0-9]+", "-", pool.lower()).strip("-") or "binding"
        self._namespace = namespace or str(self._get("namespaceOverride"))
        self._spec: Object = {}
        metadata = self._metadata(self._name)
        binding = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata}
        self.result = Migration({**binding, "spec": self._spec})

    def write(self) -> None:
        """Write everything."""
        self._pool()
        self._server()
        self._jobs()
        self._poll()
        self._environment()
        self._chart()

    def _metadata(self, name: str) -> dict[str, str]:
        return {"name": name} | ({"namespace": self._namespace} if self._namespace else {})

    def _get(self, path: str) -> Any:
        """Return the value, its default if it is not given or null."""
        found = self._given.get(path)
        return VALUES[path].default if found is None else found

    def _is_given(self, path: str) -> bool:
        known: Value = VALUES[path]
        return self._given.get(path) not in (None, known.default)

    def _set(self, field_: tuple[str, ...], value: Any, source: str = "") -> None:
        """Set a field of the spec."""
        target = self._spec
        for part in field_[:-1]:
            target = target.setdefault(part, {})
        target[field_[-1]] = value
        if source:
            self.result.sources["spec", *field_] = parse_path(source)

    def _chart_value(self, path: str, value: Any) -> None:
        *parents, key = path.split(".")
        target = self.result.chart_values
        for part in parents:
            target = target.setdefault(part, {})
        target[key] = value

    def _warn(self, source: str, text: str) -> None:
        self.result.findings.append(Finding(parse_path(source), text, "warning"))

    def _refuse(self, source: str, text: str) -> None:
        self.result.findings.append(Finding(parse_path(source), text))

    # The binding

    def _pool(self) -> None:
        source = "worker.config.workPool"
        if not self._get(source):
            self._refuse(source, "is required: the name of the work pool")
        self._set(("workPool", "name"), self._get(source), source)
        type_ = self._get("worker.config.type")
        if type_ != "kubernetes":
            text = f"{type_!r} is not a type that the operator replaces: keep this worker"
            self._refuse("worker.config.type", text)
        if queues := self._get("worker.config.workQueues"):
            self._set(("workQueues",), queues, "worker.config.workQueues")
        if worker := self._get("worker.config.name"):
            self._set(("workerName",), worker, "worker.config.name")
        self._template()

    def _template(self) -> None:
        prefix = "worker.config.baseJobTemplate"
        given = self._get(f"{prefix}.configuration")
        config_map = str(self._get(f"{prefix}.existingConfigMapName"))
        if given:
            config_map = f"{self._name}-base-job-template"
            text = given if isinstance(given, str) else json.dumps(given, indent=2)
            head = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": self._metadata(config_map)}
            self.result.config_map = {**head, "data": {_TEMPLATE_KEY: text}}
        if config_map:
            source = f"{prefix}.{'configuration' if given else 'existingConfigMapName'}"
            reference = {"configMapKeyRef": {"name": config_map, "key": _TEMPLATE_KEY}}
            self._set(("workPool", "creationPolicy"), "IfNotPresent", source)
            self._set(("workPool", "syncPolicy"), "IfUnchanged", source)
            self._set(("workPool", "baseJobTemplate"), reference, source)

    def _server(self) -> None:
        config = self._get("worker.apiConfig")
        if config == "selfHostedServer":
            self._self_hosted("worker.selfHostedServerApiConfig")
        elif config in ("cloud", "customerManagedCloud"):
            self._cloud(f"worker.{config}ApiConfig", is_managed=config == "cloud")
        else:
            known = ("cloud", "customerManagedCloud", "selfHostedServer")
            text = f"must be one of {', '.join(known)}, is {config!r}{did_you_mean(config, known)}"
            self._refuse("worker.apiConfig", text)

    def _cloud(self, prefix: str, *, is_managed: bool) -> None:
        account, workspace = (f"{prefix}.accountId", f"{prefix}.workspaceId")
        for source in (account, workspace):
            if not self._get(source):
                self._refuse(source, "is required: the id in the address of Prefect Cloud's UI")
        address = f"{prefix}.{'cloudUrl' if is_managed else 'apiUrl'}"
        url = str(self._get(address)).rstrip("/")
        if url == CLOUD:
            self._set(("server", "cloud", "accountID"), self._get(account), account)
            self._set(("server", "cloud", "workspaceID"), self._get(workspace), workspace)
        else:
            path = f"accounts/{self._get(account)}/workspaces/{self._get(workspace)}"
            self._set(("server", "url"), f"{url}/{path}", address)
        name, key = f"{prefix}.apiKeySecret.name", f"{prefix}.apiKeySecret.key"
        self._secret("apiKey", self._get(name), self._get(key), source=name)
        propagation = f"{prefix}.jobApiKeyPropagation"
        if self._is_given(propagation):
            text = "is not carried over: run pods always get the API key by a reference to a Secret"
            self._warn(propagation, text)

    def _self_hosted(self, prefix: str) -> None:
        if not self._get(f"{prefix}.apiUrl"):
            self._refuse(f"{prefix}.apiUrl", "is required: the address of the Prefect API")
        self._set(("server", "url"), self._get(f"{prefix}.apiUrl"), f"{prefix}.apiUrl")
        if not self._get(f"{prefix}.basicAuth.enabled"):
            return
        source = f"{prefix}.basicAuth.existingSecret"
        secret = str(self._get(source))
        if not secret:
            secret, source = f"{self._name}-auth-string", f"{prefix}.basicAuth.authString"
            here = f" --namespace={self._namespace}" if self._namespace else ""
            create = f"kubectl create secret generic {secret}{here}"
            text = "is not carried over: a binding has credentials by reference. Create the Secret"
            self._warn(source, f"{text}: {create} --from-literal=auth-string=USER:PASSWORD")
        self._secret("authString", secret, "auth-string", source=source)

    def _secret(self, field_: str, name: str, key: str, *, source: str) -> None:
        reference = {"secretKeyRef": {"name": name, "key": key}}
        self._set(("server", field_), reference, source)

    def _jobs(self) -> None:
        """Carry over the namespaces of Jobs: the one with the Role, and those that are watched."""
        source, watched = "role.namespace", "worker.config.jobNamespace"
        own = self._namespace
        main = str(self._get(source) or own)
        listed = [name.strip() for name in str(self._get(watched) or "").split(",") if name.strip()]
        allowed = [name for name in dict.fromkeys(listed) if name != main]
        if main != own:
            self._set(("jobs", "namespace"), main, source)
        if allowed:
            self._set(("jobs", "allowedNamespaces"), allowed, watched)
        elsewhere = [name for name in (main, *allowed) if name != own]
        if not elsewhere:
            return
        if not own:
            text = "add --namespace, the namespace of the release, to know which Jobs run elsewhere"
            self._warn(watched if allowed else source, text)
        self._chart_value("jobNamespaces", list(dict.fromkeys(filter(None, (main, *allowed)))))
        if {"apiKey", "authString"} & set(self._spec.get("server", {})):
            self._chart_value("writeSecrets", True)
        for name in elsewhere:
            command = annotate_command("", binding_namespace=own or "NAMESPACE", job_namespace=name)
            text = f"namespace {name} must allow Jobs of this binding: {command}"
            self._warn(watched if name in allowed else source, text)

    def _poll(self) -> None:
        for key, field_, most in (
            ("queryInterval", "intervalSeconds", _LONGEST_POLL),
            ("prefetchSeconds", "prefetchSeconds", _LONGEST_PREFETCH),
        ):
            source = f"worker.config.{key}"
            if not self._is_given(source):
                continue
            value = float(self._get(source))
            seconds = min(max(round(value), 1 if key == "queryInterval" else 0), most)
            self._set(("poll", field_), seconds, source)
            if seconds != value:
                limit = f"spec.poll.{field_} is a whole number up to {most}"
                self._warn(source, f"{value:g} becomes {seconds}: {limit}")

    def _environment(self) -> None:
        """Carry over the environment: PREFECT_ settings of the worker reach the runs, as before."""
        of_runs, of_operator = [], []
        for index, entry in enumerate(self._get("worker.extraEnvVars")):
            source = f"worker.extraEnvVars[{index}]"
            name = str(entry.get("name", "")) if isinstance(entry, Mapping) else ""
            if not name:
                self._refuse(source, "must be a mapping with a name")
            elif _SET_BY_OPERATOR.match(name):
                self._warn(source, f"{name} is not carried over: spec.server of the binding has it")
            elif name == _POD_EVENTS and "value" in entry:
                if str(entry["value"]).lower() in _FALSE:
                    self._set(("jobs", "replicatePodEvents"), False, source)
            elif _OF_WORKERS.match(name):
                self._warn(source, f"{name} is not carried over: it is a setting of a worker")
            elif name.startswith("PREFECT_"):
                of_runs.append(entry)
            else:
                of_operator.append(entry)
        if of_runs:
            self._set(("jobs", "env"), of_runs, "worker.extraEnvVars")
        if of_operator:
            self._chart_value("extraEnv", of_operator)
        from_: list[Object] = []
        for kind, one in (
            ("configMapRef", "worker.extraEnvVarsCM"),
            ("secretRef", "worker.extraEnvVarsSecret"),
        ):
            names = [*filter(None, [self._get(one)]), *self._get(f"{one}s")]
            from_ += [{kind: {"name": name}} for name in names]
            if names:
                source = one if self._get(one) else f"{one}s"
                text = "reaches the operator, which ignores PREFECT_ settings, and not the runs"
                self._warn(source, f"{text}: name what runs need in spec.jobs.env of the binding")
        if from_:
            self._chart_value("extraEnvFrom", from_)

    # The chart

    def _chart(self) -> None:
        for path in self._given:
            if VALUES[path].to and self._is_given(path):
                self._chart_value(VALUES[path].to, self._given[path])
        pulled = [*self._get("global.imagePullSecrets"), *self._get("worker.image.pullSecrets")]
        if pulled:
            self._chart_value("imagePullSecrets", pulled)
        if self._is_given("rolebinding.create"):
            self._chart_value("rbac.create", False)
        if self._is_given("worker.podDisruptionBudget.minAvailable"):
            least = self._given["worker.podDisruptionBudget.minAvailable"]
            budget = {"minAvailable": least, "maxUnavailable": None}
            self._chart_value("podDisruptionBudget", budget)
        name = self._get("serviceAccount.name")
        if name and self._get("serviceAccount.create"):
            text = (
                f"is not carried over: {name!r} belongs to the old release until it is "
                "uninstalled, and Helm refuses to take it over"
            )
            self._warn("serviceAccount.name", text)
        elif name:
            self._chart_value("serviceAccount.name", name)
