"""The gateway that somebody else would write: one a language, of the size its ecosystem would.

Each does the same work as the bridge: XML in, one keyed CloudEvent a state, acks=all, and an answer
with the ids after the broker's. What each leaves out is in `programs.PEERS`.
"""
