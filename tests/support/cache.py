"""What tests fetch from outside, once for all runs: in the user's cache."""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def kept(name: str, pins: bytes, fetch: Callable[[Path, Path], None]) -> Path:
    """The directory that `fetch` made, below $XDG_CACHE_HOME or else ~/.cache; one for each `pins`.

    `fetch` is called with a scratch directory and the one to make, unless an earlier run has made
    it. Where it raises, nothing is left.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sms-status-bridge"
    target = cache / f"{name}-{hashlib.sha256(pins).hexdigest()[:12]}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            with tempfile.TemporaryDirectory(dir=cache, prefix=f"{target.name}.") as partial:
                made = Path(partial) / "made"
                fetch(Path(partial), made)
                made.rename(target)
    return target
