"""Loads a person's kubeconfig; if it cannot be used, explains why in a sentence."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubernetes_asyncio import config as kube_config
from kubernetes_asyncio.config.kube_config import KubeConfigMerger

from workpool_operator.errors import OperatorError

if TYPE_CHECKING:
    from kubernetes_asyncio.client import Configuration

DEFAULT = "~/.kube/config"


@dataclass(frozen=True, slots=True)
class Kubeconfig:
    """The file and context that options name; if empty, KUBECONFIG and the current context.

    `user` is the account that requests impersonate; "" impersonates none.
    """

    file: str = ""
    context: str = ""
    user: str = ""

    @property
    def location(self) -> str:
        """A path, or several paths in the form of KUBECONFIG."""
        return self.file or os.environ.get("KUBECONFIG") or DEFAULT

    def __str__(self) -> str:
        return f"the kubeconfig {self.location}"

    @property
    def is_named(self) -> bool:
        """Whether an option or `KUBECONFIG` names a file or a context."""
        return bool(self.file or self.context or os.environ.get("KUBECONFIG"))

    async def load(self, configuration: Configuration) -> tuple[str, str]:
        """Fill in the configuration; return the context's name and its namespace.

        Raises:
            OperatorError: the file does not exist or cannot be used.
        """
        self._check_existence()
        try:
            loader = await kube_config.load_kube_config(
                config_file=self.location,
                context=self.context or None,
                client_configuration=configuration,
            )
            active = loader.current_context
            return str(active["name"]), str(active["context"].get("namespace") or "default")
        except Exception as error:  # a broken file can raise anything in the loader
            raise OperatorError(self._problem(error)) from error

    def _check_existence(self) -> None:
        paths = self.location.split(os.pathsep)
        if not any(os.path.exists(os.path.expanduser(path)) for path in paths if path):
            text = f"{self} does not exist. Set KUBECONFIG to a file that exists."
            raise OperatorError(text)

    def _problem(self, error: Exception) -> str:
        current, names = self._contexts()
        wanted = self.context or current
        if names and not wanted:
            choose = "Choose one: kubectl config use-context NAME"
            return f"{self} has no current context; {_has(names)}. {choose}"
        if names and wanted not in names:
            return f"{self} has no context {wanted!r}; {_has(names)}"
        return f"{self} cannot be used: {_reason(error)}. Set KUBECONFIG to a valid file."

    def _contexts(self) -> tuple[str, list[str]]:
        """Return the current context's name and the names of all contexts, as far as the file can
        be read."""
        with suppress(Exception):
            found = KubeConfigMerger(self.location).config.value
            names = [str(each["name"]) for each in found["contexts"]]
            return str(found.get("current-context") or ""), names
        return "", []


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return str(error.strerror or error)
    if isinstance(error, TypeError | AttributeError):  # raised by the loader for other documents
        return "it is not a kubeconfig"
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _has(names: list[str]) -> str:
    return f"it has {', '.join(names)}"
