"""What is secret never comes out, whatever document or text it hides in."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from workpool_operator.cli.redaction import REDACTED, Redaction, is_credential


def env(**variables: str) -> dict:
    return {"env": [{"name": name, "value": value} for name, value in variables.items()]}


def test_values_of_variables_that_are_named_like_credentials_are_hidden_in_both_forms():
    found = Redaction().document(env(API_TOKEN="a", DB_PASSWORD="b", STAGE="c"))
    assert found == env(API_TOKEN=REDACTED, DB_PASSWORD=REDACTED, STAGE="c")
    found = Redaction().document({"env": {"AWS_SECRET_ACCESS_KEY": "a", "STAGE": "c"}})
    assert found == {"env": {"AWS_SECRET_ACCESS_KEY": REDACTED, "STAGE": "c"}}


def test_references_to_secrets_are_no_secrets():
    reference = {"secretKeyRef": {"name": "prefect", "key": "api-key"}}
    entry = {"env": [{"name": "PREFECT_API_KEY", "valueFrom": reference}]}
    assert Redaction().document(entry) == entry
    toleration = {"tolerations": [{"key": "gpu", "operator": "Exists"}]}
    assert Redaction().document(toleration) == toleration


def test_what_was_learnt_is_hidden_as_a_whole_and_as_a_part():
    redaction = Redaction()
    redaction.learn({"value": ["hunter22", {"inner": "x"}, 4711, True, None, ""]})
    found = redaction.document({"a": "curl -H hunter22", "b": "x", "c": "xy", "d": 4711, "e": True})
    assert found == {
        "a": f"curl -H {REDACTED}",
        "b": REDACTED,
        "c": "xy",
        "d": REDACTED,
        "e": True,
    }


def test_user_and_password_of_an_address_are_hidden():
    text = Redaction().text("GET https://me:pass@prefect/api: no answer, nor from http://x/api")
    assert text == f"GET https://{REDACTED}@prefect/api: no answer, nor from http://x/api"


def test_names_of_credentials_are_known_in_any_case():
    names = ("PREFECT_API_KEY", "github_token", "DbPassword", "BASIC_AUTH", "clientSecret")
    assert all(map(is_credential, names))
    assert not any(map(is_credential, ("STAGE", "PREFECT_API_URL", "PREFECT__FLOW_RUN_ID")))


documents = st.recursive(
    st.text() | st.integers() | st.none() | st.booleans(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(document=documents, around=st.text())
def test_a_secret_is_in_no_copy_of_any_document(document, around):
    secret = "sK-9d81fe2b"
    redaction = Redaction()
    redaction.learn(secret)
    found = redaction.document({"a": document, "b": f"{around}{secret}{around}", "c": [secret]})
    assert secret not in json.dumps(found)
