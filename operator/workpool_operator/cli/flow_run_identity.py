"""Finds the owner and the claim of a run that is only rendered.

What is unknown without a cluster, or before the run is claimed, is a placeholder that is the same
every time. A note names each placeholder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from prefect.utilities.templating import apply_values

from workpool_operator import settings
from workpool_operator.api.v1alpha1 import ServerSpec
from workpool_operator.binding.context import Binding
from workpool_operator.binding.secrets import run_credentials
from workpool_operator.binding.server_source import find_server
from workpool_operator.cli.binding_check import POOL_TYPES
from workpool_operator.cli.binding_lookup import binding_of
from workpool_operator.cli.flow_run_documents import SAMPLE_ID, RunDocuments
from workpool_operator.errors import OperatorError
from workpool_operator.jobs import references
from workpool_operator.jobs.field_errors import get_path
from workpool_operator.jobs.manifest import Identity
from workpool_operator.kube.client import KubernetesClient
from workpool_operator.prefect_api.client import PrefectApi
from workpool_operator.prefect_api.endpoint import PrefectEndpoint, TLSTrust
from workpool_operator.prefect_api.models import Run
from workpool_operator.runs.claims import Claim, Owner, find_claim

NO_CLUSTER = str(SAMPLE_ID)
NO_SERVER = "http://prefect.example/api"


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """The owner and the identity of a run; `notes` name the placeholders in them."""

    owner: Owner
    identity: Identity
    notes: tuple[str, ...]


async def identify_run(
    binding: Binding | None,
    found: RunDocuments,
    *,
    api: PrefectApi | None,
    kube: KubernetesClient | None,
) -> RunIdentity:
    """Return the identity that the binding, or one with all defaults, gives to the run."""
    notes: list[str] = []
    cluster_id = await _cluster_id(binding, kube)
    if binding is None:
        binding = _sample_binding(found, url=api.server.url if api else "")
        notes.append("no --binding given, so labels are placeholders and credentials are left out")
    elif api and cluster_id == NO_CLUSTER:
        text = f"namespace {binding.namespace!r} cannot be read from a cluster"
        notes.append(f"{text}, so the binding's id is a placeholder")
    if api:
        notes += _mismatch(binding, found)
    url, unread = await _server_url(binding, kube)
    notes += unread
    owner = _owner(binding, found, cluster_id, server_url=url)
    claim = await _claim(found, owner, api) if api else None
    if found.server_run and claim is None:
        notes.append(_unclaimed(found.server_run))
    run_id = UUID(found.run["id"])
    identity = owner.identity(run_id, claim or Claim(SAMPLE_ID))
    return RunIdentity(owner, identity, tuple(notes))


def _mismatch(binding: Binding, found: RunDocuments) -> Iterator[str]:
    """Yield why the binding would not serve the run at all."""
    wanted, pool = binding.spec().work_pool, found.pool
    if pool["name"] != wanted.pool_name:
        yield f"{binding.key} serves work pool {wanted.pool_name!r}, not {pool['name']!r}"
    if pool["type"] != wanted.type:
        text = f"work pool {pool['name']!r} has type {pool['type']!r}"
        yield f"{text}, and {binding.key} expects {wanted.type!r}"


async def _server_url(binding: Binding, kube: KubernetesClient | None) -> tuple[str, list[str]]:
    """Return the address of the binding's server, and a note if it is a placeholder."""
    try:
        found = await find_server(binding.spec(), namespace=binding.namespace, kube=kube)
    except OperatorError as error:
        text = str(error).rstrip(".")
        return NO_SERVER, [f"the server's address is a placeholder ({NO_SERVER}): {text}"]
    return found.url, []


def _owner(binding: Binding, found: RunDocuments, cluster_id: str, *, server_url: str) -> Owner:
    server = _with_credentials(binding.spec().server, server_url)
    return binding.owner(
        cluster_id=cluster_id,
        server_url=server_url,
        pool_id=UUID(found.pool["id"]),
        credentials=run_credentials(binding, server),
        template_environment=settings.template_environment(),
    )


def _with_credentials(server: ServerSpec, url: str) -> PrefectEndpoint:
    """Return the server with the credentials that the operator has, without their values."""
    return PrefectEndpoint(
        url,
        api_key="" if server.api_key else None,
        auth_string="" if server.auth_string else None,
        headers=tuple((header.name, "") for header in server.headers or ()),
        trust=TLSTrust(ca_bundle="", verify=not (server.tls and server.tls.insecure_skip_verify)),
    )


def _sample_binding(found: RunDocuments, *, url: str) -> Binding:
    """Return a binding of the pool in the namespace that the template names."""
    server = {"url": url or NO_SERVER}
    pool = {key: found.pool[key] for key in ("name", "type")}
    pool["type"] = pool["type"] if pool["type"] in POOL_TYPES else POOL_TYPES[0]
    metadata = {"namespace": _namespace(found), "name": "render"}
    return binding_of({"metadata": metadata, "spec": {"workPool": pool, "server": server}})


def _namespace(found: RunDocuments) -> str:
    """Return the namespace of the template and the job variables, as for a stock worker."""
    template = found.pool["base_job_template"]
    values = {
        **{name: references.default(template, name) for name in references.schemas(template)},
        **((found.deployment or {}).get("job_variables") or {}),
        **(found.run.get("job_variables") or {}),
    }
    named = get_path(template, (*references.MANIFEST, "metadata", "namespace"))
    text = apply_values(named or "{{ namespace }}", values)
    return text if isinstance(text, str) and text else "default"


async def _cluster_id(binding: Binding | None, kube: KubernetesClient | None) -> str:
    try:
        return await kube.namespace_uid(binding.namespace) if binding and kube else NO_CLUSTER
    except OperatorError:
        return NO_CLUSTER


async def _claim(found: RunDocuments, owner: Owner, api: PrefectApi) -> Claim | None:
    if found.server_run is None:
        return None
    history = await api.history(found.server_run.id)
    return find_claim(found.server_run, history, {owner.transition_id(found.server_run.id)})


def _unclaimed(run: Run) -> str:
    by = "not claimed yet" if run.state_type == "SCHEDULED" else "not claimed by this binding"
    return (
        f"flow run {run.name!r} is {run.state_name}, {by}, so the claim id in the Job's name and "
        "labels is a placeholder"
    )
