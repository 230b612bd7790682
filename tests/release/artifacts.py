"""Builds what a release hands out: wheel, sdist and chart, the same bytes from the same commit."""

import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://git.example.com/messaging/sms-status-bridge"
IMAGE = "registry.example.com/sms-status-bridge"
"""What Chart.yaml has for the addresses of whoever releases."""
BUILD_TIMEOUT_SECONDS = 300


def commit_time() -> int:
    """When the commit was made, in seconds since 1970: the time of everything in the artifacts."""
    shown = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, check=True
    )
    return int(shown.stdout)


def tracked() -> list[Path]:
    """The files of the checkout that git knows, relative to it."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    names = listed.stdout.decode().rstrip("\0").split("\0")
    return [Path(name) for name in names if (ROOT / name).is_file()]


def copy_of_the_checkout(directory: Path) -> Path:
    """A new directory with the tracked files as they are now, and nothing that lies beside them."""
    for path in tracked():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, directory / path)
    return directory


def wheel_and_sdist(source: Path, out: Path, **environment: str) -> list[Path]:
    """Build both from a copy; the builder is the pinned one of this environment."""
    _run(
        [sys.executable, "-m", "hatchling", "build", "--directory", str(out)],
        source,
        {"SOURCE_DATE_EPOCH": str(commit_time()), **environment},
    )
    return sorted(out.iterdir())


def set_addresses(source: Path, repository: str, image: str) -> None:
    """Write into a copy's Chart.yaml whose chart it is, and where its image is."""
    file = source / "helm/Chart.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(REPOSITORY, repository).replace(IMAGE, image), encoding="utf-8")


def chart(helm: Path, source: Path, out: Path) -> Path:
    """Package the chart; Helm writes the time of packaging into it, which is replaced."""
    _run([str(helm), "package", "helm", "--destination", str(out)], source, {"HOME": str(out)})
    (package,) = out.glob("*.tgz")
    package.write_bytes(_with_time(package, commit_time()))
    return package


def refuse_placeholders(package: Path) -> None:
    """RuntimeError if the Chart.yaml of a package still has an address that is nobody's."""
    with tarfile.open(package) as archive:
        content = archive.extractfile("sms-status-bridge/Chart.yaml")
        text = content.read().decode() if content else ""
    left = re.findall(r"\S*example\.com\S*", text)
    if left:
        said = f"{left[0]} in Chart.yaml is a placeholder: name --repository and --image"
        raise RuntimeError(f"{package.name}: {said}")


def digests(files: list[Path]) -> Iterator[str]:
    """A line for each file, as `sha256sum --check` reads it."""
    for file in files:
        yield f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}"


def _run(command: list[str], directory: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")


def _with_time(package: Path, time: int) -> bytes:
    content = io.BytesIO()
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=content, mtime=time) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as written,
        tarfile.open(package) as read,
    ):
        for member in read:
            member.mtime, member.pax_headers = time, {}
            written.addfile(member, read.extractfile(member))
    return content.getvalue()
