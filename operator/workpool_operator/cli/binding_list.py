"""Lists the bindings of a cluster as they are stored, also those that are not valid."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from workpool_operator.api import v1alpha1
from workpool_operator.binding.status import BINDINGS
from workpool_operator.errors import (
    KubernetesForbidden,
    KubernetesNotFound,
    KubernetesRefused,
    KubernetesThrottled,
    OperatorError,
    Unavailable,
)
from workpool_operator.kube.client import KubernetesClient

Object = dict[str, Any]


class NotInstalled(OperatorError):
    """The cluster has no CustomResourceDefinition of WorkPoolBinding."""


async def list_bindings(
    kube: KubernetesClient, namespaces: Sequence[str], *, selector: str = ""
) -> list[Object]:
    """Return the bindings of these namespaces, of all if there are none, that match the selector.

    Raises:
        NotInstalled: the CRD is missing.
        OperatorError: the API server does not answer, or refuses.
    """
    query = {"labelSelector": selector} if selector else {}
    paths = [BINDINGS.path(namespace) for namespace in namespaces or [""]]
    try:
        pages = [json.loads(await kube.request("GET", path, query=query)) for path in paths]
    except KubernetesThrottled as error:
        raise OperatorError(f"{kube.address} limits the rate of requests: {error}") from error
    except Unavailable as error:
        raise OperatorError(f"cannot reach {kube.address}: {error}") from error
    except KubernetesNotFound as error:
        text = f"{kube.address} has no {v1alpha1.PLURAL}: the CRD is not installed"
        raise NotInstalled(text) from error
    except KubernetesForbidden as error:
        fix = "" if namespaces else ". Name the namespaces that you may read: --namespace NAME"
        raise OperatorError(f"{kube.address}: {error}{fix}") from error
    except KubernetesRefused as error:
        raise OperatorError(f"{kube.address}: {error}") from error
    return [binding for page in pages for binding in page["items"]]
