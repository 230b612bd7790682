"""The corpus in the repository: of each target the few small inputs that cover the most.

Those are named by their digests, and replaced when the corpus is minimised. An input with a name
stays: it stands for something that coverage does not show, or that was found.
"""

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Final

CORPUS: Final = Path(__file__).with_name("corpus")
# Of an input. A body's limits are at 4,096 characters.
MAX_BYTES: Final = MappingProxyType({"body": 8192, "config": 4096, "framing": 4096})


def inputs(target: str) -> dict[str, bytes]:
    """Each input by its file's name."""
    return {path.name: path.read_bytes() for path in sorted((CORPUS / target).iterdir())}


def rewrite(target: str, kept: Iterable[bytes]) -> None:
    """Put these in place of those without a name."""
    named = {data for name, data in inputs(target).items() if name != name_of(data)}
    for name, data in inputs(target).items():
        if data not in named:
            (CORPUS / target / name).unlink()
    for data in {*kept} - named:
        (CORPUS / target / name_of(data)).write_bytes(data)


def name_of(data: bytes) -> str:
    """The name of an input's file."""
    return sha256(data).hexdigest()[:16]
