"""The address of an API and the credentials of a client."""

from __future__ import annotations

import base64
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml


@dataclass(frozen=True)
class Endpoint:
    """`tls` has no client certificate: for requests that have credentials of their own."""

    url: str
    token: str | None = None
    tls: ssl.SSLContext | None = None
    certified_tls: ssl.SSLContext | None = None

    @classmethod
    def of_kubeconfig(cls, path: Path) -> Self:
        """Return the cluster and user of the file's current context."""
        config = yaml.safe_load(path.read_text())
        context = _named(config, "context", config["current-context"])
        cluster = _named(config, "cluster", context["cluster"])
        user = _named(config, "user", context["user"])
        return cls(
            cluster["server"],
            token=user.get("token"),
            tls=_tls(cluster, {}),
            certified_tls=_tls(cluster, user),
        )

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


def _named(config: Mapping[str, Any], kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(e[kind] for e in config[f"{kind}s"] if e["name"] == name)
    return found


def _tls(cluster: Mapping[str, Any], user: Mapping[str, Any]) -> ssl.SSLContext | None:
    if cluster["server"].startswith("http:"):
        return None
    context = ssl.create_default_context(cadata=_pem(cluster, "certificate-authority"))
    certificate, key = _pem(user, "client-certificate"), _pem(user, "client-key")
    if certificate and key:
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # ssl reads only files
            file.write(f"{certificate}\n{key}\n")
            file.flush()
            context.load_cert_chain(file.name)
    return context


def _pem(section: Mapping[str, Any], name: str) -> str | None:
    if f"{name}-data" in section:
        return base64.b64decode(section[f"{name}-data"]).decode()
    return Path(section[name]).read_text() if name in section else None
