"""Prefect's client for a render on the command line; it adds what is secret to the redaction.

Promise: the redaction knows every value of a block, and every Prefect variable that is named like
a credential, before it can be printed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from workpool_operator.cli.credential_names import is_credential
from workpool_operator.cli.redaction import Redaction
from workpool_operator.errors import RenderError

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient


class RedactingClient:
    """Reads blocks and variables through a client; without one, it raises RenderError."""

    def __init__(self, client: PrefectClient | None, redaction: Redaction) -> None:
        self._client = client
        self._redaction = redaction

    async def read_block_document(self, id: Any, **options: Any) -> Any:
        """Read the block and add its values to the redaction."""
        client = self._client or _refuse(f"block {id}")
        return self._secret(await client.read_block_document(id, **options))

    async def read_block_document_by_name(
        self, name: str, block_type_slug: str, **options: Any
    ) -> Any:
        """Read the block and add its values to the redaction."""
        client = self._client or _refuse(f"block {block_type_slug}/{name}")
        found = await client.read_block_document_by_name(
            name=name, block_type_slug=block_type_slug, **options
        )
        return self._secret(found)

    async def read_variable_by_name(self, name: str) -> Any:
        """Read the variable; add it to the redaction if it is named like a credential."""
        client = self._client or _refuse(f"variable {name}")
        found = await client.read_variable_by_name(name=name)
        if found is not None and is_credential(name):
            self._redaction.add(found.value)
        return found

    def _secret(self, block: Any) -> Any:
        self._redaction.add(block.data)
        return block


def _refuse(what: str) -> NoReturn:
    text = f"Prefect {what} needs a server: render with --deployment, --flow-run or --pool"
    raise RenderError("", text)
