"""What holds for one binding, as of the last look, and when to look again.

A look goes through the prerequisites in order and turns each into a condition. A fault of the
binding's is a condition, never an exception that ends anything; trouble with the API server, which
could not take a condition anyway, is one line in the log.
"""

from __future__ import annotations

import asyncio
import logging

from workpool_operator.binding import conditions as c
from workpool_operator.binding import prerequisites
from workpool_operator.binding.base_template import base_job_template
from workpool_operator.binding.conditions import Conditions
from workpool_operator.binding.consent import Consent
from workpool_operator.binding.rehearsal import Rehearsal
from workpool_operator.binding.run_secrets import RunSecrets
from workpool_operator.binding.surroundings import Binding
from workpool_operator.errors import BindingFault, OperatorError
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.prefect_api.client import PrefectApi, Server
from workpool_operator.prefect_api.views import WorkPool
from workpool_operator.telemetry import Trouble

log = logging.getLogger(__name__)

CHECK_SECONDS = 8.0  # a fault of Secret, pool or rights shows within 15 s
FAILED_CHECK_SECONDS = 3.0
QUIET_SECONDS = 0.2  # reasons to look that come together make one look


class Inspection:
    """`generation` is that of the spec which the conditions speak of, `pool` what the server has
    under the pool's name, `served` the last of it that could be served."""

    def __init__(
        self,
        binding: Binding,
        kube: KubernetesClient,
        *,
        job_namespace: str,
        run_secrets: RunSecrets,
    ) -> None:
        self._binding = binding
        self._kube = kube
        self._job_namespace = job_namespace
        self._run_secrets = run_secrets
        self.consent = Consent(
            kube, binding_namespace=binding.namespace, job_namespace=job_namespace
        )
        self._rehearsal = Rehearsal(kube, namespace=job_namespace, consent=self.consent)
        self._wanted = asyncio.Event()
        self._trouble = Trouble(log, binding.key)
        self.conditions = Conditions()
        self.generation = 0
        self.pool: WorkPool | None = None
        self.served: WorkPool | None = None
        self.server_version: str | None = None

    async def credentials(self) -> Server:
        """The server that the spec names, with the values of its Secrets.

        Raises:
            BindingFault: there is no such Secret or key.
        """
        self.generation = self._binding.generation()
        spec = self._binding.spec()
        url = prerequisites.server_url(spec)
        self.conditions.holds(c.SERVER_RESOLVED, "Resolved", f"The Prefect API is {url}.")
        return await prerequisites.credentials(
            spec, namespace=self._binding.namespace, kube=self._kube
        )

    async def look(self, api: PrefectApi) -> WorkPool:
        """Every check that needs the server or the cluster.

        Raises:
            BindingFault: the first that fails.
        """
        spec = self._binding.spec()
        self.pool = await prerequisites.ask_for_pool(api)
        await self._reached(api)
        pool = prerequisites.servable(self.pool, spec, api)
        found = f"Work pool {pool.name!r}, of type {pool.type!r}."
        self.conditions.holds(c.WORK_POOL_FOUND, "Found", found)
        said = await base_job_template(pool, api, self._rehearsal)
        self.served = pool  # no sooner: a run that is claimed already has the template before
        self.conditions.holds(c.TEMPLATE_VALID, "Valid", said)
        await prerequisites.jobs_permitted(self._kube, self._job_namespace, self.consent)
        beside = await self._run_secrets.ensure(api.server)
        where = f"The operator may make Jobs in namespace {self._job_namespace!r}."
        self.conditions.holds(c.JOBS_PERMITTED, "Allowed", where + beside)
        self._trouble.over("cannot look at Secrets and rights")
        return pool

    async def _reached(self, api: PrefectApi) -> None:
        """The server answered, to these credentials."""
        server = api.server
        anonymous = server.api_key is None and server.auth_string is None
        self.conditions.holds(
            c.CREDENTIALS_VALID,
            "Anonymous" if anonymous else "Accepted",
            "The server asks for none." if anonymous else "The server accepts what is sent.",
        )
        self.conditions.holds(c.SERVER_REACHABLE, "Connected", f"{server.url} answers.")
        self.server_version = self.server_version or await api.version()

    def failed(self, error: OperatorError) -> None:
        """A look ended with it."""
        if isinstance(error, BindingFault):
            self.conditions.fails(error.condition, error.reason, str(error))
            if error.condition == c.SERVER_REACHABLE:
                self.server_version = None  # it may be another when it is back
        else:
            self._trouble.begins("cannot look at Secrets and rights", error)

    def polled(self, error: OperatorError | None) -> None:
        """A poll tells first whether the server answers; a look then says what is wrong."""
        if error is not None or not self.conditions.all_hold():
            self._wanted.set()

    def ask(self) -> None:
        """Look now: something may have changed."""
        self._wanted.set()

    def may_claim(self) -> bool:
        """Whether runs may be taken from the pool at all."""
        paused = self.pool is not None and self.pool.is_paused
        return self.conditions.all_hold() and not self._binding.spec().suspend and not paused

    async def pause(self) -> None:
        """Return when it is time to look again."""
        try:
            healthy = self.conditions.all_hold()
            async with asyncio.timeout(CHECK_SECONDS if healthy else FAILED_CHECK_SECONDS):
                await self._wanted.wait()
            await asyncio.sleep(QUIET_SECONDS)
        except TimeoutError:
            pass
        self._wanted.clear()
