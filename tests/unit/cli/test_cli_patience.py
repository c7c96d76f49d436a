"""A command waits for a server that limits the rate of requests, but not for long."""

from __future__ import annotations

import pytest

from tests.support.clock import FakeClock
from workpool_operator.cli.patience import PATIENCE_SECONDS, Patience
from workpool_operator.errors import (
    KubernetesThrottled,
    KubernetesUnavailable,
    OperatorError,
    PrefectThrottled,
)

SOON = 0.01


class Server:
    """Answers with these errors first; each takes `seconds`."""

    def __init__(self, *errors: OperatorError, seconds: float = 0) -> None:
        self.clock = FakeClock()
        self.errors = list(errors)
        self.asked = 0
        self._seconds = seconds

    async def request(self) -> str:
        self.asked += 1
        self.clock.advance(self._seconds)
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


async def test_a_request_is_repeated_when_the_server_said() -> None:
    server = Server(
        PrefectThrottled("HTTP 429", retry_after=SOON),
        KubernetesThrottled("Too many requests", retry_after=SOON),
    )
    assert await Patience(clock=server.clock).outlast(server.request) == "answer"
    assert server.asked == 3


@pytest.mark.parametrize(
    "error",
    [
        PrefectThrottled("HTTP 429"),
        PrefectThrottled("HTTP 429", retry_after=PATIENCE_SECONDS + 1),
        KubernetesUnavailable("HTTP 503", retry_after=SOON),
    ],
)
async def test_what_no_short_wait_resolves_is_reported_at_once(error: OperatorError) -> None:
    server = Server(error)
    with pytest.raises(type(error)):
        await Patience(clock=server.clock).outlast(server.request)
    assert server.asked == 1


async def test_the_wait_ends_though_the_server_names_one_short_time_after_the_other() -> None:
    errors = [PrefectThrottled("HTTP 429", retry_after=SOON) for _ in range(100)]
    server = Server(*errors, seconds=1)
    patience = Patience(clock=server.clock)
    for _ in range(2):
        with pytest.raises(PrefectThrottled):
            await patience.outlast(server.request)
    assert server.asked <= PATIENCE_SECONDS + 2
