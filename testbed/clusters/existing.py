"""A cluster of the user's own, with CLUSTER=existing only; it is neither created nor deleted here.

It is named before it is used, and stays the one named even if the user's current context changes.
What cannot be created in it, an image and a Prefect server, has to be named.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from localnode.errors import SetupError
from localnode.kubectl import Kubectl
from testbed import state

REQUIRED = {
    "RUN_IMAGE": "an image with Prefect that the cluster can pull, for the pods of the runs",
    "PREFECT_API_URL": "a Prefect API that both the pods and this machine reach",
}


class ExistingCluster:
    def __init__(self, kubectl: Kubectl, *, prefect_api_url: str) -> None:
        self.kubectl = kubectl
        self.kubeconfig = kubectl.kubeconfig
        self.name = kubectl.run("config", "current-context").strip()
        self.host_address = urlsplit(prefect_api_url).hostname or ""
        self.node_address = urlsplit(self._server()).hostname or ""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> ExistingCluster:
        missing = [f"{name} ({what})" for name, what in REQUIRED.items() if not environ.get(name)]
        if missing:
            raise SetupError(f"CLUSTER=existing needs {' and '.join(missing)}")
        return cls(_current_context(environ), prefect_api_url=environ["PREFECT_API_URL"])

    def up(self) -> None:
        print(f"context {self.name}, server {self._server()}", flush=True)
        if not self.is_up():
            raise SetupError(f"the API server of context {self.name} does not answer")

    def down(self) -> None:
        self.kubeconfig.unlink()
        print(f"context {self.name} is yours and stays as it is", flush=True)

    def is_up(self) -> bool:
        return self.kubectl.succeeds("get", "--raw=/readyz")

    def has_image(self, reference: str) -> bool:
        """Return True: the cluster pulls RUN_IMAGE itself."""
        return True

    def load_image(self, archive: Path) -> None:
        raise SetupError(f"{archive} cannot be loaded into context {self.name}: set RUN_IMAGE")

    def _server(self) -> str:
        return self.kubectl.run("config", "view", "--output=jsonpath={.clusters[0].cluster.server}")


def _current_context(environ: Mapping[str, str]) -> Kubectl:
    """Copy the user's current context, alone, into a kubeconfig."""
    program = shutil.which("kubectl")
    if program is None:
        raise SetupError("CLUSTER=existing needs kubectl on the PATH")
    users = Path(environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
    if not users.is_file():
        raise SetupError(f"CLUSTER=existing needs KUBECONFIG to name one file, not {users}")
    alone = Kubectl(Path(program), users).run("config", "view", "--minify", "--flatten", "--raw")
    copy = state.folder(environ) / "kubeconfig"
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.touch(mode=0o600)
    copy.write_text(alone)
    return Kubectl(Path(program), copy)
