"""What runs: the versions of the program, of Python, and of Expat, which reads what strangers send.

Expat comes with Python or with the system, so no pinned requirement says which it is.
"""

import platform
from collections.abc import Mapping
from typing import Final
from xml.parsers import expat

from bridge import __version__

# The first that bounds the memory of a small document (CVE-2025-59375). It also has the fixes of
# CVE-2024-8176 (2.7.0), CVE-2023-52425 (2.6.0) and CVE-2013-0340 (2.4.0): SECURITY.md.
EXPAT_FLOOR: Final = (2, 7, 2)

VERSIONS: Final[Mapping[str, str]] = {
    "version": __version__,
    "python": platform.python_version(),
    "expat": expat.EXPAT_VERSION.removeprefix("expat_"),
}


def expat_warning(version: str = VERSIONS["expat"]) -> str | None:
    """What to do about an Expat that is too old; None if it is not."""
    if tuple(map(int, version.split("."))) >= EXPAT_FLOOR:
        return None
    floor = ".".join(map(str, EXPAT_FLOOR))
    return (
        f"Expat {version}, which parses the bodies, is older than {floor}: use a newer Python, "
        "unless the system's packages have the security fixes"
    )
