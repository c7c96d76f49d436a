"""Lists and watches that hold what nobody expects: the rest of them is read."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from workpool_operator.errors import KubernetesUnavailable
from workpool_operator.kube import decoding, models
from workpool_operator.kube.cache import Cache
from workpool_operator.kube.client import JOBS
from workpool_operator.kube.decoding import Decoder
from workpool_operator.kube.models import RUN_LABEL, Job, Pod, Status, WatchEvent
from workpool_operator.runs.capacity import count_in_flight

RUN = str(UUID(int=7))


def job(name: str, *, run_id: str = RUN, **changes: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {RUN_LABEL: run_id}}}
    metadata = {"name": name, "uid": name, "resourceVersion": "5"}
    return {"metadata": metadata, "spec": {"template": template}, **changes}


ODD: dict[str, Any] = {
    "metadata without a uid's type": job("odd", metadata={"name": "odd", "uid": ["x"]}),
    "a status that is a text": job("odd", status="Failed"),
    "a condition without a type": job("odd", status={"conditions": [{"status": "True"}]}),
    "a time that is none": job("odd", status={"startTime": "yesterday"}),
    "a text": "odd",
    "null": None,
}


class Odd:
    def __init__(self) -> None:
        self.names: list[str] = []
        self.reader: Decoder[Job] = Decoder(
            Job, mismatched=lambda meta, _: self.names.append(meta["name"])
        )


@pytest.mark.parametrize("odd", [name for name in ODD if isinstance(ODD[name], dict)])
def test_an_odd_object_is_left_out_of_its_list_and_named(odd: str) -> None:
    seen = Odd()
    body = {"metadata": {"resourceVersion": "9"}, "items": [job("a"), ODD[odd], job("b")]}
    page = seen.reader.list_page(json.dumps(body).encode())
    assert [item.name for item in page.items] == ["a", "b"]
    assert page.metadata.resource_version == "9"
    assert seen.names == ["odd"]


@pytest.mark.parametrize("odd", [name for name in ODD if isinstance(ODD[name], dict)])
def test_an_odd_object_of_a_watch_is_passed_over(odd: str) -> None:
    seen = Odd()
    line = json.dumps({"type": "MODIFIED", "object": ODD[odd]}).encode()
    assert seen.reader.watch_event(line) == str(ODD[odd]["metadata"].get("resourceVersion", ""))
    assert seen.names == ["odd"]


@pytest.mark.parametrize(
    "status", [{"code": 500, "message": "ill"}, {"metadata": {}, "message": "ill"}]
)
def test_an_error_of_a_watch_is_read_whatever_it_lacks(status: dict[str, Any]) -> None:
    line = json.dumps({"type": "ERROR", "object": status}).encode()
    event = Odd().reader.watch_event(line)
    assert isinstance(event, WatchEvent)
    assert event.object == Status(code=status.get("code", 0), message="ill")


@pytest.mark.parametrize("body", [b"", b"<html>", b"null", b"[]", b'{"items": 3}', b"[" * 100_000])
def test_what_is_no_answer_of_a_kubernetes_api_is_asked_for_again(body: bytes) -> None:
    for read in (
        Odd().reader.list_page,
        Odd().reader.watch_event,
        JOBS.read,
        JOBS.read_list,
        lambda body: decoding.field(body, "metadata", "uid"),
    ):
        with pytest.raises(KubernetesUnavailable, match="not the answer of a Kubernetes API"):
            read(body)


@pytest.mark.parametrize("label", ["nightly", "", "7", RUN.upper() + "x", f"{{{RUN}}}"])
def test_what_carries_a_run_id_that_is_none_belongs_to_no_run_and_takes_no_slot(
    label: str,
) -> None:
    changed: list[str] = []
    jobs: Cache[Job] = Cache(changed.append)
    pods: Cache[Pod] = Cache(changed.append)
    jobs.put(Odd().reader.list_page(json.dumps(_list(job("a", run_id=label))).encode()).items[0])
    pods.put(Pod(models.Metadata(name="p", uid="p", labels={RUN_LABEL: label})))
    assert set(changed) == {""}
    assert count_in_flight((), jobs, pods).slots == 0
    for cache, uid in ((jobs, "a"), (pods, "p")):
        cache.remove(uid)
        assert cache.tombstones("") == (), "nobody would ever forget it"


def _list(*items: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {}, "items": list(items)}
