"""The chart, rendered by Helm 3 and 4: every variant, every switch, the same each time."""

import copy
import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.gateway.server import _public_grace
from tests.helm import chart, generate
from tests.helm.chart import NEWEST, OLDEST, Helm, Object, RefusedError, merged, one
from tests.helm.models import Models
from tests.helm.readings import EVERY, check_of, pod_specs, pods, settings_of
from tests.helm.variants import MINIMAL, VARIANTS, Variant

LABEL = re.compile(r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")
NAME = re.compile(r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")


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
        for version in (variant.since, NEWEST):
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
    assert modelled == {"HTTPRoute", "PodMonitor", "PrometheusRule", "ServiceMonitor"}


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
        limit = {"CronJob": 52, "Service": 63, "Deployment": 63, "Pod": 63}.get(thing["kind"], 253)
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
            names = Counter(entry["name"] for entry in container.get("env", []))
            assert max(names.values(), default=1) == 1
        volumes = Counter(volume["name"] for volume in spec["volumes"])
        assert max(volumes.values()) == 1


@EVERY
def test_pods_have_what_they_mount_and_what_they_are_allowed(helm4: Helm, variant: Variant) -> None:
    objects = helm4.objects(variant.whole)
    for pod in pods(objects):
        assert chart.mounted(pod) == chart.configuration(objects)
    for spec in pod_specs(objects):
        volumes = {volume["name"] for volume in spec["volumes"]}
        for container in spec["containers"]:
            mounts = container.get("volumeMounts", [])
            assert {mount["name"] for mount in mounts} <= volumes
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
        assert f"accepts posts from {', '.join(allow)} alone" in notes


@pytest.mark.parametrize(
    ("name", "port"), [("inspector", 8082), ("inspector on a port of its own", 9082)]
)
def test_the_inspector_is_reached_through_the_pod_alone(helm4: Helm, name: str, port: int) -> None:
    """It is on the pod's loopback: no container port, no Service and no policy has it."""
    values = VARIANTS[name].whole
    forwarded = f"port-forward deployment/statuses-sms-status-bridge {port}:{port} "
    assert forwarded in helm4.notes(values)
    objects = helm4.objects(values)
    (text,) = {chart.mounted(pod) for pod in pods(objects)}
    rest = json.dumps(objects).replace(json.dumps(text), "")
    assert str(port) not in rest


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
    rarely = {"global", "enabled", "resources"}
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
