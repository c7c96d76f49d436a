from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections import Counter
from xml.etree import ElementTree

import pytest

from benchmarks import claim_path
from benchmarks.latency import Measurement, Sample, figures
from benchmarks.pictures import Series, lines
from benchmarks.processes import Usage
from benchmarks.recording_proxy import Call, RecordingProxy
from benchmarks.report import table
from benchmarks.statistics import OURS, STOCK, Figure, Result, missed, nearest_rank
from benchmarks.throughput import ServerRate
from testbed.state import CHECKOUT

README = CHECKOUT / "README.md"
REPORTS = CHECKOUT / "benchmarks/results"
NUMBER = r"\d+(?:\.\d+)?"
RUN = "11111111-2222-3333-4444-555555555555"
DEPLOYMENT = "66666666-7777-8888-9999-000000000000"
SCHEDULED = "/api/work_pools/etl/get_scheduled_flow_runs"


def call(method: str, path: str, body: object = None) -> Call:
    return Call(method, path, json.dumps(body).encode(), began=0.0, status=200)


PENDING = call("POST", f"/api/flow_runs/{RUN}/set_state", {"state": {"type": "PENDING"}})
RECORDED = call("PATCH", f"/api/flow_runs/{RUN}", {"infrastructure_pid": "ns:job"})


def measured(*seconds: float, requests: int = 4) -> Measurement:
    path = claim_path.ClaimPath(counted=Counter({"POST /x": requests}), not_counted=Counter())
    samples = tuple(
        Sample(each, dispatch_seconds=0.1, dispatch_cpu_seconds=0.018, path=path, load=1.0)
        for each in seconds
    )
    return Measurement(samples, 0, idle_cpu_share=0.1, cpu_seconds=5.0, seconds=20.0)


def result(*seconds: float, requests: int = 4) -> Result:
    return Result("Single runs", figures({OURS: measured(*seconds, requests=requests)}), "")


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


def test_in_a_burst_polls_by_a_filter_count_and_a_resync_does_not() -> None:
    due = {"flow_runs": {"next_scheduled_start_time": {"before_": "2026-11-26"}}}
    assert claim_path.counted_name(call("POST", "/api/flow_runs/filter", due))
    assert claim_path.is_poll(call("POST", "/api/flow_runs/filter", due))
    assert not claim_path.counted_name(call("POST", "/api/flow_runs/filter", {"flow_runs": {}}))


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        (call("POST", "/api/work_pools/etl/workers/heartbeat"), "heartbeat"),
        (call("GET", "/api/work_pools/etl"), "refresh of the pool"),
        (call("POST", "/api/work_pools/etl/queues/filter"), "refresh of the pool"),
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
    late = result(0.6, 0.7, 2.5, requests=5)
    assert [sentence for sentence in missed([late]) if "CPU" not in sentence] == [
        "Target missed: run created -> Job, p50 is 0.7 s, the target is <= 0.5 s.",
        "Target missed: run created -> Job, p99 is 2.5 s, the target is <= 2 s.",
        "Target missed: Prefect calls per run, at most is 5 calls, the target is <= 4 calls.",
    ]


def test_a_figure_may_have_a_least_value_or_no_target() -> None:
    slow, fast = (Figure("Jobs per second", ours, at_least=50) for ours in (49.0, 50.0))
    assert [slow.missed, fast.missed] == [
        "Target missed: Jobs per second is 49, the target is >= 50.",
        "",
    ]
    assert not Figure("Jobs per second", None, at_least=50).missed
    assert not Figure("resident memory", 900.0, unit="MiB").missed


def test_the_table_has_the_figures_of_both_and_the_target_of_ours() -> None:
    own, other = measured(0.1, 0.2, 0.3), measured(1.0, 2.0, 3.0, requests=9)
    rows = table([Result("Single runs", figures({OURS: own, STOCK: other}), "")]).splitlines()
    assert [cell.strip() for cell in rows[3].split("|")[1:-1]] == [
        "run created -> Job, p50",
        "0.20 s",
        "2.00 s",
        "<= 0.5 s",
    ]


def test_cpu_time_per_run_leaves_out_what_the_idle_program_uses() -> None:
    assert measured(0.1, 0.1, 0.1).cpu_seconds_per_run == pytest.approx(1.0)
    assert measured(0.1, 0.1, 0.1).cpu_seconds_per_dispatch == pytest.approx(0.008)


def test_a_server_that_claims_and_records_takes_the_time_of_both() -> None:
    assert ServerRate(claims=50, records=200).both == pytest.approx(40)


async def test_the_proxy_records_each_request_and_changes_no_byte() -> None:
    received = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for body in (b"one", b"two"):
            received.append(await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(3))
            writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\n" + body)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, RecordingProxy(f"http://127.0.0.1:{port}/api") as proxy:
        reader, writer = await asyncio.open_connection(*proxy.url.split("/")[2].split(":"))
        for body in (b"abc", b"def"):
            head = b"POST /api/logs/?x=1 HTTP/1.1\r\ncontent-length: 3\r\n\r\n"
            writer.write(head)
            await asyncio.sleep(0.01)  # the body comes by itself, as httpx sends it
            writer.write(body)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 201")
            await reader.readexactly(3)
            assert received[-1] == head + body
        writer.close()
    assert [(call.path, call.body, call.status) for call in proxy.calls] == [
        ("/api/logs/", b"abc", 201),
        ("/api/logs/", b"def", 201),
    ]
    assert [call.received for call in proxy.calls] == [46, 46]


def test_a_picture_is_svg_with_its_labels_as_text() -> None:
    chart = lines(
        "Jobs over time",
        [
            Series("ours", [(0, 0), (10, 200)]),
            Series("theirs & co", [(0, 0), (31, 200)], dashed=True),
        ],
        x="seconds (s)",
        y="Jobs",
    )
    texts = {each.text for each in ElementTree.fromstring(chart).iter() if each.text}
    assert texts >= {"Jobs over time", "ours", "theirs & co", "seconds (s)", "Jobs", "200", "40"}


def test_the_figures_of_the_readme_are_those_of_the_newest_reports() -> None:
    rows = [line for line in README.read_text().splitlines() if "](benchmarks/results/" in line]
    assert rows
    for row in rows:
        (name,) = re.findall(r"benchmarks/results/([\w-]+\.md)", row)
        date, part = name[:10], name[10:]
        assert date == max(each.name[:10] for each in REPORTS.glob(f"????-??-??{part}"))
        report = re.findall(NUMBER, (REPORTS / name).read_text())
        figures = [each for cell in row.split("|")[2:] for each in re.findall(NUMBER, cell)]
        assert figures
        assert set(figures) <= set(report), row


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
