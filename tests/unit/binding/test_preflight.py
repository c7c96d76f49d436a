"""Preflight turns every result of a check into a condition, also unexpected errors."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast
from uuid import UUID

import pytest

from tests.support.clock import FakeClock
from tests.support.operator_context import operator_context
from workpool_operator.api.v1alpha1 import Spec
from workpool_operator.binding import conditions as c
from workpool_operator.binding import preflight_checks
from workpool_operator.binding.context import CACHE_SECONDS, Binding
from workpool_operator.binding.preflight import Preflight
from workpool_operator.binding.secrets import RunSecrets
from workpool_operator.errors import (
    BindingFault,
    KubernetesForbidden,
    OperatorError,
    PrefectForbidden,
    PrefectNotFound,
    PrefectRefused,
    PrefectUnavailable,
)
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.kube.models import ResourceRule, Rights
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.endpoint import PrefectEndpoint
from workpool_operator.prefect_api.models import Worker, WorkPool, WorkQueue
from workpool_operator.ttl_cache import TTLCache

TEMPLATE: dict[str, Any] = {
    "job_configuration": {"job_manifest": {"spec": {"template": {"spec": {}}}}}
}
POOL = WorkPool.of(
    {"id": str(UUID(int=1)), "name": "etl", "type": "kubernetes", "base_job_template": TEMPLATE}
)


class Api:
    """A Prefect server whose calls fail as `fails` says."""

    def __init__(self) -> None:
        self.server = PrefectEndpoint("http://server/api")
        self.pool = "etl"
        self.found: WorkPool | None = POOL
        self.queues = ["default", "high"]
        self.runs_version = "3.8.8"
        self.fails: dict[str, Exception] = {}

    async def _answer(self, call: str, answer: Any) -> Any:
        if error := self.fails.get(call):
            raise error
        return answer

    async def work_pool(self) -> WorkPool:
        if self.found is None:
            raise PrefectNotFound("Work pool not found", status=404)
        return cast("WorkPool", await self._answer("work_pool", self.found))

    async def work_queues(self) -> list[WorkQueue]:
        queues = [WorkQueue(id=UUID(int=2), name=name, priority=1) for name in self.queues]
        return cast("list[WorkQueue]", await self._answer("work_queues", queues))

    async def workers(self) -> list[Worker]:
        return cast("list[Worker]", await self._answer("workers", [Worker("w", "ONLINE")]))

    async def version(self) -> str:
        return str(await self._answer("version", self.runs_version))


class Kube:
    """An API server that allows everything, or fails with `fails`."""

    def __init__(self) -> None:
        self.fails: Exception | None = None

    async def request(self, *_: Any, **__: Any) -> bytes:
        if self.fails:
            raise self.fails
        return json.dumps({"status": {"allowed": True}, "metadata": {"uid": "u"}}).encode()

    async def rights(self, _: str) -> Rights:
        if self.fails:
            raise self.fails
        return Rights((ResourceRule(("*",), ("*",), ("*",)),))


class Setup:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, **spec: Any) -> None:
        made = {"workPool": {"name": "etl"}, "server": {"url": "http://server/api"}, **spec}
        self.spec = Spec.model_validate(made)
        binding = Binding("data", "etl", lambda: self.spec, lambda: 1, {})
        self.kube = Kube()
        kube = cast("KubernetesClient", self.kube)
        self.api = Api()
        self.template: Exception | None = None

        async def template(*_: Any) -> str:
            if self.template:
                raise self.template
            return "The base job template renders a Job."

        monkeypatch.setattr("workpool_operator.binding.preflight_checks.check_template", template)
        self.reports = 0
        self.clock = FakeClock()
        self.preflight = Preflight(
            binding,
            operator_context(kube, versions=TTLCache(seconds=CACHE_SECONDS, clock=self.clock)),
            run_secrets=RunSecrets(binding, kube, binding_id="b"),
            reported=self._count,
        )

    def _count(self) -> None:
        self.reports += 1

    async def check(self) -> WorkPool | None:
        await self.preflight.credentials()
        return await self.preflight.check(cast("PrefectApi", self.api))

    def state_of(self, condition: str) -> tuple[str, str]:
        state = self.preflight.conditions.get(condition)
        return state.status, state.reason


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch) -> Setup:
    return Setup(monkeypatch)


async def test_without_a_fault_every_condition_is_true(setup: Setup) -> None:
    assert await setup.check() == POOL
    assert setup.preflight.conditions.all_true(), setup.preflight.conditions.states()
    assert setup.preflight.may_claim()
    assert setup.preflight.queues is None
    assert setup.preflight.workers is None, "the first check does not read them"


async def test_an_invalid_template_stops_claims_and_still_returns_the_pool(
    setup: Setup,
) -> None:
    setup.template = BindingFault(c.TEMPLATE_VALID, "InvalidTemplate", "correct it")
    assert await setup.check() == POOL
    assert setup.state_of(c.TEMPLATE_VALID) == ("False", "InvalidTemplate")
    assert not setup.preflight.may_claim()
    assert setup.preflight.served is None, "no Job is rendered from it"


async def test_claimed_runs_wait_for_a_valid_patch_and_else_keep_the_last_valid_template(
    setup: Setup,
) -> None:
    await setup.check()
    setup.template = BindingFault(c.TEMPLATE_VALID, "InvalidTemplate", "correct it")
    await setup.check()
    assert setup.preflight.served == POOL
    setup.template = BindingFault(c.TEMPLATE_VALID, "InvalidPatch", "correct it")
    await setup.check()
    assert setup.preflight.served is None


async def test_missing_rights_stop_claims_and_still_return_the_pool(setup: Setup) -> None:
    setup.kube.fails = KubernetesForbidden("subjectaccessreviews is forbidden")
    assert await setup.check() == POOL
    assert setup.state_of(c.JOBS_PERMITTED) == ("False", "KubernetesRefused")


async def test_a_pool_that_is_missing_or_has_another_type_is_not_servable(setup: Setup) -> None:
    setup.api.found = None
    assert await setup.check() is None
    assert setup.state_of(c.WORK_POOL_FOUND) == ("False", "WorkPoolNotFound")
    assert not setup.preflight.is_servable()
    process = WorkPool(id=UUID(int=3), name="etl", type="process")
    setup.api.found = process
    assert await setup.check() == process, "its runs in flight are followed"
    assert setup.state_of(c.WORK_POOL_FOUND) == ("False", "WorkPoolTypeUnsupported")
    assert not setup.preflight.is_servable()


async def test_a_queue_that_does_not_exist_is_left_out_and_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    setup = Setup(monkeypatch, workQueues=["hihg", "default"])
    await setup.check()
    state = setup.preflight.conditions.get(c.WORK_POOL_FOUND)
    assert (state.status, state.reason) == ("False", "QueueNotFound")
    assert "has no work queue 'hihg'; it has 'default', 'high'" in state.message
    assert "prefect work-queue create 'hihg' --pool 'etl'" in state.message
    assert "Only runs of 'default' are claimed" in state.message
    assert list(setup.preflight.queues or ()) == ["default"]
    assert setup.preflight.may_claim()
    assert not setup.preflight.conditions.all_true()
    assert setup.state_of(c.JOBS_PERMITTED)[0] == "True"
    setup.api.queues.append("hihg")
    await setup.check()
    assert setup.preflight.conditions.all_true()
    assert setup.preflight.queues == ("hihg", "default")


async def test_without_any_of_its_queues_a_binding_claims_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    setup = Setup(monkeypatch, workQueues=["hihg"])
    await setup.check()
    assert setup.preflight.queues == ()
    assert not setup.preflight.may_claim()
    assert "No runs are claimed" in setup.preflight.conditions.get(c.WORK_POOL_FOUND).message


@pytest.mark.parametrize(
    ("error", "condition", "reason"),
    [
        (PrefectRefused("POST: HTTP 405", status=405), c.SERVER_REACHABLE, "PollRefused"),
        (PrefectUnavailable("POST: HTTP 500"), c.SERVER_REACHABLE, "PollFailed"),
        (PrefectUnavailable("HTTP 429", retry_after=5), c.SERVER_REACHABLE, "RateLimited"),
        (PrefectForbidden("POST: HTTP 403", status=403), c.CREDENTIALS_VALID, "Forbidden"),
    ],
)
async def test_polls_that_fail_while_the_server_answers_are_a_fault_until_one_succeeds(
    setup: Setup, error: OperatorError, condition: str, reason: str
) -> None:
    await setup.check()
    setup.preflight.poll_ended(error)
    await setup.check()
    assert setup.preflight.conditions.all_true(), "the next may succeed"
    setup.preflight.poll_ended(error)
    await setup.check()
    assert setup.state_of(condition) == ("False", reason)
    assert not setup.preflight.may_claim()
    setup.preflight.poll_ended(None)
    await setup.check()
    assert setup.preflight.conditions.all_true()


async def test_a_poll_that_fails_because_of_a_missing_queue_is_reported_as_the_missing_queue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    setup = Setup(monkeypatch, workQueues=["hihg", "default"])
    for _ in range(3):
        setup.preflight.poll_ended(PrefectNotFound("HTTP 404", status=404))
    await setup.check()
    assert setup.state_of(c.WORK_POOL_FOUND) == ("False", "QueueNotFound")
    assert setup.state_of(c.SERVER_REACHABLE)[0] == "True"


async def test_polls_that_failed_in_an_outage_are_no_fault_after_it(setup: Setup) -> None:
    setup.api.fails["work_pool"] = PrefectUnavailable("connection refused")
    for _ in range(5):
        setup.preflight.poll_ended(PrefectUnavailable("connection refused"))
    with pytest.raises(BindingFault):
        await setup.check()
    setup.api.fails.clear()
    await setup.check()
    assert setup.preflight.conditions.all_true()


@pytest.mark.parametrize(
    "error",
    [
        PrefectRefused("POST: HTTP 405", status=405),
        PrefectRefused("this is not the answer of a Prefect API", status=200),
        PrefectUnavailable("POST: HTTP 500"),
        RuntimeError("pnu_SECRET"),
    ],
)
async def test_every_error_of_prefect_in_a_check_is_a_condition(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    setup = Setup(monkeypatch, workQueues=["default"])
    setup.api.fails["work_queues"] = error
    await setup.check()
    states = setup.preflight.conditions.states().values()
    assert [v for v in states if v.status == "False"], states
    assert not any("SECRET" in v.message for v in states)


async def test_an_unexpected_exception_is_a_condition_and_logged_once(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    setup.template = RecursionError("pnu_SECRET")
    await setup.check()
    await setup.check()
    assert setup.state_of(c.TEMPLATE_VALID) == ("False", "InternalError")
    assert "(RecursionError)" in setup.preflight.conditions.get(c.TEMPLATE_VALID).message
    assert caplog.text.count("RecursionError") == 1
    assert "test_preflight.py" in caplog.text, "where it happened"
    assert "SECRET" not in caplog.text
    setup.template = None
    await setup.check()
    assert setup.preflight.conditions.all_true()


@pytest.mark.parametrize("url", ["http://host:abc/api", "http://[::1/api", "http://host:99999999/"])
def test_an_address_that_is_not_a_url_is_a_condition(url: str) -> None:
    spec = Spec.model_validate({"workPool": {"name": "etl"}, "server": {"url": url}})
    with pytest.raises(BindingFault, match=r"spec.server.url") as raised:
        preflight_checks.client(spec, PrefectEndpoint(url))
    assert (raised.value.condition, raised.value.reason) == (c.SERVER_RESOLVED, "InvalidServerURL")


async def test_a_failed_poll_requests_a_check(setup: Setup) -> None:
    await setup.check()
    setup.preflight.poll_ended(PrefectUnavailable("connection refused"))
    async with asyncio.timeout(2):
        await setup.preflight.wait_for_next_check()


async def test_each_check_and_each_poll_is_reported_so_that_the_status_follows(
    setup: Setup,
) -> None:
    setup.preflight.poll_ended(None)
    assert setup.reports == 1
    setup.preflight.recheck()
    await setup.check()
    await setup.preflight.wait_for_next_check()
    assert setup.reports == 2


@pytest.mark.parametrize("version", ["2.20.4", "3.4.25", "3.5.0rc1"])
async def test_an_old_server_is_served_and_the_status_says_what_it_cannot_do(
    setup: Setup, version: str
) -> None:
    setup.api.runs_version = version
    await setup.check()
    message = setup.preflight.conditions.get(c.SERVER_REACHABLE).message
    assert message.startswith(f"http://server/api answers. It is Prefect {version}, and runs that")
    assert message.endswith("with a server older than 3.6: upgrade it.")
    assert setup.preflight.may_claim()
    setup.api.runs_version = "3.8.8"
    setup.clock.advance(seconds=CACHE_SECONDS)
    await setup.check()
    assert setup.preflight.conditions.get(c.SERVER_REACHABLE).message.endswith("answers.")


@pytest.mark.parametrize("version", ["3.6.0", "3.10.0", "4.0.0", "3.9.1+12.gabc", "", "unknown"])
async def test_a_server_of_a_tested_newer_or_unknown_version_has_no_warning(
    setup: Setup, version: str
) -> None:
    setup.api.runs_version = version
    await setup.check()
    message = setup.preflight.conditions.get(c.SERVER_REACHABLE).message
    assert message == "http://server/api answers."
