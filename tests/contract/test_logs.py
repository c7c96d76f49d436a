"""A collector finds one line for each decision about a run, and kubectl finds the Events."""

from __future__ import annotations

import json

from tests.contract.conftest import make_run
from tests.support.polling import poll


def _reasons(events, name: str) -> list[tuple[str, str]]:
    about = [event for event in events if event["involvedObject"]["name"] == name]
    return [(event["reason"], event["message"]) for event in about]


async def test_each_decision_about_a_run_is_one_line_that_names_binding_run_and_job(
    api, binding, kube, namespace, operator, suspended_pool
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

    job = created["job"].partition("/")[2]
    text = f"Flow run {run['name']!r} is Cancelling: the operator deletes the Job."
    await poll(
        lambda: kube.list("events", namespace),
        until=lambda events: ("RunEnded", text) in _reasons(events, job),
    )


async def test_a_run_without_a_job_is_an_event_of_its_binding_that_quotes_no_value(
    api, binding, kube, namespace, operator, suspended_pool
):
    await operator()
    served = await binding(workPool={"name": suspended_pool["name"]})
    await served.ready()
    run = await make_run(api, suspended_pool, job_variables={"service_account_name": "No s3cret"})
    await api.wait_for_state(run["id"], "CRASHED", seconds=30)

    async def posted() -> list[str]:
        found = _reasons(await kube.list("events", namespace), served.name)
        return [message for reason, message in found if reason == "RunWithoutJob"]

    [message] = await poll(posted, until=bool, seconds=10)
    assert message.startswith(f"Flow run {run['name']!r} is Crashed: RenderingFailed. ")
    assert f"workpool-operator explain {run['id']}" in message
    assert "s3cret" not in message
