"""The tests, in files named after the module they hold."""
