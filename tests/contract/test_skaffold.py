"""skaffold.yaml, by the JSON schema that Skaffold's own Go module brings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from localnode import builds, commands
from testbed.state import CHECKOUT, cache

MODULE = "github.com/GoogleContainerTools/skaffold/v2@v2.24.0"
CONFIG = yaml.safe_load((CHECKOUT / "skaffold.yaml").read_text())


@pytest.fixture(scope="module")
def schema() -> Any:
    """Of the version that the file names, out of Go's module cache."""
    module = json.loads(commands.run([builds.go(cache()), "mod", "download", "-json", MODULE]))
    version = CONFIG["apiVersion"].removeprefix("skaffold/")
    schemas = Path(module["Dir"], "docs-v2", "content", "en", "schemas")
    return json.loads((schemas / f"{version}.json").read_text())


def test_skaffold_takes_the_file(schema):
    jsonschema.validate(CONFIG, schema)


def test_a_misspelt_field_would_be_noticed(schema):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**CONFIG, "biuld": {}}, schema)


def test_skaffold_builds_the_image_that_the_manifests_run():
    (artifact,) = CONFIG["build"]["artifacts"]
    assert (CHECKOUT / artifact["docker"]["dockerfile"]).exists()
    (folder,) = CONFIG["manifests"]["kustomize"]["paths"]
    deployment = yaml.safe_load((CHECKOUT / folder / "deployment.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == artifact["image"]
