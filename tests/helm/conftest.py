"""Helm, the models of custom resources, and Prometheus."""

from functools import cache
from pathlib import Path

import pytest

from tests.helm.binaries import MAJORS, HelmUnavailableError, helm_binary
from tests.helm.chart import Helm
from tests.helm.models import Models
from tests.helm.models import models as installed_models
from tests.support.needs import program, skipped_without
from tests.support.npm import NpmUnavailableError, Packages, packages

GRAFANA = Path(__file__).parent / "grafana"


@pytest.fixture(scope="session", params=MAJORS)
def helm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm itself, one major version after the other."""
    return _helm(request.param, tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def helm4(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """The newer Helm, where the major makes no difference."""
    return _helm(MAJORS[-1], tmp_path_factory.getbasetemp())


@cache
def _helm(major: str, directory: Path) -> Helm:
    """One a major, since it remembers what it rendered."""
    with skipped_without("Helm", HelmUnavailableError):
        return Helm(helm_binary(major), major, directory / f"helm{major}")


@pytest.fixture(scope="session")
def models() -> Models:
    """The models of custom resources."""
    with skipped_without("models of custom resources", NpmUnavailableError):
        return installed_models()


@pytest.fixture(scope="session")
def grafana_types() -> Packages:
    """Grafana's own types of a dashboard, and TypeScript's compiler."""
    pins = [GRAFANA / name for name in ("package.json", "package-lock.json")]
    with skipped_without("types of Grafana", NpmUnavailableError):
        return packages("grafana", pins)


@pytest.fixture(scope="session")
def prometheus() -> str:
    """Prometheus itself: the program."""
    return program("prometheus", "prometheus")
