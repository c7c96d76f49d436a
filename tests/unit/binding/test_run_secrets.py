"""What run pods call their server with: from the binding alone, by reference only."""

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
from workpool_operator.jobs.credentials import (
    API_KEY,
    CA,
    CUSTOM_HEADERS,
    Credentials,
    managed_secret_name,
)
from workpool_operator.prefect_api.endpoint import PrefectEndpoint, TLSTrust

URL = "https://prefect.example/api"
KEPT = managed_secret_name("data/etl")
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
        trust=TLSTrust(PEM if "caBundle" in server else None),
    )
    return secrets.run_credentials(binding, called)


def sources(credentials: Credentials) -> dict[str, tuple[str, str]]:
    """The Secret and key of each variable that has one."""
    found = {}
    for entry in credentials.entries:
        if "valueFrom" in entry:
            reference = entry["valueFrom"]["secretKeyRef"]
            found[entry["name"]] = (reference["name"], reference["key"])
    return found


def kept(credentials: Credentials) -> dict[str, str]:
    data = (credentials.managed_secret or {"data": {}})["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items() if value}


def test_in_the_bindings_namespace_key_and_ca_are_the_users_own_and_only_headers_are_a_copy():
    found = given(FULL)
    assert sources(found) == {API_KEY: ("prefect", "key"), CUSTOM_HEADERS: (KEPT, CUSTOM_HEADERS)}
    assert found.ca == CASource("ConfigMap", "ca", "ca.pem")
    assert certificates.ENTRY in found.entries
    assert list(kept(found)) == [CUSTOM_HEADERS]
    assert json.loads(kept(found)[CUSTOM_HEADERS]) == dict(HEADERS)


def test_in_another_namespace_all_of_them_are_copies_in_one_secret():
    found = given(FULL, namespace="runs")
    assert sources(found) == {API_KEY: (KEPT, API_KEY), CUSTOM_HEADERS: (KEPT, CUSTOM_HEADERS)}
    assert found.ca == CASource("Secret", KEPT, CA)
    assert kept(found)[CA] == PEM
    assert kept(found)[API_KEY] == "pnu_1"


def test_what_the_namespace_of_the_jobs_has_for_them_needs_no_copy():
    found = given(
        FULL,
        namespace="runs",
        apiKey=secret("lesser"),
        headers=secret("access-json", "headers.json"),
        caBundle=secret("ca", "tls.crt"),
    )
    assert sources(found) == {
        API_KEY: ("lesser", "key"),
        CUSTOM_HEADERS: ("access-json", "headers.json"),
    }
    assert found.ca == CASource("Secret", "ca", "tls.crt")
    assert found.managed_secret is None


@pytest.mark.parametrize(
    ("address", "ca"), [("http://prefect:4200/api", False), ("https://inside/api", True)]
)
def test_pods_with_an_address_of_their_own_send_no_headers_and_trust_the_ca_where_it_is_https(
    address, ca
):
    found = given(FULL, serverURL=address)
    assert sources(found) == {API_KEY: ("prefect", "key")}
    assert (found.ca is not None) is ca
    assert found.managed_secret is None


def test_headers_alone_are_a_copy_and_no_value_is_in_a_repr():
    found = given({"url": URL, "headers": FULL["headers"]})
    assert sources(found) == {CUSTOM_HEADERS: (KEPT, CUSTOM_HEADERS)}
    assert "s3cret" not in repr(found)
    assert "s3cret" not in repr(found.entries)


def test_without_any_of_it_there_is_nothing():
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
def test_the_ca_is_a_file_of_the_flows_container_beside_what_the_template_has(volumes):
    pod = mounted(volumes=volumes)
    assert pod["volumes"][:-1] == (volumes or [])
    assert pod["volumes"][-1]["configMap"] == {
        "name": "ca",
        "items": [{"key": "ca.pem", "path": "ca.crt"}],
    }
    (mount,) = pod["containers"][0]["volumeMounts"]
    assert certificates.ENTRY["value"] == f"{mount['mountPath']}/ca.crt"
    assert mount["readOnly"] is True


def test_a_volume_of_that_name_and_what_is_no_list_stay_the_templates():
    own = [{"name": certificates.VOLUME, "emptyDir": {}}]
    assert mounted(volumes=own)["volumes"] == own
    assert mounted(volumes="data")["volumes"] == "data"
