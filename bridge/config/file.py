"""The configuration file and every file that it names: read again, and compared with the disk.

What to do about a change is the gateway's business.
"""

from collections.abc import Callable, Mapping
from hashlib import blake2b
from pathlib import Path

from bridge.config.loader import load, read_file
from bridge.config.settings import Settings

Contents = Mapping[str, bytes | None]
"""A digest of each file by its path, None if it cannot be read. A time stamp would miss what is
written within its grain, and tells nothing of a symbolic link that leads elsewhere."""


class ConfigFile:
    """Reads the settings as often as it is asked to; the environment stays as it was given.

    `adjust` makes of the file's settings those that hold, by what else the program was told. Of
    files that are `given`, by path, the first `load` takes what is given in place of the disk's.
    """

    def __init__(
        self,
        path: Path,
        environ: Mapping[str, str],
        adjust: Callable[[Settings], Settings] = lambda settings: settings,
        given: Mapping[str, bytes] | None = None,
    ) -> None:
        self.path = path
        self._adjust = adjust
        self._environ = dict(environ)
        self._read: dict[str, bytes | None] = {}
        self._streams: set[str] = set()  # pipes and the like, which give what they hold only once
        self._given = given or {}
        self._contents: dict[str, bytes] = {}  # of what was read last
        self._in_use: dict[str, bytes] | None = None

    def load(self) -> Settings:
        """Read the settings; after the first time, from regular files alone.

        Raises ConfigError with every problem, and what `adjust` raises.
        """
        self._read, self._contents = {}, {}
        settings = self._adjust(load(self.path, self._environ, read=self._noted))
        if self._in_use is None:
            self.take_up()
        return settings

    def take_up(self) -> None:
        """Say that what `load` has read is in use."""
        self._given, self._in_use = {}, self._contents

    @property
    def in_use(self) -> Mapping[str, bytes]:
        """The files whose settings are in use, as they were read."""
        return self._in_use or {}

    @property
    def read(self) -> Contents:
        """What `load` has read, or tried to."""
        return self._read

    def on_disk(self) -> Contents:
        """The same files as they are now."""
        return {
            path: digest if path in self._streams else _digest(path)
            for path, digest in self._read.items()
        }

    def _noted(self, path: str) -> bytes:
        self._read[path] = None
        if path in self._streams:
            raise ValueError("it is no regular file, and has been read already")
        content = self._given.get(path)
        if content is None:
            content = read_file(path, regular=self._in_use is not None)
        if not Path(path).is_file():
            self._streams.add(path)
        self._read[path], self._contents[path] = _hash(content), content
        return content


def _digest(path: str) -> bytes | None:
    try:
        return _hash(read_file(path, regular=True))
    except OSError:
        return None


def _hash(content: bytes) -> bytes:
    return blake2b(content).digest()
