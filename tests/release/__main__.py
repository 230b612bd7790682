"""`make release-check`: all of a release that needs no GitHub, into `dist/`.

With --tag, as the release's workflow calls it, also whether the tag is of this version, the notes,
and whether the chart's addresses are real ones, which --repository and --image name. What cannot be
done on this machine is said, and with GITHUB_ACTIONS an error.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

from bridge import __version__
from tests.helm.binaries import HelmUnavailableError, helm_binary
from tests.release.artifacts import (
    IMAGE,
    REPOSITORY,
    ROOT,
    chart,
    copy_of_the_checkout,
    digests,
    refuse_placeholders,
    set_addresses,
    wheel_and_sdist,
)
from tests.release.bill import AdvisoriesUnavailableError, bill_of_materials, vulnerabilities
from tests.release.changelog import NotReleasedError, notes
from tests.release.trial import installed, tried

DIST = ROOT / "dist"
MUST = bool(os.environ.get("GITHUB_ACTIONS"))
AUDITED = ("requirements.txt", "requirements-otel.txt")


def main() -> None:
    """Say what was done, a line each; ends with 1 at the first thing that is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.release", description=__doc__)
    parser.add_argument("--tag", help="the tag of the release, such as v0.1.0")
    parser.add_argument("--repository", default=REPOSITORY, help="its address, for the chart")
    parser.add_argument("--image", default=IMAGE, help="the image without a tag, for the chart")
    arguments = parser.parse_args()
    os.umask(0o022)
    with tempfile.TemporaryDirectory(prefix="sms-bridge-release-") as scratch:
        try:
            _check(arguments, Path(scratch))
        except (RuntimeError, subprocess.CalledProcessError) as exc:
            _fail(str(exc))


def _check(arguments: argparse.Namespace, scratch: Path) -> None:
    _agree()
    text = None if arguments.tag is None else _notes(arguments.tag)
    shutil.rmtree(DIST, ignore_errors=True)
    built = _built(arguments, scratch)
    wheel = next(path for path in built if path.suffix == ".whl")
    python = installed(wheel, scratch / "installed")
    (scratch / "elsewhere").mkdir()
    for what in tried(python, scratch / "elsewhere"):
        _say("installed wheel", what)
    tools = _tools(scratch / "tools")
    bill = bill_of_materials(tools, python)
    file = DIST / f"sms-status-bridge-{__version__}.cdx.json"
    file.write_text(json.dumps(bill, indent=2) + "\n", encoding="utf-8")
    _say("SBOM", f"CycloneDX {bill['specVersion']}, {len(bill['components'])} packages")
    _audit(tools)
    lines = list(digests(sorted([*built, file])))
    (DIST / "SHA256SUMS").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for line in lines:
        _say("sha256", line)
    if text is not None:
        (DIST / "NOTES.md").write_text(text, encoding="utf-8")
    _say("done", f"{DIST.relative_to(ROOT)}/")


def _agree() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "tests/test_versions.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        _fail(f"versions do not agree:\n{done.stdout}")
    _say("versions", f"{__version__} in package, changelog, chart and image")


def _built(arguments: argparse.Namespace, scratch: Path) -> list[Path]:
    """Build twice, in places and at times that differ; the first goes to `dist/`."""
    DIST.mkdir()
    first = copy_of_the_checkout(scratch / "first")
    files = wheel_and_sdist(first, DIST)
    time.sleep(1.1)  # a second of the clock, which archives have
    second, again = copy_of_the_checkout(scratch / "elsewhere-2"), scratch / "again"
    again.mkdir()
    wheel_and_sdist(second, again, TZ="Pacific/Auckland", LC_ALL="C")
    try:
        helm = helm_binary("3")
        for source in (first, second):
            set_addresses(source, arguments.repository, arguments.image)
        files.append(chart(helm, first, DIST))
        chart(helm, second, again)
        if arguments.tag is not None:
            refuse_placeholders(files[-1])
    except HelmUnavailableError as exc:
        _skip("chart", str(exc))
    for file in files:
        if file.read_bytes() != (again / file.name).read_bytes():
            _fail(f"{file.name}: two builds differ")
        _say("reproducible", f"{file.name}: two builds, the same {file.stat().st_size} bytes")
    return files


def _tools(directory: Path) -> Path:
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, directory], check=True)
    requirements = ROOT / "requirements-release.txt"
    install = [str(uv), "pip", "install", "--quiet", "--python", str(directory)]
    subprocess.run([*install, "--require-hashes", "--requirement", requirements], check=True)
    return directory


def _audit(tools: Path) -> None:
    for name in AUDITED:
        try:
            found = list(vulnerabilities(tools, ROOT / name))
        except AdvisoriesUnavailableError as exc:
            _skip("pip-audit", f"{name}: the advisories are out of reach: {exc}")
            continue
        if found:
            _fail("\n".join([f"{name} has known vulnerabilities:", *found]))
        _say("pip-audit", f"{name}: nothing known")


def _notes(tag: str) -> str:
    if tag != f"v{__version__}":
        _fail(f"the tag is {tag}, and the version {__version__}")
    try:
        text = notes(__version__)
    except NotReleasedError as exc:
        _fail(str(exc))
    _say("notes", f"{len(text.splitlines())} lines of the changelog")
    return text


def _say(what: str, text: str) -> None:
    print(f"{what}: {text}", flush=True)  # noqa: T201 -- what it is for


def _skip(what: str, why: str) -> None:
    if MUST:
        _fail(f"{what}: {why}")
    _say(what, f"SKIPPED: {why}")


def _fail(message: str) -> NoReturn:
    sys.exit(f"release-check: {message}")


if __name__ == "__main__":
    main()
