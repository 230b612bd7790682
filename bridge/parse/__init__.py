"""A request's body becomes states. No I/O, no clock, no logging.

The formats' facts are the provider's (its pages on the webhook). `document.py` is the way in;
`xml_form.py` finds the states of a body, and `states.py` says what each of them holds.
"""

from bridge.parse.document import is_blank, parse, parse_state
from bridge.parse.states import is_id, received

__all__ = ["is_blank", "is_id", "parse", "parse_state", "received"]
