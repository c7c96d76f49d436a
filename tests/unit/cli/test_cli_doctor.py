"""What `doctor` makes of faults and refusals: which check failed, and its fix."""

from __future__ import annotations

import re
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from workpool_operator.binding import conditions as c
from workpool_operator.cli import job_checks, server_checks
from workpool_operator.cli.check_result import CheckResult
from workpool_operator.cli.doctor import as_text
from workpool_operator.clock import SYSTEM_CLOCK
from workpool_operator.errors import BindingFault
from workpool_operator.prefect_api.endpoint import PrefectEndpoint

SERVER = PrefectEndpoint("https://prefect.example/api")


@pytest.mark.parametrize(
    ("condition", "reason", "subject"),
    [
        (c.CREDENTIALS_VALID, "Unauthorized", "credentials"),
        (c.SERVER_REACHABLE, "CertificateNotTrusted", "TLS: the certificate of the server"),
        (c.SERVER_REACHABLE, "ConnectionFailed", "API: https://prefect.example/api"),
    ],
)
def test_the_check_that_failed_is_that_of_the_fault(condition, reason, subject):
    found = server_checks.failed_request(BindingFault(condition, reason, "why"), SERVER)
    assert found == CheckResult(subject, "why")


@pytest.mark.parametrize(
    ("refusal", "subject", "fix"),
    [
        (
            'pods "x" is forbidden: violates PodSecurity "restricted:latest": ...',
            "pod: Pod Security of namespace data",
            "securityContext",
        ),
        (
            'pods "x" is forbidden: exceeded quota: few, requested: pods=1',
            "quota of namespace data",
            "kubectl -n data describe resourcequota",
        ),
        ("admission webhook denied the request", "the pod", ""),
    ],
)
def test_a_refused_dry_run_names_what_refused_it(refusal, subject, fix):
    found = job_checks.not_accepted("the pod", refusal, "data")
    assert (found.status, found.subject, found.message) == ("failed", subject, refusal)
    assert fix in found.fix


def ahead(seconds: float) -> Any:
    clock = SimpleNamespace(now=lambda: SYSTEM_CLOCK.now() + timedelta(seconds=seconds))
    return SimpleNamespace(clock=clock)


def test_clocks_that_differ_are_a_warning_with_how_much():
    assert server_checks.check_clocks(ahead(1), ahead(-1)).status == "ok"
    found = server_checks.check_clocks(ahead(0), ahead(-61))
    assert (found.status, found.fix) == ("warning", "set all by NTP")
    assert found.message.startswith("Prefect is 6")
    assert found.message.endswith(" s behind")


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (CheckResult("a", status="ok"), "ok    a"),
        (CheckResult("a", "is b", "do c"), "FAIL  a: is b\n      fix: do c"),
        (CheckResult("a", "is b", "", "warning"), "warn  a: is b"),
        (CheckResult("a", "needs b", "do c", "skipped"), "skip  a: needs b\n      fix: do c"),
    ],
)
def test_each_result_is_a_line_and_its_fix_the_next(result, text):
    assert re.sub(r"\x1b\[\d+m", "", as_text(result)) == text  # colours, for a terminal


async def test_a_name_that_a_proxy_resolves_is_left_to_it(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    found = await server_checks.check_name(SERVER)
    assert found.status == "ok"
    assert "is left to the proxy" in found.subject
