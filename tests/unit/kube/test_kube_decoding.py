"""Objects of a list or watch that do not match their model are left out; the others are read."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from workpool_operator.errors import KubernetesUnavailable
from workpool_operator.kube import decoding, models
from workpool_operator.kube.client import JOBS
from workpool_operator.kube.cluster import Cache
from workpool_operator.kube.decoding import Decoder
from workpool_operator.kube.models import RUN_LABEL, Job, Pod, Status, WatchEvent

RUN = str(UUID(int=7))


def job(name: str, *, run_id: str = RUN, **changes: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {RUN_LABEL: run_id}}}
    metadata = {"name": name, "uid": name, "resourceVersion": "5"}
    return {"metadata": metadata, "spec": {"template": template}, **changes}


MALFORMED: dict[str, Any] = {
    "a list as uid": job("malformed", metadata={"name": "malformed", "uid": ["x"]}),
    "a string as status": job("malformed", status="Failed"),
    "a condition without a type": job("malformed", status={"conditions": [{"status": "True"}]}),
    "an invalid time": job("malformed", status={"startTime": "yesterday"}),
}


class JobDecoder:
    """A decoder of Jobs, and the names of those that it left out."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.decoder: Decoder[Job] = Decoder(
            Job, mismatched=lambda meta, _: self.names.append(meta["name"])
        )


def test_of_labels_and_annotations_only_those_that_are_read_are_kept() -> None:
    """All of them would be most of what ten thousand Jobs take of memory."""
    read = {RUN_LABEL: RUN, models.QUEUE_LABEL: "q", models.JOB_NAME_LABEL: "j"}
    others = {"app.kubernetes.io/name": "etl", "team": "data"}
    found = JOBS.read(
        json.dumps(job("a", metadata={"labels": read | others, "annotations": others})).encode()
    )
    assert found.metadata.labels == read
    assert found.metadata.annotations == {}
    assert found.run_id == RUN


@pytest.mark.parametrize("malformed", MALFORMED)
def test_an_object_that_does_not_match_its_model_is_left_out_of_its_list_and_reported(
    malformed: str,
) -> None:
    seen = JobDecoder()
    items = [job("a"), MALFORMED[malformed], job("b")]
    body = {"metadata": {"resourceVersion": "9"}, "items": items}
    page = seen.decoder.list_page(json.dumps(body).encode())
    assert [item.name for item in page.items] == ["a", "b"]
    assert page.metadata.resource_version == "9"
    assert seen.names == ["malformed"]


@pytest.mark.parametrize("malformed", MALFORMED)
def test_an_object_of_a_watch_that_does_not_match_its_model_is_skipped(malformed: str) -> None:
    seen = JobDecoder()
    found = MALFORMED[malformed]
    line = json.dumps({"type": "MODIFIED", "object": found}).encode()
    assert seen.decoder.watch_event(line) == str(found["metadata"].get("resourceVersion", ""))
    assert seen.names == ["malformed"]


@pytest.mark.parametrize(
    "status", [{"code": 500, "message": "ill"}, {"metadata": {}, "message": "ill"}]
)
def test_an_error_event_of_a_watch_is_read_even_if_fields_are_missing(
    status: dict[str, Any],
) -> None:
    line = json.dumps({"type": "ERROR", "object": status}).encode()
    event = JobDecoder().decoder.watch_event(line)
    assert isinstance(event, WatchEvent)
    assert event.object == Status(code=status.get("code", 0), message="ill")


@pytest.mark.parametrize("body", [b"", b"<html>", b"null", b"[]", b'{"items": 3}', b"[" * 100_000])
def test_an_answer_that_is_not_of_a_kubernetes_api_counts_as_unavailable(body: bytes) -> None:
    for read in (
        JobDecoder().decoder.list_page,
        JobDecoder().decoder.watch_event,
        JOBS.read,
        JOBS.read_list,
        lambda body: decoding.field(body, "metadata", "uid"),
    ):
        with pytest.raises(KubernetesUnavailable, match="not the answer of a Kubernetes API"):
            read(body)


@pytest.mark.parametrize("label", ["nightly", "", "7", RUN.upper() + "x", f"{{{RUN}}}"])
def test_an_object_with_an_invalid_run_id_belongs_to_no_run_and_takes_no_slot(
    label: str,
) -> None:
    changed: list[str] = []
    jobs: Cache[Job] = Cache(changed.append)
    pods: Cache[Pod] = Cache(changed.append)
    body = json.dumps(_list(job("a", run_id=label))).encode()
    jobs.put(JobDecoder().decoder.list_page(body).items[0])
    pods.put(Pod(models.Metadata(name="p", uid="p", labels={RUN_LABEL: label})))
    assert set(changed) == {""}, "of no run that could take a slot"
    for cache, uid in ((jobs, "a"), (pods, "p")):
        cache.remove(uid)
        assert cache.tombstones("") == (), "no run would ever drop it"


def _list(*items: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {}, "items": list(items)}
