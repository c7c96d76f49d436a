"""Only Secrets hold credentials and secret blocks, whether runs complete, fail or never start.

Real pods, real credentials, and a search of everything that can be read afterwards.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.support.binding import Binding
from tests.support.deployments import Deployer, template_with_flows
from tests.support.kube import Kube
from tests.support.operator import PROGRAM, Operator
from tests.support.prefect import GUARDED_AUTH, PrefectApi
from tests.support.promises import IN_HALF_A_MINUTE, SOON

KEY = "pnu_" + "open-sesame-4712"
WRONG = "admin:" + "close-sesame-4713"
BLOCK = "block-of-sesame-4714"
KEPT = "workpool-operator.dev/secret=credentials"
READABLE = ("jobs", "pods", "events", "configmaps", "workpoolbindings")

Runs = list[dict[str, Any]]


@dataclass(frozen=True)
class Scene:
    """A binding with a credential, whose Jobs run in another namespace."""

    api: PrefectApi
    kube: Kube
    deploy: Deployer
    binding: Binding
    process: Operator
    namespaces: tuple[str, str]
    secret: str  # {{ ... }}

    async def run_all(self, *wanted: tuple[str, str, dict[str, Any]]) -> Runs:
        """Start runs of these flows with these job variables, and wait for their final states."""
        started = []
        for flow, _, variables in wanted:
            deployment = await self.deploy(flow)
            started.append(await self.api.create_run(deployment["id"], job_variables=variables))
        return [
            await self.api.wait_for_state(run["id"], state)
            for run, (_, state, _) in zip(started, wanted, strict=True)
        ]

    async def runs(self) -> Runs:
        """Run flows that complete, fail, and never start."""
        env = {"PASSWORD": self.secret, "URL": f"https://me:{self.secret}@host/"}
        open_ended = f"prefect --token '{self.secret}"
        return await self.run_all(
            ("hello", "COMPLETED", {"env": env | {"PREFECT_LOGGING_LEVEL": "DEBUG"}}),
            ("raise_error", "FAILED", {"env": env}),
            ("hello", "CRASHED", {"env": env, "command": "sh -c 'echo the end; exit 7'"}),
            ("hello", "CRASHED", {"env": env, "image": "no image"}),
            ("hello", "CRASHED", {"image": f"Image {self.secret}"}),
            ("hello", "CRASHED", {"command": open_ended}),
            ("hello", "CRASHED", {"env": env | {"not=a=name": self.secret}}),
        )

    async def spoil_the_template(self) -> None:
        """Break the pool's template, and repair it."""
        path = f"/work_pools/{self.deploy.pool}"
        spoilt = template_with_flows()
        container = spoilt["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
        container["containers"][0]["resources"] = {"limits": {"memory": "lots"}}
        variables = spoilt["variables"]["properties"]
        variables["env"]["default"] = {"PASSWORD": self.secret}
        variables["command"]["default"] = f"prefect --token '{self.secret}"
        await self.api.request("PATCH", path, {"base_job_template": spoilt})
        await self.binding.condition("TemplateValid", "False", seconds=IN_HALF_A_MINUTE)
        repaired = {"base_job_template": template_with_flows()}
        await self.api.request("PATCH", path, repaired)
        await self.binding.ready(seconds=IN_HALF_A_MINUTE)

    async def readable(self, runs: Runs) -> str:
        """Return what a user without the right to read Secrets can read."""
        found: list[Any] = []
        for namespace in self.namespaces:
            found += [await self.kube.list(plural, namespace) for plural in READABLE]
        for run in runs:
            found += [await self.api.states(run["id"]), await self.api.logs(run["id"])]
        return json.dumps(found) + self.process.log

    async def rendered(self, run: dict[str, Any], **env: str) -> str:
        """What `workpool-operator render` prints of it."""
        binding = f"{self.binding.namespace}/{self.binding.name}"
        command = [PROGRAM, "render", "--flow-run", run["id"], "--binding", binding, "--explain"]
        process = await asyncio.create_subprocess_exec(
            *command,
            env=os.environ | env,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()
        return output.decode()


def assert_not_disclosed(readable: str, secrets: Iterable[str]) -> None:
    for secret in secrets:
        encoded = base64.b64encode(secret.encode()).decode()
        for form in (secret, secret.rpartition(":")[2], encoded):
            at = readable.find(form)
            assert at < 0, f"{secret!r} is disclosed: ...{readable[max(0, at - 300) : at + 50]}..."


async def test_an_auth_string_and_a_secret_block_are_never_disclosed(
    kube,
    namespace,
    other_namespace,
    binding,
    operator,
    auth_server,
    auth_api,
    auth_pool,
    run_image,
    cluster,
):
    async def write(auth: str) -> None:
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "prefect"}}
        await kube.apply("secrets", namespace, secret | {"stringData": {"auth": auth}})

    process = await operator(WORKPOOL_OPERATOR_LOG_LEVEL="DEBUG")
    await write(GUARDED_AUTH)
    reference = {"secretKeyRef": {"name": "prefect", "key": "auth"}}
    scene = Scene(
        api=auth_api,
        kube=kube,
        deploy=Deployer(auth_api, kube, other_namespace, auth_pool, run_image),
        binding=await binding(
            server={"url": auth_server, "authString": reference},
            jobs={"namespace": other_namespace, "environmentSecret": True},
        ),
        process=process,
        namespaces=(namespace, other_namespace),
        secret=await auth_api.create_secret_block(auth_pool, BLOCK),
    )
    await scene.binding.ready()
    runs = await scene.runs()
    await scene.spoil_the_template()
    await write(WRONG)
    await scene.binding.condition("CredentialsValid", "False", reason="Unauthorized", seconds=SOON)
    (kept,) = await kube.list("secrets", other_namespace, selector=KEPT)
    (value,) = kept["data"].values()
    assert base64.b64decode(value).decode() == GUARDED_AUTH  # a key that is refused reaches no pod
    await write(GUARDED_AUTH)
    await scene.binding.ready(seconds=SOON)
    readable = await scene.readable(runs)
    readable += await scene.rendered(
        runs[0],
        KUBECONFIG=str(cluster.kubeconfig),
        PREFECT_API_URL=auth_server,
        PREFECT_API_AUTH_STRING=GUARDED_AUTH,
    )
    assert_not_disclosed(readable, [GUARDED_AUTH, WRONG, BLOCK])
    assert "the end" in readable  # the search covers the logs


async def test_an_api_key_is_never_disclosed(
    api, kube, namespace, binding, operator, prefect_server, deploy
):
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "prefect"}}
    await kube.apply("secrets", namespace, secret | {"stringData": {"key": KEY}})
    process = await operator(
        WORKPOOL_OPERATOR_LOG_LEVEL="DEBUG", WORKPOOL_OPERATOR_LOG_FORMAT="json"
    )
    reference = {"secretKeyRef": {"name": "prefect", "key": "key"}}
    scene = Scene(
        api=api,
        kube=kube,
        deploy=deploy,
        binding=await binding(server={"url": prefect_server.url, "apiKey": reference}),
        process=process,
        namespaces=(namespace, namespace),
        secret="",
    )
    await scene.binding.ready()
    check = 'test "$PREFECT_API_KEY" = "$EXPECTED" && exit 7'
    compares = {"command": f"sh -c '{check}'", "env": {"EXPECTED": "no key"}}
    runs = await scene.run_all(("hello", "COMPLETED", {}), ("hello", "CRASHED", compares))
    assert_not_disclosed(await scene.readable(runs), [KEY])
