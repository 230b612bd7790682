"""Names that lead where a test says, for every program of a mount namespace: its own /etc/hosts."""

import subprocess
from collections.abc import Mapping
from pathlib import Path


class HostsFile:
    """In the place of the machine's from its making on, until the namespace ends."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._own = Path("/etc/hosts").read_text()
        self.lead({})
        subprocess.run(["mount", "--bind", str(file), "/etc/hosts"], check=True)

    def lead(self, names: Mapping[str, str]) -> None:
        """Let these names, and no others, lead to these addresses."""
        lines = [f"{address} {name}\n" for name, address in names.items()]
        # In its place: another file would not be the mounted one.
        self._file.write_text(self._own.rstrip("\n") + "\n" + "".join(lines))
