"""Fuzzing that is guided by coverage: bodies, configurations and what comes on a connection."""
