"""The fixtures of all tests on real parts; tests/README.md shows a test that uses them."""

from __future__ import annotations

import subprocess
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed import images
from testbed.clusters import Cluster
from tests.support import leaks, marks
from tests.support.binding import Binding
from tests.support.deployments import Deployer, template_with_flows
from tests.support.endpoint import Endpoint
from tests.support.fault_proxy import FaultProxy
from tests.support.kube import Kube
from tests.support.operator import PROGRAM, Operator
from tests.support.prefect import GUARDED_AUTH, PrefectApi
from tests.support.run import TestRun, die_with_parent
from workpool_operator.binding.consent import ANNOTATION as CONSENT

OPERATOR_LOGS = pytest.StashKey[list[Path]]()
INTERFACES = pytest.StashKey[frozenset[str]]()
LOG_CHARACTERS = 20_000


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--sample-faults", action="store_true", help="of each fault's many cases every other one"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """`make test` has a sample of the faults, `make test-faults` all of them."""
    if not config.getoption("--sample-faults"):
        return
    seen: Counter[str] = Counter()
    left_out = []
    for item in items:
        if item.path.parent.name == "faults":
            function = item.nodeid.partition("[")[0]
            left_out += [item] * (seen[function] % 2)
            seen[function] += 1
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    if _owns_the_run(session):
        session.stash[INTERFACES] = frozenset(leaks.interfaces())
        TestRun.begin()
    else:
        die_with_parent()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fails the run for what its tests left behind, and ends what they shared."""
    if not _owns_the_run(session):
        return
    run = TestRun.current()
    left: list[str] = []
    try:
        if session.exitstatus == pytest.ExitCode.INTERRUPTED:
            leaks.clear(run)
        else:
            left += leaks.of_run(run)
    finally:
        run.end()
    before = session.stash[INTERFACES]
    left += [f"interface {name}" for name in leaks.interfaces() - before]
    if left:
        print("\nThe tests left behind:", *left, sep="\n  ")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _owns_the_run(session: pytest.Session) -> bool:
    """The one process that is no worker of pytest-xdist."""
    return not hasattr(session.config, "workerinput")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    for log in item.stash.get(OPERATOR_LOGS, []) if report.failed else []:
        text = log.read_text(errors="replace")[-LOG_CHARACTERS:]
        report.sections.append((f"operator, {log.stem}", text))
    return report


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def no_process_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    mark = f"{TestRun.current().id}:{request.node.nodeid}"
    with marks.applied(mark):
        yield
    if left := leaks.end_processes(mark):
        pytest.fail("left running: " + "; ".join(f"{p.pid} {p.command}" for p in left))


# Shared by all tests of a run


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return TestRun.current().cluster()


@pytest.fixture(scope="session")
def prefect_server(cluster: Cluster) -> Endpoint:
    """One server for tests and pods alike, on a PostgreSQL of its own."""
    return Endpoint(TestRun.current().prefect_server(host=cluster.host_address))


@pytest.fixture(scope="session")
def guarded(cluster: Cluster) -> str:
    """The address of a Prefect server that asks for GUARDED_AUTH."""
    return TestRun.current().guarded_prefect_server(GUARDED_AUTH, host=cluster.host_address)


@pytest.fixture(scope="session")
def run_image(cluster: Cluster) -> str:
    """The image of flow runs, loaded into the cluster."""
    made = TestRun.current().once("run image", lambda: {"name": images.run_image(cluster)})
    return str(made["name"])


@pytest.fixture(scope="session")
def crd(cluster: Cluster) -> str:
    """The name of the CustomResourceDefinition, which the API server serves."""

    def apply() -> dict[str, str]:
        manifest = subprocess.check_output([PROGRAM, "crd"], text=True)
        name = str(yaml.safe_load(manifest)["metadata"]["name"])
        cluster.kubectl.run("apply", "--server-side", "--force-conflicts", "-f-", stdin=manifest)
        cluster.kubectl.run("wait", "--for=condition=Established", f"crd/{name}", "--timeout=30s")
        return {"name": name}

    return str(TestRun.current().once("CRD", apply)["name"])


# Of each test's own


@pytest.fixture
async def kube(cluster: Cluster) -> AsyncIterator[Kube]:
    async with Kube(Endpoint.of_kubeconfig(cluster.kubeconfig)) as client:
        yield client


@pytest.fixture
async def api(prefect_server: Endpoint) -> AsyncIterator[PrefectApi]:
    async with PrefectApi(prefect_server.url) as client:
        yield client


@pytest.fixture
async def namespace(kube: Kube, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    metadata = {
        "name": name,
        "labels": {leaks.RUN_LABEL: TestRun.current().id},
        "annotations": {leaks.TEST_ANNOTATION: request.node.nodeid},
    }
    await kube.create("namespaces", "", {"metadata": metadata})
    yield name
    await kube.delete("namespaces", "", name)  # the end of the run waits until it is gone


@pytest.fixture
async def elsewhere(kube: Kube, namespace: str) -> AsyncIterator[str]:
    """Another namespace of the test's, for Jobs, which it lets in."""
    own = await kube.get("namespaces", "", namespace)
    assert own is not None
    labels, annotations = (own["metadata"][key] for key in ("labels", "annotations"))
    name, consent = f"{namespace}-jobs", {CONSENT: namespace}
    metadata = {"name": name, "labels": labels, "annotations": annotations | consent}
    await kube.create("namespaces", "", {"metadata": metadata})
    yield name
    await kube.delete("namespaces", "", name)


@pytest.fixture
async def pool(api: PrefectApi) -> AsyncIterator[str]:
    """The name of a pool of type kubernetes with the stock template, whose pods have the flows."""
    name = f"pool-{uuid.uuid4().hex[:8]}"
    await api.create_pool(name, template=template_with_flows())
    yield name
    await api.delete_pool(name)


@pytest.fixture
async def guarded_api(guarded: str) -> AsyncIterator[PrefectApi]:
    async with PrefectApi(guarded, auth_string=GUARDED_AUTH) as client:
        yield client


@pytest.fixture
async def guarded_pool(guarded_api: PrefectApi, pool: str) -> AsyncIterator[str]:
    """A pool of the guarded server, of the same name."""
    await guarded_api.create_pool(pool, template=template_with_flows())
    yield pool
    await guarded_api.delete_pool(pool)


@pytest.fixture
def deploy(api: PrefectApi, kube: Kube, namespace: str, pool: str, run_image: str) -> Deployer:
    return Deployer(api=api, kube=kube, namespace=namespace, pool=pool, image=run_image)


@pytest.fixture
async def binding(
    crd: str, kube: Kube, namespace: str, pool: str, prefect_server: Endpoint
) -> AsyncIterator[Callable[..., Awaitable[Binding]]]:
    """`await binding(concurrencyLimit=1)`: applied, with the test's pool and server as defaults."""
    made: list[Binding] = []

    async def apply(name: str = "pool", **spec: Any) -> Binding:
        defaults = {
            "workPool": {"name": pool},
            "server": {"url": prefect_server.url},
            "jobs": {"serverURL": prefect_server.url},
        }
        made.append(Binding(kube, namespace, name))
        await made[-1].apply(**defaults | spec)
        return made[-1]

    yield apply
    for each in made:
        await each.remove()


@pytest.fixture
def operator(
    crd: str,
    cluster: Cluster,
    namespace: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Iterator[Callable[..., Awaitable[Operator]]]:
    """`await operator()`: a process that serves the test's namespace; failures show its log.

    It is preloaded, unless it has to be `fresh` or `env` has more than the operator's own settings:
    libraries read theirs when they are imported.
    """
    started: list[Operator] = []
    logs = request.node.stash.setdefault(OPERATOR_LOGS, [])

    async def start(
        *,
        also_in: str = "",
        kubeconfig: Path = cluster.kubeconfig,
        ready: bool = True,
        fresh: bool = False,
        **env: str,
    ) -> Operator:
        namespaces = [namespace, also_in] if also_in else [namespace]
        logs.append(tmp_path / f"operator-{len(started) + 1}.log")
        process = Operator.start(
            namespaces=namespaces,
            kubeconfig=kubeconfig,
            log=logs[-1],
            env=env,
            preloaded=not fresh and all(name.startswith("WORKPOOL_OPERATOR_") for name in env),
        )
        started.append(process)
        if ready:
            await process.ready()
        return process

    yield start
    for process in started:
        process.kill()  # at once: the shutdown is for tests of the shutdown


@pytest.fixture
def prefect_proxy(prefect_server: Endpoint) -> Iterator[FaultProxy]:
    """In front of the Prefect server: `binding(server={"url": prefect_proxy.url})`."""
    with FaultProxy(prefect_server) as proxy:
        yield proxy


@pytest.fixture
def kube_proxy(cluster: Cluster) -> Iterator[FaultProxy]:
    """In front of the API server: `operator(kubeconfig=kube_proxy.write_kubeconfig(path))`."""
    with FaultProxy(Endpoint.of_kubeconfig(cluster.kubeconfig)) as proxy:
        yield proxy
