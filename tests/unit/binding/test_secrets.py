"""Run pods get credentials, CA and headers from the binding, by reference only."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from workpool_operator.api.v1alpha1 import Spec
from workpool_operator.binding import secrets
from workpool_operator.binding.context import Binding
from workpool_operator.jobs import certificates
from workpool_operator.jobs.certificates import CASource
from workpool_operator.jobs.secrets import (
    API_KEY,
    CA,
    CUSTOM_HEADERS,
    Credentials,
    managed_secret_name,
)
from workpool_operator.prefect_api.endpoint import PrefectEndpoint, TLSTrust

URL = "https://prefect.example/api"
COPY = managed_secret_name("data/etl")
HEADERS = (("CF-Access-Client-Id", "abc"), ("CF-Access-Client-Secret", "s3cret"))
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


def secret(name: str, key: str = "key") -> dict[str, Any]:
    return {"secretKeyRef": {"name": name, "key": key}}


FULL = {
    "url": URL,
    "apiKey": secret("prefect"),
    "caBundle": {"configMapKeyRef": {"name": "ca", "key": "ca.pem"}},
    "headers": [{"name": name, **secret("access", name)} for name, _ in HEADERS],
}


def given(server: dict[str, Any], **jobs: Any) -> Credentials:
    spec = Spec.model_validate({"workPool": {"name": "p"}, "server": server, "jobs": jobs})
    binding = Binding("data", "etl", spec=lambda: spec, generation=lambda: 1, status={})
    called = PrefectEndpoint(
        server["url"],
        api_key="pnu_1" if "apiKey" in server else None,
        headers=HEADERS if "headers" in server else (),
        trust=TLSTrust(PEM if "caBundle" in server else None, verify="tls" not in server),
    )
    return secrets.run_credentials(binding, called)


def sources(credentials: Credentials) -> dict[str, tuple[str, str]]:
    """Return Secret and key of each variable that has one."""
    found = {}
    for entry in credentials.entries:
        if "valueFrom" in entry:
            reference = entry["valueFrom"]["secretKeyRef"]
            found[entry["name"]] = (reference["name"], reference["key"])
    return found


def managed_values(credentials: Credentials) -> dict[str, str]:
    data = (credentials.managed_secret or {"data": {}})["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items() if value}


def test_in_the_bindings_namespace_only_headers_are_copied():
    found = given(FULL)
    assert sources(found) == {
        API_KEY: ("prefect", "key"),
        CUSTOM_HEADERS: (COPY, CUSTOM_HEADERS),
    }
    assert found.ca == CASource("ConfigMap", "ca", "ca.pem")
    assert certificates.ENTRY in found.entries
    assert list(managed_values(found)) == [CUSTOM_HEADERS]
    assert json.loads(managed_values(found)[CUSTOM_HEADERS]) == dict(HEADERS)


def test_in_another_namespace_everything_is_copied_to_one_secret():
    found = given(FULL, namespace="runs")
    assert sources(found) == {
        API_KEY: (COPY, API_KEY),
        CUSTOM_HEADERS: (COPY, CUSTOM_HEADERS),
    }
    assert found.ca == CASource("Secret", COPY, CA)
    assert managed_values(found)[CA] == PEM
    assert managed_values(found)[API_KEY] == "pnu_1"


def test_objects_that_spec_jobs_names_are_not_copied():
    found = given(
        FULL,
        namespace="runs",
        apiKey=secret("limited"),
        headers=secret("access-json", "headers.json"),
        caBundle=secret("ca", "tls.crt"),
    )
    assert sources(found) == {
        API_KEY: ("limited", "key"),
        CUSTOM_HEADERS: ("access-json", "headers.json"),
    }
    assert found.ca == CASource("Secret", "ca", "tls.crt")
    assert found.managed_secret is None


@pytest.mark.parametrize(
    ("address", "ca"), [("http://prefect:4200/api", False), ("https://inside/api", True)]
)
def test_pods_with_another_address_send_no_headers_and_trust_the_ca_only_for_https(address, ca):
    found = given(FULL, serverURL=address)
    assert sources(found) == {API_KEY: ("prefect", "key")}
    assert (found.ca is not None) is ca
    assert found.managed_secret is None


@pytest.mark.parametrize(
    ("url", "jobs", "skips"),
    [
        (URL, {}, True),
        ("http://prefect:4200/api", {}, False),
        (URL, {"serverURL": "https://inside/api"}, False),
    ],
)
def test_pods_skip_the_verification_only_of_the_address_that_the_operator_calls(url, jobs, skips):
    found = given({"url": url, "tls": {"insecureSkipVerify": True}}, **jobs)
    assert (secrets.SKIP_VERIFY in found.entries) is skips


def test_copied_headers_are_not_in_a_repr():
    found = given({"url": URL, "headers": FULL["headers"]})
    assert sources(found) == {CUSTOM_HEADERS: (COPY, CUSTOM_HEADERS)}
    assert "s3cret" not in repr(found)
    assert "s3cret" not in repr(found.entries)


def test_without_credentials_nothing_is_referenced_or_copied():
    assert given({"url": URL}) == Credentials(())
    assert given({"url": URL}, namespace="runs") == Credentials(())


# The file in the pod


def job(**pod: Any) -> dict[str, Any]:
    flow = {"name": "prefect-job", "image": "x"}
    return {"spec": {"template": {"spec": {"containers": [flow], **pod}}}}


def mounted(**pod: Any) -> dict[str, Any]:
    made = job(**pod)
    certificates.mount_ca(made, CASource("ConfigMap", "ca", "ca.pem"))
    found: dict[str, Any] = made["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize("volumes", [None, [], [{"name": "data", "emptyDir": {}}]])
def test_the_ca_is_mounted_in_the_flow_container_and_the_templates_volumes_stay(volumes):
    pod = mounted(volumes=volumes)
    assert pod["volumes"][:-1] == (volumes or [])
    assert pod["volumes"][-1]["configMap"] == {
        "name": "ca",
        "items": [{"key": "ca.pem", "path": "ca.crt"}],
    }
    (mount,) = pod["containers"][0]["volumeMounts"]
    assert certificates.ENTRY["value"] == f"{mount['mountPath']}/ca.crt"
    assert mount["readOnly"] is True


def test_a_volume_of_the_same_name_and_an_invalid_list_of_volumes_stay_unchanged():
    own = [{"name": certificates.VOLUME, "emptyDir": {}}]
    assert mounted(volumes=own)["volumes"] == own
    assert mounted(volumes="data")["volumes"] == "data"
