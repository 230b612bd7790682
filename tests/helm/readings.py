"""What rendered objects say: pods, and the configuration as the program reads it."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from bridge.cli import main as cli
from bridge.config import loader as config
from bridge.config.settings import Settings
from bridge.observability.metrics import Metrics
from tests.helm import chart
from tests.helm.chart import Object, one
from tests.helm.variants import VARIANTS

EVERY = pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))


def check_of(text: str, directory: Path) -> tuple[int, str]:
    """What `sms-bridge check --no-env` says of a configuration file."""
    file = directory / "bridge.yaml"
    file.write_text(text, encoding="utf-8")
    result = CliRunner().invoke(cli.main, ["check", "--no-env", "--config", str(file)])
    return result.exit_code, result.output


def pods(objects: list[Object]) -> list[Object]:
    """The template of the Deployment's pods, those of jobs, and each pod of its own."""
    jobs = [pod_of(each) for each in of_kind(objects, "CronJob")]
    return [one(objects, "Deployment")["spec"]["template"], *jobs, *of_kind(objects, "Pod")]


def pod_of(cron_job: Object) -> Object:
    """The template of a CronJob's pods."""
    template: Object = cron_job["spec"]["jobTemplate"]["spec"]["template"]
    return template


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    return [each for each in objects if each["kind"] == kind]


def pod_specs(objects: list[Object]) -> list[Object]:
    return [pod["spec"] for pod in pods(objects)]


def settings_of(objects: list[Object]) -> Settings:
    return config.parse(chart.configuration(objects), file="f", environ={}, placeholders=True)


_SUFFIXES = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_count", "_sum"),
    "info": ("_info",),
}


def known_metrics() -> set[str]:
    """Every metric of the program, and the series that Prometheus makes of it."""
    return {
        family.name + suffix
        for family in Metrics().registry.collect()
        for suffix in ("", *_SUFFIXES.get(family.type, ()))
    }
