"""The operator and a real kubelet refuse exactly the same image references."""

from __future__ import annotations

import pytest

from tests.support.kube import Kube, Object
from workpool_operator.jobs import validation

IMAGES = [
    *("busybox", "a:1", "localhost:5000/a/b:1", "REGISTRY.example/a", "a/b_c__d---e.f:T_.-1"),
    *("a@sha256:" + "0" * 64, "a:1@sha256:" + "0" * 64, "[::1]:5000/a", "a:" + "t" * 128),
    *("a" * 200, "UPPER/a", "a.b.c/d", "localhost/a", "1.2.3.4/a", "a:5000/b", "a__b", "0" * 63),
    *("Bad Image", "Prefect/Prefect", "a:", "a:-tag", "a/", "/a", "a//b", "a:tag:tag", "a_-b"),
    *("a@sha256:short", "https://a/b", "a:" + "t" * 129, "a" * 300, "a___b", "a..b", "-a", "a-"),
    *("0123456789abcdef" * 4, "None", "ünicode", "{{ image }}", "a@b", "@", ":", "a b:c", "a:é"),
]


def pod(images: list[str]) -> Object:
    containers = [
        {"name": f"c{number}", "image": image, "imagePullPolicy": "Never"}
        for number, image in enumerate(images)
    ]
    return {"metadata": {"name": "images"}, "spec": {"containers": containers}}


def refusals(pod: Object | None) -> dict[str, str]:
    """Return why each container waits, by its image."""
    statuses = (pod or {}).get("status", {}).get("containerStatuses", [])
    named = {status["name"]: status["state"].get("waiting", {}) for status in statuses}
    containers = (pod or {})["spec"]["containers"] if pod else []
    return {each["image"]: named.get(each["name"], {}).get("reason", "") for each in containers}


@pytest.mark.parametrize("images", [IMAGES[:20], IMAGES[20:]], ids=["first", "second"])
async def test_image_references_are_valid_exactly_if_a_kubelet_can_pull_them(
    images: list[str], kube: Kube, namespace: str
) -> None:
    await kube.create("pods", namespace, pod(images))
    seen = await kube.wait(
        "pods",
        namespace,
        "images",
        until=lambda pod: all(
            reason not in ("", "ContainerCreating") for reason in refusals(pod).values()
        ),
        seconds=60,
    )
    for image, reason in refusals(seen).items():
        assert (reason != "InvalidImageName") == validation.is_image(image), (image, reason)
