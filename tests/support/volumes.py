"""A disk of a test's own: ext4 in a file. It can be full, and it can lose its power.

It needs root, and a mount namespace that ends with the test: `unshare --mount`.
"""

import fcntl
import os
import struct
import subprocess
from pathlib import Path

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, in fs/ext4/ext4.h
WITHOUT_FLUSH = struct.pack("I", 2)  # EXT4_GOING_FLAGS_NOLOGFLUSH: the journal is as it is
MEGABYTE = 2**20


class VolumeUnavailableError(Exception):
    """This machine mounts no file system for us."""


class Volume:
    """Mounted at `path` below a directory from its making on, until the namespace ends."""

    def __init__(self, directory: Path, name: str, megabytes: int) -> None:
        self._image = directory / f"{name}.ext4"
        self._mounted_at = directory / name
        self.path = self._mounted_at / "data"  # not the root, which holds lost+found
        self._filler = self._mounted_at / "filler"
        self._mounted_at.mkdir()
        with self._image.open("wb") as image:
            image.truncate(megabytes * MEGABYTE)
        try:
            _run("mkfs.ext4", "-q", "-m", "0", str(self._image))
            self._mount()
        except (OSError, subprocess.CalledProcessError) as exc:
            raise VolumeUnavailableError(f"no ext4 on a loop device: {exc}") from exc
        self.path.mkdir()

    def _mount(self) -> None:
        _run("mount", "-o", "loop", str(self._image), str(self._mounted_at))

    def unmount(self) -> None:
        """Nobody has a file of it open by now."""
        _run("umount", str(self._mounted_at))

    def sync(self) -> None:
        """Have all that was written on the disk."""
        _run("sync", "--file-system", str(self._mounted_at))

    def fill(self) -> None:
        """Leave not a byte."""
        with self._filler.open("wb") as filler:
            for size in (MEGABYTE, 4096):
                _allocate_all(filler.fileno(), size)

    def free(self) -> None:
        """Leave what there was before."""
        self._filler.unlink()

    def cut_power(self) -> None:
        """What has not reached the disk never will: not a page, and not the journal."""
        descriptor = os.open(self._mounted_at, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, WITHOUT_FLUSH)
        finally:
            os.close(descriptor)

    def restore_power(self) -> None:
        """Come up again with what is on the disk. All who used it have ended."""
        self.unmount()
        self._mount()


def _allocate_all(descriptor: int, step: int) -> None:
    size = os.fstat(descriptor).st_size
    while True:
        try:
            os.posix_fallocate(descriptor, size, step)
        except OSError:
            return
        size += step


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
