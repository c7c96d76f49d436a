"""Credentials of run pods: the Secret that each comes from, and no value in a Job or a log."""

from __future__ import annotations

import base64

import pytest

from workpool_operator.jobs.secrets import (
    API_KEY,
    AUTH_STRING,
    SecretKey,
    managed_secret_name,
    plan_credentials,
)

OWN = SecretKey("prefect", "api-key")


def reference(variable: str, secret: SecretKey) -> dict:
    key = {"secretKeyRef": {"name": secret.name, "key": secret.key}}
    return {"name": variable, "valueFrom": key}


def test_a_named_secret_is_referred_to_and_no_secret_is_managed():
    given = plan_credentials({API_KEY: "pnu_1"}, named={API_KEY: OWN}, owner="data/etl")
    assert given.entries == (reference(API_KEY, OWN),)
    assert given.managed_secret is None


def test_a_value_without_a_named_secret_goes_into_a_managed_one():
    given = plan_credentials({AUTH_STRING: "admin:ä"}, named={}, owner="data/etl")
    assert given.managed_secret is not None
    name = given.managed_secret["metadata"]["name"]
    assert given.entries == (reference(AUTH_STRING, SecretKey(name, AUTH_STRING)),)
    assert base64.b64decode(given.managed_secret["data"][AUTH_STRING]).decode() == "admin:ä"


def test_a_credential_that_was_removed_is_removed_from_the_managed_secret():
    kept = plan_credentials({AUTH_STRING: "a:b"}, named={}, owner="data/etl").managed_secret
    assert kept is not None
    assert kept["data"][API_KEY] is None


def test_without_credentials_no_secret_is_managed():
    given = plan_credentials({}, named={}, owner="data/etl")
    assert (given.entries, given.managed_secret) == ((), None)


def test_no_value_is_in_a_repr():
    given = plan_credentials({API_KEY: "pnu_4711"}, named={}, owner="data/etl")
    encoded = base64.b64encode(b"pnu_4711").decode()
    assert not any(secret in repr(given) for secret in ("4711", encoded))


@pytest.mark.parametrize(
    "owner", ["data/etl", "a-b/c", "a/b-c", "x/" + "y" * 253, "worker Größe/1"]
)
def test_the_name_of_a_managed_secret_depends_on_its_owner_alone(owner: str):
    others = {"data/etl", "a-b/c", "a/b-c", "worker Größe/1"} - {owner}
    name = managed_secret_name(owner)
    assert name == managed_secret_name(owner)
    assert name not in {managed_secret_name(other) for other in others}
    assert len(name) <= 63
    assert name.replace("-", "").isalnum()
    assert name.isascii()
