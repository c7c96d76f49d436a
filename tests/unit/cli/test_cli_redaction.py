"""A secret is never printed, whatever document or text contains it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workpool_operator.cli.credential_names import is_credential
from workpool_operator.cli.redaction import REDACTED, Redaction


def env(**variables: str) -> dict:
    return {"env": [{"name": name, "value": value} for name, value in variables.items()]}


def test_values_of_variables_that_are_named_like_credentials_are_redacted_in_both_forms():
    found = Redaction().redact(env(API_TOKEN="a", DB_PASSWORD="b", STAGE="c"))
    assert found == env(API_TOKEN=REDACTED, DB_PASSWORD=REDACTED, STAGE="c")
    found = Redaction().redact({"env": {"AWS_SECRET_ACCESS_KEY": "a", "STAGE": "c"}})
    assert found == {"env": {"AWS_SECRET_ACCESS_KEY": REDACTED, "STAGE": "c"}}


def test_references_to_secrets_are_not_redacted():
    reference = {"secretKeyRef": {"name": "prefect", "key": "api-key"}}
    entry = {"env": [{"name": "PREFECT_API_KEY", "valueFrom": reference}]}
    assert Redaction().redact(entry) == entry
    toleration = {"tolerations": [{"key": "gpu", "operator": "Exists"}]}
    assert Redaction().redact(toleration) == toleration


def test_an_added_secret_is_redacted_as_a_whole_value_and_within_one():
    redaction = Redaction()
    redaction.add({"value": ["hunter22", {"inner": "x"}, 4711, True, None, ""]})
    found = redaction.redact({"a": "curl -H hunter22", "b": "x", "c": "xy", "d": 4711, "e": True})
    assert found == {
        "a": f"curl -H {REDACTED}",
        "b": REDACTED,
        "c": "xy",
        "d": REDACTED,
        "e": True,
    }


def test_user_and_password_of_an_address_are_redacted():
    text = Redaction().redact_text(
        "GET https://me:pass@prefect/api: no answer, nor from http://x/api"
    )
    assert text == f"GET https://{REDACTED}@prefect/api: no answer, nor from http://x/api"


@pytest.mark.parametrize(
    "name",
    [
        "PREFECT_API_KEY",
        "github_token",
        "DbPassword",
        "DBpassword",
        "BASIC_AUTH",
        "clientSecret",
        "apikey",
        "API_KEYS",
        "x-api-key",
        "PASS",
        "PGPASS",
        "PGPASSWORD",
        "MYSQLPASS",
        "DB_PW",
        "DB_PWD",
        "passwd",
        "PASSPHRASE",
        "password2",
        "dsn",
        "SENTRY_DSN",
        "DB_CONN",
        "AIRFLOW_CONN_DB",
        "conn_str",
        "ConnectionString",
        "CONNECTION_STRING",
        "cred",
        "creds",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "AccountKey",
        "AZURE_STORAGE_SAS",
        "GITHUB_PAT",
        "SLACK_WEBHOOK_URL",
        "COOKIE",
        "AUTHORIZATION",
        "authString",
        "JWT",
        "secrets",
    ],
)
def test_a_name_of_a_credential_is_recognised_in_any_case(name):
    assert is_credential(name)


@pytest.mark.parametrize(
    "name",
    [
        "STAGE",
        "PREFECT_API_URL",
        "PREFECT__FLOW_RUN_ID",
        "monkey",
        "MONKEY",
        "keyboard",
        "KEYBOARD_LAYOUT",
        "KEYWORDS",
        "PWD",
        "OLDPWD",
        "BYPASS",
        "COMPASS_URL",
        "PASSENGERS",
        "AUTHOR",
        "AUTHORITY",
        "PATH",
        "PATTERN",
        "COMPAT",
        "SECRETARY",
        "CREDIT",
        "CONNECTION_TIMEOUT",
        "CONNECTOR",
        "TOKENIZERS_PARALLELISM",
        "TURKEY",
    ],
)
def test_a_name_that_only_resembles_one_is_not(name):
    assert not is_credential(name)
    assert Redaction().redact(env(**{name: "hunter2"})) == env(**{name: "hunter2"})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "Server=tcp:db,1433;User Id=sa;Password=hunter2 w/ blank;Database=y",
            "Server=tcp:db,1433;User Id=sa;Password=<redacted>;Database=y",
        ),
        (
            "AccountName=a;AccountKey=hunter2/DEF+1==;EndpointSuffix=core",
            "AccountName=a;AccountKey=<redacted>;EndpointSuffix=core",
        ),
        ("host=h password=hunter2 dbname=d", "host=h password=<redacted> dbname=d"),
        ("redis:6380,password=hunter2=,ssl=True", "redis:6380,password=<redacted>,ssl=True"),
        ("https://blob/x?sv=1&sig=hunter2%3D&se=2", "https://blob/x?sv=1&sig=<redacted>&se=2"),
        ("X='DB_PASSWORD=hunter2 run'", "X='DB_PASSWORD=<redacted> run'"),
        ('export TOKEN="hunter2 b" && run', 'export TOKEN="<redacted>" && run'),
        (
            '{"user": "u", "password": "hunter2", "n": 1}',
            '{"user": "u", "password": "<redacted>", "n": 1}',
        ),
        (r'"{\"token\": \"hunter2\"}"', r'"{\"token\": \"<redacted>\"}"'),
        ("{'api_key': 'hunter2'}", "{'api_key': '<redacted>'}"),
        ("postgres://u:hunter2@host/db", "postgres://<redacted>@host/db"),
        ("postgres://u:hunt@er2@host/db", "postgres://<redacted>@host/db"),
        ("postgres://u:hunt/er2@host/db", "postgres://<redacted>@host/db"),
        ("redis://:hunter2@host:6379/0", "redis://<redacted>@host:6379/0"),
        (
            "curl -H 'Authorization: Bearer hunter2.1234567890'",
            "curl -H 'Authorization: Bearer <redacted>'",
        ),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----",
            "-----BEGIN RSA PRIVATE KEY-----<redacted>-----END RSA PRIVATE KEY-----",
        ),
    ],
)
def test_secrets_within_a_value_are_redacted_and_the_rest_stays(text, shown):
    assert Redaction().redact_text(text) == shown
    assert Redaction().redact(env(X=text)) == env(X=shown)


@pytest.mark.parametrize(
    "text",
    [
        "monkey=banana keyboard=de PWD=/app",
        "http://host:4200/api@x",
        "git+https://github.com/x/y@v1",
        "registry.example/flows@sha256:abc",
        "spec.server.apiKey.secretKeyRef.key: is required: the key in the Secret's data",
        "password=",
    ],
)
def test_text_without_a_secret_is_unchanged(text):
    assert Redaction().redact_text(text) == text


def test_the_argument_of_an_option_for_a_credential_is_redacted():
    container = {"command": ["run", "--password", "hunter2", "--user", "u"], "args": ["-c", "x"]}
    shown = {"command": ["run", "--password", REDACTED, "--user", "u"], "args": ["-c", "x"]}
    assert Redaction().redact(container) == shown
    script = {"args": ["sh", "-c", "run --api-key hunter2 --user u"]}
    assert Redaction().redact(script) == {
        "args": ["sh", "-c", f"run --api-key {REDACTED} --user u"]
    }


def test_secrets_of_a_configuration_file_within_a_value_are_redacted():
    text = "user: u\npassword: hunter2\nmonkey: m\n"
    assert Redaction().redact(env(X=text)) == env(X=text.replace("hunter2", REDACTED))


@pytest.mark.parametrize("part", ["a=", "a.", "\n", "'", '"a":', "--a ", "a: ", "://", "password="])
@pytest.mark.timeout(20)
def test_a_long_value_is_redacted_in_reasonable_time(part):
    Redaction().redact(env(X=part * (131_072 // len(part))))


documents = st.recursive(
    st.text() | st.integers() | st.none() | st.booleans(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(document=documents, around=st.text())
def test_no_redacted_document_contains_a_secret(document, around):
    secret = "sK-9d81fe2b"
    redaction = Redaction()
    redaction.add(secret)
    found = redaction.redact({"a": document, "b": f"{around}{secret}{around}", "c": [secret]})
    assert secret not in json.dumps(found)
