"""A server of the tests leaves nothing open when it stops."""

from __future__ import annotations

import asyncio
import gc
import socket

from tests.support.background_server import stop_accepting


async def test_a_connection_that_was_accepted_gets_its_transport_before_the_server_closes() -> None:
    made: list[asyncio.BaseTransport] = []

    class Server(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(transport)

    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname()):
        for _ in range(2):  # the loop accepts it; the next step makes the transport
            await asyncio.sleep(0)
        await stop_accepting(*server.sockets)
        server.close()
        [transport] = made
        transport.close()
        await asyncio.sleep(0)
    gc.collect()
