"""The cache has what the reflector stored last, and answers to requests only if they are newer."""

from __future__ import annotations

import pytest

from tests.support.snapshots import RUN_ID, job, pod
from workpool_operator.kube.cluster import Cache
from workpool_operator.kube.models import RUN_LABEL, Job, Pod

RUN = str(RUN_ID)


@pytest.fixture
def changes() -> list[str]:
    return []


@pytest.fixture
def jobs(changes: list[str]) -> Cache[Job]:
    return Cache(changes.append)


def test_an_object_is_found_by_its_run(jobs: Cache[Job], changes: list[str]) -> None:
    jobs.put(job())
    jobs.put(job("old"))
    assert jobs.by_run(RUN) == (job(), job("old"))
    assert jobs.run_ids() == {RUN}
    assert changes == [RUN, RUN]


def test_a_deleted_object_stays_readable_until_its_run_is_forgotten(jobs: Cache[Job]) -> None:
    jobs.put(job())
    jobs.remove("uid-claim")
    assert jobs.by_run(RUN) == ()
    assert jobs.tombstones(RUN) == (job(),)
    jobs.drop_tombstones(RUN)
    assert jobs.tombstones(RUN) == ()


def test_a_change_that_no_model_shows_is_not_reported(jobs: Cache[Job], changes: list[str]) -> None:
    jobs.put(job(version="1"))
    jobs.put(job(version="2"))
    jobs.put(job(version="2"))
    assert changes == [RUN]
    assert jobs.by_run(RUN)[0].metadata.resource_version == "2"
    jobs.put(job(version="3", ended="Complete"))
    assert changes == [RUN, RUN]


def test_a_deleted_object_that_exists_again_is_a_change(
    jobs: Cache[Job], changes: list[str]
) -> None:
    jobs.put(job())
    jobs.remove("uid-claim")
    jobs.put(job())
    assert changes == [RUN, RUN, RUN]
    assert jobs.tombstones(RUN) == ()


def test_an_answer_is_stored_if_the_watch_has_nothing_newer(jobs: Cache[Job]) -> None:
    jobs.put_if_newer(job(version="5"))
    assert jobs.by_run(RUN) == (job(),)
    jobs.put_if_newer(job(version="12", ttl=60))
    assert jobs.by_run(RUN) == (job(ttl=60),)


def test_an_answer_that_the_watch_overtook_is_ignored(jobs: Cache[Job]) -> None:
    jobs.put(job(ended="Complete", version="12"))
    jobs.put_if_newer(job(version="5"))
    assert jobs.by_run(RUN) == (job(ended="Complete"),)


def test_an_answer_does_not_restore_an_object_that_was_deleted_since(jobs: Cache[Job]) -> None:
    jobs.put(job(version="12"))
    jobs.remove("uid-claim")
    jobs.put_if_newer(job(version="5"))
    assert jobs.by_run(RUN) == ()


def test_an_object_that_was_removed_is_restored_by_an_answer_that_is_not_older(
    jobs: Cache[Job],
) -> None:
    jobs.put_if_newer(job(version="12"))
    jobs.remove("uid-claim")
    jobs.put_if_newer(job(version="12"))
    assert jobs.by_run(RUN) == (job(),)
    assert jobs.tombstones(RUN) == ()


def test_a_pod_whose_label_was_removed_is_removed_from_its_run() -> None:
    changes: list[str] = []
    pods: Cache[Pod] = Cache(changes.append)
    pods.put(pod())
    stripped = pod(version="2")
    del stripped.metadata.labels[RUN_LABEL]
    pods.put(stripped)
    assert pods.by_run(RUN) == ()
    assert len(pods) == 1
    assert changes == [RUN, RUN, ""], "the run that it left is counted again"
