"""Commands of the documentation, typed word by word but for the names of namespaces and flows.

The pages name them `data` and `runs`; each test has its own.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess

import pytest

from testbed import builds
from tests.support.pages import PAGES, commands, typed
from tests.support.private_ca import PrivateCA

ANNOTATION = "workpool-operator.dev/allowed-binding-namespaces"


@pytest.fixture
def home(tmp_path):
    """The folder in which commands are typed."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def type_commands(cluster, namespace, other_namespace, home):
    """`await type_commands(page, heading)` types the blocks under the heading; returns the output.

    The user has kubectl, whose context is the test's namespace.
    """
    kubeconfig = home / "kubeconfig"
    kubeconfig.write_text(cluster.kubeconfig.read_text())
    environment = os.environ | {
        "PATH": f"{cluster.kubectl.program.parent}:{os.environ['PATH']}",
        "KUBECONFIG": str(kubeconfig),
    }

    def typing(script):
        bash = ["bash", "-euc", script]
        return subprocess.check_output(
            bash, env=environment, cwd=home, stderr=subprocess.STDOUT, text=True
        )

    typing(f"kubectl config set-context --current --namespace={namespace}")
    names = {" data": f" {namespace}", "=data": f"={namespace}", " runs": f" {other_namespace}"}

    async def run(page, heading):
        blocks = typed(page, heading)
        assert blocks
        script = "\n".join(blocks)
        for name, own in names.items():
            script = script.replace(name, own)
        script = script.replace("-n workpool-operator ", f"-n {namespace} ")
        return await asyncio.to_thread(typing, script)

    return run


async def test_the_commands_about_a_binding_work(
    binding, operator, kube, namespace, other_namespace, type_commands
):
    await operator()
    served = await binding("etl", suspend=True)
    await served.ready()
    printed = await type_commands("docs/status.md", "The status of a binding")
    assert "Suspended" in printed
    printed = await type_commands("docs/networks.md", "Networks and servers")
    assert "ServerReachable=True " in printed
    await kube.apply("deployments", namespace, deployment("prefect-worker"))
    printed = await type_commands("docs/migration.md", "Order")
    assert re.search(r"patched\n.*workers.*deployment.apps/prefect-worker scaled", printed)
    worker = await kube.get("deployments", namespace, "prefect-worker")
    assert worker["spec"]["replicas"] == 0
    no_consent = {"metadata": {"annotations": {ANNOTATION: None}}}
    await kube.patch("namespaces", "", other_namespace, no_consent)
    printed = await type_commands("docs/tenancy.md", "Jobs in another namespace")
    assert printed.count("annotated") == 2
    await type_commands("docs/uninstall.md", "What a deletion does with runs")
    assert (await served.read())["spec"]["deletionPolicy"] == "Orphan"


async def test_a_binding_is_deleted_without_an_operator(binding, operator, type_commands):
    process = await operator()
    served = await binding("etl")
    await served.ready()
    process.kill()
    await type_commands("docs/uninstall.md", "If the operator is gone already")
    await served.gone()


async def test_the_objects_that_a_binding_names_are_created(
    binding, kube, namespace, home, type_commands, tmp_path
):
    ca = PrivateCA.make(tmp_path, host="prefect.example.com")
    for name, text in {"ca.crt": ca.pem, **ca.client, "pool.json": "{}"}.items():
        (home / name).write_text(text)
    await kube.apply("deployments", namespace, deployment("workpool-operator"))
    sections = ("An address in one place", "Proxies", "Private CAs", "Client certificates")
    for section in (*sections, "Headers for an access proxy", "Prefect Cloud"):
        await type_commands("docs/networks.md", section)
    await type_commands("docs/quickstart.md", "With your own server")
    await type_commands("docs/templates.md", "A template in a ConfigMap")
    secrets = {
        each["metadata"]["name"]: each["data"] for each in await kube.list("secrets", namespace)
    }
    assert secrets["prefect-cloud"].keys() == {"api-key"}
    assert secrets["prefect-client"].keys() == {"tls.crt", "tls.key"}
    assert secrets["access"].keys() == {"id", "secret"}
    assert secrets["prefect"].keys() == {"auth-string"}
    made = {
        each["metadata"]["name"]: each["data"] for each in await kube.list("configmaps", namespace)
    }
    assert made["prefect"].keys() == {"url"}
    assert made["company-ca"].keys() == {"ca.crt"}
    assert made["etl"].keys() == {"base-job-template"}
    operator = await kube.get("deployments", namespace, "workpool-operator")
    (container,) = operator["spec"]["template"]["spec"]["containers"]
    assert {each["name"] for each in container["env"]} == {"HTTPS_PROXY", "NO_PROXY"}


@pytest.mark.parametrize("program", ["kubectl", "helm"])
def test_a_command_has_only_options_that_exist(program):
    named = {each for page in PAGES for each in commands(page, program) if " -" in each}
    assert len(named) > 5
    wrong = {
        command: error for command in named if (error := refusal(builds.tool(program), command))
    }
    assert wrong == {}


def test_an_option_that_does_not_exist_is_refused():
    assert "unknown flag: --al" in refusal(builds.tool("kubectl"), "kubectl get wpb --al")


def refusal(program, command):
    """What the program says of the command's options; they are read, and nothing is done."""
    arguments = shlex.split(command)[1:]
    if (
        arguments[0] == "workpool"
    ):  # a plugin, which is the program that tests/unit/test_pages.py parses
        return ""
    done = subprocess.run(
        [program, *arguments, "--help"], capture_output=True, text=True, check=False
    )
    return done.stderr if done.returncode else ""


def deployment(name):
    """A Deployment without pods, whose commands need only its object."""
    labels = {"app": name}
    pod = {"containers": [{"name": "main", "image": "none.example/none"}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
