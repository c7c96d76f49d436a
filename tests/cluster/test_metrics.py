"""What pods do shows in the metrics: the time that each step took, ends, and waits by reason."""

from __future__ import annotations

from tests.support.deployments import QUICK
from tests.support.exposition import Exposition


async def test_the_start_the_end_and_the_wait_of_runs_show_with_delays_and_reasons(
    api, binding, deploy, namespace, operator
):
    exposition = Exposition()
    await operator(**exposition.settings)
    served = await binding()
    await served.ready()
    key = f'binding="{served.name}",binding_namespace="{namespace}"'
    quick = await deploy("hello", command=QUICK)
    broken = await deploy("sleep", command="sh -c 'exit 7'")
    unpulled = await deploy("raise_error", image="registry.invalid/none:1")
    for deployment in (quick, broken, unpulled):
        await api.create_run(deployment["id"])
    await exposition.shows(
        {
            f'runs_ended_total{{{key},reason="",state="completed"}}': 1,
            f'runs_ended_total{{{key},reason="Error",state="crashed"}}': 1,
            f'runs_pending{{{key},reason="ImagePullBackOff"}}': 1,
            f"run_pod_delay_seconds_count{{{key}}}": 2,
            f"run_start_delay_seconds_count{{{key}}}": 2,
            f"run_crash_report_delay_seconds_count{{{key}}}": 1,
        },
        seconds=90,
    )
    found = await exposition.samples()
    steps = [found[f"run_{step}_delay_seconds_sum{{{key}}}"] for step in ("claim", "job", "pod")]
    assert 0 < found[f"run_start_delay_seconds_sum{{{key}}}"] <= sum(steps)
    assert 0 < found[f"run_crash_report_delay_seconds_sum{{{key}}}"] < 30
