"""The checks of `doctor` of what a binding names: its Prefect server, from the name in DNS to the
event stream, and then its Jobs. A check that needs an earlier one is left out if that failed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlsplit

from pydantic import ValidationError

from workpool_operator import connection_errors
from workpool_operator.binding import conditions as c
from workpool_operator.binding import preflight_checks
from workpool_operator.binding.context import Binding
from workpool_operator.cli import binding_lookup, connections, job_checks, shown_certificate
from workpool_operator.cli.check_result import CheckResult
from workpool_operator.clock import SYSTEM_CLOCK
from workpool_operator.errors import BindingFault, OperatorError
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.endpoint import PrefectEndpoint
from workpool_operator.prefect_api.events import EventStream
from workpool_operator.prefect_api.models import WorkPool
from workpool_operator.prefect_api.proxies import proxy_of

SECONDS = 15.0
MOST_SKEW = timedelta(seconds=5)


async def check_binding(kube: KubernetesClient, key: str) -> AsyncIterator[CheckResult]:
    """Yield the results for the binding NAMESPACE/NAME."""
    try:
        binding = await binding_lookup.find_binding(key, kube=kube)
        found = await connections.connect_server(binding, kube, named=key)
        api = preflight_checks.client(
            binding.spec(), found.server, kind=connections.PatientPrefectApi
        )
    except (OperatorError, ValidationError) as error:
        yield CheckResult("address and credentials", str(error))
        return
    named = await check_name(found.server)
    yield named
    if named.status == "failed":
        return
    async with api:
        results, pool = await check_api(api, binding)
        for result in results:
            yield result
        if pool is None:
            return
        yield await check_events(api, pool, binding)
        yield check_clocks(kube, api)
        async for result in job_checks.check_jobs(kube, api, pool, binding):
            yield result


async def check_name(server: PrefectEndpoint) -> CheckResult:
    """Check that the host's name has an address."""
    parts = urlsplit(server.url)
    host = parts.hostname or ""
    if proxy := proxy_of(server.url):
        return CheckResult(f"DNS: {host} is left to the proxy {proxy.address}", status="ok")
    try:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(SECONDS):
            found = await loop.getaddrinfo(host, parts.port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError) as error:
        fault = connection_errors.explain(error)
        fix = f"correct {server.setting}, and check the DNS of the cluster. {connections.ELSEWHERE}"
        return CheckResult(f"DNS: {host}", fault, fix)
    addresses = sorted({str(each[4][0]) for each in found})
    return CheckResult(f"DNS: {host} is {', '.join(addresses[:3])}", status="ok")


async def check_api(api: PrefectApi, binding: Binding) -> tuple[list[CheckResult], WorkPool | None]:
    """Check TLS, the API, the credentials, its version, the pool and its queues; return the pool if
    its runs can be claimed."""
    server, spec = api.server, binding.spec()
    try:
        async with asyncio.timeout(SECONDS):
            pool = await preflight_checks.read_pool(api)
    except BindingFault as fault:
        return [await _with_certificate(failed_request(fault, server), fault, server)], None
    except TimeoutError:
        return [CheckResult(f"API: {server.address}", f"no answer within {SECONDS:g} s")], None
    results = [*_trusted(server), await _version(api), _accepted(server)]
    try:
        pool = preflight_checks.check_pool_type(pool, spec, api)
        _, missing = await preflight_checks.check_queues(spec, api)
        if missing:
            raise missing
    except OperatorError as error:
        return [*results, CheckResult(f"work pool {api.pool!r}", str(error))], None
    subject = f"work pool {pool.name!r} exists and has type {pool.type!r}"
    if pool.is_paused:
        fix = f"prefect work-pool resume {pool.name!r}"
        results.append(CheckResult(subject, "it is paused: no runs are claimed", fix, "warning"))
    else:
        results.append(CheckResult(subject, status="ok"))
    return results, pool


def failed_request(fault: BindingFault, server: PrefectEndpoint) -> CheckResult:
    """Return the result of the check that the fault of a request belongs to."""
    if fault.condition == c.CREDENTIALS_VALID:
        return CheckResult("credentials", str(fault))
    if fault.reason == "CertificateNotTrusted":
        return CheckResult("TLS: the certificate of the server", str(fault))
    return CheckResult(f"API: {server.address}", str(fault))


async def _with_certificate(
    failed: CheckResult, fault: BindingFault, server: PrefectEndpoint
) -> CheckResult:
    """Add the facts of a certificate that is not trusted."""
    if fault.reason != "CertificateNotTrusted":
        return failed
    facts = await shown_certificate.describe(server.url)
    return replace(failed, message=f"{failed.message}. It shows: {facts}") if facts else failed


def _trusted(server: PrefectEndpoint) -> list[CheckResult]:
    if not server.url.startswith("https:"):
        return []
    if server.trust.verify:
        return [CheckResult("TLS: the certificate of the server is trusted", status="ok")]
    fix = "name the CA in spec.server.caBundle, and remove tls.insecureSkipVerify"
    return [CheckResult("TLS", "every certificate is accepted", fix, "warning")]


async def _version(api: PrefectApi) -> CheckResult:
    version = await preflight_checks.server_version(api)
    subject = f"API: {api.server.address} answers, version {version or 'unknown'}"
    if warning := preflight_checks.version_warning(version):
        return CheckResult(subject, warning, "upgrade the Prefect server", "warning")
    return CheckResult(subject, status="ok")


def _accepted(server: PrefectEndpoint) -> CheckResult:
    anonymous = server.without_credentials
    text = "the server requires none" if anonymous else "the server accepts them"
    return CheckResult(f"credentials: {text}", status="ok")


async def check_events(api: PrefectApi, pool: WorkPool, binding: Binding) -> CheckResult:
    """Check that the event stream, a websocket, opens."""
    opened: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

    def connected(why: str | None) -> None:
        if not opened.done():
            opened.set_result(why)

    stream = EventStream(api.server, pool_id=pool.id, changed=lambda _: None, connected=connected)
    listening = asyncio.create_task(stream.run())
    try:
        async with asyncio.timeout(SECONDS):
            why = await opened
    except TimeoutError:
        why = f"no answer within {SECONDS:g} s"
    finally:
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening
    subject = "events: the websocket /events/out opens"
    if why is None:
        return CheckResult(subject, status="ok")
    seconds = binding.spec().poll.interval_seconds
    fault = f"{why}. Runs are found by polling every {seconds} s only"
    fix = "let the proxy in front of the server pass websockets on"
    return CheckResult(subject, fault, fix, "warning")


def check_clocks(kube: KubernetesClient, api: PrefectApi) -> CheckResult:
    """Compare the clocks of both servers, as their answers showed them, with this machine's."""
    own = SYSTEM_CLOCK.now()
    ahead = {"Kubernetes": kube.clock.now() - own, "Prefect": api.clock.now() - own}
    faults = [
        f"{name} is {abs(by.total_seconds()):.0f} s {'ahead' if by > MOST_SKEW else 'behind'}"
        for name, by in ahead.items()
        if abs(by) > MOST_SKEW
    ]
    subject = "clocks of Prefect, Kubernetes and this machine agree"
    if not faults:
        return CheckResult(subject, status="ok")
    return CheckResult(subject, "; ".join(faults), "set all by NTP", "warning")
