"""The chart, rendered by Helm 3 and 4: every object, every switch, every refusal."""

import base64
import copy
import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from confluent_kafka import Producer

from bridge import cli, config
from bridge.embedded import EmbeddedBroker
from bridge.metrics import Metrics
from bridge.schema import config_schema
from bridge.server import _public_grace
from bridge.settings import Settings
from tests.gateway import Gateway, configuration
from tests.helm import chart, generate
from tests.helm.chart import NEWEST, OLDEST, Helm, Object, RefusedError, merged, one
from tests.helm.models import Models
from tests.helm.variants import MINIMAL, VARIANTS, Variant
from tests.test_endurance import AWAY_BYTES, HOSTILE_BYTES

EVERY = pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
LABEL = re.compile(r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")
NAME = re.compile(r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")


def check_of(text: str, directory: Path) -> tuple[int, str]:
    """What `sms-bridge check --no-env` says of a configuration file."""
    file = directory / "bridge.yaml"
    file.write_text(text, encoding="utf-8")
    result = CliRunner().invoke(cli.main, ["check", "--no-env", "--config", str(file)])
    return result.exit_code, result.output


def pod_specs(objects: list[Object]) -> list[Object]:
    deployment = one(objects, "Deployment")["spec"]["template"]["spec"]
    return [deployment, *(o["spec"] for o in objects if o["kind"] == "Pod")]


def settings_of(objects: list[Object]) -> Settings:
    return config.parse(chart.configuration(objects), file="f", environ={}, placeholders=True)


# --- every variant -----------------------------------------------------------------------


@EVERY
def test_a_variant_passes_lint(helm: Helm, variant: Variant) -> None:
    assert "0 chart(s) failed" in helm.lint(variant.whole)


@EVERY
def test_a_variant_renders_to_the_objects_that_it_should(helm: Helm, variant: Variant) -> None:
    assert chart.kinds(helm.objects(variant.whole)) == variant.kinds


@EVERY
def test_every_object_is_one_that_kubernetes_takes(helm: Helm, variant: Variant) -> None:
    """The oldest and the newest; unknown keys, which an API server would drop in silence, too."""
    for thing in helm.objects(variant.whole):
        where = f"{thing['kind']} {thing['metadata']['name']}"
        for version in (OLDEST, NEWEST):
            assert [f"{where}: {p}" for p in chart.problems(thing, version)] == []


def test_validation_finds_what_it_is_for(helm4: Helm) -> None:
    """A misspelt key or a wrong type in any of the objects, custom resources included."""
    for thing in helm4.objects(VARIANTS["everything"].whole):
        if "spec" in thing:
            misspelt = {**thing, "spec": {**thing["spec"], "misspelt": 1}}
            assert any("misspelt" in p for p in chart.problems(misspelt, OLDEST))
            assert chart.problems({**thing, "spec": []}, NEWEST)


def test_no_section_of_a_custom_resource_takes_an_unknown_key(helm4: Helm) -> None:
    """However deep it is; only labels and the like have keys of anyone's."""
    for thing in chart.custom_resources(helm4.objects(VARIANTS["everything"].whole)):
        paths = [path for path in sections(thing) if path[-1:] not in FREE]
        assert len(paths) > 2
        for path in paths:
            misspelt = copy.deepcopy(thing)
            reduce(getitem, path, misspelt)["misspelt"] = "1"
            assert any("misspelt" in p for p in chart.problems(misspelt, NEWEST)), path


FREE = {("labels",), ("annotations",), ("matchLabels",), ("config",)}


def sections(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every mapping."""
    if isinstance(node, dict):
        yield path
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        if isinstance(value, dict | list):
            yield from sections(value, (*path, key))


def test_every_custom_resource_is_one_that_its_model_takes(helm: Helm, models: Models) -> None:
    """Of all variants at once; there is no model of Strimzi's."""
    objects = [o for v in VARIANTS.values() for o in chart.custom_resources(helm.objects(v.whole))]
    found = list(zip(objects, models.problems(objects), strict=True))

    assert [(o["kind"], o["metadata"]["name"], said) for o, said in found if said] == []
    assert {o["kind"] for o, said in found if said is None} == {"KafkaTopic", "KafkaUser"}
    modelled = {o["kind"] for o, said in found if said == []}
    assert modelled == {"HTTPRoute", "PrometheusRule", "ServiceMonitor"}


WRONG_RESOURCES: dict[str, tuple[str, tuple[Any, ...], Any]] = {
    "duration": ("ServiceMonitor", ("spec", "endpoints", 0, "interval"), "soon"),
    "word": ("ServiceMonitor", ("spec", "endpoints", 0, "relabelings", 0, "action"), "burn"),
    "text": ("PrometheusRule", ("spec", "groups", 0, "rules", 0, "expr"), True),
    "label": ("PrometheusRule", ("spec", "groups", 0, "rules", 0, "labels", "severity"), 1),
    "port": ("HTTPRoute", ("spec", "rules", 0, "backendRefs", 0, "port"), 0),
    "host": ("HTTPRoute", ("spec", "hostnames", 0), "not a host"),
}


def test_models_find_what_they_are_for(helm4: Helm, models: Models) -> None:
    """A wrong value each, named by its path."""
    objects = helm4.objects(VARIANTS["everything"].whole)
    wrong = [spoilt(one(objects, k), path, value) for k, path, value in WRONG_RESOURCES.values()]
    for (_, path, _), said in zip(WRONG_RESOURCES.values(), models.problems(wrong), strict=True):
        assert said
        assert all(p.startswith("/" + "/".join(map(str, path)) + ":") for p in said)


WRONG_STRIMZI: dict[str, tuple[str, tuple[Any, ...], Any]] = {
    "partitions": ("KafkaTopic", ("spec", "partitions"), 0),
    "replicas": ("KafkaTopic", ("spec", "replicas"), "3"),
    "a topic's name": ("KafkaTopic", ("spec", "topicName"), "a/b"),
    "a topic's setting": ("KafkaTopic", ("spec", "config", "min.insync.replicas"), [2]),
    "no cluster": ("KafkaTopic", ("metadata", "labels"), {}),
    "authentication": ("KafkaUser", ("spec", "authentication", "type"), "password"),
    "authorization": ("KafkaUser", ("spec", "authorization", "type"), "none"),
    "operation": ("KafkaUser", ("spec", "authorization", "acls", 0, "operations", 0), "Wirte"),
    "pattern": (
        "KafkaUser",
        ("spec", "authorization", "acls", 0, "resource", "patternType"),
        "regex",
    ),
}


@pytest.mark.parametrize("name", [*WRONG_RESOURCES, *WRONG_STRIMZI])
def test_expectations_find_wrong_values(helm4: Helm, name: str) -> None:
    kind, path, value = (WRONG_RESOURCES | WRONG_STRIMZI)[name]
    objects = helm4.objects(VARIANTS["everything"].whole)
    thing = next(o for o in objects if o["kind"] == kind)
    (said,) = chart.problems(spoilt(thing, path, value), NEWEST)
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    assert said.replace("['", ".").replace("']", "").startswith(f"${where}: ")


def spoilt(thing: Object, path: tuple[Any, ...], value: Any) -> Object:
    """A copy with another value at a path that is there."""
    copied = copy.deepcopy(thing)
    reduce(getitem, path, copied)
    reduce(getitem, path[:-1], copied)[path[-1]] = value
    return copied


@EVERY
def test_names_and_labels_are_within_kubernetes_s_limits(helm4: Helm, variant: Variant) -> None:
    for thing in helm4.objects(variant.whole):
        metadata = thing["metadata"]
        limit = 63 if thing["kind"] in {"Service", "Deployment", "Pod"} else 253
        assert NAME.match(metadata["name"])
        assert len(metadata["name"]) <= limit
        assert all(LABEL.match(value) for value in metadata.get("labels", {}).values())


@EVERY
def test_no_object_is_rendered_twice(helm4: Helm, variant: Variant) -> None:
    objects = helm4.objects(variant.whole)
    names = Counter((o["kind"], o["metadata"]["name"]) for o in objects)
    assert max(names.values()) == 1


@EVERY
def test_both_helms_render_the_same(helm4: Helm, helm: Helm, variant: Variant) -> None:
    assert helm.objects(variant.whole) == helm4.objects(variant.whole)


@EVERY
def test_the_rendered_configuration_is_what_the_program_takes(
    helm: Helm, variant: Variant, tmp_path: Path
) -> None:
    text = chart.configuration(helm.objects(variant.whole))
    code, output = check_of(text, tmp_path)
    assert code == 0, output


@EVERY
def test_the_configuration_is_verbatim(helm: Helm, variant: Variant) -> None:
    """Every value that was given arrives as it was, with its type; null too."""
    defaults = yaml.safe_load((chart.CHART / "values.yaml").read_text(encoding="utf-8"))
    expected = merged(defaults["config"], variant.whole["config"])
    assert yaml.safe_load(chart.configuration(helm.objects(variant.whole))) == expected


@EVERY
def test_no_name_is_twice_in_an_environment(helm4: Helm, variant: Variant) -> None:
    for spec in pod_specs(helm4.objects(variant.whole)):
        for container in spec["containers"]:
            names = Counter(entry["name"] for entry in container["env"])
            assert max(names.values()) == 1
        volumes = Counter(volume["name"] for volume in spec["volumes"])
        assert max(volumes.values()) == 1


@EVERY
def test_pods_have_what_they_mount_and_what_they_are_allowed(helm4: Helm, variant: Variant) -> None:
    objects = helm4.objects(variant.whole)
    there = {(o["kind"], o["metadata"]["name"]) for o in objects}
    for spec in pod_specs(objects):
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        assert ("ConfigMap", volumes["config"]["configMap"]["name"]) in there
        for container in spec["containers"]:
            mounts = container["volumeMounts"]
            assert {mount["name"] for mount in mounts} <= set(volumes)
            # The kubelet never renews what is mounted by subPath.
            assert not any("subPath" in mount for mount in mounts)
        assert spec["automountServiceAccountToken"] is False
    for account in (o for o in objects if o["kind"] == "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


@EVERY
def test_the_shutdown_adds_up(helm4: Helm, variant: Variant) -> None:
    """A request that was just begun gets its true answer before the kubelet kills the pod."""
    objects = helm4.objects(variant.whole)
    settings = settings_of(objects)
    server = settings.server
    spec = one(objects, "Deployment")["spec"]["template"]["spec"]

    slowest = server.body_timeout_seconds + settings.kafka.publish_timeout_seconds
    assert slowest <= _public_grace(server)
    whole = server.drain_delay_seconds + server.shutdown_grace_seconds
    assert whole < spec["terminationGracePeriodSeconds"]
    assert "lifecycle" not in spec["containers"][0]


@EVERY
def test_notes_say_what_to_give_to_the_provider(helm4: Helm, variant: Variant) -> None:
    notes = helm4.notes(variant.whole)

    values = variant.whole
    paths = [e["path"].rstrip("/") or "/" for e in values["config"]["endpoints"]]
    ingress, route = values.get("ingress", {}), values.get("httpRoute", {})
    hosts = ingress.get("hosts", []) or route.get("hostnames", [])
    for host in hosts:
        for path in paths:
            assert f"://{host}{path}" in notes
    assert all(path in notes for path in paths)
    assert "<no value>" not in notes
    auths = [e["auth"] for e in values["config"]["endpoints"]]
    assert ("is open" in notes) == ("none" in auths)
    for allow in (auth["allow"] for auth in auths if "allow" in auth):
        assert f"takes posts from {', '.join(allow)} alone" in notes


@pytest.mark.parametrize(
    ("name", "port"), [("inspector", 8082), ("inspector on a port of its own", 9082)]
)
def test_the_inspector_is_reached_through_the_pod_alone(helm4: Helm, name: str, port: int) -> None:
    """It is on the pod's loopback: no container port, no Service and no policy has it."""
    values = VARIANTS[name].whole
    forwarded = f"port-forward deployment/statuses-sms-status-bridge {port}:{port} "
    assert forwarded in helm4.notes(values)
    objects = helm4.objects(values)
    assert {each["kind"] for each in objects if str(port) in json.dumps(each)} <= {"ConfigMap"}


def test_both_helms_give_the_same_notes(helm: Helm, helm4: Helm) -> None:
    for name in ("minimal", "everything", "load balancer", "two endpoints, secrets"):
        assert helm.notes(VARIANTS[name].whole) == helm4.notes(VARIANTS[name].whole)


def test_every_switch_is_turned_in_some_variant() -> None:
    """A new switch without a variant fails here."""

    def switches(values: Any, prefix: str = "") -> dict[str, bool]:
        found: dict[str, bool] = {}
        for key, value in values.items():
            if isinstance(value, bool):
                found[f"{prefix}{key}"] = value
            elif isinstance(value, dict):
                found |= switches(value, f"{prefix}{key}.")
        return found

    defaults = yaml.safe_load((chart.CHART / "values.yaml").read_text(encoding="utf-8"))
    for key in ("podSecurityContext", "securityContext", "config"):
        del defaults[key]
    known = switches(defaults)
    turned = {
        key
        for variant in VARIANTS.values()
        for key, value in switches(variant.values).items()
        if known.get(key) == (not value)
    }
    assert known
    assert turned == set(known)


def test_every_value_of_the_chart_is_set_in_some_variant() -> None:
    """No value is rendered by its default alone."""
    schema = generate.values_schema()["properties"]
    used = {key for variant in VARIANTS.values() for key in variant.whole}
    rarely = {"global", "enabled", "resources", "revisionHistoryLimit", "updateStrategy"}
    assert set(schema) - used - rarely - {"adminService"} == set()


# --- determinism -------------------------------------------------------------------------


def test_rendering_twice_gives_the_same_bytes(helm: Helm) -> None:
    values = VARIANTS["everything"].whole
    assert helm.render_anew(values) == helm.render_anew(values)


def test_the_cluster_s_version_changes_nothing(helm: Helm) -> None:
    values = VARIANTS["everything"].whole
    oldest = helm.objects(values, kube_version=OLDEST)
    assert oldest == helm.objects(values, kube_version=NEWEST)


def test_an_older_kubernetes_is_refused(helm: Helm) -> None:
    with pytest.raises(RefusedError, match=r"1\.27"):
        helm.render_anew(MINIMAL, kube_version="1.26")


def test_templates_neither_look_up_nor_draw() -> None:
    """Argo CD renders without a cluster, again and again."""
    for template in (chart.CHART / "templates").rglob("*.*"):
        text = template.read_text(encoding="utf-8")
        assert not re.search(r"\b(lookup|rand\w+|uuidv4|now|genCA|genSelfSignedCert|env)\b ", text)
        assert ".Capabilities" not in text


# --- what is refused ---------------------------------------------------------------------

MISSING = {
    "image": ({"image": {"repository": ""}}, "image.repository is required"),
    "brokers": ({"config": {"kafka": None}}, "bootstrap_servers is required"),
    "null brokers": ({"config": {"kafka": {"bootstrap_servers": None}}}, "bootstrap_servers"),
    "no brokers": (
        {"config": {"kafka": {"bootstrap_servers": ""}}},
        "bootstrap_servers is required",
    ),
    "endpoints": ({"config": {"endpoints": None}}, "endpoints"),
    "events": ({"config": {"events": None}}, "events"),
    "type prefix": ({"config": {"events": {"type_prefix": None}}}, "type_prefix"),
}


@pytest.mark.parametrize("values", MISSING.values(), ids=list(MISSING))
def test_what_only_the_user_knows_is_required(
    helm: Helm, values: tuple[dict[str, Any], str]
) -> None:
    changes, said = values
    with pytest.raises(RefusedError, match=said):
        helm.template(merged(MINIMAL, changes))


@pytest.mark.parametrize("key", ["name", "path", "source", "timezone", "auth"])
def test_every_endpoint_says_what_only_the_user_knows(helm: Helm, key: str) -> None:
    endpoint = {k: v for k, v in MINIMAL["config"]["endpoints"][0].items() if k != key}
    with pytest.raises(RefusedError, match=key):
        helm.template(merged(MINIMAL, {"config": {"endpoints": [endpoint]}}))


def test_the_chart_s_own_values_alone_are_refused(helm: Helm) -> None:
    """Nothing is deployed by accident; all that is missing is said."""
    with pytest.raises(RefusedError) as refused:
        helm.template()
    assert "endpoints" in str(refused.value)
    assert "events" in str(refused.value)


def test_all_problems_are_said_at_once(helm: Helm) -> None:
    values = merged(
        MINIMAL,
        {
            "image": {"repository": ""},
            "config": {"kafka": {"bootstrap_servers": ""}},
            "ingress": {"enabled": True},
            "httpRoute": {"enabled": True},
        },
    )
    with pytest.raises(RefusedError) as refused:
        helm.template(values)
    for key in ("image.repository", "bootstrap_servers", "ingress.hosts", "httpRoute.parentRefs"):
        assert key in str(refused.value)


def endpoint(**changes: Any) -> dict[str, Any]:
    """A configuration with one endpoint, changed."""
    return {"endpoints": [{**MINIMAL["config"]["endpoints"][0], **changes}]}


WRONG_CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "prot": {"server": {"prot": 8080}},
    "colour": {"colour": "red"},
    "port": {"server": {"port": 65536}},
    "max_states": {"server": {"max_states": "many"}},
    "keep_alive_seconds": {"server": {"keep_alive_seconds": True}},
    "host": {"admin": {"host": "http://x"}},
    "durability": {"kafka": {"durability": "maybe"}},
    "compression": {"kafka": {"compression": "GZIP"}},
    "topic": {"kafka": {"topic": ".."}},
    "dead_letter_topic": {"kafka": {"dead_letter_topic": "a/b"}},
    "bootstrap_servers": {"kafka": {"bootstrap_servers": 9092}},
    "duplicates": {"kafka": {"duplicates": {"remember": -1}}},
    "partitions": {"kafka": {"create_topics": {"partitions": 0}}},
    "retention.ms": {"kafka": {"create_topics": {"config": {"retention.ms": 1}}}},
    "acks": {"kafka": {"acks": "all"}},
    "endpoints": {"endpoints": []},
    "path": endpoint(path="webhook"),
    "source": endpoint(source="with space"),
    "auth": endpoint(auth="open"),
    "tokens": endpoint(auth={"tokens": "one"}),
    "basic": endpoint(auth={"basic": [{"username": "a:b", "password": "${P}"}]}),
    "type_prefix": {"events": {"type_prefix": "Example"}},
    "content_mode": {"events": {"content_mode": "batched"}},
    "level": {"log": {"level": "INFO"}},
    "format": {"log": {"format": "xml"}},
}


@pytest.mark.parametrize("key", WRONG_CONFIGURATIONS)
def test_a_wrong_configuration_is_refused_with_its_key(
    helm: Helm, key: str, tmp_path: Path
) -> None:
    """By the schema before anything is rendered, and by the program as well."""
    values = merged(MINIMAL, {"config": WRONG_CONFIGURATIONS[key]})

    with pytest.raises(RefusedError, match=key.replace(".", r"\.?")):
        helm.template(values)
    code, output = check_of(yaml.safe_dump(values["config"]), tmp_path)
    assert code == cli.EXIT_CONFIG
    assert key in output


WRONG_VALUES: dict[str, dict[str, Any]] = {
    "replicas": {"replicas": 3},
    "replicaCount": {"replicaCount": -1},
    "pullPolicy": {"image": {"pullPolicy": "Sometimes"}},
    "repository": {"image": {"repository": "with space"}},
    "digest": {"image": {"digest": "sha256:short"}},
    "tags": {"image": {"tags": "1"}},
    "maxUnavailable": {"podDisruptionBudget": {"maxUnavailable": 0}},
    "minReplicas": {"autoscaling": {"minReplicas": 0}},
    "terminationGracePeriodSeconds": {"terminationGracePeriodSeconds": "long"},
    "type": {"service": {"type": "ExternalName"}},
    "port": {"service": {"port": 0}},
    "annotations": {"ingress": {"annotations": {"a": 1}}},
    "host": {"ingress": {"host": "statuses.example.com"}},
    "brokerPorts": {"networkPolicy": {"brokerPorts": ["9092"]}},
    "intervall": {"serviceMonitor": {"intervall": "15s"}},
    "apiVersion": {"strimzi": {"apiVersion": "v1"}},
    "partition": {"strimzi": {"topics": {"partition": 3}}},
    "authentication": {"strimzi": {"user": {"authentication": "tls"}}},
    "values": {"extraEnv": [{"name": "A", "values": "b"}]},
    "keep": {"configMap": {"keep": "yes"}},
    "realState": {"helmTest": {"realState": "yes"}},
}


@pytest.mark.parametrize("key", WRONG_VALUES)
def test_a_wrong_value_is_refused_with_its_key(helm: Helm, key: str) -> None:
    with pytest.raises(RefusedError, match=key):
        helm.template(merged(MINIMAL, WRONG_VALUES[key]))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "port by reference": (
        {"config": {"server": {"port": "${PORT}"}}},
        r"config\.server\.port must be a plain number",
    ),
    "any free port": (
        {"config": {"admin": {"port": 0}}},
        r"config\.admin\.port must be a plain number",
    ),
    "drain by reference": (
        {"config": {"server": {"drain_delay_seconds": "${DRAIN}"}}},
        r"drain_delay_seconds must be a plain number",
    ),
    "killed before it is done": (
        {"terminationGracePeriodSeconds": 29},
        r"terminationGracePeriodSeconds \(29\) must be at least .* \(30\)",
    ),
    "grace too short": (
        {"config": {"server": {"shutdown_grace_seconds": 15}}},
        r"shutdown_grace_seconds \(15, of which 11\.5 are for requests\) is too short",
    ),
    "token in the open": (
        {"config": endpoint(auth={"tokens": ["${A}", "hunter2"]})},
        r"endpoints\[0\]\.auth\.tokens\[1\] holds a secret itself",
    ),
    "token half in the open": (
        {"config": endpoint(auth={"tokens": ["${A:-x}y"]})},
        r"endpoints\[0\]\.auth\.tokens\[0\] holds a secret itself",
    ),
    "token in a default": (
        {"config": endpoint(auth={"tokens": ["${A:-hunter2}"]})},
        r"endpoints\[0\]\.auth\.tokens\[0\] holds a secret itself",
    ),
    "password in the open": (
        {"config": endpoint(auth={"basic": [{"username": "u", "password": "hunter2"}]})},
        r"endpoints\[0\]\.auth\.basic\[0\]\.password holds a secret itself",
    ),
    "the same variable twice": (
        {"extraEnv": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]},
        r"extraEnv: A is set twice",
    ),
    "the chart's own variable": (
        {"extraEnv": [{"name": "SMS_BRIDGE_CONFIG", "value": "1"}]},
        r"extraEnv: SMS_BRIDGE_CONFIG is set twice",
    ),
    "ingress without a host": ({"ingress": {"enabled": True}}, r"ingress\.hosts is required"),
    "route without a gateway": (
        {"httpRoute": {"enabled": True}},
        r"httpRoute\.parentRefs is required",
    ),
    "path by reference": (
        {
            "config": endpoint(path="/${PATH_OF_PROVIDER}"),
            "ingress": {"enabled": True, "hosts": ["a.example"]},
        },
        r"endpoints\[0\]\.path must be written out",
    ),
    "strimzi without a cluster": (
        {"strimzi": {"topics": {"enabled": True}}},
        r"strimzi\.cluster is required",
    ),
    "topics made by two": (
        {
            "config": {"kafka": {"create_topics": {"enabled": True}}},
            "strimzi": {"cluster": "kafka", "topics": {"enabled": True}},
        },
        r"exclude each other: the topics would be made by whoever is first",
    ),
    "topics made by two, in text": (
        {
            "config": {"kafka": {"create_topics": {"enabled": "yes"}}},
            "strimzi": {"cluster": "kafka", "topics": {"enabled": True}},
        },
        r"exclude each other",
    ),
    "topic by reference": (
        {
            "config": {"kafka": {"topic": "${TOPIC}"}},
            "strimzi": {"cluster": "kafka", "user": {"enabled": True}},
        },
        r"the topic \$\{TOPIC\} must be written out",
    ),
    "brokers by reference": (
        {
            "config": {"kafka": {"bootstrap_servers": "${BROKERS}"}},
            "networkPolicy": {"enabled": True},
        },
        r"networkPolicy\.brokerPorts is required",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_go_together_is_refused_with_the_reason(helm: Helm, name: str) -> None:
    changes, said = REFUSED[name]
    with pytest.raises(RefusedError, match=said):
        helm.template(merged(MINIMAL, changes))


@pytest.mark.parametrize("key", ["sasl.password", "tls.key_password"])
def test_a_password_for_kafka_is_no_part_of_the_configuration_either(helm: Helm, key: str) -> None:
    def values(password: str) -> dict[str, Any]:
        sasl = {"mechanism": "PLAIN", "username": "u", "password": "${KAFKA_PASSWORD}"}
        tls = {"cert_file": "/tls.crt", "key_file": "/tls.key"}
        section, name = key.split(".")
        {"sasl": sasl, "tls": tls}[section][name] = password
        security = {"protocol": "SASL_SSL", "sasl": sasl, "tls": tls}
        return merged(MINIMAL, {"config": {"kafka": {"security": security}}})

    assert helm.template(values("${file:/run/secrets/kafka-user/password}"))
    with pytest.raises(RefusedError, match=f"security\\.{key} holds a secret itself"):
        helm.template(values("hunter2"))


# --- pods --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["minimal", "everything"])
def test_pods_meet_the_restricted_pod_security_standard(helm4: Helm, name: str) -> None:
    """As https://kubernetes.io/docs/concepts/security/pod-security-standards has it."""
    for spec in pod_specs(helm4.objects(VARIANTS[name].whole)):
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & spec.keys()
        allowed = {"configMap", "secret", "emptyDir", "projected", "downwardAPI"}
        assert all(set(volume) - {"name"} <= allowed for volume in spec["volumes"])
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["readOnlyRootFilesystem"] is True
            assert not any("hostPort" in port for port in container.get("ports", []))


def test_security_contexts_can_be_left_to_the_platform(helm: Helm) -> None:
    """OpenShift assigns users itself, and refuses pods that name one."""
    for spec in pod_specs(helm.objects(VARIANTS["openshift"].whole)):
        assert "securityContext" not in spec
        assert all("securityContext" not in container for container in spec["containers"])


def test_one_key_of_a_security_context_can_be_removed(helm: Helm) -> None:
    objects = helm.objects(merged(MINIMAL, {"podSecurityContext": {"runAsUser": None}}))
    context = pod_specs(objects)[0]["securityContext"]
    assert "runAsUser" not in context
    assert context["runAsNonRoot"] is True


def test_probes_ask_the_admin_port(helm4: Helm) -> None:
    """Liveness never depends on Kafka, readiness does."""
    objects = helm4.objects(VARIANTS["own ports"].whole)
    container = chart.container(objects)
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("liveness", "startup")}
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}

    assert ports == {"http": 9000, "admin": 9001}
    assert set(map(str, probes.values())) == {str({"path": "/livez", "port": "admin"})}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "admin"}
    public, admin = (one(objects, "Service", end) for end in ("bridge", "-admin"))
    assert [port["targetPort"] for port in public["spec"]["ports"]] == ["http"]
    assert [port["targetPort"] for port in admin["spec"]["ports"]] == ["admin"]


def test_a_rollout_takes_no_pod_before_its_successor_is_ready(helm4: Helm) -> None:
    spec = one(helm4.objects(MINIMAL), "Deployment")["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_one_core_is_asked_for_and_memory_is_limited(helm4: Helm) -> None:
    resources = chart.container(helm4.objects(MINIMAL))["resources"]
    assert resources["requests"]["cpu"] == "1"
    assert "memory" in resources["limits"]
    assert "cpu" not in resources["limits"]
    quantity = resources["limits"]["memory"]
    assert quantity.endswith("Mi")
    # Twice what the program is held to under load, hostile senders and an absent Kafka.
    assert int(quantity.removesuffix("Mi")) * 2**20 >= 2 * max(AWAY_BYTES, HOSTILE_BYTES)


def test_the_autoscaler_alone_sets_the_number_of_pods(helm4: Helm) -> None:
    objects = helm4.objects(VARIANTS["autoscaling"].whole)
    assert "replicas" not in one(objects, "Deployment")["spec"]
    scaler = one(objects, "HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"]["name"] == one(objects, "Deployment")["metadata"]["name"]
    assert [metric["resource"]["name"] for metric in scaler["metrics"]] == ["cpu"]


@EVERY
def test_selectors_find_the_gateway_s_pods_and_no_others(helm4: Helm, variant: Variant) -> None:
    """The pod of `helm test` is none that gets the provider's requests."""
    objects = helm4.objects(variant.whole)
    pod = one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    selectors = [one(objects, "Deployment")["spec"]["selector"]["matchLabels"]]
    selectors += [o["spec"]["selector"] for o in objects if o["kind"] == "Service"]
    for kind, key in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        selectors += [o["spec"][key]["matchLabels"] for o in objects if o["kind"] == kind]
    for selector in selectors:
        assert selector.items() <= pod.items()
        for other in (o for o in objects if o["kind"] == "Pod"):
            assert not selector.items() <= other["metadata"]["labels"].items()


def test_pods_spread_over_nodes_by_their_own_labels(helm4: Helm) -> None:
    objects = helm4.objects(MINIMAL)
    template = one(objects, "Deployment")["spec"]["template"]
    (constraint,) = template["spec"]["topologySpreadConstraints"]
    labels = constraint["labelSelector"]["matchLabels"]
    assert labels.items() <= template["metadata"]["labels"].items()
    own = one(helm4.objects(VARIANTS["scheduling"].whole), "Deployment")["spec"]["template"]["spec"]
    (constraint,) = own["topologySpreadConstraints"]
    assert constraint["labelSelector"] == {"matchLabels": {"own": "selector"}}


def test_secrets_come_by_environment_and_file(helm4: Helm) -> None:
    objects = helm4.objects(VARIANTS["two endpoints, secrets"].whole)
    for spec in pod_specs(objects):
        (container,) = spec["containers"]
        assert [source["secretRef"]["name"] for source in container["envFrom"]] == [
            "statuses",
            "more",
        ]
        assert {entry["name"] for entry in container["env"]} >= {"WEBHOOK_TOKEN", "TZ"}
        assert "/run/secrets/kafka-ca" in {m["mountPath"] for m in container["volumeMounts"]}


def test_common_labels_and_annotations_are_on_every_object(helm4: Helm) -> None:
    for thing in helm4.objects(VARIANTS["metadata"].whole):
        assert thing["metadata"]["labels"]["team"] == "messaging"
        assert thing["metadata"]["annotations"]["owner"] == "messaging@example.com"


def test_common_labels_never_break_a_selector(helm4: Helm) -> None:
    labels = {"commonLabels": {"app.kubernetes.io/name": "x", "app.kubernetes.io/instance": "y"}}
    objects = helm4.objects(merged(MINIMAL, labels, {"podLabels": {"app.kubernetes.io/name": "z"}}))
    spec = one(objects, "Deployment")["spec"]
    selector = spec["selector"]["matchLabels"]
    assert selector.items() <= spec["template"]["metadata"]["labels"].items()
    assert selector["app.kubernetes.io/name"] == "sms-status-bridge"


def test_the_image_is_the_chart_s_version_a_tag_or_a_digest(helm4: Helm) -> None:
    def image(name: str) -> str:
        return str(chart.container(helm4.objects(VARIANTS[name].whole))["image"])

    version = yaml.safe_load((chart.CHART / "Chart.yaml").read_text())["appVersion"]
    assert image("minimal") == f"registry.example.com/sms-status-bridge:{version}"
    assert image("image by tag") == "registry.example.com/sms-status-bridge:1.2.3-rc.1"
    assert image("image by digest").startswith("registry.example.com/sms-status-bridge@sha256:")


# --- upgrade and rollback ----------------------------------------------------------------


def config_map_of(objects: list[Object]) -> str:
    """The ConfigMap that the Deployment's pods mount."""
    volumes = one(objects, "Deployment")["spec"]["template"]["spec"]["volumes"]
    (name,) = [v["configMap"]["name"] for v in volumes if v["name"] == "config"]
    return str(name)


def test_a_former_version_dies_of_a_key_that_it_does_not_know(tmp_path: Path) -> None:
    """Why its pods must never see the configuration of their successors."""
    newer = merged(MINIMAL["config"], {"server": {"key_of_the_next_version": 1}})
    code, output = check_of(yaml.safe_dump(newer), tmp_path)
    assert code == cli.EXIT_CONFIG
    assert "key_of_the_next_version: unknown key" in output


def test_a_changed_configuration_is_another_object(helm: Helm) -> None:
    """The pods of the former ReplicaSet go on with their own, which cannot be changed."""
    former = helm.objects(MINIMAL)
    newer = helm.objects(merged(MINIMAL, {"config": {"server": {"max_states": 5000}}}))

    assert config_map_of(former) != config_map_of(newer)
    for objects in (former, newer):
        found = one(objects, "ConfigMap", config_map_of(objects))
        assert found["immutable"] is True
        assert config_map_of(objects).endswith(checksum_of(objects)[:10])


def checksum_of(objects: list[Object]) -> str:
    annotations = one(objects, "Deployment")["spec"]["template"]["metadata"]["annotations"]
    return str(annotations["checksum/config"])


def test_the_same_configuration_is_the_same_object(helm: Helm) -> None:
    """Another image alone needs no other ConfigMap: a rollback finds it in place."""
    former = helm.objects(MINIMAL)
    newer = helm.objects(merged(MINIMAL, {"image": {"tag": "9.9.9"}, "podLabels": {"a": "b"}}))
    assert config_map_of(former) == config_map_of(newer)
    assert checksum_of(former) == checksum_of(newer)


def test_the_former_configuration_leaves_last_or_never(helm4: Helm) -> None:
    """Argo CD prunes it when the new pods are healthy; Helm keeps it only on request."""

    def annotations(values: dict[str, Any]) -> dict[str, str]:
        objects = helm4.objects(values)
        found = one(objects, "ConfigMap", config_map_of(objects))["metadata"]["annotations"]
        return dict(found)

    assert annotations(MINIMAL) == {"argocd.argoproj.io/sync-options": "PruneLast=true"}
    kept = annotations(VARIANTS["former configurations kept"].whole)
    assert kept["helm.sh/resource-policy"] == "keep"
    assert kept["argocd.argoproj.io/sync-options"] == "Prune=false"


# --- Kafka -------------------------------------------------------------------------------


def test_strimzi_s_topics_are_those_of_the_configuration(helm4: Helm) -> None:
    objects = helm4.objects(VARIANTS["strimzi with a topic of an endpoint"].whole)
    topics = {o["spec"]["topicName"]: o for o in objects if o["kind"] == "KafkaTopic"}

    assert set(topics) == {"sms.status", "Sms_Status_Brand", "sms.status.rejected"}
    for topic in topics.values():
        assert topic["metadata"]["namespace"] == "kafka"
        assert topic["metadata"]["labels"]["strimzi.io/cluster"] == "kafka"
        assert topic["spec"]["replicas"] == 3
        assert topic["spec"]["config"]["min.insync.replicas"] == 2
    assert topics["sms.status"]["spec"]["partitions"] == 6
    assert topics["sms.status.rejected"]["spec"]["partitions"] == 1
    assert topics["sms.status"]["spec"]["config"]["retention.ms"] == 604800000
    assert topics["sms.status.rejected"]["spec"]["config"]["retention.ms"] == 2592000000


def test_topics_outlive_the_release(helm4: Helm) -> None:
    for topic in helm4.objects(VARIANTS["strimzi"].whole):
        if topic["kind"] == "KafkaTopic":
            annotations = topic["metadata"]["annotations"]
            assert annotations["helm.sh/resource-policy"] == "keep"
            options = annotations["argocd.argoproj.io/sync-options"]
            assert set(options.split(",")) == {"Prune=false", "Delete=false"}


def test_strimzi_s_user_may_write_and_describe_and_no_more(helm4: Helm) -> None:
    objects = helm4.objects(VARIANTS["strimzi with a topic of an endpoint"].whole)
    acls = one(objects, "KafkaUser")["spec"]["authorization"]["acls"]

    names = {acl["resource"]["name"] for acl in acls}
    assert names == {"sms.status", "Sms_Status_Brand", "sms.status.rejected"}
    for acl in acls:
        assert acl["operations"] == ["Write", "Describe", "DescribeConfigs"]
        assert acl["resource"]["type"] == "topic"
        assert acl["resource"]["patternType"] == "literal"


def test_the_topics_that_strimzi_makes_are_durable_enough_for_the_program(helm4: Helm) -> None:
    """`durability: require` must find what the chart itself makes ready."""
    objects = helm4.objects(VARIANTS["strimzi topics"].whole)
    assert settings_of(objects).kafka.durability == "require"
    topic = one(objects, "KafkaTopic", "status")["spec"]
    assert (topic["replicas"], topic["config"]["min.insync.replicas"]) == (3, 2)


# --- network -----------------------------------------------------------------------------


def test_routes_carry_every_endpoint_s_path(helm4: Helm) -> None:
    objects = helm4.objects(VARIANTS["everything"].whole)
    rules = one(objects, "Ingress")["spec"]["rules"]
    assert [rule["host"] for rule in rules] == ["statuses.example.com", "statuses.example.org"]
    for rule in rules:
        assert [path["path"] for path in rule["http"]["paths"]] == ["/webhook", "/brand"]
    (route,) = one(objects, "HTTPRoute")["spec"]["rules"]
    assert [match["path"]["value"] for match in route["matches"]] == ["/webhook", "/brand"]
    assert route["backendRefs"][0]["name"] == one(objects, "Service", "bridge")["metadata"]["name"]


def test_the_network_policy_lets_in_and_out_what_is_needed(helm4: Helm) -> None:
    objects = helm4.objects(VARIANTS["network policy"].whole)
    policy = one(objects, "NetworkPolicy")["spec"]
    public, admin, _ = policy["ingress"]
    dns, brokers, _ = policy["egress"]

    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert [port["port"] for port in public["ports"]] == ["http"]
    assert [port["port"] for port in admin["ports"]] == ["admin"]
    assert "monitoring" in json.dumps(admin["from"])
    assert {(port["port"], port["protocol"]) for port in dns["ports"]} == {(53, "UDP"), (53, "TCP")}
    assert [port["port"] for port in brokers["ports"]] == [9092]
    tester = one(objects, "Pod")["metadata"]["labels"]
    allowed = [p["podSelector"]["matchLabels"] for p in public["from"] if "podSelector" in p]
    assert any(labels.items() <= tester.items() for labels in allowed)


def test_the_admin_port_is_never_on_the_public_service(helm4: Helm) -> None:
    for variant in VARIANTS.values():
        for service in (o for o in helm4.objects(variant.whole) if o["kind"] == "Service"):
            if service["metadata"]["name"].endswith("-admin"):
                assert service["spec"]["type"] == "ClusterIP"
            else:
                assert [port["targetPort"] for port in service["spec"]["ports"]] == ["http"]


# --- monitoring --------------------------------------------------------------------------


def metric_names(text: str) -> set[str]:
    return set(re.findall(r"\bsms_bridge_\w+", text))


def known_metrics() -> set[str]:
    """Every series of the program."""
    registry = Metrics().registry
    return {name for names in registry._collector_to_names.values() for name in names}


def test_alerts_and_dashboard_ask_for_metrics_that_exist(helm4: Helm) -> None:
    objects = helm4.objects(VARIANTS["monitoring"].whole)
    rule, dashboard = one(objects, "PrometheusRule"), one(objects, "ConfigMap", "-dashboard")
    for text in (json.dumps(rule["spec"]), json.dumps(dashboard["data"])):
        assert metric_names(text)
        assert metric_names(text) <= known_metrics()


def test_alerts_are_about_this_release(helm4: Helm) -> None:
    """Prometheus's `job` is the Service's name where nothing else is said."""
    objects = helm4.objects(VARIANTS["monitoring"].whole)
    admin = one(objects, "Service", "-admin")["metadata"]["name"]
    (group,) = one(objects, "PrometheusRule")["spec"]["groups"]
    *own, extra = group["rules"]

    assert extra["alert"] == "Own"
    for rule in own:
        assert f'job="{admin}"' in rule["expr"]
        assert f'namespace="{chart.NAMESPACE}"' in rule["expr"]
        assert rule["labels"]["team"] == "messaging"
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    text = json.dumps(own)
    assert "{{ $labels." in text
    assert "@" not in text


def test_the_service_monitor_finds_the_admin_service_alone(helm4: Helm) -> None:
    objects = helm4.objects(VARIANTS["monitoring"].whole)
    selector = one(objects, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
    found = [
        o["metadata"]["name"]
        for o in objects
        if o["kind"] == "Service" and selector.items() <= o["metadata"]["labels"].items()
    ]
    assert found == ["statuses-sms-status-bridge-admin"]


def test_the_metrics_own_labels_are_kept(helm4: Helm) -> None:
    """The Operator's own label `endpoint` is the port's name, and would rename ours."""
    objects = helm4.objects(VARIANTS["service monitor"].whole)
    (scraped,) = one(objects, "ServiceMonitor")["spec"]["endpoints"]
    assert scraped["honorLabels"] is True


def test_every_alert_says_where_its_runbook_is(helm4: Helm) -> None:
    values = merged(VARIANTS["monitoring"].whole, {"prometheusRule": {"runbook": "https://x/y"}})
    (group,) = one(helm4.objects(values), "PrometheusRule")["spec"]["groups"]
    for rule in group["rules"][:-1]:
        assert rule["annotations"]["runbook_url"] == f"https://x/y#{rule['alert'].lower()}"


def test_the_dashboard_is_json(helm4: Helm) -> None:
    (text,) = one(helm4.objects(VARIANTS["dashboard"].whole), "ConfigMap", "-dashboard")[
        "data"
    ].values()
    dashboard = json.loads(text)
    assert dashboard["panels"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


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
    code, output = run_test_pod(helm4.objects(MINIMAL), url, guarded._config)

    assert code == 0, output
    assert output.splitlines() == [
        *(f"endpoint e{number}: ok" for number in range(4)),
        "endpoint e4: not for this pod's address (auth.allow)",
    ]
    assert states_taken(guarded) == 0


def test_the_test_pod_posts_a_real_state_when_it_is_asked_to(helm4: Helm, guarded: Gateway) -> None:
    url = guarded.url.removesuffix("/webhook")
    objects = helm4.objects(VARIANTS["test with a real state"].whole)
    code, output = run_test_pod(objects, url, guarded._config)

    assert code == 0, output
    assert states_taken(guarded) == 4


def test_the_test_pod_fails_where_an_endpoint_does_not_answer_200(
    helm4: Helm, guarded: Gateway, tmp_path: Path
) -> None:
    other = yaml.safe_load(guarded._config.read_text())
    other["endpoints"][1]["auth"] = {"tokens": ["wrong"]}
    file = tmp_path / "bridge.yaml"
    file.write_text(yaml.safe_dump(other))
    url = guarded.url.removesuffix("/webhook")
    code, output = run_test_pod(helm4.objects(MINIMAL), url, file)

    assert code != 0
    assert "401" in output


# --- what is handed out ------------------------------------------------------------------


@pytest.mark.parametrize("file", [generate.SCHEMA, generate.README], ids=lambda p: p.name)
def test_generated_files_are_fresh(file: Path) -> None:
    """`make schema` writes them anew."""
    assert file.read_text(encoding="utf-8") == generate.documents()[file]


def test_the_schema_s_part_for_the_program_is_the_program_s(helm4: Helm) -> None:
    del helm4
    written = json.loads(generate.SCHEMA.read_text(encoding="utf-8"))
    program = config_schema()
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

    def compare(section: dict[str, Any], given: dict[str, Any], prefix: str) -> None:
        for key, node in section["properties"].items():
            assert key in given, f"{prefix}{key}"
            if "properties" in node and node.get("additionalProperties") is False:
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
    needed |= {"docs/events.md", "docs/asyncapi.json", "docs/envelope.json"}
    assert names >= {*needed, "README.md", "Chart.yaml", "values.yaml", "templates/NOTES.txt"}
    assert "values.schema.src.yaml" not in names


def test_the_chart_s_description_is_complete() -> None:
    about = yaml.safe_load((chart.CHART / "Chart.yaml").read_text(encoding="utf-8"))
    changes = yaml.safe_load(about["annotations"]["artifacthub.io/changes"])

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
