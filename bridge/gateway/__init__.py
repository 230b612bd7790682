"""HTTP: from a connection to the answer."""
