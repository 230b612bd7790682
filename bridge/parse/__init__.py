"""A request's body becomes states. No I/O, no clock, no logging.

The formats' facts are the provider's (its pages on the webhook). `document.py` is the way in;
`xml_form.py` and `json_form.py` find the states of a body, and `states.py` says what each holds;
`plain_form.py` is a shortcut for what the provider sends.
"""

from bridge.parse.around import is_blank
from bridge.parse.document import form_of, parse, parse_state
from bridge.parse.states import is_id, received

__all__ = ["form_of", "is_blank", "is_id", "parse", "parse_state", "received"]
