"""What a look makes of what it meets: always a condition, whatever it is."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast
from uuid import UUID

import pytest

from workpool_operator.api.v1alpha1 import Spec
from workpool_operator.binding import conditions as c
from workpool_operator.binding import preflight_checks
from workpool_operator.binding.context import Binding, OperatorContext
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
from workpool_operator.health import Watchdog
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.endpoint import PrefectEndpoint
from workpool_operator.prefect_api.models import Worker, WorkPool, WorkQueue

TEMPLATE = {"job_configuration": {"job_manifest": {"spec": {"template": {"spec": {}}}}}}
POOL = WorkPool.of(
    {"id": str(UUID(int=1)), "name": "etl", "type": "kubernetes", "base_job_template": TEMPLATE}
)


class Api:
    """A Prefect server that fails where it is told to."""

    def __init__(self) -> None:
        self.server = PrefectEndpoint("http://server/api")
        self.pool = "etl"
        self.found: WorkPool | None = POOL
        self.queues = ["default", "high"]
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
        return str(await self._answer("version", "3.8.8"))


class Kube:
    """An API server that allows everything, or fails."""

    def __init__(self) -> None:
        self.fails: Exception | None = None

    async def request(self, *_: Any, **__: Any) -> bytes:
        if self.fails:
            raise self.fails
        return json.dumps({"status": {"allowed": True}, "metadata": {"uid": "u"}}).encode()

    async def allowed(self, *_: Any, **__: Any) -> bool:
        if self.fails:
            raise self.fails
        return True


class Bench:
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
            return "The base job template makes a Job."

        monkeypatch.setattr("workpool_operator.binding.preflight.template_valid", template)
        self.inspection = Preflight(
            binding,
            OperatorContext(kube=kube, watchdog=Watchdog(), reconcilers=1, heartbeat_seconds=30),
            job_namespace="data",
            run_secrets=RunSecrets(binding, kube, binding_id="b"),
        )

    async def look(self) -> WorkPool | None:
        await self.inspection.credentials()
        return await self.inspection.check(cast("PrefectApi", self.api))

    def of(self, condition: str) -> tuple[str, str]:
        verdict = self.inspection.conditions.get(condition)
        return verdict.status, verdict.reason


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


async def test_when_nothing_is_wrong_everything_holds(bench: Bench) -> None:
    assert await bench.look() == POOL
    assert bench.inspection.conditions.all_true(), bench.inspection.conditions.states()
    assert bench.inspection.may_claim()
    assert bench.inspection.queues is None
    assert bench.inspection.workers is None, "a remark that can wait"


async def test_a_faulty_template_stops_claims_and_the_pool_is_known_all_the_same(
    bench: Bench,
) -> None:
    bench.template = BindingFault(c.TEMPLATE_VALID, "InvalidTemplate", "correct it")
    assert await bench.look() == POOL
    assert bench.of(c.TEMPLATE_VALID) == ("False", "InvalidTemplate")
    assert not bench.inspection.may_claim()
    assert bench.inspection.served is None, "no Job is made from it"


async def test_missing_rights_stop_claims_and_the_pool_is_known_all_the_same(bench: Bench) -> None:
    bench.kube.fails = KubernetesForbidden("subjectaccessreviews is forbidden")
    assert await bench.look() == POOL
    assert bench.of(c.JOBS_PERMITTED) == ("False", "KubernetesRefused")


async def test_of_a_pool_that_is_gone_or_of_another_type_nobody_is_a_worker(bench: Bench) -> None:
    bench.api.found = None
    assert await bench.look() is None
    assert bench.of(c.WORK_POOL_FOUND) == ("False", "WorkPoolNotFound")
    assert not bench.inspection.is_servable()
    process = WorkPool(id=UUID(int=3), name="etl", type="process")
    bench.api.found = process
    assert await bench.look() == process, "its runs in flight are followed"
    assert bench.of(c.WORK_POOL_FOUND) == ("False", "WorkPoolTypeUnsupported")
    assert not bench.inspection.is_servable()


async def test_a_queue_that_does_not_exist_is_left_out_and_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch, workQueues=["hihg", "default"])
    await bench.look()
    verdict = bench.inspection.conditions.get(c.WORK_POOL_FOUND)
    assert (verdict.status, verdict.reason) == ("False", "QueueNotFound")
    assert "has no work queue 'hihg'; it has 'default', 'high'" in verdict.message
    assert "prefect work-queue create 'hihg' --pool 'etl'" in verdict.message
    assert "Only runs of 'default' are claimed" in verdict.message
    assert bench.inspection.queues == ("default",)
    assert bench.inspection.may_claim()
    assert not bench.inspection.conditions.all_true()
    assert bench.of(c.JOBS_PERMITTED)[0] == "True"
    bench.api.queues.append("hihg")
    await bench.look()
    assert bench.inspection.conditions.all_true()
    assert bench.inspection.queues == ("hihg", "default")


async def test_without_any_of_its_queues_a_binding_claims_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch, workQueues=["hihg"])
    await bench.look()
    assert bench.inspection.queues == ()
    assert not bench.inspection.may_claim()
    assert "No run is claimed" in bench.inspection.conditions.get(c.WORK_POOL_FOUND).message


@pytest.mark.parametrize(
    ("error", "condition", "reason"),
    [
        (PrefectRefused("POST: HTTP 405", status=405), c.SERVER_REACHABLE, "PollRefused"),
        (PrefectUnavailable("POST: HTTP 500"), c.SERVER_REACHABLE, "PollFailed"),
        (PrefectUnavailable("HTTP 429", retry_after=5), c.SERVER_REACHABLE, "RateLimited"),
        (PrefectForbidden("POST: HTTP 403", status=403), c.CREDENTIALS_VALID, "Forbidden"),
    ],
)
async def test_polls_that_fail_while_the_server_answers_are_a_condition_until_one_succeeds(
    bench: Bench, error: OperatorError, condition: str, reason: str
) -> None:
    await bench.look()
    bench.inspection.poll_ended(error)
    await bench.look()
    assert bench.inspection.conditions.all_true(), "the next may succeed"
    bench.inspection.poll_ended(error)
    await bench.look()
    assert bench.of(condition) == ("False", reason)
    assert not bench.inspection.may_claim()
    bench.inspection.poll_ended(None)
    await bench.look()
    assert bench.inspection.conditions.all_true()


async def test_a_poll_that_named_a_missing_queue_is_explained_by_the_queue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch, workQueues=["hihg", "default"])
    for _ in range(3):
        bench.inspection.poll_ended(PrefectNotFound("HTTP 404", status=404))
    await bench.look()
    assert bench.of(c.WORK_POOL_FOUND) == ("False", "QueueNotFound")
    assert bench.of(c.SERVER_REACHABLE)[0] == "True"


async def test_polls_that_failed_in_an_outage_do_not_outlive_it(bench: Bench) -> None:
    bench.api.fails["work_pool"] = PrefectUnavailable("connection refused")
    for _ in range(5):
        bench.inspection.poll_ended(PrefectUnavailable("connection refused"))
    with pytest.raises(BindingFault):
        await bench.look()
    bench.api.fails.clear()
    await bench.look()
    assert bench.inspection.conditions.all_true()


@pytest.mark.parametrize(
    "error",
    [
        PrefectRefused("POST: HTTP 405", status=405),
        PrefectRefused("this is not the answer of a Prefect API", status=200),
        PrefectUnavailable("POST: HTTP 500"),
        RuntimeError("pnu_SECRET"),
    ],
)
async def test_whatever_prefect_answers_in_a_look_is_a_condition_of_its_own(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    bench = Bench(monkeypatch, workQueues=["default"])
    bench.api.fails["work_queues"] = error
    await bench.look()
    verdicts = bench.inspection.conditions.states().values()
    assert [v for v in verdicts if v.status == "False"], verdicts
    assert not any("SECRET" in v.message for v in verdicts)


async def test_what_the_operator_did_not_foresee_is_a_condition_and_told_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.template = RecursionError("pnu_SECRET")
    await bench.look()
    await bench.look()
    assert bench.of(c.TEMPLATE_VALID) == ("False", "InternalError")
    assert "(RecursionError)" in bench.inspection.conditions.get(c.TEMPLATE_VALID).message
    assert caplog.text.count("RecursionError") == 1
    assert "test_preflight.py" in caplog.text, "where it happened"
    assert "SECRET" not in caplog.text
    bench.template = None
    await bench.look()
    assert bench.inspection.conditions.all_true()


@pytest.mark.parametrize("url", ["http://host:abc/api", "http://[::1/api", "http://host:99999999/"])
def test_an_address_that_no_client_can_be_made_for_is_a_condition(url: str) -> None:
    spec = Spec.model_validate({"workPool": {"name": "etl"}, "server": {"url": url}})
    with pytest.raises(BindingFault, match=r"spec.server.url") as raised:
        preflight_checks.client(spec, PrefectEndpoint(url))
    assert (raised.value.condition, raised.value.reason) == (c.SERVER_RESOLVED, "InvalidServerURL")


async def test_a_look_is_asked_for_by_a_failed_poll(bench: Bench) -> None:
    await bench.look()
    bench.inspection.poll_ended(PrefectUnavailable("connection refused"))
    async with asyncio.timeout(2):
        await bench.inspection.wait_for_next_check()
