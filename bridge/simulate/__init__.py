"""The provider's side: posts states, reads the answer, sends again what was not listed.

It believes nothing but an answer that it has read whole, and shares no code with the gateway
that it tests. It must not be imported by the gateway.
"""

from bridge.simulate.documents import SentState, render, states
from bridge.simulate.plan import Plan
from bridge.simulate.report import Report, Tally, write_report
from bridge.simulate.run import simulate

__all__ = [
    "Plan",
    "Report",
    "SentState",
    "Tally",
    "render",
    "simulate",
    "states",
    "write_report",
]
