"""`workpool-operator run`, before its event loop starts."""

from __future__ import annotations

import os
import signal
from importlib import import_module

import pytest

RUN = import_module("workpool_operator.cli.run")  # the package's attribute is the command


def test_sigterm_ends_the_operator_also_while_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the first process of a container it would not, without a handler."""
    before = signal.getsignal(signal.SIGTERM)
    terminate = lambda **_: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
    monkeypatch.setattr(RUN, "read_settings", terminate)
    try:
        with pytest.raises(SystemExit) as ended:
            RUN.main(namespaces=(), health_port=None, selector=None)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 0
