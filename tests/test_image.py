"""The Dockerfile: its rules, and its own steps run in an environment of equal shape.

No container engine is needed. The base image's Python is this one in a fresh virtual
environment; directories of the image are those of a temporary directory.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from confluent_kafka import Producer

from bridge import __version__
from bridge.config.settings import Admin
from bridge.demo.child import wait_until
from bridge.demo.embedded_broker import EmbeddedBroker
from tests.support.gateway import configuration

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "Dockerfile"
BUILD_TIMEOUT_SECONDS = 300
START_SECONDS = 30.0
USER = 10001


@dataclass(slots=True)
class Stage:
    """One FROM of the Dockerfile, and what follows it."""

    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def of(self, word: str) -> list[str]:
        """The arguments of every instruction of a kind."""
        return [arguments for name, arguments in self.steps if name == word]

    @property
    def environment(self) -> dict[str, str]:
        """What ENV sets, and ARG by default."""
        lines = [*self.of("ARG"), *self.of("ENV")]
        pairs = [pair.partition("=") for line in lines for pair in shlex.split(line)]
        return {name: value for name, _, value in pairs}


def stages() -> list[Stage]:
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found: list[Stage] = []
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        word, _, arguments = line.partition(" ")
        if word == "FROM":
            found.append(Stage(arguments))
        elif word and found:
            found[-1].steps.append((word, arguments.strip()))
    return found


BUILD, FINAL = stages()


def sent_to_the_engine() -> list[str]:
    """The files and folders that .dockerignore lets through; each of them exists."""
    first, *patterns = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()[1:]
    assert first == "*"
    kept = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    assert all((ROOT / path).exists() for path in kept)
    return kept


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_base_is_slim_and_pinned() -> None:
    (default,) = re.findall(r"^ARG PYTHON_IMAGE=(.+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert re.fullmatch(
        r"docker\.io/library/python:3\.\d+\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", default
    )
    assert BUILD.base == "${PYTHON_IMAGE} AS build"
    assert FINAL.base == "${PYTHON_IMAGE}"


def test_it_runs_as_a_user_by_number_without_a_shell() -> None:
    assert FINAL.of("USER") == [f"{USER}:{USER}"]
    assert FINAL.of("ENTRYPOINT") == ['["sms-bridge"]']
    assert FINAL.of("CMD") == ['["serve"]']
    assert not FINAL.of("RUN")


def test_it_is_the_user_that_the_chart_names() -> None:
    values = yaml.safe_load((ROOT / "helm/values.yaml").read_text(encoding="utf-8"))
    assert values["podSecurityContext"]["runAsUser"] == USER


def test_labels_say_what_it_is() -> None:
    labels = dict(pair.split("=", 1) for line in FINAL.of("LABEL") for pair in shlex.split(line))
    prefix = "org.opencontainers.image."
    assert {name.removeprefix(prefix) for name in labels} >= {
        "title",
        "description",
        "version",
        "licenses",
        *("source", "url", "revision", "created", "base.name", "base.digest"),
    }
    arguments = {argument.partition("=")[0] for argument in FINAL.of("ARG")}
    assert {name for label in labels.values() for name in re.findall(r"\$\{(\w+)\}", label)} == (
        arguments
    )
    assert labels[f"{prefix}base.name"] == "${PYTHON_IMAGE}"


def test_the_index_s_address_and_certificate_are_secrets_of_the_step_alone() -> None:
    """A pip.conf often holds a password: no layer has it, and only what installs from an index."""
    for line in BUILD.of("RUN"):
        mounted = set(re.findall(r"--mount=type=secret,id=([\w.-]+)", line))
        assert mounted == ({"pip.conf", "index-ca"} if "--require-hashes" in line else set())
    assert not [line for line in BUILD.of("COPY") if "pip.conf" in line]


def test_its_health_is_that_the_process_runs_and_asks_without_a_shell() -> None:
    """Not readiness: an engine that restarts what is unhealthy would restart through an outage."""
    (check,) = FINAL.of("HEALTHCHECK")
    assert re.search(r"CMD \[\"python\", \"-IS\", ", check)
    assert "/livez" in check
    assert f"'127.0.0.1', {Admin().port}" in check


def test_the_engine_gets_what_is_copied_and_no_more() -> None:
    """Neither secrets that lie about nor the history of the project."""
    copied = {name for line in BUILD.of("COPY") for name in line.split()[:-1]}
    assert set(sent_to_the_engine()) == copied


def test_everything_that_is_installed_is_pinned_by_hash() -> None:
    installs = [s for line in BUILD.of("RUN") for s in line.split("&&") if " install" in s]
    assert len(installs) == 3
    for install in installs:
        assert "--no-deps" in install
        assert ("--require-hashes" in install) != ("--no-index" in install)
    for name in ("requirements.txt", "requirements-otel.txt", "requirements-build.txt"):
        text = (ROOT / name).read_text(encoding="utf-8")
        pinned = re.findall(r"^[a-z][\w.-]*(?:\[\w+\])?==", text, re.MULTILINE)
        assert pinned
        assert len(pinned) == len(re.findall(r"^[a-z].*\\\n +--hash=", text, re.MULTILINE))


def test_with_tracing_the_image_has_the_same_and_more() -> None:
    """The other choice of REQUIREMENTS differs in the extra alone."""
    pinned = {
        extra: set(
            re.findall(
                r"^([a-z].*==\S+)",
                (ROOT / f"requirements{extra}.txt").read_text(encoding="utf-8"),
                re.MULTILINE,
            )
        )
        for extra in ("", "-otel")
    }
    assert pinned[""] < pinned["-otel"]
    more = {line.partition("==")[0] for line in pinned["-otel"] - pinned[""]}
    assert more >= {"opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"}


# --- its own steps -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Image:
    """What the steps leave behind: the directory that stands for the image's root."""

    root: Path

    def path(self, path: str) -> str:
        """Where a path of the image is here."""
        return str(self.root / path.lstrip("/"))

    def environment(self, **more: str) -> dict[str, str]:
        """The final stage's, with its paths."""
        own = FINAL.environment
        path = own["PATH"].replace("$PATH", "/usr/bin:/bin")
        path = path.replace("/opt/", self.path("/opt") + "/")
        return {**own, "PATH": path, **more}


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """Run the build stage: each RUN as it is written, but for the root of its paths."""
    with tempfile.TemporaryDirectory(prefix="sms-bridge-image-") as directory:
        root = Path(directory).resolve()
        root.chmod(0o755)  # for the image's user
        base, source = root / "base", root / "src"
        subprocess.run([sys.executable, "-m", "venv", base], check=True)
        source.mkdir()
        # Here the packages may come from a cache.
        own = {k: v for k, v in BUILD.environment.items() if k != "PIP_NO_CACHE_DIR"}
        path = f"{base}/bin:{os.environ['PATH']}"
        environment = {**_outside(), **own, "PATH": path}
        image = Image(root)
        for word, arguments in BUILD.steps:
            if word == "COPY":
                _copy(arguments, source)
            elif word == "RUN":
                _run(arguments, image, source, environment)
        yield image


def _outside() -> dict[str, str]:
    """How this machine reaches the package index."""
    return {k: v for k, v in os.environ.items() if re.match(r"(?i)home|pip_|https?_proxy|ssl_", k)}


def _copy(arguments: str, source: Path) -> None:
    *names, _ = arguments.split()
    for name in names:
        (source / name).parent.mkdir(exist_ok=True)
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source / name)


def _run(arguments: str, image: Image, source: Path, environment: Mapping[str, str]) -> None:
    command = re.sub(r"--mount=\S+\s+", "", arguments)  # the engine's; pip here has its own
    command = re.sub(r"(?<=\s)/(?=opt/|dist)", f"{image.root}/", command)
    done = subprocess.run(
        ["/bin/sh", "-ec", command],
        cwd=source,
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_TIMEOUT_SECONDS,
    )
    if done.returncode != 0 and re.search("NewConnectionError|ReadTimeout|resolve", done.stderr):
        pytest.skip("the package index is out of reach")
    assert done.returncode == 0, done.stdout + done.stderr


def canonical(name: str) -> str:
    """As PEP 503 has it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_steps_leave_the_program_and_its_dependencies_alone(image: Image) -> None:
    """Exactly the pinned versions; no pip, no builder, no test tools."""
    (site,) = Path(image.path("/opt/sms-bridge/lib")).glob("python3.*/site-packages")
    folders = [path.name.removesuffix(".dist-info") for path in site.glob("*.dist-info")]
    there = {canonical(name): version for name, _, version in (f.rpartition("-") for f in folders)}
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    lines = re.findall(r"^([a-z][\w.-]*)(?:\[\w+\])?==(\S+)", text, re.MULTILINE)
    pinned = {canonical(name): version for name, version in lines}

    assert there.pop("sms-status-bridge") == __version__
    assert there.items() <= pinned.items()
    assert there.keys() >= {"aiokafka", "uvicorn"}


def test_its_only_programs_are_python_and_the_bridge(image: Image) -> None:
    """None of a dependency's, and nothing for a shell to source."""
    programs = {path.name for path in Path(image.path("/opt/sms-bridge/bin")).iterdir()}
    assert {name for name in programs if not name.startswith("python")} == {"sms-bridge"}
    assert {path.name for path in Path(image.path("/opt/sms-bridge")).iterdir()} <= {
        *("bin", "lib", "lib64", "pyvenv.cfg"),
    }


def test_its_wheel_carries_the_example_of_a_configuration(image: Image) -> None:
    """Byte for byte the one in the checkout, which is not there."""
    done = subprocess.run(
        ["sms-bridge", "schema", "config", "--example"],
        env=image.environment(),
        cwd=image.root,
        capture_output=True,
        check=True,
    )
    assert done.stdout == (ROOT / "config/bridge.yaml").read_bytes()


@pytest.fixture
def restricted(image: Image) -> list[str]:
    """How to run a command as the pod does: not root, and nothing to be written anywhere."""
    if os.getuid() != 0 or not shutil.which("unshare") or not shutil.which("setpriv"):
        pytest.skip("needs root for a read-only file system of its own")
    read_only = (
        "awk '$2 !~ \"^/(proc|sys|dev)\" {print $2}' /proc/self/mounts | while read -r m; do "
        'mount -o remount,bind,ro "$m" 2>/dev/null || mount --bind "$m" "$m" '
        '&& mount -o remount,bind,ro "$m"; done; exec "$@"'
    )
    isolated = ["unshare", "--mount", "--propagation", "private", "sh", "-c", read_only, "sh"]
    ids = [f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"]
    del image
    return [*isolated, "setpriv", *ids, "--bounding-set=-all", "--inh-caps=-all"]


def test_nothing_can_be_written_there(image: Image, restricted: list[str]) -> None:
    """The test's own cage is closed."""
    probe = f"touch /tmp/x || touch {image.root}/x || touch /var/tmp/x || touch /etc/x"
    done = subprocess.run(
        [*restricted, "sh", "-c", f"id -u; {probe}"], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == str(USER)
    assert done.returncode != 0
    assert "Read-only file system" in done.stderr


@pytest.fixture
def config_file(embedded: EmbeddedBroker, topic: str, image: Image) -> Iterator[Path]:
    Producer({"bootstrap.servers": embedded.bootstrap_servers}).list_topics(topic, 10)
    file = image.root / "etc" / "sms-bridge" / "bridge.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(yaml.safe_dump(configuration(embedded.bootstrap_servers, topic)))
    yield file
    shutil.rmtree(image.root / "etc")


def test_the_program_serves_as_in_a_restricted_pod(
    image: Image, restricted: list[str], config_file: Path, tmp_path: Path
) -> None:
    """Entry point and command of the image; ready on Kafka; ends with 0 on SIGTERM."""
    log = tmp_path / "log"
    entry, command = (re.findall(r'"([^"]+)"', FINAL.of(w)[0])[0] for w in ("ENTRYPOINT", "CMD"))
    environment = image.environment(SMS_BRIDGE_CONFIG=str(config_file))
    with log.open("wb") as stderr:
        process = subprocess.Popen([*restricted, entry, command], env=environment, stderr=stderr)
    try:
        wait_until(
            lambda: "listening" in log.read_text() or process.poll() is not None,
            "the program listens or ends",
        )
        found = re.search(r'"admin": ?"127\.0\.0\.1:(\d+)"', log.read_text())
        assert found, log.read_text()
        url = f"http://127.0.0.1:{found[1]}/readyz"
        ask = f"import urllib.request as r; r.urlopen({url!r}, timeout=5)"
        asking = [*restricted, "python", "-c", ask]
        wait_until(lambda: succeeds(asking, environment), "the program is ready")
        health = health_check(int(found[1]))
        assert succeeds([*restricted, *health], environment)
        process.terminate()
        assert process.wait(START_SECONDS) == 0
        assert not succeeds([*restricted, *health], environment)
    finally:
        process.kill()
        process.wait()
    assert "stopped" in log.read_text()
    assert "Traceback" not in log.read_text()


def health_check(port: int) -> list[str]:
    """The image's own, on another port."""
    found = re.search(r"CMD (\[.*\])$", FINAL.of("HEALTHCHECK")[0])
    assert found
    command: list[str] = json.loads(found[1])
    return [argument.replace(str(Admin().port), str(port)) for argument in command]


def succeeds(command: list[str], environment: Mapping[str, str]) -> bool:
    done = subprocess.run(command, env=dict(environment), check=False, capture_output=True)
    return done.returncode == 0


def test_every_command_starts_there(image: Image, restricted: list[str]) -> None:
    for command in ("--version", "check --help", "schema config", "convert --help"):
        done = subprocess.run(
            [*restricted, "sms-bridge", *command.split()],
            env=image.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
