"""What rendered objects say: pods, and the configuration as the program reads it."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from bridge.cli import main as cli
from bridge.config import loader as config
from bridge.config.settings import Settings
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


def pod_specs(objects: list[Object]) -> list[Object]:
    """The gateway's first."""
    deployment = one(objects, "Deployment")["spec"]["template"]["spec"]
    jobs = [pod_of(o)["spec"] for o in objects if o["kind"] == "CronJob"]
    return [deployment, *jobs, *(o["spec"] for o in objects if o["kind"] == "Pod")]


def pod_of(cron_job: Object) -> Object:
    """The template of a CronJob's pods."""
    template: Object = cron_job["spec"]["jobTemplate"]["spec"]["template"]
    return template


def settings_of(objects: list[Object]) -> Settings:
    return config.parse(chart.configuration(objects), file="f", environ={}, placeholders=True)
