"""The chaos harness's disks are as full, and lose as much, as they claim. They need root."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import errno, os, pathlib, sys
from tests.support.volumes import Volume, VolumeUnavailableError
try:
    volume = Volume(pathlib.Path(sys.argv[1]), "disk", 32)
except VolumeUnavailableError as exc:
    print(exc)
    sys.exit(77)
kept, lost, grown = (volume.path / name for name in ("kept", "lost", "grown"))
with kept.open("wb") as file:
    file.write(b"x" * 5000)
volume.sync()
volume.fill()
try:
    grown.write_bytes(b"x" * 100_000)
except OSError as exc:
    assert exc.errno == errno.ENOSPC, exc
else:
    raise AssertionError("there was room")
volume.free()
grown.write_bytes(b"x" * 100_000)
lost.write_bytes(b"x" * 5000)
volume.cut_power()
try:
    (volume.path / "after").write_bytes(b"x")
except OSError as exc:
    assert exc.errno == errno.EIO, exc
else:
    raise AssertionError("it was written to without power")
volume.restore_power()
assert kept.read_bytes() == b"x" * 5000
assert not lost.exists() or lost.read_bytes() == b"", "what was not flushed is there"
volume.unmount()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a file system")
def test_a_volume_is_full_and_loses_what_was_not_flushed(tmp_path: Path) -> None:
    command = ["unshare", "--mount", sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr
