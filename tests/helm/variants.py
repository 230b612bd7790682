"""The values that the chart is rendered with: the smallest, each switch, and all at once."""

from dataclasses import dataclass
from typing import Any

from tests.helm.chart import OLDEST, merged

MINIMAL: dict[str, Any] = {
    "image": {"repository": "registry.example.com/sms-status-bridge"},
    "config": {
        "kafka": {"bootstrap_servers": "kafka-bootstrap.kafka:9092"},
        "endpoints": [
            {
                "name": "main",
                "path": "/webhook",
                "source": "urn:example:sms:main",
                "timezone": "Europe/Kyiv",
                "auth": "none",
            }
        ],
        "events": {"type_prefix": "com.example.messaging"},
    },
}
"""What only the user knows, and no more."""

ALWAYS = ("Deployment", "Pod", "PodDisruptionBudget", "Service", "Service", "ServiceAccount")
"""The kinds that MINIMAL renders to."""

TWO_ENDPOINTS = [
    {
        "name": "main",
        "path": "/webhook",
        "source": "urn:example:sms:main",
        "timezone": "Europe/Kyiv",
        "auth": {
            "tokens": ["${WEBHOOK_TOKEN}", "${file:/run/secrets/old-token}"],
            "basic": [{"username": "provider", "password": "${WEBHOOK_PASSWORD}"}],
        },
    },
    {
        "name": "brand",
        "path": "/brand/",
        "source": "urn:example:sms:brand",
        "timezone": "UTC",
        "auth": {"tokens": ["${BRAND_TOKEN}"]},
        "topic": "Sms_Status_Brand",
    },
]


@dataclass(frozen=True, slots=True)
class Variant:
    """Values over MINIMAL, how the kinds differ from ALWAYS, and which Kubernetes is the first."""

    values: dict[str, Any]
    more: tuple[str, ...] = ()
    less: tuple[str, ...] = ()
    since: str = OLDEST

    @property
    def whole(self) -> dict[str, Any]:
        """The values, those of MINIMAL included."""
        return merged(MINIMAL, self.values)

    @property
    def kinds(self) -> list[str]:
        """Every kind that is rendered, in order of the alphabet."""
        left = list(ALWAYS)
        for kind in self.less:
            left.remove(kind)
        return sorted([*left, *self.more])


STRIMZI = {
    "cluster": "kafka",
    "namespace": "kafka",
    "topics": {
        "enabled": True,
        "statusConfig": {"retention.ms": 604800000},
        "deadLetterConfig": {"retention.ms": 2592000000},
    },
    "user": {"enabled": True},
}
PROVIDER = {"url": "https://provider.example.com/xml", "token": "${PROVIDER_TOKEN}"}
ASKED = {
    "endpoints": [
        TWO_ENDPOINTS[0] | {"provider": PROVIDER},
        TWO_ENDPOINTS[1]
        | {
            "provider": {
                "url": "http://[2001:db8::1]:8090/json",
                "format": "json",
                "login": "l",
                "password": "${file:/run/secrets/provider}",
            }
        },
    ]
}
RECONCILE = {
    "enabled": True,
    "schedule": "*/10 * * * *",
    "since": "12h",
    "olderThan": "1h",
    "endpoint": "main",
    "batch": 50,
    "rate": 0.5,
    "labels": {"tier": "batch"},
    "annotations": {"a": "b"},
}
AUTOSCALING = {
    "replicaCount": None,
    "autoscaling": {
        "enabled": True,
        "targetMemory": "300Mi",
        "metrics": [
            {
                "type": "Pods",
                "pods": {
                    "metric": {"name": "sms_bridge_in_flight_posts"},
                    "target": {"type": "AverageValue", "averageValue": "100"},
                },
            }
        ],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 600}},
    },
}
INGRESS = {
    "enabled": True,
    "className": "nginx",
    "hosts": ["statuses.example.com", "statuses.example.org"],
    "tls": [{"secretName": "statuses-tls", "hosts": ["statuses.example.com"]}],
    "annotations": {"cert-manager.io/cluster-issuer": "letsencrypt"},
    "labels": {"exposed": "true"},
    "pathType": "Exact",
    "extraPaths": [
        {
            "path": "/",
            "pathType": "ImplementationSpecific",
            "backend": {"service": {"name": "redirect", "port": {"name": "use-annotation"}}},
        }
    ],
}
HTTP_ROUTE = {
    "enabled": True,
    "parentRefs": [{"name": "public", "namespace": "gateways", "sectionName": "https"}],
    "hostnames": ["statuses.example.com"],
    "timeouts": {"request": "30s"},
    "filters": [
        {
            "type": "ResponseHeaderModifier",
            "responseHeaderModifier": {"set": [{"name": "X-Robots-Tag", "value": "none"}]},
        }
    ],
}
NETWORK_POLICY = {
    "enabled": True,
    "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}],
    "brokers": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kafka"}}}],
    "extraEgress": [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}],
    "extraIngress": [{"from": [{"podSelector": {"matchLabels": {"app": "probe"}}}]}],
}
SECRETS = {
    "existingSecret": "statuses",
    "envFrom": [{"secretRef": {"name": "more"}, "prefix": "MORE_"}],
    "extraEnv": [
        {"name": "WEBHOOK_TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}},
        {"name": "TZ", "value": "UTC"},
    ],
    "extraVolumes": [{"name": "kafka-ca", "secret": {"secretName": "kafka-cluster-ca-cert"}}],
    "extraVolumeMounts": [
        {"name": "kafka-ca", "mountPath": "/run/secrets/kafka-ca", "readOnly": True}
    ],
}
EXTRA_OBJECTS = [
    {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": '{{ include "sms.fullname" . }}-extra'},
        "data": {"a": "b"},
    },
    "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-text\n",
]
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
POD = {
    "initContainers": [
        {"name": "wait", "image": "example.com/wait:1", "securityContext": RESTRICTED}
    ],
    "sidecars": [{"name": "proxy", "image": "example.com/proxy:1", "securityContext": RESTRICTED}],
    "lifecycle": {"preStop": {"exec": {"command": ["true"]}}},
    "runtimeClassName": "gvisor",
    "dnsPolicy": "None",
    "dnsConfig": {"nameservers": ["10.0.0.10"], "options": [{"name": "ndots", "value": "2"}]},
    "hostAliases": [{"ip": "10.0.0.20", "hostnames": ["kafka.example.com"]}],
    "minReadySeconds": 5,
    "progressDeadlineSeconds": 120,
    "revisionHistoryLimit": 0,
}
SCHEDULING = {
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "Exists"}]}]
            }
        }
    },
    "topologySpreadConstraints": [
        {
            "maxSkew": 1,
            "topologyKey": "topology.kubernetes.io/zone",
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"own": "selector"}},
        }
    ],
    "priorityClassName": "high",
}
METADATA = {
    "commonLabels": {"team": "messaging", "app.kubernetes.io/part-of": "notifications"},
    "commonAnnotations": {"owner": "messaging@example.com"},
    "podLabels": {"sidecar.istio.io/inject": "false"},
    "podAnnotations": {"reloader.stakater.com/auto": "true"},
    "deploymentLabels": {"tier": "edge"},
    "deploymentAnnotations": {"reloader.stakater.com/auto": "true"},
}
MONITORING = {
    "serviceMonitor": {
        "enabled": True,
        "interval": "15s",
        "scrapeTimeout": "10s",
        "labels": {"release": "prometheus"},
        "relabelings": [{"action": "labeldrop", "regex": "pod"}],
        "metricRelabelings": [{"action": "drop", "regex": "x", "sourceLabels": ["__name__"]}],
    },
    "prometheusRule": {
        "enabled": True,
        "labels": {"release": "prometheus"},
        "ruleLabels": {"team": "messaging"},
        "extraRules": [{"alert": "Own", "expr": "vector(1)"}],
    },
    "dashboard": {"enabled": True, "annotations": {"grafana_folder": "Messaging"}},
}

VARIANTS: dict[str, Variant] = {
    "minimal": Variant({}),
    "one pod": Variant({"replicaCount": 1}),
    "no pods": Variant({"replicaCount": 0}),
    "replicas left to others": Variant({"replicaCount": None, "revisionHistoryLimit": None}),
    "recreated": Variant({"updateStrategy": {"type": "Recreate"}}),
    "no disruption budget": Variant(
        {"podDisruptionBudget": {"enabled": False}}, less=("PodDisruptionBudget",)
    ),
    "disruption budget in percent": Variant({"podDisruptionBudget": {"maxUnavailable": "25%"}}),
    "disruption budget by what stays": Variant({"podDisruptionBudget": {"minAvailable": 1}}),
    "autoscaling": Variant(
        {"replicaCount": None, "autoscaling": {"enabled": True}}, more=("HorizontalPodAutoscaler",)
    ),
    "autoscaling by other metrics": Variant(AUTOSCALING, more=("HorizontalPodAutoscaler",)),
    "more of a pod": Variant(POD),
    "ingress": Variant({"ingress": INGRESS}, more=("Ingress",)),
    "ingress in the clear": Variant(
        {"ingress": {"enabled": True, "hosts": ["statuses.example.com"]}}, more=("Ingress",)
    ),
    "ingress to the root": Variant(
        {
            "config": {"endpoints": [{**MINIMAL["config"]["endpoints"][0], "path": "/"}]},
            "ingress": INGRESS,
        },
        more=("Ingress",),
    ),
    "http route": Variant({"httpRoute": HTTP_ROUTE}, more=("HTTPRoute",)),
    "http route, bare": Variant(
        {"httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]}}, more=("HTTPRoute",)
    ),
    "load balancer": Variant(
        {
            "service": {
                "type": "LoadBalancer",
                "loadBalancerClass": "service.k8s.aws/nlb",
                "loadBalancerSourceRanges": ["203.0.113.0/24"],
                "externalTrafficPolicy": "Local",
                "annotations": {"a": "b"},
                "labels": {"c": "d"},
            }
        }
    ),
    "node port": Variant({"service": {"type": "NodePort", "nodePort": 30080, "port": 8080}}),
    "service of two families": Variant(
        {
            "service": {
                "sessionAffinity": "ClientIP",
                "ipFamilyPolicy": "PreferDualStack",
                "ipFamilies": ["IPv6", "IPv4"],
            }
        }
    ),
    "traffic to near pods": Variant(
        {"service": {"trafficDistribution": "PreferClose"}}, since="1.31"
    ),
    "ingress of a cloud's load balancer": Variant(
        {"ingress": {**INGRESS, "className": "alb"}}, more=("Ingress",)
    ),
    "network policy": Variant({"networkPolicy": NETWORK_POLICY}, more=("NetworkPolicy",)),
    "network policy, open": Variant(
        {"networkPolicy": {"enabled": True, "monitoring": [], "dns": [], "brokerPorts": [9093]}},
        more=("NetworkPolicy",),
    ),
    "service monitor": Variant({"serviceMonitor": {"enabled": True}}, more=("ServiceMonitor",)),
    "pod monitor": Variant({"podMonitor": {**MONITORING["serviceMonitor"]}}, more=("PodMonitor",)),
    "prometheus rule": Variant({"prometheusRule": {"enabled": True}}, more=("PrometheusRule",)),
    "dashboard": Variant({"dashboard": {"enabled": True}}, more=("ConfigMap",)),
    "monitoring": Variant(MONITORING, more=("ConfigMap", "PrometheusRule", "ServiceMonitor")),
    "strimzi": Variant({"strimzi": STRIMZI}, more=("KafkaTopic", "KafkaTopic", "KafkaUser")),
    "strimzi topics": Variant(
        {"strimzi": {"cluster": "kafka", "topics": {"enabled": True}}},
        more=("KafkaTopic", "KafkaTopic"),
    ),
    "strimzi user": Variant(
        {
            "strimzi": {
                "cluster": "kafka",
                "user": {"enabled": True, "name": "sms", "authentication": {"type": "tls"}},
            }
        },
        more=("KafkaUser",),
    ),
    "strimzi of old": Variant(
        {"strimzi": {**STRIMZI, "apiVersion": "kafka.strimzi.io/v1beta2"}},
        more=("KafkaTopic", "KafkaTopic", "KafkaUser"),
    ),
    "strimzi without dead letters": Variant(
        {"config": {"kafka": {"dead_letter_topic": None}}, "strimzi": STRIMZI},
        more=("KafkaTopic", "KafkaUser"),
    ),
    "strimzi with a topic of an endpoint": Variant(
        {"config": {"endpoints": TWO_ENDPOINTS}, "strimzi": STRIMZI},
        more=("KafkaTopic", "KafkaTopic", "KafkaTopic", "KafkaUser"),
    ),
    "topics made by the program": Variant(
        {"config": {"kafka": {"create_topics": {"enabled": True}}}},
    ),
    "two endpoints, secrets": Variant({"config": {"endpoints": TWO_ENDPOINTS}, **SECRETS}),
    "addresses": Variant(
        {
            "config": {
                "server": {"trusted_proxies": ["10.0.0.0/8", "fd00::/8"]},
                "endpoints": [
                    TWO_ENDPOINTS[0] | {"auth": {"allow": ["203.0.113.0/24", "2001:db8::1"]}},
                    TWO_ENDPOINTS[1]
                    | {"auth": {"tokens": ["${WEBHOOK_TOKEN}"], "allow": ["203.0.113.7"]}},
                ],
            },
            **SECRETS,
        }
    ),
    "own service account": Variant(
        {"serviceAccount": {"create": False, "name": "own"}}, less=("ServiceAccount",)
    ),
    "default service account": Variant(
        {"serviceAccount": {"create": False}}, less=("ServiceAccount",)
    ),
    "scheduling": Variant(SCHEDULING),
    "metadata": Variant(METADATA),
    "image by digest": Variant(
        {
            "image": {"digest": f"sha256:{'0123456789abcdef' * 4}", "pullPolicy": "Always"},
            "imagePullSecrets": [{"name": "registry"}],
        }
    ),
    "image by tag": Variant({"image": {"tag": "1.2.3-rc.1"}}),
    "openshift": Variant({"podSecurityContext": None, "securityContext": None}),
    "no probes": Variant({"livenessProbe": None, "readinessProbe": None, "startupProbe": None}),
    "names": Variant({"nameOverride": "sms", "fullnameOverride": "sms-in"}),
    "long names": Variant({"fullnameOverride": "a" * 63}),
    "own ports": Variant({"config": {"server": {"port": 9000}, "admin": {"port": "9001"}}}),
    "inspector": Variant({"config": {"inspector": {}}}),
    "inspector on a port of its own": Variant({"config": {"inspector": {"port": 9082}}}),
    "sections left empty": Variant({"config": {"admin": None, "log": None}}),
    "longer drain": Variant(
        {
            "config": {"server": {"drain_delay_seconds": 25.5, "shutdown_grace_seconds": 30}},
            "terminationGracePeriodSeconds": 90,
        }
    ),
    "every number and word": Variant(
        {
            "config": {
                "server": {"max_in_flight_bytes": 17179869184, "max_body_bytes": 4194304},
                "kafka": {
                    "bootstrap_servers": ["a:9092", "[::1]:9093"],
                    "client_id": "0042",
                    "create_topics": {"config": {"retention.ms": "604800000", "x": "1e3"}},
                },
                "log": {"level": "warning", "format": "console"},
            }
        }
    ),
    "reconcile": Variant(
        {"config": ASKED, "reconcile": {"enabled": True}, **SECRETS}, more=("CronJob",)
    ),
    "reconcile, network policy": Variant(
        {
            "config": ASKED,
            "reconcile": RECONCILE,
            "networkPolicy": NETWORK_POLICY
            | {"provider": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]},
        },
        more=("CronJob", "NetworkPolicy", "NetworkPolicy"),
    ),
    "extra objects": Variant({"extraObjects": EXTRA_OBJECTS}, more=("ConfigMap", "ConfigMap")),
    "test with a real state": Variant({"helmTest": {"realState": True}}),
    "no test": Variant({"helmTest": {"enabled": False}}, less=("Pod",)),
    "everything": Variant(
        {
            "config": ASKED,
            **SECRETS,
            **METADATA,
            **SCHEDULING,
            **MONITORING,
            **AUTOSCALING,
            **POD,
            "ingress": INGRESS,
            "httpRoute": HTTP_ROUTE,
            "networkPolicy": NETWORK_POLICY,
            "strimzi": STRIMZI,
            "reconcile": RECONCILE,
            "extraObjects": EXTRA_OBJECTS,
            "image": {"digest": f"sha256:{'0123456789abcdef' * 4}"},
        },
        more=(
            *("ConfigMap", "ConfigMap", "ConfigMap", "CronJob", "HTTPRoute"),
            *("HorizontalPodAutoscaler", "Ingress", "KafkaTopic", "KafkaTopic", "KafkaTopic"),
            *("KafkaUser", "NetworkPolicy", "NetworkPolicy", "PrometheusRule", "ServiceMonitor"),
        ),
    ),
}
