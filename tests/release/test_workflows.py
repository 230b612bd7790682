"""The workflows: well formed, safe, and of actions that are pinned by commit."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.release.artifacts import ROOT

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))


def loaded(workflow: Path) -> dict[str, Any]:
    # YAML 1.1 reads the key `on` as true.
    found: dict[str, Any] = yaml.safe_load(workflow.read_text(encoding="utf-8"))
    return found


def steps(workflow: Path) -> Iterator[dict[str, Any]]:
    for job in loaded(workflow)["jobs"].values():
        yield from job.get("steps", [])


def zizmor(directory: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Its findings about a directory, in its exit status and in words; it asks no network."""
    program = str(Path(sys.executable).with_name("zizmor"))
    command = [program, "--offline", "--no-progress", *options, str(directory)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_they_are_these() -> None:
    names = {path.stem for path in WORKFLOWS}
    assert names == {"ci", "release", "image", "rebuild", "dependencies"}


def test_actionlint_finds_nothing(actionlint: str) -> None:
    done = subprocess.run([actionlint, *WORKFLOWS], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_zizmor_finds_nothing() -> None:
    """Its strictest persona but for what asks the network: whether a commit is that of its tag."""
    done = zizmor(GITHUB, "--persona", "pedantic")
    assert done.returncode == 0, done.stdout + done.stderr


def test_zizmor_would_find_something(tmp_path: Path) -> None:
    """The test itself: an action by tag is a finding."""
    text = (GITHUB / "workflows/ci.yml").read_text(encoding="utf-8")
    workflows = tmp_path / ".github/workflows"
    workflows.mkdir(parents=True)
    (workflows / "ci.yml").write_text(re.sub(r"(actions/checkout)@\w+ #.*", r"\1@v7", text))
    done = zizmor(tmp_path)
    assert done.returncode > 10
    assert "unpinned-uses" in done.stdout


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_every_action_is_pinned_by_commit_with_its_version_beside_it(workflow: Path) -> None:
    used = re.findall(r"uses: (\S+)(.*)", workflow.read_text(encoding="utf-8"))
    for action, comment in used:
        if not action.startswith("./"):
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action)
            assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment)
    assert used or workflow.stem == "rebuild"


def test_an_action_is_of_one_commit_everywhere() -> None:
    texts = "\n".join(path.read_text(encoding="utf-8") for path in WORKFLOWS)
    commits: dict[str, set[str]] = {}
    for action, commit in re.findall(r"uses: ([\w-]+/[\w-]+)@(.+)", texts):
        commits.setdefault(action, set()).add(commit)
    assert {action for action, found in commits.items() if len(found) > 1} == set()


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_nothing_is_permitted_but_what_a_job_names(workflow: Path) -> None:
    found = loaded(workflow)
    assert found["permissions"] == {}
    for name, job in found["jobs"].items():
        assert job["permissions"]["contents"] in {"read", "write"}, name
        assert "timeout-minutes" in job or "uses" in job, name


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_no_checkout_keeps_credentials(workflow: Path) -> None:
    for step in steps(workflow):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_only_the_release_may_write_what_is_published() -> None:
    """Nothing that a pull request starts can write anything at all."""
    for job in loaded(GITHUB / "workflows/ci.yml")["jobs"].values():
        assert set(job["permissions"].values()) == {"read"}


def test_the_shell_of_a_step_gets_no_expression() -> None:
    """What GitHub puts into a script can be anybody's title or branch; variables are safe."""
    for workflow in WORKFLOWS:
        for step in steps(workflow):
            assert "${{" not in step.get("run", ""), workflow.name


def test_every_make_target_that_they_call_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    texts = "\n".join(path.read_text(encoding="utf-8") for path in WORKFLOWS)
    called = set(re.findall(r"make ([a-z-]+) PYTHON", texts))
    assert called == {"check", "release-check", "lock", "docs"}
    assert called <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


def test_the_release_gives_the_chart_its_repository_and_the_image_that_is_pushed() -> None:
    """As bash makes it of GitHub's variables; the registry wants small letters."""
    (command,) = [
        step["run"]
        for step in steps(GITHUB / "workflows/release.yml")
        if "make release-check" in step.get("run", "")
    ]
    pushing = (GITHUB / "workflows/image.yml").read_text(encoding="utf-8")
    (pushed,) = re.findall(r"^ +name=(\S+)$", pushing, re.MULTILINE)
    github = {"SERVER_URL": "https://github.test", "REPOSITORY": "Owner/Bridge", "REF_NAME": "v1"}
    done = subprocess.run(
        ["bash", "-euc", f'make() {{ echo "${{@: -1}}"; }}\n{command}\necho {pushed}'],
        env={f"GITHUB_{name}": value for name, value in github.items()},
        capture_output=True,
        text=True,
        check=True,
    )
    given, image = done.stdout.splitlines()
    assert image == "ghcr.io/owner/bridge"
    repository = "https://github.test/Owner/Bridge"
    assert given == f"ARGS=--tag v1 --repository {repository} --image {image}"


def test_ci_runs_every_python_that_the_package_names() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    named = re.findall(r"Programming Language :: Python :: (3\.\d+)", project)
    matrix = loaded(GITHUB / "workflows/ci.yml")["jobs"]["check"]["strategy"]["matrix"]
    assert set(named) <= set(matrix["python"])


def test_the_dockerfile_s_base_image_can_be_read_and_replaced_by_them() -> None:
    """As the workflows do it, with sed: the series of a tag, and a newer micro release."""
    line = r"s/^ARG PYTHON_IMAGE=\(.*\)$/\1/p"
    series = r"s/@.*//; s/(:3\.[0-9]+)\.[0-9]+-/\1-/"
    texts = [(GITHUB / f"workflows/{name}.yml").read_text() for name in ("image", "dependencies")]
    assert all(line in text and series in text for text in texts)
    dockerfile = ROOT / "Dockerfile"
    found = subprocess.run(
        ["sed", "-n", line, dockerfile], capture_output=True, text=True, check=True
    )
    pinned = found.stdout.splitlines()[0]
    for image in (pinned, f"{pinned}@sha256:{'0' * 64}"):
        done = subprocess.run(
            ["sed", "-E", series], input=image, capture_output=True, text=True, check=True
        )
        assert re.fullmatch(r"docker\.io/library/python:3\.\d+-slim-trixie", done.stdout)
