"""The file from which an interrupted run goes on: what was to be asked, and what is settled.

JSON Lines. The first line is the run, written whole or not at all; each further line is a batch,
on the disk before the next one is asked for. A line that a crash has torn is as good as not there.
"""

import fcntl
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import orjson

from bridge.errors import BridgeError
from bridge.reconcile.report import Settled


@dataclass(frozen=True, slots=True)
class Run:
    """What a run is about.

    `wanted` is what it was called with, `ids` are those to ask for, of each endpoint. `topic_since`
    says from when on the topic is read: a time in ISO 8601, empty for all of it, None for nothing.
    The others are what the report says of a list.
    """

    wanted: Mapping[str, Any]
    ids: Mapping[str, Sequence[str]]
    topic_since: str | None
    invalid: Sequence[str]
    unreadable_lines: Sequence[int]
    dropped_lines: int
    missing_ids: int
    left_out: Mapping[str, int]


class Journal:
    """One run's file, locked while the `with` block lasts; `batches` are those it began with.

    Every method raises BridgeError for what the file system does.
    """

    def __init__(self, path: Path, file: BinaryIO, run: Run, batches: list[Any]) -> None:
        self.run = run
        self.batches: Sequence[Mapping[str, Any]] = batches
        self._path = path
        self._file = file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let another run have the file."""
        self._file.close()

    @classmethod
    def begun(cls, path: Path, run: Run) -> Self:
        """Begin a file."""
        try:
            descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
            file = os.fdopen(descriptor, "r+b")
            _lock(file, path)
            file.write(orjson.dumps(asdict(run)) + b"\n")
            _sync(file)
            Path(name).replace(path)
            _sync_directory(path)
        except OSError as exc:
            raise BridgeError(f"cannot write {path}: {exc.strerror}") from exc
        return cls(path, file, run, [])

    @classmethod
    def found(cls, path: Path) -> Self | None:
        """Go on with the file of a former run, if there is one."""
        try:
            file = path.open("r+b")
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise BridgeError(f"cannot open {path}: {exc.strerror}") from exc
        try:
            _lock(file, path)
            whole = file.read().rpartition(b"\n")[0]
            first, *rest = (orjson.loads(line) for line in whole.split(b"\n"))
            run = Run(**first)
            file.truncate(file.seek(len(whole) + 1))
        except (ValueError, TypeError):
            file.close()
            raise BridgeError(f"{path} is no file of an interrupted run") from None
        except BridgeError:
            file.close()
            raise
        return cls(path, file, run, rest)

    def settle(self, settled: Settled) -> None:
        """Keep what became of a batch."""
        try:
            self._file.write(orjson.dumps(settled) + b"\n")
            _sync(self._file)
        except OSError as exc:
            raise BridgeError(f"cannot write {self._path}: {exc.strerror}") from exc

    def remove(self) -> None:
        """Remove the file: there is nothing left to go on with."""
        self._path.unlink(missing_ok=True)


def _lock(file: BinaryIO, path: Path) -> None:
    """Keep the file for this process, however that ends."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BridgeError(f"{path} is in use by another run") from None


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
