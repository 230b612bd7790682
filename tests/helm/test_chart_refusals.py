"""What the chart refuses, by Helm 3 and 4: with the key that is wrong, and the reason."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.cli.common import EXIT_CONFIG
from bridge.config.conflicts import RULES, Rule
from bridge.config.settings import Settings, dotted
from bridge.contract.config_schema import config_schema
from tests.helm import chart, generate
from tests.helm.chart import NEWEST, Helm, RefusedError, merged
from tests.helm.readings import check_of, pod_specs
from tests.helm.variants import MINIMAL

# --- what is refused ---------------------------------------------------------------------

MISSING = {
    "image": ({"image": {"repository": ""}}, "image.repository: required"),
    "brokers": ({"config": {"kafka": None}}, "bootstrap_servers: required"),
    "null brokers": ({"config": {"kafka": {"bootstrap_servers": None}}}, "bootstrap_servers"),
    "no brokers": ({"config": {"kafka": {"bootstrap_servers": ""}}}, "bootstrap_servers"),
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
            "config": {"kafka": {"topic": "one", "dead_letter_topic": "one"}},
            "ingress": {"enabled": True},
            "httpRoute": {"enabled": True},
        },
    )
    with pytest.raises(RefusedError) as refused:
        helm.template(values)
    for key in ("image.repository", "dead_letter_topic", "ingress.hosts", "httpRoute.parentRefs"):
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
    "bootstrap_servers": {"kafka": {"bootstrap_servers": "kafka"}},
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
    "tag": {"image": {"tag": "-1"}},
    "tags": {"image": {"tags": "1"}},
    "nameOverride": {"nameOverride": "A"},
    "fullnameOverride": {"fullnameOverride": "a.b"},
    "commonLabels": {"commonLabels": {"team": "with space"}},
    "a/b/c": {"podLabels": {"a/b/c": "x"}},
    "maxUnavailable": {"podDisruptionBudget": {"maxUnavailable": "0%"}},
    "minAvailable": {"podDisruptionBudget": {"minAvailable": "100%"}},
    "updateStrategy": {"updateStrategy": {"type": "Rolling"}},
    "maxSurge": {"updateStrategy": {"rollingUpdate": {"maxSurge": "200%"}}},
    "progressDeadlineSeconds": {"progressDeadlineSeconds": 0},
    "httpGet": {"livenessProbe": {"httpGet": {"path": "/"}}},
    "successThreshold": {"livenessProbe": {"successThreshold": 2}},
    "terminationGrace": {"readinessProbe": {"terminationGracePeriodSeconds": 2}},
    "timeoutSeconds": {"startupProbe": {"timeoutSeconds": 0}},
    "requests": {"resources": {"requests": {"cpu": "1 core"}}},
    "sidecars": {"sidecars": [{"name": "proxy"}]},
    "lifecycle": {"lifecycle": {"preStart": {}}},
    "topologySpreadConstraints": {"topologySpreadConstraints": [{"maxSkew": 1}]},
    "dnsPolicy": {"dnsPolicy": "Cluster"},
    "hostAliases": {"hostAliases": [{"hostnames": ["a"]}]},
    "envFrom": {"envFrom": [{"prefix": "A_"}]},
    "tolerations": {"tolerations": [{"keys": "a"}]},
    "dns": {"networkPolicy": {"dns": [{"cidr": "10.0.0.10/32"}]}},
    "extraVolumes": {"extraVolumes": [{}]},
    "trafficDistribution": {"service": {"trafficDistribution": "near"}},
    "loadBalancerClass": {"service": {"loadBalancerClass": "a b"}},
    "sessionAffinity": {"service": {"sessionAffinity": "Cookie"}},
    "ipFamilies": {"service": {"ipFamilies": ["IPv4", "IPv4"]}},
    "loadBalancerSourceRanges": {"service": {"loadBalancerSourceRanges": ["203.0.113.7"]}},
    "hosts": {"ingress": {"hosts": ["Statuses.example.com"]}},
    "pathType": {"ingress": {"pathType": "Regex"}},
    "extraPaths": {"ingress": {"extraPaths": [{"path": "/"}]}},
    "hostnames": {"httpRoute": {"hostnames": ["a_b"]}},
    "interval": {"podMonitor": {"interval": "soon"}},
    "metrics": {"autoscaling": {"metrics": [{"pods": {}}]}},
    "targetCPU": {"autoscaling": {"targetCPU": "60%"}},
    "minReplicas": {"autoscaling": {"minReplicas": 0}},
    "terminationGracePeriodSeconds": {"terminationGracePeriodSeconds": "long"},
    "type": {"service": {"type": "ExternalName"}},
    "port": {"service": {"port": 0}},
    "annotations": {"ingress": {"annotations": {"a": 1}}},
    "host": {"ingress": {"host": "statuses.example.com"}},
    "brokerPorts": {"networkPolicy": {"brokerPorts": ["9092"]}},
    "silentAfter": {"prometheusRule": {"silentAfter": "a day"}},
    "intervall": {"serviceMonitor": {"intervall": "15s"}},
    "apiVersion": {"strimzi": {"apiVersion": "v1"}},
    "partition": {"strimzi": {"topics": {"partition": 3}}},
    "authentication": {"strimzi": {"user": {"authentication": "tls"}}},
    "values": {"extraEnv": [{"name": "A", "values": "b"}]},
    "value": {"extraEnv": [{"name": "A", "value": "b", "valueFrom": {"fieldRef": {}}}]},
    "name": {"extraEnv": [{"name": "1A", "value": "b"}]},
    "realState": {"helmTest": {"realState": "yes"}},
    "schedule": {"reconcile": {"schedule": ""}},
    "since": {"reconcile": {"since": "yesterday"}},
    "rate": {"reconcile": {"rate": 0}},
    "providerPorts": {"networkPolicy": {"providerPorts": ["https"]}},
    "preStop": {"lifecycle": {"preStop": {"exec": {"command": ["a"]}, "sleep": {"seconds": 5}}}},
    "postStart": {"lifecycle": {"postStart": {}}},
    "stopSignal": {"lifecycle": {"stopSignal": "SIGTERM"}},
    "command": {"lifecycle": {"preStop": {"exec": {}}}},
    "seconds": {"lifecycle": {"preStop": {"sleep": {"seconds": 0}}}},
    "valueFrom": {"extraEnv": [{"name": "A", "valueFrom": {"fieldRef": {}, "secretKeyRef": {}}}]},
    "envFrom.0": {"envFrom": [{"configMapRef": {"name": "a"}, "secretRef": {"name": "b"}}]},
    "extraVolumes.0": {"extraVolumes": [{"name": "a", "emptyDir": {}, "secret": {}}]},
    "mountPath": {
        "extraVolumes": [{"name": "a", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "a"}],
    },
    "networkPolicy.from.0": {
        "networkPolicy": {"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}]}
    },
    "brokers.0.ipBlock.cidr": {"networkPolicy": {"brokers": [{"ipBlock": {"cidr": "10.0.0.10"}}]}},
    "SourceRanges.0": {"service": {"loadBalancerSourceRanges": ["203.0.113.256/32"]}},
    "SourceRanges.1": {"service": {"loadBalancerSourceRanges": ["2001:db8::/32", "::/129"]}},
    "tolerations.0.value": {"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]},
    "tolerations.0.*key": {"tolerations": [{"value": "b"}]},
    "tolerations.1.value": {"tolerations": [{"operator": "Exists"}, {"key": "a", "value": "b c"}]},
    "operator": {"tolerations": [{"key": "a", "operator": "exists"}]},
    "effect": {"tolerations": [{"key": "a", "tolerationSeconds": 5}]},
    "maxSkew": {
        "topologySpreadConstraints": [
            {"maxSkew": 0, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
        ]
    },
    "whenUnsatisfiable": {
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "Never"}
        ]
    },
    "nameservers": {"dnsConfig": {"nameservers": [f"10.0.0.{n}" for n in range(4)]}},
    "nameservers.0": {"dnsConfig": {"nameservers": ["dns.example.com"]}},
    "hostAliases.0.ip": {"hostAliases": [{"ip": "10.0.0.256"}]},
    "hostAliases.0.hostnames.0": {"hostAliases": [{"ip": "::1", "hostnames": ["A"]}]},
    "sidecars.0.name": {"sidecars": [{"name": "a.b", "image": "i"}]},
    "metrics.0": {"autoscaling": {"metrics": [{"type": "Pods", "pods": {}, "object": {}}]}},
    "extraPaths.0.backend": {
        "ingress": {
            "extraPaths": [
                {"path": "/", "pathType": "Exact", "backend": {"service": {}, "resource": {}}}
            ]
        }
    },
    "extraPaths.0": {
        "ingress": {"extraPaths": [{"pathType": "Prefix", "backend": {"service": {"name": "a"}}}]}
    },
    "ingress.hosts.0": {"ingress": {"hosts": ["203.0.113.7"]}},
    "a..b/c": {"podAnnotations": {"a..b/c": "x"}},
    "memroy": {"resources": {"limits": {"memroy": "1Gi"}}},
    "prefix": {"envFrom": [{"prefix": "A=", "secretRef": {"name": "a"}}]},
    "secretRef": {"envFrom": [{"secretRef": {}}]},
    "timeouts.request": {"httpRoute": {"timeouts": {"request": "30 s"}}},
    "reconcile.schedule": {"reconcile": {"schedule": "@reboot"}},
    "revisionHistoryLimit": {"revisionHistoryLimit": 2**31},
}


@pytest.mark.parametrize("key", WRONG_VALUES)
def test_a_wrong_value_is_refused_with_its_key(helm: Helm, key: str) -> None:
    with pytest.raises(RefusedError, match=key):
        helm.template(merged(MINIMAL, WRONG_VALUES[key]))


NAMED = {"name": "other", "path": "/other", "source": "urn:example:sms:other"}
SASL = {"mechanism": "PLAIN", "username": "u", "password": "${P}"}
OAUTH = {
    "mechanism": "OAUTHBEARER",
    "token_url": "https://login.example.com:8443/token?realm=a/b",
    "client_id": "c",
    "client_secret": "${S}",
}


def two_endpoints(**changes: Any) -> dict[str, Any]:
    first = MINIMAL["config"]["endpoints"][0]
    return {"endpoints": [first, {**first, **NAMED, **changes}]}


def security(**given: Any) -> dict[str, Any]:
    return {"kafka": {"security": given}}


def login(sasl: dict[str, Any], without: str = "", **more: str) -> dict[str, Any]:
    """A login that lacks a key, or has more than belongs to it."""
    given = {key: value for key, value in {**sasl, **more}.items() if key != without}
    return security(protocol="SASL_SSL", sasl=given)


BROKEN: dict[Rule, dict[str, Any]] = dict(
    zip(
        RULES,
        [
            two_endpoints(name="main"),
            two_endpoints(path="/webhook/"),
            two_endpoints(source="urn:example:sms:main", topic="sms.brand"),
            two_endpoints(topic="sms.status.rejected"),
            {"inspector": {}, "admin": {"port": 8082}},
            {"inspector": {}, "server": {"processes": 2}},
            {"server": {"max_in_flight_bytes": 1_000_000}},
            security(protocol="SASL_SSL"),
            security(protocol="SSL", sasl=SASL),
            security(tls={"ca_file": "/ca.crt"}),
            login(SASL, without="username"),
            login(SASL, without="password"),
            login(OAUTH, without="token_url"),
            login(OAUTH, without="client_id"),
            login(OAUTH, without="client_secret"),
            login(OAUTH, username="u"),
            login(OAUTH, password="${P:-in the open}"),
            login(SASL, token_url="https://login.example.com/token"),
            login(SASL, client_id="c"),
            login(SASL, client_secret="${S:-in the open}"),
            login(SASL, scope="kafka"),
            login(SASL, token_ca_file="/ca.crt"),
            security(protocol="SSL", tls={"cert_file": "/tls.crt"}),
            security(protocol="SSL", tls={"key_file": "/tls.key"}),
            security(protocol="SSL", tls={"key_password": "${P:-in the open}"}),
        ],
        strict=True,
    )
)
"""A configuration that breaks each of the program's rules; a new rule wants one here."""


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_what_breaks_a_rule_of_the_program_is_refused_by_both(
    helm: Helm, rule: Rule, tmp_path: Path
) -> None:
    """With the same key, and the same words."""
    values = merged(MINIMAL, {"config": BROKEN[rule]})
    (conflict,) = rule.broken(Settings.model_validate(values["config"]))

    code, output = check_of(yaml.safe_dump(values["config"]), tmp_path)
    assert code == EXIT_CONFIG
    assert f"{dotted(conflict.place)}: {conflict.what}" in output
    with pytest.raises(RefusedError) as refused:
        helm.template(values)
    words = re.sub(r"^\S+ needs", "needs", conflict.what).partition(": ")[0]
    said = re.findall(rf"config\.{re.escape(dotted(conflict.place))}: (.*)", str(refused.value))
    assert words in [what.replace("config.", "") for what in said]


@pytest.mark.parametrize(
    "config",
    [
        two_endpoints(source="urn:example:sms:main"),
        two_endpoints(topic="sms.brand"),
        two_endpoints(path="/webhook/more"),
        {"inspector": None, "admin": {"port": 8082}},
        {"inspector": {}, "server": {"processes": "1"}},
        {"kafka": {"dead_letter_topic": None, "topic": "sms.status.rejected"}},
        {"server": {"max_in_flight_bytes": "${BYTES}"}},
        security(protocol="SASL_SSL", sasl=SASL, tls={"cert_file": "/c", "key_file": "/k"}),
        security(protocol="${PROTOCOL}", tls={"ca_file": "/ca.crt"}),
        login(OAUTH, scope="kafka offline", token_ca_file="/ca.crt"),
        login({**OAUTH, "token_url": "${URL}"}),
        login({**SASL, "mechanism": "SCRAM-SHA-256"}),
    ],
)
def test_near_misses_of_the_rules_are_rendered(
    helm: Helm, config: dict[str, Any], tmp_path: Path
) -> None:
    """What the program may accept, the chart does."""
    text = chart.configuration(helm.objects(merged(MINIMAL, {"config": config})))
    code, output = check_of(text, tmp_path)
    assert code == 0, output


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "port by reference": (
        {"config": {"server": {"port": "${PORT}"}}},
        r"config\.server\.port: must be a plain number",
    ),
    "any free port": (
        {"config": {"admin": {"port": 0}}},
        r"config\.admin\.port: must be a plain number",
    ),
    "drain by reference": (
        {"config": {"server": {"drain_delay_seconds": "${DRAIN}"}}},
        r"drain_delay_seconds: must be a plain number",
    ),
    "killed before it is done": (
        {"terminationGracePeriodSeconds": 29},
        r"terminationGracePeriodSeconds: 29 is less than .* \(30\)",
    ),
    "grace too short": (
        {"config": {"server": {"shutdown_grace_seconds": 15}}},
        r"shutdown_grace_seconds: of 15 seconds 11\.5 are for requests: too short",
    ),
    "probes that reach nothing": (
        {"config": {"admin": {"host": "127.0.0.1"}}},
        r"config\.admin\.host: must not be the pod's own loopback",
    ),
    "a service that reaches nothing": (
        {"config": {"server": {"host": "::1"}}},
        r"config\.server\.host: must not be the pod's own loopback",
    ),
    "a hook longer than the pod may take": (
        {"lifecycle": {"preStop": {"sleep": {"seconds": 40}}}, "terminationGracePeriodSeconds": 69},
        r"terminationGracePeriodSeconds: 69 is less than .*lifecycle\.preStop.* \(70\)",
    ),
    "two families of one": (
        {"service": {"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4", "IPv6"]}},
        r"service\.ipFamilies: two need service\.ipFamilyPolicy PreferDualStack",
    ),
    "two families by default": (
        {"service": {"ipFamilies": ["IPv6", "IPv4"]}},
        r"service\.ipFamilies: two need service\.ipFamilyPolicy PreferDualStack",
    ),
    "a path that an ingress may not have": (
        {
            "config": endpoint(path="/a/../b"),
            "ingress": {"enabled": True, "hosts": ["a.example"]},
        },
        r"endpoints\[0\]\.path: must have no part \. or \.\. if ingress\.enabled",
    ),
    "a path that a route may not have": (
        {
            "config": endpoint(path="/a/."),
            "httpRoute": {"enabled": True, "parentRefs": [{"name": "a"}]},
        },
        r"endpoints\[0\]\.path: must have no part \. or \.\. if httpRoute\.enabled",
    ),
    "a configuration too long for an annotation": (
        {"config": {"kafka": {"create_topics": {"config": {"a": "x" * 100_000}}}}},
        r"config: longer than",
    ),
    "token in the open": (
        {"config": endpoint(auth={"tokens": ["${A}", "hunter2"]})},
        r"endpoints\[0\]\.auth\.tokens\[1\]: holds a secret itself",
    ),
    "token half in the open": (
        {"config": endpoint(auth={"tokens": ["${A:-x}y"]})},
        r"endpoints\[0\]\.auth\.tokens\[0\]: holds a secret itself",
    ),
    "token in a default": (
        {"config": endpoint(auth={"tokens": ["${A:-hunter2}"]})},
        r"endpoints\[0\]\.auth\.tokens\[0\]: holds a secret itself",
    ),
    "password in the open": (
        {"config": endpoint(auth={"basic": [{"username": "u", "password": "hunter2"}]})},
        r"endpoints\[0\]\.auth\.basic\[0\]\.password: holds a secret itself",
    ),
    "the provider's token in the open": (
        {"config": endpoint(provider={"url": "https://a.example/xml", "token": "hunter2"})},
        r"endpoints\[0\]\.provider\.token: holds a secret itself",
    ),
    "the provider's password in the open": (
        {
            "config": endpoint(
                provider={"url": "https://a.example/xml", "login": "l", "password": "hunter2"}
            )
        },
        r"endpoints\[0\]\.provider\.password: holds a secret itself",
    ),
    "the client's secret in the open": (
        {"config": security(protocol="SASL_SSL", sasl={**OAUTH, "client_secret": "hunter2"})},
        r"kafka\.security\.sasl\.client_secret: holds a secret itself",
    ),
    "token endpoint by reference": (
        {
            "config": security(protocol="SASL_SSL", sasl={**OAUTH, "token_url": "${URL}"}),
            "networkPolicy": {"enabled": True},
        },
        r"token_url: must be written out .*networkPolicy\.tokenEndpointPorts has to be set",
    ),
    "reconcile without a provider": (
        {"reconcile": {"enabled": True}},
        r"reconcile\.enabled: needs a provider in config\.endpoints",
    ),
    "provider by reference": (
        {
            "config": endpoint(provider={"url": "${PROVIDER_URL}", "token": "${T}"}),
            "reconcile": {"enabled": True},
            "networkPolicy": {"enabled": True},
        },
        r"provider\.url: must be written out .*networkPolicy\.providerPorts has to be set",
    ),
    "the same variable twice": (
        {"extraEnv": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]},
        r"extraEnv\[1\]\.name: must differ from extraEnv\[0\]\.name",
    ),
    "the chart's own variable": (
        {"extraEnv": [{"name": "SMS_BRIDGE_CONFIG", "value": "1"}]},
        r"extraEnv\[0\]\.name: is the chart's own",
    ),
    "the chart's own container": (
        {"sidecars": [{"name": "gateway", "image": "i"}]},
        r"sidecars\[0\]\.name: is the chart's own",
    ),
    "two containers of one name": (
        {
            "initContainers": [{"name": "a", "image": "i"}],
            "sidecars": [{"name": "a", "image": "i"}],
        },
        r"sidecars\[0\]\.name: must differ from initContainers\[0\]\.name",
    ),
    "the chart's own volume": (
        {"extraVolumes": [{"name": "config", "emptyDir": {}}]},
        r"extraVolumes\[0\]\.name: is the chart's own",
    ),
    "the chart's own mount": (
        {"extraVolumeMounts": [{"name": "config", "mountPath": "/etc/sms-bridge"}]},
        r"extraVolumeMounts\[0\]\.mountPath: is the chart's own",
    ),
    "a mount of nothing": (
        {"extraVolumeMounts": [{"name": "certs", "mountPath": "/certs"}]},
        r"extraVolumeMounts\[0\]\.name: is none of extraVolumes",
    ),
    "less than is requested": (
        {"resources": {"limits": {"cpu": "0.2"}}},
        r"resources\.limits\.cpu: must be at least resources\.requests\.cpu",
    ),
    "less memory than is requested": (
        {"resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "1G"}}},
        r"resources\.limits\.memory: must be at least resources\.requests\.memory",
    ),
    "more pods at least than at most": (
        {"replicaCount": None, "autoscaling": {"enabled": True, "minReplicas": 7}},
        r"autoscaling\.maxReplicas: must be at least autoscaling\.minReplicas",
    ),
    "a number of pods beside the autoscaler": (
        {"autoscaling": {"enabled": True}},
        r"autoscaling\.enabled: needs replicaCount: null",
    ),
    "pods that may never leave": (
        {"podDisruptionBudget": {"minAvailable": 2}},
        r"replicaCount: must be more than podDisruptionBudget\.minAvailable",
    ),
    "scaled pods that may never leave": (
        {
            "replicaCount": None,
            "autoscaling": {"enabled": True},
            "podDisruptionBudget": {"minAvailable": 2},
        },
        r"autoscaling\.minReplicas: must be more than podDisruptionBudget\.minAvailable",
    ),
    "a rollout that cannot begin": (
        {"updateStrategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}},
        r"updateStrategy\.rollingUpdate\.maxUnavailable: must not be 0",
    ),
    "a rollout that fails before it can succeed": (
        {"minReadySeconds": 600},
        r"progressDeadlineSeconds: must be more than minReadySeconds",
    ),
    "a node's port of a service inside the cluster": (
        {"service": {"nodePort": 30080}},
        r"service\.nodePort: only with service\.type NodePort or LoadBalancer",
    ),
    "a policy for traffic from outside that there is none of": (
        {"service": {"externalTrafficPolicy": "Local"}},
        r"service\.externalTrafficPolicy: only with service\.type",
    ),
    "a class of no load balancer": (
        {"service": {"type": "NodePort", "loadBalancerClass": "a"}},
        r"service\.loadBalancerClass: only with service\.type LoadBalancer",
    ),
    "addresses of no load balancer": (
        {"service": {"loadBalancerSourceRanges": ["203.0.113.0/24"]}},
        r"service\.loadBalancerSourceRanges: only with service\.type LoadBalancer",
    ),
    "a target that is always missed": (
        {"autoscaling": {"targetCPU": "0"}},
        r"autoscaling\.targetCPU: must be more than 0",
    ),
    "no DNS at all": ({"dnsPolicy": "None"}, r"dnsPolicy: needs dnsConfig\.nameservers"),
    "scraped twice": (
        {"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}},
        r"podMonitor\.enabled: only with serviceMonitor\.enabled false",
    ),
    "ingress without a host": (
        {"ingress": {"enabled": True}},
        r"ingress\.enabled: needs ingress\.hosts",
    ),
    "route without a gateway": (
        {"httpRoute": {"enabled": True}},
        r"httpRoute\.enabled: needs httpRoute\.parentRefs",
    ),
    "path by reference": (
        {
            "config": endpoint(path="/${PATH_OF_PROVIDER}"),
            "ingress": {"enabled": True, "hosts": ["a.example"]},
        },
        r"endpoints\[0\]\.path: must be written out if ingress\.enabled",
    ),
    "strimzi without a cluster": (
        {"strimzi": {"topics": {"enabled": True}}},
        r"strimzi\.topics\.enabled: needs strimzi\.cluster",
    ),
    "topics made by two": (
        {
            "config": {"kafka": {"create_topics": {"enabled": True}}},
            "strimzi": {"cluster": "kafka", "topics": {"enabled": True}},
        },
        r"strimzi\.topics\.enabled: only without config\.kafka\.create_topics\.enabled",
    ),
    "topics made by two, in text": (
        {
            "config": {"kafka": {"create_topics": {"enabled": "yes"}}},
            "strimzi": {"cluster": "kafka", "topics": {"enabled": True}},
        },
        r"strimzi\.topics\.enabled: only without config\.kafka\.create_topics\.enabled",
    ),
    "topic by reference": (
        {
            "config": {"kafka": {"topic": "${TOPIC}"}},
            "strimzi": {"cluster": "kafka", "user": {"enabled": True}},
        },
        r"config\.kafka\.topic: must be written out if strimzi\.user\.enabled",
    ),
    "brokers by reference": (
        {
            "config": {"kafka": {"bootstrap_servers": "${BROKERS}"}},
            "networkPolicy": {"enabled": True},
        },
        r"config\.kafka\.bootstrap_servers: must be written out",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_go_together_is_refused_with_the_reason(helm: Helm, name: str) -> None:
    changes, said = REFUSED[name]
    with pytest.raises(RefusedError, match=said):
        helm.template(merged(MINIMAL, changes))


def listening(host: str) -> dict[str, Any]:
    """Values with this address for both listeners."""
    return {"config": {"server": {"host": host}, "admin": {"host": host}}}


LOOPBACKS = [
    *("127.1", "localhost.", "LOCALHOST", "ip6-localhost", "::1%lo", "::0001", "0::0:1"),
    *("0:0:0:0:0:0:0:1", "0000:0000:0000:0000:0000:0000:0000:0001"),
    *("::ffff:127.0.0.1", "::FFFF:7f00:1", "0:0:0:0:0:ffff:127.9.9.9"),
]


@pytest.mark.parametrize("host", LOOPBACKS)
def test_a_loopback_is_refused_however_it_is_written(helm4: Helm, host: str) -> None:
    with pytest.raises(RefusedError) as refused:
        helm4.template(merged(MINIMAL, listening(host)))
    for section in ("server", "admin"):
        assert f"config.{section}.host: must not be the pod's own loopback" in str(refused.value)


NEAR_MISSES: list[dict[str, Any]] = [
    listening("::"),
    listening("0:0:0:0:0:0:0:0"),
    listening("fd00::1"),
    listening("::ffff:10.127.0.1"),
    listening("localhost.example.com"),
    {
        "config": endpoint(path="/..a/b.."),
        "ingress": {"enabled": True, "hosts": ["a.example"]},
        "httpRoute": {"enabled": True, "parentRefs": [{"name": "a"}]},
    },
    {"service": {"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv6"]}},
    {"service": {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4"]}},
    {"lifecycle": None},
    {"lifecycle": {"preStop": None, "postStart": {"tcpSocket": {"port": "http"}}}},
    {"tolerations": [{"operator": "Exists"}, {"key": "a", "value": "b"}]},
    {"tolerations": [{"key": "a", "effect": "NoExecute", "tolerationSeconds": 5}]},
    {"extraVolumes": [{"name": "scratch"}]},
    {"dnsConfig": {"nameservers": ["169.254.20.10", "fd00::a"]}, "hostAliases": [{"ip": "::1"}]},
    {
        "service": {
            "type": "LoadBalancer",
            "loadBalancerSourceRanges": ["0.0.0.0/0", "255.9.10.249/32", "2001:db8::/32"],
        }
    },
    {"reconcile": {"schedule": "@hourly"}},
    {"reconcile": {"schedule": "*/15 1-5,22 ? JAN-jun MON"}},
]


@pytest.mark.parametrize("values", NEAR_MISSES, ids=str)
def test_near_misses_of_what_kubernetes_refuses_are_rendered(
    helm4: Helm, values: dict[str, Any]
) -> None:
    objects = helm4.objects(merged(MINIMAL, values))
    assert [p for thing in objects for p in chart.problems(thing, NEWEST)] == []


def test_a_sleep_before_the_stop_is_added_to_the_time_that_a_pod_may_take(helm4: Helm) -> None:
    hook = {"preStop": {"sleep": {"seconds": 7}}}
    (spec, *_) = pod_specs(helm4.objects(merged(MINIMAL, {"lifecycle": hook})))
    assert spec["terminationGracePeriodSeconds"] == 42


def refusals() -> Iterator[tuple[str, str]]:
    """The key and the words of each refusal that has words of its own."""
    for rule in generate.validation()["rules"]:
        yield from ((key, rule.get("said", "")) for key in rule["keys"])
    template = (chart.CHART / "templates/_validate.tpl").read_text(encoding="utf-8")
    yield from re.findall(r'"([\w.]+): ([^"]+)"', template)


def test_a_page_that_a_refusal_names_is_about_its_key() -> None:
    named = [(page, key) for key, said in refusals() for page in re.findall(r"[\w/-]+\.md", said)]
    assert ("docs/deploy-scale.md", "autoscaling.enabled") in named
    for page, key in named:
        assert f"`{key}`" in (chart.CHART.parent / page).read_text(encoding="utf-8"), page


@pytest.mark.parametrize("release", ["1r", "a.b", "r-1.x"])
def test_a_release_whose_name_no_service_may_have_is_refused(helm: Helm, release: str) -> None:
    with pytest.raises(RefusedError, match=rf"fullnameOverride: .* {re.escape(release)}"):
        helm.template(MINIMAL, release=release)
    assert helm.template(merged(MINIMAL, {"fullnameOverride": "sms"}), release=release)


def test_the_chart_knows_every_secret_of_the_program() -> None:
    """Each setting that is masked in a log is one that no one may write into the chart's values."""
    (rule,) = [r for r in generate.validation()["rules"] if "secret" in r.get("said", "")]
    assert {key.rpartition(".")[2] for key in rule["keys"]} >= {"tokens[]", "password"}
    secret = re.findall(r'"format": "password"', json.dumps(config_schema()))
    assert len(rule["keys"]) == len(secret)


@pytest.mark.parametrize("key", ["sasl.password", "tls.key_password"])
def test_a_password_for_kafka_is_no_part_of_the_configuration_either(helm: Helm, key: str) -> None:
    def values(password: str) -> dict[str, Any]:
        sasl = {"mechanism": "PLAIN", "username": "u", "password": "${KAFKA_PASSWORD}"}
        tls = {"cert_file": "/tls.crt", "key_file": "/tls.key"}
        section, name = key.split(".")
        {"sasl": sasl, "tls": tls}[section][name] = password
        return merged(MINIMAL, {"config": security(protocol="SASL_SSL", sasl=sasl, tls=tls)})

    assert helm.template(values("${file:/run/secrets/kafka-user/password}"))
    with pytest.raises(RefusedError, match=f"security\\.{key}: holds a secret itself"):
        helm.template(values("hunter2"))


REMOVED = [
    *("service.port", "adminService.port", "ingress.pathType", "updateStrategy.type"),
    *("autoscaling.minReplicas", "podDisruptionBudget.maxUnavailable", "strimzi.topics.replicas"),
]


@pytest.mark.parametrize("key", REMOVED)
def test_null_never_stands_for_nothing_where_a_number_is_needed(helm: Helm, key: str) -> None:
    """It removes the default, of which a template would make 0 or an empty text."""
    section, _, name = key.rpartition(".")
    values: dict[str, Any] = {name: None}
    for step in reversed(section.split(".")):
        values = {step: values}
    with pytest.raises(RefusedError, match=f"{re.escape(key)}: required"):
        helm.template(merged(MINIMAL, values))
