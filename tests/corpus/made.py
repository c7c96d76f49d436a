"""Templates and values that hypothesis generates: any fields anywhere, with placeholders.

The fields that the stock worker requires are kept, so that most of the templates give a Job.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.corpus.case import Case, Object, template_with
from tests.corpus.environments import SIGTERM, plain, secret

# Not `env`, which is a mapping here wherever else a placeholder puts it.
VARIABLES = ("alpha", "beta", "image", "labels", "name", "command")
WORDS = st.text("abcXYZ019-_./ é{}$", max_size=12)
PLACEHOLDERS = st.sampled_from(VARIABLES).map(lambda name: f"{{{{ {name} }}}}")
MIXED = st.lists(st.one_of(WORDS, PLACEHOLDERS), min_size=1, max_size=3).map("".join)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(0, 99), WORDS)
LEAVES = st.one_of(SCALARS, PLACEHOLDERS, MIXED)
KEYS = st.sampled_from(["one", "two", "three", "fourFive"])

Documents = st.SearchStrategy[Any]


def documents(leaves: Documents) -> Documents:
    """Generate mappings, and lists of mappings or of scalars, as in Kubernetes."""
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.dictionaries(KEYS, inner, max_size=3),
            st.lists(st.dictionaries(KEYS, inner, min_size=1, max_size=2), max_size=2),
            st.lists(WORDS, max_size=3),
        ),
        max_leaves=6,
    )


def fields(keys: list[str]) -> st.SearchStrategy[Object]:
    return st.dictionaries(st.sampled_from(keys), documents(LEAVES), max_size=2)


NAMES = st.sampled_from(["A", "B", "PREFECT_API_URL", SIGTERM])
MAPPING = st.dictionaries(NAMES, st.one_of(st.none(), WORDS, st.integers(0, 9)), max_size=3)
ENTRIES = st.lists(st.one_of(st.builds(plain, NAMES, WORDS), st.builds(secret, NAMES)), max_size=3)
TEXTS = st.dictionaries(WORDS, WORDS, max_size=3)
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "alpha": documents(SCALARS),
        "beta": SCALARS,
        "env": st.one_of(MAPPING, ENTRIES),
        "labels": TEXTS,
        "annotations": TEXTS,
        "name": WORDS,
        "image": WORDS,
        "backoff_limit": st.integers(0, 3),
        "finished_job_ttl": st.one_of(st.none(), st.integers(0, 99)),
        "env.A": WORDS,
    },
)
TEMPLATES = st.builds(
    template_with,
    job=fields(["activeDeadlineSeconds", "suspend", "podFailurePolicy"]),
    metadata=st.fixed_dictionaries({}, optional={"annotations": st.dictionaries(KEYS, MIXED)}),
    pod=fields(["volumes", "affinity", "tolerations", "priorityClassName", "nodeSelector"]),
    container=st.builds(
        lambda others, env: others | env,
        fields(["resources", "volumeMounts", "workingDir", "securityContext"]),
        st.fixed_dictionaries({}, optional={"env": ENTRIES}),
    ),
    configuration=st.fixed_dictionaries({}, optional={"env": MAPPING}),
    variables=st.fixed_dictionaries(
        {}, optional={"alpha": documents(SCALARS), "env": st.one_of(MAPPING, ENTRIES)}
    ),
)
CASES = st.builds(
    Case,
    name=st.just("made"),
    template=TEMPLATES,
    deployment=st.one_of(st.none(), VALUES),
    run=VALUES,
    run_name=st.text(min_size=1, max_size=80),
)
