"""A collector finds every line about a run, and one of them for each decision."""

from __future__ import annotations

import json

from tests.contract.conftest import make_run
from tests.support.polling import poll


async def test_each_decision_about_a_run_is_one_line_that_names_binding_run_and_job(
    api, binding, namespace, operator, suspended_pool
):
    process = await operator(WORKPOOL_OPERATOR_LOG_FORMAT="json")
    served = await binding(workPool={"name": suspended_pool["name"]})
    await served.ready()
    run = await make_run(api, suspended_pool)

    def lines() -> list[dict[str, str]]:
        found = [json.loads(line) for line in process.log.splitlines()]
        return [line for line in found if line.get("run") == run["id"]]

    async def shows(text: str) -> dict[str, str]:
        async def said() -> list[dict[str, str]]:
            return [line for line in lines() if text in line["message"]]

        [line] = await poll(said, until=bool, seconds=20)
        return line

    await shows("is claimed")
    created = await shows("created Job")
    assert created["job"].startswith(f"{namespace}/")
    waits = await shows("waits: JobSuspended")
    assert waits["job"] == created["job"]
    await api.cancel(run["id"])
    await shows("ended Cancelled")
    await shows(f"deleted its Job {created['job']}")
    key = f"{namespace}/{served.name}"
    for line in lines():
        assert (line["binding"], line["flow_run_name"]) == (key, run["name"])
        assert line["level"] == "INFO"
    assert len({line["message"] for line in lines()}) == len(lines()) == 5
