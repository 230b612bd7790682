"""What the chart refuses, by Helm 3 and 4: with the key that is wrong, and the reason."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.cli.common import EXIT_CONFIG
from tests.helm.chart import Helm, RefusedError, merged
from tests.helm.readings import check_of
from tests.helm.variants import MINIMAL

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
    assert code == EXIT_CONFIG
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
    "schedule": {"reconcile": {"schedule": ""}},
    "since": {"reconcile": {"since": "yesterday"}},
    "rate": {"reconcile": {"rate": 0}},
    "providerPorts": {"networkPolicy": {"providerPorts": ["https"]}},
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
    "the provider's token in the open": (
        {"config": endpoint(provider={"url": "https://a.example/xml", "token": "hunter2"})},
        r"endpoints\[0\]\.provider\.token holds a secret itself",
    ),
    "the provider's password in the open": (
        {
            "config": endpoint(
                provider={"url": "https://a.example/xml", "login": "l", "password": "hunter2"}
            )
        },
        r"endpoints\[0\]\.provider\.password holds a secret itself",
    ),
    "reconcile without a provider": (
        {"reconcile": {"enabled": True}},
        r"reconcile\.enabled needs a provider in config\.endpoints",
    ),
    "provider by reference": (
        {
            "config": endpoint(provider={"url": "${PROVIDER_URL}", "token": "${T}"}),
            "reconcile": {"enabled": True},
            "networkPolicy": {"enabled": True},
        },
        r"networkPolicy\.providerPorts is required",
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
