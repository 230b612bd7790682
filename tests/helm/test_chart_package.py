"""What the chart brings along: the pod of `helm test`, the package, its place in other charts."""

import base64
import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Producer

from bridge.contract.config_schema import config_schema
from bridge.demo.embedded_broker import EmbeddedBroker
from tests.helm import chart, generate
from tests.helm.chart import OLDEST, Helm, Object, merged, one
from tests.helm.readings import settings_of
from tests.helm.variants import MINIMAL, VARIANTS
from tests.support.gateway import Gateway, configuration

# --- helm test ---------------------------------------------------------------------------


@pytest.fixture
def guarded(embedded: EmbeddedBroker, topic: str) -> Iterator[Gateway]:
    """A gateway with an endpoint for each kind of credentials."""
    Producer({"bootstrap.servers": embedded.bootstrap_servers}).list_topics(topic, 10)
    auths = [
        "none",
        {"tokens": ["t0ken", "old"]},
        {"basic": [{"username": "provider", "password": "pass:word"}]},
        {"allow": ["127.0.0.0/8"]},
        {"tokens": ["t0ken"], "allow": ["203.0.113.0/24"]},
    ]
    endpoints = [
        {
            "name": f"e{number}",
            "path": f"/e/{number}",
            "source": f"urn:example:sms:{number}",
            "timezone": "UTC",
            "auth": auth,
        }
        for number, auth in enumerate(auths)
    ]
    base = configuration(embedded.bootstrap_servers, topic)
    with Gateway({**base, "endpoints": endpoints}) as running:
        yield running


def states_taken(gateway: Gateway) -> float:
    metrics = gateway.admin("/metrics").body.decode()
    counts = re.findall(r"^sms_bridge_states_total{[^}]*} (\S+)", metrics, re.MULTILINE)
    return sum(map(float, counts))


def run_test_pod(objects: list[Object], url: str, config_file: Path) -> tuple[int, str]:
    """Run the test pod's own command, against another address."""
    (container,) = one(objects, "Pod")["spec"]["containers"]
    interpreter, *command = container["command"]
    address, *rest = container["args"]
    assert interpreter == "python"
    assert address == "http://statuses-sms-status-bridge.messaging:80"
    done = subprocess.run(
        [sys.executable, *command, url, *rest],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"SMS_BRIDGE_CONFIG": str(config_file), "http_proxy": "http://127.0.0.1:1"},
    )
    return done.returncode, done.stdout + done.stderr


def test_the_test_pod_posts_to_every_endpoint_and_writes_nothing(
    helm4: Helm, guarded: Gateway
) -> None:
    """With the endpoint's own credentials, whichever kind they are."""
    url = guarded.url.removesuffix("/webhook")
    code, output = run_test_pod(helm4.objects(MINIMAL), url, guarded.config_file)

    assert code == 0, output
    assert output.splitlines() == [
        *(f"endpoint e{number}: ok" for number in range(4)),
        "endpoint e4: not for this pod's address (auth.allow)",
    ]
    assert states_taken(guarded) == 0


def test_the_test_pod_posts_a_real_state_when_it_is_asked_to(helm4: Helm, guarded: Gateway) -> None:
    url = guarded.url.removesuffix("/webhook")
    objects = helm4.objects(VARIANTS["test with a real state"].whole)
    code, output = run_test_pod(objects, url, guarded.config_file)

    assert code == 0, output
    assert states_taken(guarded) == 4


def test_the_test_pod_fails_where_an_endpoint_does_not_answer_200(
    helm4: Helm, guarded: Gateway, tmp_path: Path
) -> None:
    other = yaml.safe_load(guarded.config_file.read_text())
    other["endpoints"][1]["auth"] = {"tokens": ["wrong"]}
    file = tmp_path / "bridge.yaml"
    file.write_text(yaml.safe_dump(other))
    url = guarded.url.removesuffix("/webhook")
    code, output = run_test_pod(helm4.objects(MINIMAL), url, file)

    assert code != 0
    assert "401" in output


# --- what is handed out ------------------------------------------------------------------


@pytest.mark.parametrize(
    "file", [generate.SCHEMA, generate.VALIDATION, generate.README], ids=lambda p: p.name
)
def test_generated_files_are_fresh(file: Path) -> None:
    """`make schema` writes them anew."""
    assert file.read_text(encoding="utf-8") == generate.documents()[file]


def test_the_schema_s_part_for_the_program_is_the_program_s(helm4: Helm) -> None:
    del helm4
    written = json.loads(generate.SCHEMA.read_text(encoding="utf-8"))
    program = config_schema()
    for section in program["definitions"].values():
        section.pop("allOf", None)  # what does not go together is said by the rules
    assert written["definitions"] == program["definitions"]
    assert written["properties"]["config"]["properties"] == program["properties"]


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The path of every value that is no section of the chart's own."""
    said = generate.descriptions()
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and (path == "config" or path not in said):
            yield from leaves(value, f"{path}.")
        else:
            yield path


def test_every_value_is_described_and_in_the_schema() -> None:
    """The table of the README has them all, since it is made of the descriptions."""
    values = yaml.safe_load(generate.VALUES.read_text(encoding="utf-8"))
    schema = generate.values_schema()
    table = generate.README.read_text(encoding="utf-8")
    for path in leaves(values):
        assert generate.descriptions()[path].endswith(".")
        assert f"| `{path}` |" in table
        if not path.startswith("config"):
            node = schema
            for step in path.split("."):
                node = node["properties"][step]


def test_every_key_of_the_schema_is_in_the_values() -> None:
    """What can be set can be found."""
    values = yaml.safe_load(generate.VALUES.read_text(encoding="utf-8"))
    said = generate.descriptions()

    def compare(section: dict[str, Any], given: dict[str, Any], prefix: str) -> None:
        for key, node in section["properties"].items():
            assert key in given, f"{prefix}{key}"
            if "properties" in node and f"{prefix}{key}" not in said:
                compare(node, given[key], f"{prefix}{key}.")

    schema = generate.values_schema()
    for key in ("config", "global", "enabled"):
        del schema["properties"][key]
    compare(schema, values, "")


def test_the_schema_is_strict_on_every_level_of_the_chart_s_own() -> None:
    def open_sections(node: dict[str, Any], path: str) -> Iterator[str]:
        if "properties" in node and node.get("additionalProperties") is not False:
            yield path
        for key, inner in node.get("properties", {}).items():
            yield from open_sections(inner, f"{path}.{key}")

    schema = generate.values_schema()
    assert list(open_sections(schema, "values")) == ["values.strimzi.user.authentication"]
    for name, definition in schema["definitions"].items():
        assert definition["additionalProperties"] is False, name


def test_the_table_of_objects_names_every_kind() -> None:
    table = generate.README.read_text(encoding="utf-8").partition("| object | when |")[2]
    first = table.partition("\n\n")[0]
    rendered = {kind for variant in VARIANTS.values() for kind in variant.kinds}
    assert {kind for kind in rendered if kind not in first} == set()


def test_the_package_carries_what_the_chart_needs_and_no_sources(
    helm: Helm, tmp_path: Path
) -> None:
    with tarfile.open(helm.package(tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"values.schema.json", "files/post.py", "files/rules.yaml", "files/dashboard.json"}
    needed |= {"docs/events.md"}
    assert names >= {*needed, "README.md", "Chart.yaml", "values.yaml", "templates/NOTES.txt"}
    assert "values.schema.src.yaml" not in names


def test_the_chart_s_description_is_complete() -> None:
    about = yaml.safe_load((chart.CHART / "Chart.yaml").read_text(encoding="utf-8"))
    listed = ("changes", "images", "links")
    changes, images, links = (
        yaml.safe_load(about["annotations"][f"artifacthub.io/{name}"]) for name in listed
    )
    assert [image["image"].rpartition(":")[2] for image in images] == [about["appVersion"]]
    assert {about["home"], *about["sources"]} == {about["maintainers"][0]["url"]}
    for link in links:
        assert link["url"].startswith(about["home"])
        assert (chart.CHART.parent / link["url"].partition("/blob/main/")[2]).is_file()

    assert about["apiVersion"] == "v2"
    assert about["kubeVersion"] == f">={OLDEST}.0-0"
    assert about["icon"].startswith("data:image/svg+xml;base64,")
    assert b"</svg>" in base64.b64decode(about["icon"].partition(",")[2])
    assert changes
    kinds = {"added", "changed", "deprecated", "removed", "fixed", "security"}
    assert all(change["kind"] in kinds and change["description"] for change in changes)


# --- under an umbrella -------------------------------------------------------------------


@pytest.fixture
def umbrella(tmp_path: Path) -> Path:
    """A chart of someone else's that has this one as its part."""
    parent = tmp_path / "umbrella"
    shutil.copytree(chart.CHART, parent / "charts/sms-status-bridge")
    dependency = {
        "name": "sms-status-bridge",
        "version": ">=0.0.0",
        "alias": "statuses",
        "condition": "statuses.enabled",
    }
    about = {"apiVersion": "v2", "name": "umbrella", "version": "1.0.0"}
    (parent / "Chart.yaml").write_text(yaml.safe_dump({**about, "dependencies": [dependency]}))
    (parent / "values.yaml").write_text("global: {imageRegistry: registry.example.com}\n")
    return parent


def test_it_works_as_a_part_of_another_chart(helm: Helm, umbrella: Path) -> None:
    """With `global` and `enabled`, which Helm and its users add."""
    part = merged(MINIMAL, {"enabled": True, "config": {"kafka": {"dead_letter_topic": None}}})
    objects = chart.objects_of(helm.template({"statuses": part}, chart=umbrella))

    assert chart.kinds(objects) == VARIANTS["minimal"].kinds
    assert settings_of(objects).kafka.dead_letter_topic is None


def test_a_part_that_is_switched_off_needs_no_values(helm: Helm, umbrella: Path) -> None:
    assert helm.template({"statuses": {"enabled": False}}, chart=umbrella).strip() == ""
