"""The settings of the process, and the Prefect settings that it removes from its environment."""

from __future__ import annotations

import resource

import pytest

from workpool_operator.cli.run import clear_prefect_settings, raise_open_file_limit, read_settings
from workpool_operator.settings import Settings


def test_the_command_line_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKPOOL_OPERATOR_HEALTH_PORT", "1234")
    assert Settings().health_port == 1234
    assert read_settings(health_port=4321).health_port == 4321
    assert read_settings(health_port=None).health_port == 1234


def test_the_variables_for_templates_are_a_list_of_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert Settings().template_environment == frozenset()
    monkeypatch.setenv("WORKPOOL_OPERATOR_TEMPLATE_ENVIRONMENT", "REGISTRY, REGION,")
    assert Settings().template_environment == {"REGISTRY", "REGION"}


def test_a_bad_selector_is_an_error_that_names_the_value_and_the_fix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORKPOOL_OPERATOR_SELECTOR", "team=x, shard in a")
    with pytest.raises(SystemExit) as ended:
        read_settings()
    assert str(ended.value) == (
        "workpool-operator: error: WORKPOOL_OPERATOR_SELECTOR='team=x, shard in a': must be a "
        "label selector, such as 'shard=a' or 'shard in (a, b), !test'; 'shard in a' is not a "
        "requirement on a label"
    )


def test_an_error_of_an_option_names_the_option() -> None:
    with pytest.raises(SystemExit, match=r"error: --selector='a=b c': must be a label selector"):
        read_settings(selector="a=b c")


def test_all_invalid_settings_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKPOOL_OPERATOR_LOG_LEVEL", "loud")
    monkeypatch.setenv("WORKPOOL_OPERATOR_RECONCILERS", "0")
    with pytest.raises(SystemExit) as ended:
        read_settings()
    text = str(ended.value)
    assert "WORKPOOL_OPERATOR_LOG_LEVEL='loud': must be 'DEBUG', 'INFO'" in text
    assert "WORKPOOL_OPERATOR_RECONCILERS='0': must be greater than or equal to 1" in text
    assert "\n" not in text


def test_the_users_prefect_settings_are_removed_and_their_replacements_are_named() -> None:
    environ = {
        "PREFECT_API_KEY": "secret",
        "PREFECT_API_SSL_CERT_FILE": "/ca.pem",
        "PREFECT_CLIENT_CUSTOM_HEADERS": '{"X-Key": "secret"}',
        "PREFECT_SERVER_SERVICE_HOST": "10.0.0.1",
        "HOME": "/home/me",
        "SSL_CERT_FILE": "/ca.pem",
        "HTTPS_PROXY": "http://proxy:3128",
    }
    notes = clear_prefect_settings(environ)
    kept = {name for name in environ if not name.startswith("PREFECT_")}
    assert kept == {"HOME", "SSL_CERT_FILE", "HTTPS_PROXY"}
    assert set(environ) - kept == {
        "PREFECT_HOME",
        "PREFECT_PROFILES_PATH",
        "PREFECT_LOGGING_TO_API_ENABLED",
    }
    key, ca, headers = notes
    assert key.startswith("PREFECT_API_KEY has no effect here: ")
    assert "set SSL_CERT_FILE for all bindings, or spec.server.caBundle of each" in ca
    assert "spec.server.headers of each binding" in headers
    assert "secret" not in "".join(notes)


def test_the_operator_raises_its_limit_of_open_files_to_the_maximum() -> None:
    """A hundred bindings need about five hundred connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        raise_open_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
