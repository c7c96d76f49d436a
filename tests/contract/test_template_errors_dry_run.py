"""A dry run of a template with its own defaults: which errors are the pool's and which warnings."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import pytest

from tests.support.fault_proxy import FaultProxy
from tests.support.manifests import put
from tests.support.prefect import Object, stock_template
from tests.support.stepwise_controller import StepwiseController
from tests.support.templates import default_template
from workpool_operator.binding import template_dry_run
from workpool_operator.binding.consent import Consent
from workpool_operator.binding.template_dry_run import TemplateDryRun
from workpool_operator.binding.template_findings import TemplateFindings
from workpool_operator.prefect_api.models import WorkPool

Start = Callable[..., Awaitable[StepwiseController]]

CONTAINER = "spec.template.spec.containers[0]"
POD = "spec.template.spec"


def template(places: Object, *, defaults: Object | None = None) -> Object:
    """Return the stock template with these values in its manifest and these defaults."""
    base = stock_template()
    for text, value in places.items():
        put(base["job_configuration"]["job_manifest"], text, value)
    for name, value in (defaults or {}).items():
        base["variables"]["properties"].setdefault(name, {})["default"] = value
    return base


class DryRun:
    """`await dry_run(template)` returns the findings of one TemplateDryRun."""

    def __init__(self, here: StepwiseController, pool: Object) -> None:
        self.here, self.pool = here, pool
        namespace = here.owner.namespace
        consent = Consent(here.kube, binding_namespace=namespace)
        self.template_dry_run = TemplateDryRun(here.kube, namespace=namespace, consent=consent)

    async def __call__(self, base: Object) -> TemplateFindings:
        pool = WorkPool.of({**self.pool, "base_job_template": base})
        return await self.template_dry_run.check(pool, self.here.api)


@pytest.fixture
async def dry_run(start: Start, suspended_pool: Object) -> DryRun:
    return DryRun(await start(), suspended_pool)


@pytest.mark.parametrize("base", [stock_template(), default_template()], ids=["stock", "ours"])
async def test_valid_templates_have_no_errors_and_no_warnings(
    base: Object, dry_run: DryRun
) -> None:
    assert await dry_run(base) == TemplateFindings()


@pytest.mark.parametrize(
    ("places", "fact"),
    [
        ({f"{CONTAINER}.imagePullPolicy": "Sometimes"}, "containers[0].imagePullPolicy"),
        ({f"{POD}.tolerations": [{"key": "a", "operator": "Is"}]}, "tolerations[0].operator"),
        ({f"{POD}.serviceAccountName": "Bad Name"}, "serviceAccountName"),
        ({f"{POD}.volumes": [{"name": "a", "emptyDir": {}, "hostPath": {"path": "/"}}]}, "volumes"),
        ({f"{CONTAINER}.volumeMounts": [{"name": "a", "mountPath": "/a"}]}, "volumeMounts[0].name"),
        ({f"{CONTAINER}.ports": [{"containerPort": 70000}]}, "ports[0].containerPort"),
        ({"spec.completionMode": "Bogus"}, "spec.completionMode"),
        ({f"{CONTAINER}.resources.limits": {"foo": "1"}}, "resources.limits.foo"),
    ],
    ids=str,
)
async def test_an_error_that_no_value_can_fix_is_the_pools(
    places: Object, fact: str, dry_run: DryRun
) -> None:
    outcome = await dry_run(template(places))
    assert fact in " ".join(outcome.faults)
    assert outcome.crashes == ()


@pytest.mark.parametrize(
    ("places", "defaults", "fact"),
    [
        ({}, {"service_account_name": "Bad Name"}, "serviceAccountName"),
        ({}, {"image": "Bad Image"}, "containers[0].image"),
        ({}, {"memory_limit": "lots"}, "limits.memory"),
        ({}, {"command": "sh -c 'x"}, "containers[0].args"),
        ({f"{CONTAINER}.resources.requests": {"cpu": "2"}}, {"cpu_limit": "1"}, "requests.cpu"),
        (
            {
                f"{POD}.volumes": "{{ volumes }}",
                f"{CONTAINER}.volumeMounts": [{"name": "a", "mountPath": "/a"}],
            },
            {"volumes": []},
            "volumeMounts[0].name",
        ),
        (
            {f"{POD}.tolerations": [{"operator": "Exists", "value": "{{ value }}"}]},
            {"value": "a"},
            "tolerations[0]",
        ),
    ],
    ids=str,
)
async def test_an_error_that_a_value_can_fix_is_a_warning(
    places: Object, defaults: Object, fact: str, dry_run: DryRun
) -> None:
    outcome = await dry_run(template(places, defaults=defaults))
    assert outcome.faults == ()
    assert fact in " ".join(outcome.crashes)


async def test_a_variable_that_only_a_deployment_sets_is_not_required_of_the_pool(
    dry_run: DryRun,
) -> None:
    """A variable without a default is set by deployments: that it is missing is not an error."""
    base = template(
        {
            f"{POD}.volumes": [
                {"name": "a", "persistentVolumeClaim": {"claimName": "{{ claim }}"}}
            ],
            f"{POD}.serviceAccountName": "{{ account }}",
        }
    )
    base["variables"]["properties"] |= {"claim": {"type": "string"}, "account": {"type": "string"}}
    assert await dry_run(base) == TemplateFindings()


async def test_a_missing_block_is_a_warning_with_its_path(dry_run: DryRun) -> None:
    missing = "{{ prefect.blocks.secret.no-such-block }}"
    outcome = await dry_run(template({}, defaults={"env": {"TOKEN": missing}}))
    assert outcome.faults == ()
    assert "no-such-block" in " ".join(outcome.crashes)


async def test_values_that_are_probably_unintended_are_warnings(dry_run: DryRun) -> None:
    base = template({f"{POD}.nodeSelectors": {"a": "b"}, f"{CONTAINER}.image": "{{ imgae }}"})
    remarks = " ".join((await dry_run(base)).warnings)
    assert f"{POD}.nodeSelectors" in remarks
    assert "did you mean image?" in remarks


async def test_a_template_is_tried_once_and_again_after_a_change(
    dry_run: DryRun, kube_proxy: FaultProxy
) -> None:
    for base in (stock_template(), stock_template(), template({"spec.backoffLimit": 1})):
        await dry_run(base)
    assert len(kube_proxy.calls("/jobs$", method="POST")) == 2


async def test_without_an_answer_the_last_result_counts(
    dry_run: DryRun, kube_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template_dry_run, "REPEAT_SECONDS", 0.0)
    monkeypatch.setattr(template_dry_run, "RETRY_SECONDS", 0.0)
    good, bad = stock_template(), template({f"{CONTAINER}.imagePullPolicy": "Sometimes"})
    for base in (good, bad):
        before = await dry_run(base)
        with kube_proxy.offline():
            after = await dry_run(base)
        assert (after.faults, after.crashes) == (before.faults, before.crashes)
        assert after.not_checked
        assert await dry_run(base) == before
    with kube_proxy.offline():
        unknown = await dry_run(template({"spec.backoffLimit": 2}))
    assert unknown.faults == ()
    assert unknown.not_checked


async def test_a_template_of_a_megabyte_does_not_block_the_event_loop_for_long(
    dry_run: DryRun,
) -> None:
    base = stock_template()
    pod = base["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    pod["volumes"] = [
        {"name": f"v{number}", "emptyDir": {"medium": "{{ image }}"}} for number in range(18_000)
    ]
    await dry_run(base)
    begun = time.process_time()
    for _ in range(10):
        await dry_run(base)  # as each look does
    assert (time.process_time() - begun) / 10 < 0.2
