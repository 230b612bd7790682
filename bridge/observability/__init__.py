"""Logs, metrics and traces: who watches, and has no say in an answer."""
