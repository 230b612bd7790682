"""The inspector: a page that shows recent documents and what became of them, while they arrive.

It is imported if it is switched on. Nothing here may reach a request: neither an error nor a
wait.
"""

from bridge.inspector.app import Inspector
from bridge.inspector.curl import Target, credentials_of

__all__ = ["Inspector", "Target", "credentials_of"]
