"""The whole story on one machine, on an in-memory broker."""
