"""The configuration file and the files that it names, on disk and as they were read."""

import os
from pathlib import Path

import pytest

from bridge.config.file import ConfigFile
from bridge.errors import ConfigError
from tests.config.texts import endpoint


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text("a-token-of-sixteen\n")
    return file


@pytest.fixture
def file(tmp_path: Path, secret: Path) -> ConfigFile:
    path = tmp_path / "bridge.yaml"
    path.write_text(endpoint(auth={"tokens": [f"${{file:{secret}}}", "${OLD:-}"]}))
    return ConfigFile(path, {})


def tokens(file: ConfigFile) -> list[str]:
    auth = file.load().endpoints[0].auth
    return [token.get_secret_value() for token in auth.tokens] if auth else []


def test_it_is_as_it_was_read_until_it_changes(file: ConfigFile, secret: Path) -> None:
    assert tokens(file) == ["a-token-of-sixteen"]
    assert file.on_disk() == file.read
    assert set(file.read) == {str(file.path), str(secret)}
    before = secret.stat()
    secret.write_text("a-token-of-SIXTEEN\n")  # as long, and as old
    os.utime(secret, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.on_disk() != file.read
    assert tokens(file) == ["a-token-of-SIXTEEN"]
    assert file.on_disk() == file.read


def test_a_link_that_leads_elsewhere_is_a_change(tmp_path: Path) -> None:
    """As Kubernetes renews what it mounts: one link among several is replaced, in one step."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "bridge.yaml").write_text(endpoint(name=name))
    (tmp_path / "data").symlink_to("one")
    (tmp_path / "bridge.yaml").symlink_to("data/bridge.yaml")
    file = ConfigFile(tmp_path / "bridge.yaml", {})
    assert file.load().endpoints[0].name == "one"
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").rename(tmp_path / "data")
    assert file.on_disk() != file.read
    assert file.load().endpoints[0].name == "two"


def test_a_file_that_appears_is_a_change(file: ConfigFile, secret: Path) -> None:
    """What could not be read is watched too: it is what is waited for."""
    secret.unlink()
    with pytest.raises(ConfigError, match="cannot read the file"):
        file.load()
    assert file.on_disk() == file.read
    secret.write_text("a-token-of-sixteen")
    assert file.on_disk() != file.read
    assert tokens(file) == ["a-token-of-sixteen"]


def test_a_pipe_is_read_once() -> None:
    """`--config <(decrypt)`: to look at it again would wait for ever."""
    reading, writing = os.pipe()
    os.write(writing, endpoint().encode())
    os.close(writing)
    try:
        file = ConfigFile(Path(f"/dev/fd/{reading}"), {})
        assert file.load().endpoints
        assert file.on_disk() == file.read
        with pytest.raises(ConfigError, match="has been read already"):
            file.load()
    finally:
        os.close(reading)


def test_what_is_given_is_read_once_in_the_disk_s_place(file: ConfigFile, secret: Path) -> None:
    """And is what is in use until something else is taken up."""
    assert tokens(file) == ["a-token-of-sixteen"]
    other = ConfigFile(file.path, {}, given=file.in_use)
    secret.write_text("another-token-of-more")
    assert tokens(other) == ["a-token-of-sixteen"]
    assert other.on_disk() != other.read
    assert tokens(other) == ["another-token-of-more"]
    assert other.in_use == file.in_use
    other.take_up()
    assert other.in_use[str(secret)] == b"another-token-of-more"


def test_the_environment_stays_as_it_was(tmp_path: Path) -> None:
    environ = {"NAME": "early"}
    path = tmp_path / "bridge.yaml"
    path.write_text(endpoint(name="${NAME}"))
    file = ConfigFile(path, environ)
    environ["NAME"] = "late"
    assert file.load().endpoints[0].name == "early"
