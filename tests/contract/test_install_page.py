"""docs/install.md: an image is installed under the name by which it reached the cluster."""

from __future__ import annotations

import re
import shlex

import pytest
import yaml

from localnode import commands
from testbed import builds
from testbed.state import CHECKOUT
from tests.support.pages import typed

WAYS = dict(zip(("kind", "minikube", "registry"), typed("docs/install.md", "Image"), strict=True))
#: The image that is built, and the one that is passed on to the cluster.
NAMED = re.compile(r"(?:docker build -t|docker push|image load|load docker-image) (\S+)")


@pytest.mark.parametrize("way", WAYS)
def test_at_most_five_commands_install_the_image_that_was_built(way):
    lines = WAYS[way].splitlines()
    assert len(lines) <= 5
    built, passed_on = NAMED.findall(WAYS[way])
    pod = rendered(next(line for line in lines if line.startswith("helm install")))
    (operator,) = pod["containers"]
    assert built == passed_on == operator["image"]
    secrets = re.findall(r"create secret docker-registry (\S+)", WAYS[way])
    assert [each["name"] for each in pod.get("imagePullSecrets", [])] == secrets


def rendered(install: str):
    """Return the operator's pod in what Helm would install."""
    _, _, release, chart, *options = shlex.split(install.replace(" --create-namespace", ""))
    argv = [str(builds.tool("helm")), "template", release, str(CHECKOUT / chart), *options]
    objects = yaml.safe_load_all(commands.run([*argv, "--kube-version=1.36.0"]))
    (deployment,) = (each for each in objects if each and each["kind"] == "Deployment")
    return deployment["spec"]["template"]["spec"]
