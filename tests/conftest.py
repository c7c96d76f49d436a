"""The fixtures of all tests on real parts; tests/README.md shows a test that uses them."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import yaml

from testbed import images
from testbed.clusters import Cluster
from tests.support import leaks
from tests.support import operator as operators
from tests.support.binding import Binding
from tests.support.deployments import Deployer, template_with_flows
from tests.support.endpoint import Endpoint
from tests.support.fault_proxy import FaultProxy
from tests.support.kube import Kube
from tests.support.operator import PROGRAM, Operator
from tests.support.prefect import GUARDED_AUTH, PrefectApi
from tests.support.run import TestRun
from workpool_operator.binding.consent import ANNOTATION as CONSENT

pytest_plugins = ["tests.support.plugin"]

# What a property test shows does not depend on how busy the machine is.
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


# Shared by all tests of a run


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return TestRun.current().cluster()


@pytest.fixture(scope="session")
def prefect_server(cluster: Cluster) -> Endpoint:
    """One server for tests and pods alike, on a PostgreSQL of its own."""
    return Endpoint(TestRun.current().prefect_server(host=cluster.host_address))


@pytest.fixture(scope="session")
def auth_server(cluster: Cluster) -> str:
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
        cluster.kubectl.run("get", name, "-A")  # repeated while the storage is initialized (429)
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
    await kube.delete("namespaces", "", name)  # the end of the run waits until it is deleted


@pytest.fixture
async def other_namespace(kube: Kube, namespace: str) -> AsyncIterator[str]:
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
async def auth_api(auth_server: str) -> AsyncIterator[PrefectApi]:
    async with PrefectApi(auth_server, auth_string=GUARDED_AUTH) as client:
        yield client


@pytest.fixture
async def auth_pool(auth_api: PrefectApi, pool: str) -> AsyncIterator[str]:
    """A pool of the guarded server, of the same name."""
    await auth_api.create_pool(pool, template=template_with_flows())
    yield pool
    await auth_api.delete_pool(pool)


@pytest.fixture
def deploy(api: PrefectApi, kube: Kube, namespace: str, pool: str, run_image: str) -> Deployer:
    return Deployer(api=api, kube=kube, namespace=namespace, pool=pool, image=run_image)


@pytest.fixture
async def binding(
    crd: str, kube: Kube, namespace: str, pool: str, prefect_server: Endpoint
) -> AsyncIterator[Callable[..., Awaitable[Binding]]]:
    """`await binding(concurrencyLimit=1)`: applied, with the test's pool and server as defaults,
    of which None removes one."""
    made: list[Binding] = []

    async def apply(name: str = "pool", **spec: Any) -> Binding:
        defaults = {
            "workPool": {"name": pool},
            "server": {"url": prefect_server.url},
            "jobs": {"serverURL": prefect_server.url},
        }
        made.append(Binding(kube, namespace, name))
        given = {name: part for name, part in (defaults | spec).items() if part is not None}
        await made[-1].apply(**given)
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

    It is preloaded, unless it has to be `fresh`, or another `program`, or `env` has more than the
    operator's own settings: libraries read theirs when they are imported.
    """
    started: list[Operator] = []
    logs = request.node.stash.setdefault(operators.LOGS, [])

    async def start(
        *,
        also_in: str = "",
        kubeconfig: Path = cluster.kubeconfig,
        ready: bool = True,
        fresh: bool = False,
        program: Sequence[str] = (),
        **env: str,
    ) -> Operator:
        namespaces = [namespace, also_in] if also_in else [namespace]
        logs.append(tmp_path / f"operator-{len(started) + 1}.log")
        process = Operator.start(
            namespaces=namespaces,
            kubeconfig=kubeconfig,
            log=logs[-1],
            env=env,
            program=program or (str(operators.PROGRAM),),
            preloaded=not (fresh or program)
            and all(name.startswith("WORKPOOL_OPERATOR_") for name in env),
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
