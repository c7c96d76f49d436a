"""Breaks chosen requests to a real server, to test what happens when answers are late or lost."""

from tests.support.fault_proxy.proxy import FaultProxy
from tests.support.fault_proxy.rules import Answer, Call, Dropped, Match, Rule, wait_for_thread

__all__ = ["Answer", "Call", "Dropped", "FaultProxy", "Match", "Rule", "wait_for_thread"]
