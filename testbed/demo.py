"""`make demo`: brings up what `demo.sh` needs, then runs it.

What it started stays up until `stop` and the cluster's `down`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from localnode import progress
from localnode.errors import SetupError
from testbed import clusters, images, quickstart, state
from testbed.clusters import Cluster
from testbed.clusters.existing import ExistingCluster
from testbed.quickstart import Addresses

SCRIPT = Path(__file__).with_suffix(".sh")
#: In the environment of the operator that the script starts; its value is the state folder.
MARK = "WORKPOOL_OPERATOR_DEMO"
END_SECONDS = 10


def main() -> None:
    """Run the example flow on a cluster, from nothing to Completed."""
    selection = clusters.select(os.environ)
    cluster = selection.cluster
    print(f"cluster {cluster.name}: {selection.reason}", flush=True)
    image = _bring_up(cluster)
    api = _prefect_server(cluster, image)
    stop(state.folder())  # an earlier demo's operator: this one runs the code as it is now
    (state.folder() / "log").mkdir(exist_ok=True)
    done = subprocess.run(
        [SCRIPT], env=environment(cluster, api, image, state.folder()), check=False
    )
    if done.returncode:
        raise SetupError(f"{SCRIPT.name} ended with exit code {done.returncode}")


def environment(cluster: Cluster, api: Addresses, image: str, folder: Path) -> dict[str, str]:
    """Return the script's environment, without the settings of the user's own Prefect."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    programs = (Path(sys.executable).parent, cluster.kubectl.program.parent)
    return own | {
        "PATH": ":".join([*map(str, programs), os.environ["PATH"]]),
        "KUBECONFIG": str(cluster.kubeconfig),
        "PREFECT_HOME": str(folder / "prefect-home"),
        "PREFECT_API_URL": api.host,
        "POD_API_URL": api.pods,
        "RUN_IMAGE": image,
        "FOLDER": str(folder),
    }


def stop(folder: Path) -> None:
    """End the operator that a demo left running: ask it to drain, then kill it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in _operators(folder):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        if _have_ended(folder):
            return
    raise SetupError(f"process {_operators(folder)[0]}, the demo's operator, does not end")


def _bring_up(cluster: Cluster) -> str:
    """Bring the cluster up and meanwhile build the run image, unless RUN_IMAGE names one."""
    if image_given := os.environ.get("RUN_IMAGE"):
        cluster.up()
        return image_given
    with ThreadPoolExecutor(max_workers=1) as pool:
        image = pool.submit(images.build, images.RUN)
        cluster.up()
        image.result()
    return images.run_image(cluster)


def _prefect_server(cluster: Cluster, image: str) -> Addresses:
    """Start a Prefect server in the cluster, unless the cluster is the user's own."""
    if isinstance(cluster, ExistingCluster):
        url = os.environ["PREFECT_API_URL"]
        return Addresses(host=url, pods=url)
    with progress.step("starting the Prefect server in the cluster"):
        return quickstart.start(cluster.kubectl, image=image, node_address=cluster.node_address)


def _have_ended(folder: Path) -> bool:
    deadline = time.monotonic() + END_SECONDS
    while _operators(folder):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _operators(folder: Path) -> list[int]:
    """Find them by their environment: a killed process could not have updated a file."""
    mark = f"{MARK}={folder}".encode()
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):  # ended meanwhile, or another user's
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    found.append(int(process.name))
    return found
