"""Init containers: one that works is reported and waited for, one that waits is timed out, and one
that fails is reported with its log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tests.support.kube import Kube, Object
from tests.support.operator import Operator
from tests.support.pods import shell, template
from tests.support.prefect import PrefectApi

Serve = Callable[..., Awaitable[Operator]]
Launch = Callable[..., Awaitable[Object]]
#: By the run's label `does`: works longer than the time-out, fails, or passes.
FETCH = """case "$DOES" in
works) sleep 30;;
fails) echo no credentials for the bucket; exit 1;;
esac"""


async def test_a_run_reports_how_its_init_containers_work_fail_and_wait(
    api: PrefectApi,
    kube: Kube,
    namespace: str,
    pool: str,
    run_image: str,
    serve: Serve,
    launch: Launch,
) -> None:
    does = [{"name": "DOES", "value": "{{ does }}"}]
    silent = shell(
        "silent",
        run_image,
        "exec sleep 3600",
        restartPolicy="Always",
        startupProbe={
            "exec": {"command": ["test", "{{ does }}", "!=", "waits"]},
            "periodSeconds": 1,
            "failureThreshold": 60,
        },
    )
    made = template(init=[shell("fetch", run_image, FETCH, env=does), silent])
    made["variables"]["properties"]["does"] = {"type": "string", "default": "passes"}
    await api.request("PATCH", f"/work_pools/{pool}", {"base_job_template": made})
    await serve(jobs={"serverURL": api.url, "pendingTimeoutSeconds": 25})
    command = "python /flows/report_only.py"
    works, fails, waits = [
        await launch(does=what, command=command) for what in ("works", "fails", "waits")
    ]

    async def of_one_that_works() -> None:
        run = await api.wait(works["id"], until=lambda run: run["state_name"] == "Initializing")
        assert "Container 'fetch' has been running for" in run["state"]["message"]
        assert "activeDeadlineSeconds" in run["state"]["message"]
        await api.wait_for_state(works["id"], "COMPLETED")

    async def of_one_that_fails() -> None:
        run = await api.wait_for_state(fails["id"], "CRASHED")
        assert "Container 'fetch' exited with code 1" in run["state"]["message"]
        assert "no credentials for the bucket" in run["state"]["message"]

    async def of_one_that_waits() -> None:
        named = "SidecarNotStarted"
        run = await api.wait(waits["id"], until=lambda run: run["state_name"] == named)
        assert "Container 'silent' has been running for" in run["state"]["message"]
        run = await api.wait_for_state(waits["id"], "CRASHED")
        assert "pendingTimeoutSeconds (25 s)" in run["state"]["message"]
        assert "SidecarNotStarted: Container 'silent'" in run["state"]["message"]

    await asyncio.gather(of_one_that_works(), of_one_that_fails(), of_one_that_waits())
