"""The configuration: settings, their types, what must agree, and the loader."""
