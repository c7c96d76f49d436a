"""Prometheus gets metrics that show what happens to a binding's runs, until the binding is gone."""

from __future__ import annotations

from tests.contract.conftest import make_run
from tests.support.exposition import PREFIX, Exposition
from tests.support.polling import poll
from workpool_operator.jobs import names


async def test_claims_and_jobs_of_a_binding_are_counted_and_forgotten_with_the_binding(
    api, binding, namespace, operator, suspended_pool
):
    exposition, pool = Exposition(), suspended_pool["name"]
    await operator(**exposition.settings)
    served = await binding(workPool={"name": pool}, concurrencyLimit=5)
    await served.ready()
    key = f'binding="{served.name}",binding_namespace="{namespace}"'
    await exposition.shows(
        {
            f"lease_held{{{key}}}": 1,
            f"concurrency_limit{{{key}}}": 5,
            f'claims_total{{{key},result="accepted"}}': 0,
            f'runs_in_flight{{{key},phase="suspended"}}': 0,
        }
    )
    found = await exposition.samples()
    assert f"last_poll_timestamp_seconds{{{key}}}" in found
    (ready,) = (each for each in found if key in each and 'type="Ready"' in each)
    assert 'status="True"' in ready
    assert found['api_requests_total{code="200",target="kubernetes",verb="WATCH"}'] >= 3
    assert found['api_requests_total{code="200",target="prefect",verb="GET"}'] >= 1
    await make_run(api, suspended_pool)
    await exposition.shows(
        {
            f'claims_total{{{key},result="accepted"}}': 1,
            f"run_claim_delay_seconds_count{{{key}}}": 1,
            f"run_job_delay_seconds_count{{{key}}}": 1,
            f'runs_in_flight{{{key},phase="suspended"}}': 1,
            f'runs_pending{{{key},reason="JobSuspended"}}': 1,
        }
    )
    found = await exposition.samples()
    assert 0 < found[f"run_job_delay_seconds_sum{{{key}}}"] < 10
    assert found['api_requests_total{code="201",target="kubernetes",verb="POST"}'] >= 1
    await served.delete()
    await served.gone()

    async def left() -> list[str]:
        return [series for series in await exposition.samples() if key in series]

    await poll(left, until=lambda found: not found, seconds=10)


async def test_runs_that_wait_for_a_slot_are_counted_by_the_reason(
    api, binding, namespace, operator, suspended_pool
):
    exposition, pool = Exposition(), suspended_pool["name"]
    await operator(**exposition.settings)
    served = await binding(workPool={"name": pool}, suspend=True)
    await served.ready()
    key = f'binding="{served.name}",binding_namespace="{namespace}"'
    for _ in range(2):
        await make_run(api, suspended_pool)
    await exposition.shows({f'runs_queued{{{key},reason="Suspended"}}': 2})
    await served.patch(suspend=False)
    await exposition.shows({f'claims_total{{{key},result="accepted"}}': 2})
    await exposition.shows({f'runs_queued{{{key},reason="Suspended"}}': None})


async def test_what_goes_wrong_between_the_operator_and_its_servers_is_counted(
    api, binding, kube, kube_proxy, namespace, operator, prefect_proxy, suspended_pool, tmp_path
):
    exposition = Exposition()
    kubeconfig = kube_proxy.write_kubeconfig(tmp_path / "operator")
    await operator(kubeconfig=kubeconfig, **exposition.settings)
    served = await binding(
        workPool={"name": suspended_pool["name"]}, server={"url": prefect_proxy.url}
    )
    await served.ready()
    prefect_proxy.on("POST", "/set_state$").once().answer(503)
    await make_run(api, suspended_pool)
    key = f'binding="{served.name}",binding_namespace="{namespace}"'
    await exposition.shows({f'action_failures_total{{{key},cause="prefect"}}': 1})
    kube_proxy.cut("/jobs")
    await exposition.shows({'watch_restarts_total{cause="error",resource="jobs"}': 1})
    taken = {"spec": {"holderIdentity": "somebody"}}
    await kube.patch("leases", namespace, names.lease_name(served.name), taken)
    await exposition.shows({f"leases_lost_total{{{key}}}": 1})


async def test_a_scrape_without_the_token_is_refused(operator, tmp_path):
    exposition = Exposition()
    (tmp_path / "token").write_text("s3cret")
    secured = {"WORKPOOL_OPERATOR_METRICS_TOKEN_FILE": str(tmp_path / "token")}
    process = await operator(**exposition.settings, **secured)
    assert (await exposition.get()).status_code == 401
    assert (await exposition.get(token="guess")).status_code == 401
    allowed = await exposition.get(token="s3cret")
    assert allowed.status_code == 200
    assert f"{PREFIX}build_info" in allowed.text
    assert await process.probe("healthz") == 200
    assert "s3cret" not in process.log
