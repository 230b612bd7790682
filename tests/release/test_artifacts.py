"""Wheel, sdist and chart are the same bytes twice, and hold what they should and no more."""

import os
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from bridge import __version__
from tests.release.artifacts import (
    IMAGE,
    REPOSITORY,
    ROOT,
    chart,
    copy_of_the_checkout,
    digests,
    refuse_placeholders,
    set_addresses,
    tracked,
    wheel_and_sdist,
)


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two builds: elsewhere, later, with other rights of files, in another time zone."""
    built = []
    umask = os.umask(0o022)
    try:
        for number, mask in enumerate((0o022, 0o077)):
            os.umask(mask)
            directory = tmp_path_factory.mktemp(f"build{number}")
            source, out = copy_of_the_checkout(directory / f"source{number}"), directory / "out"
            for file in source.rglob("*"):
                os.utime(file, (number, 1_700_000_000 * number))
            out.mkdir()
            zone = ("UTC", "Pacific/Auckland")[number]
            wheel_and_sdist(source, out, TZ=zone, PYTHONHASHSEED=str(number))
            built.append(out)
    finally:
        os.umask(umask)
    return built[0], built[1]


def test_two_builds_are_the_same_bytes(twice: tuple[Path, Path]) -> None:
    first, second = (list(digests(sorted(out.iterdir()))) for out in twice)
    assert len(first) == 2
    assert first == second


def test_the_wheel_is_the_package_and_the_example(twice: tuple[Path, Path]) -> None:
    (wheel,) = twice[0].glob("*.whl")
    assert wheel.name == f"sms_status_bridge-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        example = archive.read("bridge/documents/bridge.yaml")
    assert example == (ROOT / "config/bridge.yaml").read_bytes()
    package = {path.as_posix() for path in tracked() if path.parts[0] == "bridge"}
    assert names == package | {"bridge/documents/bridge.yaml"}


def test_the_sdist_is_what_the_wheel_is_built_from(
    twice: tuple[Path, Path], tmp_path: Path
) -> None:
    """A distribution's packager gets the same wheel."""
    (sdist,) = twice[0].glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    top = {path.name for path in source.iterdir()}
    assert top == {
        *("bridge", "config", "pyproject.toml", "PKG-INFO", ".gitignore"),
        *("README.md", "CHANGELOG.md", "LICENSE", "SECURITY.md"),
    }

    (tmp_path / "out").mkdir()
    built = wheel_and_sdist(source, tmp_path / "out")

    (wheel,) = (path for path in built if path.suffix == ".whl")
    assert wheel.read_bytes() == (twice[0] / wheel.name).read_bytes()


def test_two_packages_of_the_chart_are_the_same_bytes(helm4: Path, tmp_path: Path) -> None:
    packages = []
    for number in (0, 1):
        source, out = tmp_path / f"source{number}", tmp_path / f"out{number}"
        out.mkdir()
        packages.append(chart(helm4, copy_of_the_checkout(source), out))
    first, second = packages
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as archive:
        assert "sms-status-bridge/Chart.yaml" in archive.getnames()


def test_the_chart_of_a_release_names_its_own_repository_and_image(
    helm4: Path, tmp_path: Path
) -> None:
    """Whoever finds the chart finds the sources, and pulls the image that was pushed."""
    repository, image = "https://github.test/Owner/bridge", "ghcr.test/owner/bridge"
    source = copy_of_the_checkout(tmp_path / "source")
    set_addresses(source, repository, image)
    package = chart(helm4, source, tmp_path)

    refuse_placeholders(package)
    with tarfile.open(package) as archive:
        archive.extractall(tmp_path, filter="data")
    about = yaml.safe_load((tmp_path / "sms-status-bridge/Chart.yaml").read_text("utf-8"))
    (maintainer,) = about["maintainers"]
    assert [about["home"], *about["sources"], maintainer["url"]] == [repository] * 3
    listed = {key: yaml.safe_load(text) for key, text in about["annotations"].items()}
    (pulled,) = listed["artifacthub.io/images"]
    assert pulled["image"] == f"{image}:{__version__}"
    assert all(link["url"].startswith(repository) for link in listed["artifacthub.io/links"])


@pytest.mark.parametrize("given", [("https://github.test/a", IMAGE), (REPOSITORY, "ghcr.test/a")])
def test_a_chart_with_an_address_that_is_nobody_s_is_not_released(
    helm4: Path, tmp_path: Path, given: tuple[str, str]
) -> None:
    source = copy_of_the_checkout(tmp_path / "source")
    set_addresses(source, *given)
    package = chart(helm4, source, tmp_path)
    with pytest.raises(RuntimeError, match=r"example\.com\S* in Chart\.yaml is a placeholder"):
        refuse_placeholders(package)
