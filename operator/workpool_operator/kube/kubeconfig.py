"""Loads a person's kubeconfig; if it cannot be used, explains why in a sentence."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass

from kubernetes_asyncio import config as kube_config
from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.config.kube_config import KubeConfigLoader, KubeConfigMerger

from workpool_operator.errors import KubernetesUnavailable, OperatorError
from workpool_operator.ttl_cache import TTLCache

DEFAULT = "~/.kube/config"
TOKEN_SECONDS = 60.0
_ROTATE = frozenset({"exec", "tokenFile", "auth-provider"})  # of a user


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
            loader = await self._load(configuration)
            active = loader.current_context
            if not _ROTATE.isdisjoint(loader._user.value if loader._user else ()):
                configuration.refresh_api_key_hook = _Token(self, loader).refresh
            return str(active["name"]), str(active["context"].get("namespace") or "default")
        except Exception as error:  # a broken file can raise anything in the loader
            raise OperatorError(self._problem(error)) from error

    async def _load(self, configuration: Configuration) -> KubeConfigLoader:
        return await kube_config.load_kube_config(
            config_file=self.location,
            context=self.context or None,
            client_configuration=configuration,
        )

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


class _Token:
    """Keeps the bearer token of a configuration valid, as kubectl does: that of an exec plugin
    until it expires, and one in a file or of another provider for a minute."""

    def __init__(self, kubeconfig: Kubeconfig, loader: KubeConfigLoader) -> None:
        self._kubeconfig = kubeconfig
        self._loader = loader
        self._read_tokens = TTLCache[str](seconds=TOKEN_SECONDS)

    async def refresh(self, configuration: Configuration) -> None:
        """Replace the token if it may have changed.

        Raises:
            KubernetesUnavailable: there is no new one.
        """
        if token := await self._read_tokens.get("", self._read):
            configuration.api_key["BearerToken"] = token

    async def _read(self) -> str:
        try:
            if "exec" not in self._loader._user:
                again = Configuration()
                await self._kubeconfig._load(again)
                return str(again.api_key.get("BearerToken", "")).strip()
            if hasattr(self._loader, "exec_plugin_expiry"):
                await self._loader.load_from_exec_plugin()  # runs it shortly before the expiry
            return str(getattr(self._loader, "token", ""))
        except Exception as error:  # the loader's, or the plugin's
            text = f"no token from {self._kubeconfig}: {_reason(error)}"
            raise KubernetesUnavailable(text) from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return str(error.strerror or error)
    if isinstance(error, TypeError | AttributeError):  # raised by the loader for other documents
        return "it is not a kubeconfig"
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _has(names: list[str]) -> str:
    return f"it has {', '.join(names)}"
