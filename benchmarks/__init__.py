"""How fast the bridge is, against a plain gateway of the same packages and against its parts.

Measures; it shares no code with the gateway but what keeps the events the same.
"""
