"""The pages on deployment are held against the chart and the program."""

import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from bridge import __version__
from bridge.cli import main as cli
from tests.helm import chart
from tests.helm.chart import NEWEST, OLDEST, Helm, merged
from tests.helm.models import Models
from tests.helm.readings import known_metrics
from tests.kafka.test_oauth_kafka import CASES as TOKEN_CASES
from tests.kafka.test_secured_kafka import CASES
from tests.support.commands import command, options

ROOT = Path(__file__).parents[2]
PAGE = "\n".join(
    (ROOT / "docs" / name).read_text(encoding="utf-8")
    for name in ("deploy.md", "deploy-kafka.md", "deploy-scale.md")
)


def value_files() -> dict[str, dict[str, Any]]:
    """Every YAML block, by the file name in its first line."""
    found: dict[str, dict[str, Any]] = {}
    for block in chart.fenced(PAGE, "yaml"):
        match = re.match(r"# ([a-z-]+\.yaml)\n", block)
        assert match, block
        assert match[1] not in found
        found[match[1]] = yaml.safe_load(block)
    return found


def commands() -> list[list[str]]:
    """Every command of the shell blocks, continued lines joined."""
    text = "\n".join(chart.fenced(PAGE, "sh")).replace("\\\n", " ")
    return [shlex.split(line) for line in text.splitlines() if line.strip()]


def values_of(command: list[str]) -> list[str]:
    return [word for before, word in pairwise(command) if before == "--values"]


INSTALLATIONS = [c for c in commands() if c[0] == "helm" and "helm/" in c and "diff" not in c]
FILES = value_files()


def test_every_block_of_values_is_installed_by_some_command() -> None:
    named = {file for command in INSTALLATIONS for file in values_of(command)}
    assert set(FILES) == named


@pytest.mark.parametrize("command", INSTALLATIONS, ids=lambda c: "+".join(values_of(c)))
def test_every_installation_renders_to_objects_that_kubernetes_takes(
    helm: Helm, command: list[str], tmp_path: Path
) -> None:
    """With the values as they stand on the page, and a configuration that the program takes."""
    objects = helm.objects(*(FILES[file] for file in values_of(command)))
    for thing in objects:
        for version in (OLDEST, NEWEST):
            assert chart.problems(thing, version) == []
    file = tmp_path / "bridge.yaml"
    file.write_text(chart.configuration(objects), encoding="utf-8")
    result = CliRunner().invoke(cli.main, ["check", "--no-env", "--config", str(file)])
    assert result.exit_code == 0, result.output


def test_every_installation_s_custom_resources_are_such_that_their_models_take(
    helm4: Helm, models: Models
) -> None:
    rendered = [helm4.objects(*(FILES[f] for f in values_of(c))) for c in INSTALLATIONS]
    found = models.problems([o for objects in rendered for o in chart.custom_resources(objects)])
    assert [] in found
    assert [said for said in found if said] == []


@pytest.mark.parametrize("name", sorted(set(FILES) - {"values.yaml"}))
def test_every_block_goes_with_the_smallest_values(helm4: Helm, name: str) -> None:
    objects = helm4.objects(merged(FILES["values.yaml"], FILES[name]))
    assert [p for thing in objects for p in chart.problems(thing, NEWEST)] == []


def test_the_values_in_the_chart_s_readme_can_be_installed(helm: Helm) -> None:
    readme = (chart.CHART / "README.md").read_text(encoding="utf-8")
    (block,) = chart.fenced(readme, "yaml")
    objects = helm.objects(yaml.safe_load(block))
    assert [p for thing in objects for p in chart.problems(thing, OLDEST)] == []


def test_names_in_commands_are_those_that_the_chart_gives(helm4: Helm) -> None:
    """Release, namespace and Deployment; the tag is the chart's."""
    objects = helm4.objects(FILES["values.yaml"])
    deployment = chart.one(objects, "Deployment")["metadata"]
    named = set(re.findall(r"deployment/([\w-]+)", PAGE))
    spaces = {c[c.index("--namespace") + 1] for c in commands() if "--namespace" in c}

    assert named == {deployment["name"]}
    assert spaces == {deployment["namespace"]} == {chart.NAMESPACE}
    assert {c[3] for c in INSTALLATIONS if "--install" in c} == {chart.RELEASE}
    assert f"sms-status-bridge:{__version__}" in PAGE


def test_pods_out_of_their_replica_set_are_still_the_service_s(helm4: Helm) -> None:
    """What the page selects while `replicas` is removed are the gateway's pods alone."""
    objects = helm4.objects(FILES["values.yaml"])
    pods = chart.one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    tester = chart.one(objects, "Pod")["metadata"]["labels"]
    selectors = [c[c.index("--selector") + 1] for c in commands() if "--selector" in c]
    (terms,) = {selector.removesuffix(",!pod-template-hash") for selector in selectors}
    selected = dict(term.split("=") for term in terms.split(","))

    assert selected.items() <= pods.items()
    assert not selected.items() <= tester.items()
    assert chart.one(objects, "Service", "bridge")["spec"]["selector"].items() <= pods.items()


def test_every_command_of_the_program_exists() -> None:
    """In pods too."""
    calls = [c[c.index("sms-bridge") :] for c in commands() if "sms-bridge" in c]
    assert calls
    for _, name, *arguments in calls:
        named = {argument for argument in arguments if argument.startswith("--")}
        assert named <= options(command(name))


@pytest.mark.parametrize("name", ["sasl-ssl.yaml", "mutual-tls.yaml", "oauthbearer.yaml"])
def test_files_of_kafka_security_are_mounted_where_it_looks_for_them(name: str) -> None:
    """Every file of the settings is below a mount, and every variable is set."""
    values = FILES[name]
    mounts = [mount["mountPath"] for mount in values["extraVolumeMounts"]]
    security = values["config"]["kafka"]["security"]
    own = security.get("sasl", {}).get("token_ca_file")
    for file in (*security["tls"].values(), *filter(None, [own])):
        assert str(Path(file).parent) in mounts
    variables = {variable["name"] for variable in values.get("extraEnv", [])}
    assert set(re.findall(r"\$\{(\w+)\}", yaml.safe_dump(security))) == variables
    assert not any("subPath" in mount for mount in values["extraVolumeMounts"])


def test_what_it_quotes_of_faults_is_what_the_program_says() -> None:
    table = re.findall(r"^\| [^|]+ \| ([^|]+) \| [^|]+ \| (?:[\d.]|with)", PAGE, re.MULTILINE)
    said = " ".join(table).replace("*", "")
    for case in CASES.values():
        words = re.sub(r"^ca.crt|^tls.crt ?", "", case.said).replace("forgetful", "U")
        assert words in said, words
    for about_tokens in TOKEN_CASES.values():
        words = about_tokens.said.replace("client bridge", "client C").replace(" (unknown)", "")
        words = words.replace("within 1 s", "within 2 s")  # a half of the tests' and of the default
        assert words in said, words


def test_numbers_on_the_page_are_those_of_the_chart(helm4: Helm) -> None:
    values = yaml.safe_load((chart.CHART / "values.yaml").read_text(encoding="utf-8"))
    server = values["config"]["server"]
    assert f"`drain_delay_seconds` ({server['drain_delay_seconds']})" in PAGE
    assert f"`shutdown_grace_seconds` ({server['shutdown_grace_seconds']})" in PAGE
    spec = chart.one(helm4.objects(FILES["values.yaml"]), "Deployment")["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] == sum(server.values()) + 5
    assert f"Kubernetes {OLDEST} or later" in PAGE


def test_every_metric_on_the_page_is_the_program_s() -> None:
    names = set(re.findall(r"\bsms_bridge_\w+", PAGE))
    assert names
    assert names <= known_metrics()


def test_the_resources_for_production_can_be_installed(helm4: Helm) -> None:
    """The block in the comments of values.yaml: a core is requested, and memory is reserved."""
    text = (chart.CHART / "values.yaml").read_text(encoding="utf-8")
    (commented,) = re.findall(r"^# In production.*?\n((?:#.*\n)*?)# -- ", text, re.MULTILINE)
    values = yaml.safe_load(re.sub(r"^# ?", "", commented, flags=re.MULTILINE))
    rendered = chart.container(helm4.objects(merged(FILES["values.yaml"], values)))["resources"]
    assert rendered["requests"] == {"cpu": "1", "memory": rendered["limits"]["memory"]}
