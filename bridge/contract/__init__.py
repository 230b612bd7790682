"""The documents of the contract, written from the code that keeps it."""
