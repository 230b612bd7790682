"""The objects of the chart one by one: pods, upgrades, Kafka, network, monitoring."""

import json
import re
from pathlib import Path

import pytest
import yaml

from bridge.cli.common import EXIT_CONFIG
from tests.gateway.test_endurance import AWAY_BYTES
from tests.gateway.test_hostile_senders import HOSTILE_BYTES
from tests.helm import chart
from tests.helm.chart import NEWEST, Helm, Object, merged, objects_of, one
from tests.helm.readings import (
    EVERY,
    check_of,
    known_metrics,
    of_kind,
    pod_of,
    pod_specs,
    settings_of,
)
from tests.helm.variants import MINIMAL, RECONCILE, STRIMZI, VARIANTS, Variant
from tests.support.commands import command

# --- pods --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["minimal", "everything"])
def test_pods_meet_the_restricted_pod_security_standard(helm4: Helm, name: str) -> None:
    """As https://kubernetes.io/docs/concepts/security/pod-security-standards has it."""
    for spec in pod_specs(helm4.objects(VARIANTS[name].whole)):
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        allowed = {"configMap", "secret", "emptyDir", "projected", "downwardAPI"}
        assert all(set(volume) - {"name"} <= allowed for volume in spec["volumes"])
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
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


def cpu_of(container: Object) -> float:
    """What a container requests, in cores."""
    text = container["resources"]["requests"]["cpu"]
    return float(text.removesuffix("m")) / (1000 if text.endswith("m") else 1)


def test_a_rollout_and_its_test_fit_on_a_small_node(helm4: Helm) -> None:
    """Two cores, of which the system's own pods request up to one; see docs/deploy.md."""
    objects = helm4.objects(MINIMAL)
    spec = one(objects, "Deployment")["spec"]
    pods_at_once = spec["replicas"] + spec["strategy"]["rollingUpdate"]["maxSurge"]
    (tester,) = one(objects, "Pod")["spec"]["containers"]
    assert pods_at_once * cpu_of(chart.container(objects)) + cpu_of(tester) <= 1


def test_memory_is_limited_and_cpu_is_not(helm4: Helm) -> None:
    resources = chart.container(helm4.objects(MINIMAL))["resources"]
    assert "cpu" not in resources["limits"]
    quantity = resources["limits"]["memory"]
    assert quantity.endswith("Mi")
    # Twice what the program is held to under load, hostile senders and an absent Kafka.
    assert int(quantity.removesuffix("Mi")) * 2**20 >= 2 * max(AWAY_BYTES, HOSTILE_BYTES)


def test_the_autoscaler_alone_sets_the_number_of_pods(helm4: Helm) -> None:
    objects = helm4.objects(VARIANTS["autoscaling by other metrics"].whole)
    assert "replicas" not in one(objects, "Deployment")["spec"]
    scaler = one(objects, "HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"]["name"] == one(objects, "Deployment")["metadata"]["name"]
    cpu, memory, posts = scaler["metrics"]
    assert [metric["resource"]["name"] for metric in (cpu, memory)] == ["cpu", "memory"]
    assert cpu["resource"]["target"] == {"type": "AverageValue", "averageValue": "600m"}
    assert posts["pods"]["metric"]["name"] in known_metrics()


@pytest.mark.parametrize(
    ("key", "field"),
    [("replicaCount", "replicas"), *[(k, k) for k in ("revisionHistoryLimit", "minReadySeconds")]],
)
def test_null_leaves_a_field_to_others(helm: Helm, key: str, field: str) -> None:
    """A number that is not rendered is nobody's conflict, and 0 is a number."""
    without = one(helm.objects(merged(MINIMAL, {key: None})), "Deployment")["spec"]
    zero = one(helm.objects(merged(MINIMAL, {key: 0})), "Deployment")["spec"]
    assert field not in without
    assert zero[field] == 0


def test_recreating_needs_no_other_value(helm: Helm) -> None:
    """The default's `rollingUpdate` would be refused beside it."""
    strategy = one(helm.objects(VARIANTS["recreated"].whole), "Deployment")["spec"]["strategy"]
    assert strategy == {"type": "Recreate"}


@EVERY
def test_selectors_find_the_gateway_s_pods_and_no_others(helm4: Helm, variant: Variant) -> None:
    """The pods of `helm test` and of `reconcile` are none that get the provider's requests."""
    objects = helm4.objects(variant.whole)
    jobs = [pod_of(o)["metadata"]["labels"] for o in objects if o["kind"] == "CronJob"]
    of_jobs = [o for o in objects if o["metadata"]["name"].endswith("-reconcile")]
    objects = [o for o in objects if o not in of_jobs]
    pod = one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    selectors = [one(objects, "Deployment")["spec"]["selector"]["matchLabels"]]
    selectors += [o["spec"]["selector"] for o in objects if o["kind"] == "Service"]
    for kind, key in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        selectors += [o["spec"][key]["matchLabels"] for o in objects if o["kind"] == kind]
    for selector in selectors:
        assert selector.items() <= pod.items()
        tests = [o["metadata"]["labels"] for o in objects if o["kind"] == "Pod"]
        assert not any(selector.items() <= other.items() for other in (*tests, *jobs))
    for policy in (o for o in of_jobs if o["kind"] == "NetworkPolicy"):
        selector = policy["spec"]["podSelector"]["matchLabels"]
        assert [selector.items() <= labels.items() for labels in (*jobs, pod)] == [True, False]


def test_pods_spread_over_zones_and_nodes_by_their_own_labels(helm4: Helm) -> None:
    objects = helm4.objects(MINIMAL)
    template = one(objects, "Deployment")["spec"]["template"]
    constraints = template["spec"]["topologySpreadConstraints"]
    keys = [constraint["topologyKey"] for constraint in constraints]
    assert keys == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    for constraint in constraints:
        labels = constraint["labelSelector"]["matchLabels"]
        assert labels.items() <= template["metadata"]["labels"].items()
        # Those of the former ReplicaSet leave: they must not push the new ones aside.
        assert constraint["matchLabelKeys"] == ["pod-template-hash"]
    own = one(helm4.objects(VARIANTS["scheduling"].whole), "Deployment")["spec"]["template"]["spec"]
    (constraint,) = own["topologySpreadConstraints"]
    assert constraint["labelSelector"] == {"matchLabels": {"own": "selector"}}


def test_secrets_come_by_environment_and_file(helm4: Helm) -> None:
    objects = helm4.objects(VARIANTS["two endpoints, secrets"].whole)
    for spec in pod_specs(objects):
        container = spec["containers"][0]
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


def test_names_that_yaml_would_read_as_something_else_are_texts(helm: Helm) -> None:
    """A release or a Secret may be called 1, and an override true."""
    values = {
        "fullnameOverride": "true",
        "existingSecret": "1",
        "serviceAccount": {"name": "2"},
        "ingress": {"enabled": True, "hosts": ["a.example"], "className": "3"},
    }
    for thing in objects_of(helm.template(merged(MINIMAL, values), release="1")):
        assert chart.problems(thing, NEWEST) == []


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


def test_a_former_version_dies_of_a_key_that_it_does_not_know(tmp_path: Path) -> None:
    """Why its pods must never see the configuration of their successors."""
    newer = merged(MINIMAL["config"], {"server": {"key_of_the_next_version": 1}})
    code, output = check_of(yaml.safe_dump(newer), tmp_path)
    assert code == EXIT_CONFIG
    assert "key_of_the_next_version: unknown key" in output


def test_every_replica_set_has_its_own_configuration(helm: Helm) -> None:
    """It is in the pod's template: a changed one is a rollout, and undoing that brings it back."""
    former = helm.objects(MINIMAL)
    newer = helm.objects(merged(MINIMAL, {"config": {"server": {"max_states": 5000}}}))

    assert chart.configuration(former) != chart.configuration(newer)
    for objects in (former, newer):
        assert not of_kind(objects, "ConfigMap")
        volumes = pod_specs(objects)[0]["volumes"]
        assert [list(volume) for volume in volumes] == [["name", "downwardAPI"]]


IDENTITIES = {
    "nameOverride": "other",
    "fullnameOverride": "other",
    "commonLabels": {"app.kubernetes.io/name": "other", "app.kubernetes.io/component": "other"},
    "podLabels": {"app.kubernetes.io/instance": "other"},
    "deploymentLabels": {"app.kubernetes.io/name": "other"},
    "service": {"labels": {"app.kubernetes.io/name": "other"}},
    "image": {"tag": "9.9.9"},
}


@pytest.mark.parametrize("key", IDENTITIES)
def test_no_value_changes_a_selector(helm: Helm, key: str) -> None:
    """A Deployment's is immutable, and a Service's must find the pods all the same."""
    both = {"networkPolicy": {"enabled": True}, "podMonitor": {"enabled": True}}
    before = selectors(helm.objects(merged(MINIMAL, both)))
    assert len(before) == 6
    assert selectors(helm.objects(merged(MINIMAL, both, {key: IDENTITIES[key]}))) == before


def selectors(objects: list[Object]) -> list[tuple[str, Object]]:
    """Every selector of the objects, each with its kind."""
    found = [
        (o["kind"], o["spec"].get("selector", o["spec"].get("podSelector")))
        for o in objects
        if "spec" in o
    ]
    return sorted(((kind, each) for kind, each in found if each), key=str)


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
        extra, *own = rule["http"]["paths"]
        assert extra["backend"]["service"]["name"] == "redirect"
        assert [(path["path"], path["pathType"]) for path in own] == [
            ("/webhook", "Exact"),
            ("/brand", "Exact"),
        ]
    (route,) = one(objects, "HTTPRoute")["spec"]["rules"]
    assert [match["path"]["value"] for match in route["matches"]] == ["/webhook", "/brand"]
    assert route["backendRefs"][0]["name"] == one(objects, "Service", "bridge")["metadata"]["name"]


NGINX = {"nginx", "nginx-internal", "", "webapprouting.kubernetes.azure.com"}


@pytest.mark.parametrize("name", [*sorted(NGINX), "alb", "azure", "traefik"])
def test_an_ingress_has_the_annotations_of_its_class(helm: Helm, name: str) -> None:
    """Twice the program's own limit for nginx: a near miss reaches the program."""
    given = {"enabled": True, "hosts": ["a.example"], "className": name}
    values = {"config": {"server": {"max_body_bytes": 1000000}}, "ingress": given}
    annotations = one(helm.objects(merged(MINIMAL, values)), "Ingress")["metadata"].get(
        "annotations", {}
    )
    sizes = {key: value for key, value in annotations.items() if key.endswith("body-size")}
    assert set(sizes.values()) == ({"2000000"} if name in NGINX else set())
    asked = [
        value for key, value in annotations.items() if key.endswith(("check-path", "probe-path"))
    ]
    assert asked == (["/readyz"] if name in {"alb", "azure"} else [])


def test_an_ingress_s_own_annotations_win(helm4: Helm) -> None:
    key = "nginx.ingress.kubernetes.io/proxy-body-size"
    values = {"ingress": {"enabled": True, "hosts": ["a.example"], "annotations": {key: "1g"}}}
    ingress = one(helm4.objects(merged(MINIMAL, values)), "Ingress")
    assert ingress["metadata"]["annotations"][key] == "1g"


def test_the_network_policy_lets_in_and_out_what_is_needed(helm4: Helm) -> None:
    objects = helm4.objects(VARIANTS["network policy"].whole)
    policy = one(objects, "NetworkPolicy")["spec"]
    public, admin, _ = policy["ingress"]
    dns, brokers, _ = policy["egress"]

    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert [port["port"] for port in public["ports"]] == ["http"]
    assert [port["port"] for port in admin["ports"]] == ["admin"]
    assert "monitoring" in json.dumps(admin["from"])
    ports = {(port["port"], port["protocol"]) for port in dns["ports"]}
    assert ports == {(port, protocol) for port in (53, 5353) for protocol in ("UDP", "TCP")}
    for where in ("kube-system", "openshift-dns", "169.254.20.10/32"):
        assert where in json.dumps(dns["to"])
    assert [port["port"] for port in brokers["ports"]] == [9092]
    tester = one(objects, "Pod")["metadata"]["labels"]
    allowed = [p["podSelector"]["matchLabels"] for p in public["from"] if "podSelector" in p]
    assert any(labels.items() <= tester.items() for labels in allowed)


def test_the_network_policy_lets_out_to_the_token_endpoint(helm4: Helm) -> None:
    """To the port of its URL, or to those that are listed; reconcile may go there too."""
    sasl = {"mechanism": "OAUTHBEARER", "client_id": "c", "client_secret": "${S}"}
    url = "https://login.example.com/token?realm=a"
    security = {"protocol": "SASL_SSL", "sasl": {**sasl, "token_url": url}}
    values = merged(VARIANTS["reconcile, network policy"].whole, {"config": {"kafka": {}}})
    values["config"]["kafka"]["security"] = security
    to = [{"ipBlock": {"cidr": "203.0.113.0/24"}}]
    for ports, expected in (([], [443]), ([3128, 8443], [3128, 8443])):
        values["networkPolicy"] |= {"tokenEndpointPorts": ports, "tokenEndpoint": to}
        objects = helm4.objects(values)
        for name in ("bridge", "-reconcile"):
            rule = one(objects, "NetworkPolicy", name)["spec"]["egress"][2]
            assert [port["port"] for port in rule["ports"]] == expected
            assert rule["to"] == to


def test_the_admin_port_is_never_on_the_public_service(helm4: Helm) -> None:
    for variant in VARIANTS.values():
        for service in (o for o in helm4.objects(variant.whole) if o["kind"] == "Service"):
            if service["metadata"]["name"].endswith("-admin"):
                assert service["spec"]["type"] == "ClusterIP"
            else:
                assert [port["targetPort"] for port in service["spec"]["ports"]] == ["http"]


# --- reconcile ---------------------------------------------------------------------------


def test_runs_of_reconcile_never_meet_and_are_not_repeated(helm: Helm) -> None:
    spec = one(helm.objects(VARIANTS["reconcile"].whole), "CronJob")["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    job = spec["jobTemplate"]["spec"]
    assert job["backoffLimit"] == 0
    assert 0 < job["activeDeadlineSeconds"] < 3600
    assert job["template"]["spec"]["restartPolicy"] == "Never"


@pytest.mark.parametrize("name", ["reconcile", "reconcile, network policy"])
def test_reconcile_is_called_as_the_program_takes_it(helm4: Helm, name: str) -> None:
    cron_job = one(helm4.objects(VARIANTS[name].whole), "CronJob")
    (container,) = pod_of(cron_job)["spec"]["containers"]
    subcommand, *arguments = container["args"]
    called = command(subcommand)
    given = called.make_context(subcommand, list(arguments)).params
    assert given["from_topic"]
    assert given["in_json"]
    wanted = RECONCILE if name != "reconcile" else {"since": "3d", "batch": 100, "rate": 2}
    assert {key: given[key] for key in ("since", "batch", "rate")} == {
        key: wanted[key] for key in ("since", "batch", "rate")
    }
    assert given["older_than"] == wanted.get("olderThan")
    assert given["endpoint"] == wanted.get("endpoint")


def test_reconcile_has_the_gateway_s_image_configuration_and_secrets(helm4: Helm) -> None:
    gateway, job, _ = pod_specs(helm4.objects(VARIANTS["reconcile"].whole))
    (serving,), (asking,) = gateway["containers"], job["containers"]
    for key in ("image", "env", "envFrom", "volumeMounts", "securityContext"):
        assert asking[key] == serving[key]
    assert job["volumes"] == gateway["volumes"]
    assert job["securityContext"] == gateway["securityContext"]


def test_reconcile_reaches_names_brokers_and_the_provider_alone(helm4: Helm) -> None:
    objects = helm4.objects(VARIANTS["reconcile, network policy"].whole)
    policy = one(objects, "NetworkPolicy", "-reconcile")["spec"]
    gateway = one(objects, "NetworkPolicy", "bridge")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in policy
    dns, brokers, provider, extra = policy["egress"]
    assert [dns, brokers, extra] == gateway["egress"]
    assert {port["port"] for port in provider["ports"]} == {443, 8090}
    assert provider["to"] == [{"ipBlock": {"cidr": "203.0.113.0/24"}}]


def test_only_who_reconciles_may_read_the_topics(helm4: Helm) -> None:
    """And of these not the dead letters."""
    for values, readable in (
        (VARIANTS["strimzi"].whole, set()),
        (
            merged(VARIANTS["reconcile"].whole, {"strimzi": STRIMZI}),
            {"sms.status", "Sms_Status_Brand"},
        ),
    ):
        acls = one(helm4.objects(values), "KafkaUser")["spec"]["authorization"]["acls"]
        assert {a["resource"]["name"] for a in acls if "Read" in a["operations"]} == readable
        assert len({a["resource"]["name"] for a in acls}) == len(acls) >= 2


# --- monitoring --------------------------------------------------------------------------


def metric_names(text: str) -> set[str]:
    return set(re.findall(r"\bsms_bridge_\w+", text))


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


def test_the_pod_monitor_s_targets_are_those_that_the_alerts_know(helm4: Helm) -> None:
    """By the job, which is else the monitor's own name."""
    objects = helm4.objects(VARIANTS["pod monitor"].whole)
    (scraped,) = one(objects, "PodMonitor")["spec"]["podMetricsEndpoints"]
    job, own = scraped["relabelings"]
    admin = one(objects, "Service", "-admin")["metadata"]["name"]
    assert job == {"targetLabel": "job", "replacement": admin}
    assert own["action"] == "labeldrop"
    ports = {port["name"] for port in chart.container(objects)["ports"]}
    assert scraped["port"] in ports


def test_the_metrics_own_labels_are_kept(helm4: Helm) -> None:
    """The Operator's own label `endpoint` is the port's name, and would rename ours."""
    objects = helm4.objects(VARIANTS["service monitor"].whole)
    (scraped,) = one(objects, "ServiceMonitor")["spec"]["endpoints"]
    assert scraped["honorLabels"] is True
    objects = helm4.objects(VARIANTS["pod monitor"].whole)
    (scraped,) = one(objects, "PodMonitor")["spec"]["podMetricsEndpoints"]
    assert scraped["honorLabels"] is True


def test_every_alert_says_where_its_runbook_is(helm4: Helm) -> None:
    values = merged(VARIANTS["monitoring"].whole, {"prometheusRule": {"runbook": "https://x/y"}})
    (group,) = one(helm4.objects(values), "PrometheusRule")["spec"]["groups"]
    for rule in group["rules"][:-1]:
        assert rule["annotations"]["runbook_url"] == f"https://x/y#{rule['alert'].lower()}"


@pytest.mark.parametrize("time", ["1d", "90m", ""])
def test_the_time_of_silence_is_the_operator_s_and_may_be_none(helm4: Helm, time: str) -> None:
    values = merged(VARIANTS["monitoring"].whole, {"prometheusRule": {"silentAfter": time}})
    (group,) = one(helm4.objects(values), "PrometheusRule")["spec"]["groups"]
    silent = [rule for rule in group["rules"] if rule["alert"] == "SmsBridgeSilent"]
    assert len(silent) == bool(time)
    assert len(group["rules"]) > len(silent) + 1
    for rule in silent:
        assert re.findall(r"\[(\w+)\](?: offset (\w+))?", rule["expr"]) == [
            (time, ""),
            ("1w", time),
        ]
        assert rule["annotations"]["summary"].endswith(f" for {time}.")


def test_the_dashboard_is_json(helm4: Helm) -> None:
    (text,) = one(helm4.objects(VARIANTS["dashboard"].whole), "ConfigMap", "-dashboard")[
        "data"
    ].values()
    dashboard = json.loads(text)
    assert dashboard["panels"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
