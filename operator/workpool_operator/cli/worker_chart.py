"""The values of the chart prefect-worker, and what becomes of each. Pure.

A value goes into the binding (`cli/migration.py`), is a value of this project's chart under another
name, or has no counterpart: then `instead` says what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["a string", "a number", "true or false", "a list", "a mapping", "any"]

STRING: Kind = "a string"
NUMBER: Kind = "a number"
BOOLEAN: Kind = "true or false"
LIST: Kind = "a list"
MAPPING: Kind = "a mapping"
ANY: Kind = "any"


@dataclass(frozen=True, slots=True)
class Value:
    """A value of the chart: its kind and default; `to` is the value of this chart that means the
    same. `instead` is empty if it needs no word: the binding has it, or another value names it."""

    kind: Kind
    default: Any = None
    to: str = ""
    instead: str = ""


_OTHER_NAMES = (
    "names objects of the old release, which exist next to the new ones until it is uninstalled: "
    "set fullnameOverride only if you need one"
)
_IMAGE = (
    "the image is the operator's own: set image.registry, image.repository and image.tag. That of "
    "the runs is in the work pool and the deployments, and stays"
)
_NO_INIT = "there is no init container: the operator itself reads the template"
_REPLICAS = "set replicas: a binding is served by one replica at a time, the others take over"
_COMMAND = "the command is the operator's own: extraArgs has more arguments of it"
_PROBE = "is the worker's own: the operator always has probes. livenessProbe changes their times"
_UI = "run pods do not get it: set it in spec.jobs.env of the binding if flows need it"

VALUES: Mapping[str, Value] = {
    "nameOverride": Value(STRING, "", instead=_OTHER_NAMES),
    "fullnameOverride": Value(STRING, "prefect-worker", instead=_OTHER_NAMES),
    "namespaceOverride": Value(STRING, ""),
    "commonLabels": Value(MAPPING, {}, to="commonLabels"),
    "commonAnnotations": Value(MAPPING, {}, to="commonAnnotations"),
    "global.imageRegistry": Value(STRING, "", to="global.imageRegistry"),
    "global.imagePullSecrets": Value(LIST, []),
    "worker.autoscaling.enabled": Value(BOOLEAN, False, instead=_REPLICAS),
    "worker.autoscaling.minReplicas": Value(NUMBER, 1),
    "worker.autoscaling.maxReplicas": Value(NUMBER, 1),
    "worker.autoscaling.targetCPUUtilizationPercentage": Value(NUMBER, 80),
    "worker.autoscaling.targetMemoryUtilizationPercentage": Value(NUMBER, 80),
    "worker.clusterUid": Value(
        STRING, "", instead="is not needed: the operator reads the UID of the namespace"
    ),
    "worker.initContainer.resources": Value(MAPPING, {}, instead=_NO_INIT),
    "worker.initContainer.containerSecurityContext": Value(MAPPING, None, instead=_NO_INIT),
    "worker.initContainer.extraEnvVars": Value(LIST, [], instead=_NO_INIT),
    "worker.initContainer.extraContainers": Value(
        LIST, [], instead="set initContainers, if the operator needs them, too"
    ),
    "worker.dnsPolicy": Value(STRING, "", to="dnsPolicy"),
    "worker.dnsConfig": Value(MAPPING, {}, to="dnsConfig"),
    "worker.image.repository": Value(STRING, "prefecthq/prefect", instead=_IMAGE),
    "worker.image.prefectTag": Value(STRING, instead=_IMAGE),
    "worker.image.pullPolicy": Value(STRING, "IfNotPresent", to="image.pullPolicy"),
    "worker.image.pullSecrets": Value(LIST, []),
    "worker.image.debug": Value(BOOLEAN, False, instead="set log.level to DEBUG"),
    "worker.config.workPool": Value(STRING, ""),
    "worker.config.workQueues": Value(LIST, []),
    "worker.config.queryInterval": Value(NUMBER, 5),
    "worker.config.prefetchSeconds": Value(NUMBER, 10),
    "worker.config.http2": Value(
        BOOLEAN, True, instead="has no counterpart, and needs none: the operator sends few requests"
    ),
    "worker.config.type": Value(STRING, "kubernetes"),
    "worker.config.installPolicy": Value(
        STRING, "prompt", instead="is not needed: the image has all that the operator needs"
    ),
    "worker.config.name": Value(STRING),
    "worker.config.limit": Value(
        NUMBER,
        instead="limits how many Jobs are created at a time, which the operator does by itself. To "
        "limit how many runs are in flight, set spec.concurrencyLimit of the binding",
    ),
    "worker.config.jobNamespace": Value(STRING),
    "worker.config.observerClusterWide": Value(
        BOOLEAN,
        False,
        instead="the operator follows the Jobs of its bindings where it may create them: list more "
        "namespaces in spec.jobs.allowedNamespaces and in jobNamespaces",
    ),
    "worker.config.baseJobTemplate.existingConfigMapName": Value(STRING, ""),
    "worker.config.baseJobTemplate.configuration": Value(ANY),
    "worker.config.baseJobTemplate.name": Value(STRING, ""),
    "worker.apiConfig": Value(STRING, "cloud"),
    "worker.cloudApiConfig.accountId": Value(STRING, ""),
    "worker.cloudApiConfig.workspaceId": Value(STRING, ""),
    "worker.cloudApiConfig.apiKeySecret.name": Value(STRING, "prefect-api-key"),
    "worker.cloudApiConfig.apiKeySecret.key": Value(STRING, "key"),
    "worker.cloudApiConfig.jobApiKeyPropagation": Value(STRING, "secretRef"),
    "worker.cloudApiConfig.cloudUrl": Value(STRING, "https://api.prefect.cloud/api"),
    "worker.customerManagedCloudApiConfig.apiUrl": Value(STRING, ""),
    "worker.customerManagedCloudApiConfig.accountId": Value(STRING, ""),
    "worker.customerManagedCloudApiConfig.workspaceId": Value(STRING, ""),
    "worker.customerManagedCloudApiConfig.apiKeySecret.name": Value(STRING, "prefect-api-key"),
    "worker.customerManagedCloudApiConfig.apiKeySecret.key": Value(STRING, "key"),
    "worker.customerManagedCloudApiConfig.jobApiKeyPropagation": Value(STRING, "secretRef"),
    "worker.customerManagedCloudApiConfig.cloudApiUrl": Value(STRING, "", instead=_UI),
    "worker.customerManagedCloudApiConfig.cloudUiUrl": Value(STRING, "", instead=_UI),
    "worker.selfHostedServerApiConfig.apiUrl": Value(STRING, ""),
    "worker.selfHostedServerApiConfig.basicAuth.enabled": Value(BOOLEAN, False),
    "worker.selfHostedServerApiConfig.basicAuth.authString": Value(STRING, "admin:pass"),
    "worker.selfHostedServerApiConfig.basicAuth.existingSecret": Value(STRING, ""),
    "worker.revisionHistoryLimit": Value(NUMBER, 10, to="revisionHistoryLimit"),
    "worker.replicaCount": Value(NUMBER, 1, to="replicas"),
    "worker.resources": Value(
        MAPPING,
        instead="is sized for the worker, which reads each run's template in turn: start with the "
        "default of the chart (resources)",
    ),
    "worker.livenessProbe.enabled": Value(BOOLEAN, False),
    "worker.livenessProbe.config": Value(MAPPING, instead=_PROBE),
    "worker.podSecurityContext": Value(MAPPING, to="podSecurityContext"),
    "worker.priorityClassName": Value(STRING, "", to="priorityClassName"),
    "worker.containerSecurityContext": Value(MAPPING, to="securityContext"),
    "worker.args": Value(LIST, [], instead=_COMMAND),
    "worker.command": Value(LIST, [], instead=_COMMAND),
    "worker.podLabels": Value(MAPPING, {}, to="podLabels"),
    "worker.podAnnotations": Value(MAPPING, {}, to="podAnnotations"),
    "worker.affinity": Value(MAPPING, {}, to="affinity"),
    "worker.nodeSelector": Value(MAPPING, {}, to="nodeSelector"),
    "worker.tolerations": Value(LIST, [], to="tolerations"),
    "worker.extraEnvVars": Value(LIST, []),
    "worker.extraEnvVarsCM": Value(STRING, ""),
    "worker.extraEnvVarsCMs": Value(LIST, []),
    "worker.extraEnvVarsSecret": Value(STRING, ""),
    "worker.extraEnvVarsSecrets": Value(LIST, []),
    "worker.extraContainers": Value(LIST, [], to="extraContainers"),
    "worker.extraVolumes": Value(LIST, [], to="extraVolumes"),
    "worker.extraVolumeMounts": Value(LIST, [], to="extraVolumeMounts"),
    "worker.extraArgs": Value(LIST, [], instead=_COMMAND),
    "worker.podDisruptionBudget.maxUnavailable": Value(
        ANY, to="podDisruptionBudget.maxUnavailable"
    ),
    "worker.podDisruptionBudget.minAvailable": Value(ANY),
    "serviceAccount.create": Value(BOOLEAN, True, to="serviceAccount.create"),
    "serviceAccount.name": Value(STRING, ""),
    "serviceAccount.annotations": Value(MAPPING, {}, to="serviceAccount.annotations"),
    "role.create": Value(BOOLEAN, True, to="rbac.create"),
    "role.namespace": Value(STRING),
    "role.extraPermissions": Value(LIST, [], to="rbac.extraRules"),
    "rolebinding.create": Value(BOOLEAN, True),
}

_TYPES: Mapping[Kind, tuple[type, ...]] = {
    STRING: (str,),
    NUMBER: (int, float),
    BOOLEAN: (bool,),
    LIST: (list,),
    MAPPING: (dict,),
    ANY: (object,),
}


def fits(value: Any, kind: Kind) -> bool:
    """Return whether the value is of the kind; null is of every kind, and removes the default."""
    if value is None:
        return True
    if isinstance(value, bool):
        return kind in (BOOLEAN, ANY)
    return isinstance(value, _TYPES[kind])
