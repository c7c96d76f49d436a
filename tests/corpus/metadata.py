"""Templates with their own metadata: labels, annotations, names and namespaces."""

from __future__ import annotations

from tests.corpus.case import Case, template_with

CASES = [
    Case(
        "labels of the run and its deployment in Prefect",
        template=template_with(metadata={"labels": {"team": "template", "app": "flows"}}),
        labels={"team": "payments", "cost center": 42, "prefect.flow.id": "x", "urgent": True},
        deployments_labels={"team": "all", "tier": "gold"},
        run={"labels": {"tier": "silver"}},
    ),
    Case(
        "labels and annotations of variables that are not strings",
        run={"labels": {"spot": False}, "annotations": {"safe-to-evict": False, "n": 5}},
    ),
    Case(
        "hard-coded labels and annotations",
        template=template_with(
            metadata={
                "labels": {"app": "flows", "Team": "Data"},
                "annotations": {"karpenter.sh/do-not-disrupt": "true"},
            }
        ),
        run={"labels": {"team": "x"}, "annotations": {"a": "b"}},
    ),
    Case(
        "hard-coded ones on the pods too",
        template=template_with(
            pod_metadata={
                "labels": {"app": "pod"},
                "annotations": {"sidecar.istio.io/inject": "false"},
            }
        ),
        run={"labels": {"app": "run"}, "annotations": {"note": "run"}},
    ),
    Case(
        "annotations on the pods alone",
        template=template_with(pod_metadata={"annotations": {"sidecar.istio.io/inject": "false"}}),
    ),
    Case(
        "a label inside a text",
        template=template_with(
            metadata={"labels": {"team": "data-{{ team }}"}}, variables={"team": "eu"}
        ),
    ),
    Case(
        "a placeholder as a label value",
        template=template_with(metadata={"labels": {"team": "{{ team }}", "part": "x"}}),
    ),
    Case(
        "fields of another worker's type",
        template=template_with(
            configuration={"image": "{{ image }}", "finished_job_ttl": "{{ finished_job_ttl }}"}
        ),
    ),
    Case("a fixed generateName", template=template_with(metadata={"generateName": "etl-"})),
    Case(
        "a fixed generateName without a hyphen",
        template=template_with(metadata={"generateName": "etl"}),
    ),
    Case(
        "a name in the metadata",
        template=template_with(
            metadata={"name": "{{ name }}-{{ stage }}"}, variables={"stage": "prod"}
        ),
    ),
    Case("no generateName", template=template_with(metadata={"generateName": None})),
    Case(
        "a namespace in the metadata alone",
        template=template_with(metadata={"namespace": "fixed"}, configuration={"namespace": None}),
    ),
    Case(
        "two namespaces",
        template=template_with(metadata={"namespace": "a"}, configuration={"namespace": "b"}),
    ),
    *(
        Case(
            f"an annotation of the template that is {value!r}",
            template=template_with(metadata={"annotations": {"a": "{{ a }}", "b": "c"}}),
            run={"a": value},
        )
        for value in (None, 3, True, "text", {"x": 1}, ["x"])
    ),
    *(
        Case(
            f"a label of the template that is {value!r}",
            template=template_with(metadata={"labels": {"a": "{{ a }}", "b": "c"}}),
            run={"a": value},
        )
        for value in (None, 3, "text", {"x": 1})
    ),
]
