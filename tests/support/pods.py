"""Templates for pods with more than the flow container: sidecars and init containers."""

from __future__ import annotations

from collections.abc import Sequence

from tests.support.deployments import template_with_flows
from tests.support.kube import Object

FLOW = "prefect-job"


def shell(name: str, image: str, script: str, **fields: object) -> Object:
    """Return a container that runs the script."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script],
        **fields,
    }


def template(
    *,
    first: Sequence[Object] = (),
    init: Sequence[Object] = (),
) -> Object:
    """Return the stock template with the flows, with these containers before the flow container
    and init containers."""
    made = template_with_flows()
    pod = made["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    pod["containers"] = [*first, *pod["containers"]]
    pod["initContainers"] = list(init)
    return made


def end_of(pod: Object, container: str = FLOW) -> Object:
    """Return the terminated state of the container."""
    statuses = pod["status"]["containerStatuses"]
    (found,) = (status for status in statuses if status["name"] == container)
    terminated: Object = found["state"]["terminated"]
    return terminated
