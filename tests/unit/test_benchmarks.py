from __future__ import annotations

import json
import subprocess
from collections import Counter

import pytest

from benchmarks import claim_path
from benchmarks.measure import Usage
from benchmarks.statistics import Measurement, Sample, missed, nearest_rank
from tests.support.fault_proxy import Call

RUN = "11111111-2222-3333-4444-555555555555"
DEPLOYMENT = "66666666-7777-8888-9999-000000000000"
SCHEDULED = "/api/work_pools/etl/get_scheduled_flow_runs"


def call(method: str, path: str, body: object = None) -> Call:
    return Call(method, path, "", json.dumps(body).encode(), began=0.0, status=200)


PENDING = call("POST", f"/api/flow_runs/{RUN}/set_state", {"state": {"type": "PENDING"}})
RECORDED = call("PATCH", f"/api/flow_runs/{RUN}", {"infrastructure_pid": "ns:job"})


def measured(*seconds: float, requests: int = 4) -> Measurement:
    path = claim_path.ClaimPath(counted=Counter({"POST /x": requests}), not_counted=Counter())
    samples = tuple(Sample(seconds=each, path=path, load=1.0) for each in seconds)
    return Measurement("ours", samples, 0, idle_cpu_share=0.1, cpu_seconds=5.0, seconds=20.0)


def test_a_percentile_is_a_measured_value_and_p99_of_thirty_is_the_slowest() -> None:
    values = [float(number) for number in range(30, 0, -1)]
    assert nearest_rank(values, 0.5) == 15
    assert nearest_rank(values, 0.99) == 30


def test_the_claim_path_ends_with_the_record_of_the_job_and_has_one_poll() -> None:
    path = claim_path.of_run(
        [
            call("POST", SCHEDULED),
            call("POST", SCHEDULED),
            call("GET", f"/api/deployments/{DEPLOYMENT}"),
            PENDING,
            RECORDED,
            call("GET", f"/api/flow_runs/{RUN}"),
        ],
        RUN,
    )
    assert path.counted == {
        claim_path.POLL: 1,
        "GET /deployments/{id}": 1,
        "POST /flow_runs/{id}/set_state PENDING": 1,
        "PATCH /flow_runs/{id}": 1,
    }
    assert path.not_counted == {"poll that finds nothing new": 1}


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        (call("POST", "/api/work_pools/etl/workers/heartbeat"), "heartbeat"),
        (call("GET", "/api/work_pools/etl"), "refresh of the pool"),
        (call("POST", "/api/logs/"), "log batch"),
        (call("POST", "/api/events"), "event batch"),
        (call("GET", "/api/events/out"), "websocket"),
        (call("GET", "/api/work_pools/etl/workers/connect"), "websocket"),
        (call("POST", "/api/flow_runs/filter"), "resync"),
    ],
)
def test_requests_that_recur_without_a_run_are_not_counted(request_: Call, kind: str) -> None:
    path = claim_path.of_run([request_, RECORDED], RUN)
    assert path.not_counted[kind] == 1
    assert path.counted == {"PATCH /flow_runs/{id}": 1, claim_path.POLL: 1}


def test_a_missed_target_is_named_with_its_value() -> None:
    assert missed(measured(0.1, 0.2, 1.9)) == []
    assert missed(measured(0.6, 0.7, 2.5, requests=5)) == [
        "Target missed: run created -> Job, p50 is 0.7, the target is 0.5 s.",
        "Target missed: run created -> Job, p99 is 2.5, the target is 2 s.",
        "Target missed: Prefect calls per run, at most is 5, the target is 4 calls.",
    ]


def test_cpu_time_per_run_leaves_out_what_the_idle_program_uses() -> None:
    assert measured(0.1, 0.1, 0.1).cpu_seconds_per_run == pytest.approx(1.0)


def test_usage_counts_the_processes_of_one_session_only() -> None:
    cat = subprocess.Popen(
        ["cat"], start_new_session=True, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with cat as program:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(b"up\n")
        program.stdout.readline()  # it has memory of its own only once it runs
        used = Usage.of_session(program.pid)
        program.kill()
    assert 0 < used.resident_bytes < 2**26
    assert Usage.of_session(program.pid) == Usage(0.0, 0)
