"""The process's settings, and what of its environment Prefect must not see."""

from __future__ import annotations

import pytest

from workpool_operator.cli.run import isolate, read_settings
from workpool_operator.settings import Settings


def test_the_command_line_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKPOOL_OPERATOR_HEALTH_PORT", "1234")
    assert Settings().health_port == 1234
    assert read_settings(4321).health_port == 4321
    assert read_settings(None).health_port == 1234


def test_all_settings_that_are_wrong_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKPOOL_OPERATOR_LOG_LEVEL", "loud")
    monkeypatch.setenv("WORKPOOL_OPERATOR_RECONCILERS", "0")
    with pytest.raises(SystemExit) as ended:
        read_settings(None)
    told = str(ended.value)
    assert "WORKPOOL_OPERATOR_LOG_LEVEL='loud': must be 'DEBUG', 'INFO'" in told
    assert "WORKPOOL_OPERATOR_RECONCILERS='0': must be greater than or equal to 1" in told
    assert "\n" not in told


def test_nothing_of_the_users_prefect_reaches_ours() -> None:
    environ = {"PREFECT_API_KEY": "secret", "PREFECT_API_URL": "http://x", "HOME": "/home/me"}
    isolate(environ)
    assert environ["HOME"] == "/home/me"
    assert "PREFECT_API_KEY" not in environ
    assert "PREFECT_API_URL" not in environ
