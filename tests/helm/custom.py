"""What the custom resources of the chart may hold: every key that it renders, and no other.

An API server drops unknown keys in silence. A new key in a template is to be added here.
"""

from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1}
TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
COUNT: Schema = {"type": "integer", "minimum": 1}
PORT: Schema = {"type": "integer", "minimum": 1, "maximum": 65535}
DURATION: Schema = {"type": "string", "pattern": r"^([0-9]+(ms|s|m|h))+$"}
HOST: Schema = {"type": "string", "pattern": r"^(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*$"}
PATH: Schema = {"type": "string", "pattern": "^/"}


def words(*allowed: str) -> Schema:
    """One of these."""
    return {"enum": list(allowed)}


def several(item: Schema) -> Schema:
    """A list with something in it."""
    return {"type": "array", "items": item, "minItems": 1}


def section(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """A mapping with these keys and no others."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def whole(spec: Schema, *labels: str) -> Draft202012Validator:
    """An object with that spec, and labels that its operator looks for."""
    own = {"labels": {**TEXTS, "required": list(labels)}}
    names = {"name": TEXT, "namespace": TEXT} | (own if labels else {})
    metadata = section(names, {"annotations": TEXTS} | own)
    return Draft202012Validator(
        section({"apiVersion": TEXT, "kind": TEXT, "metadata": metadata, "spec": spec})
    )


RELABELING = section(
    {},
    {
        "action": words(
            *("replace", "keep", "drop", "keepequal", "dropequal", "hashmod"),
            *("labelmap", "labeldrop", "labelkeep", "lowercase", "uppercase"),
        ),
        "sourceLabels": several(TEXT),
        "separator": {"type": "string"},
        "regex": {"type": "string"},
        "modulus": COUNT,
        "targetLabel": TEXT,
        "replacement": {"type": "string"},
    },
)
SCRAPED = section(
    {"port": TEXT, "path": PATH},
    {
        "interval": DURATION,
        "scrapeTimeout": DURATION,
        "honorLabels": {"type": "boolean"},
        "relabelings": several(RELABELING),
        "metricRelabelings": several(RELABELING),
    },
)
POD_MONITOR = section(
    {"selector": section({"matchLabels": TEXTS}), "podMetricsEndpoints": several(SCRAPED)}
)
SERVICE_MONITOR = section(
    {"selector": section({"matchLabels": TEXTS}), "endpoints": several(SCRAPED)}
)

ALERT = section(
    {"alert": TEXT, "expr": TEXT}, {"for": DURATION, "labels": TEXTS, "annotations": TEXTS}
)
PROMETHEUS_RULE = section({"groups": several(section({"name": TEXT, "rules": several(ALERT)}))})

HEADER = section({"name": TEXT, "value": TEXT})
HEADERS = section({}, {"set": several(HEADER), "add": several(HEADER), "remove": several(TEXT)})
FILTER = section(
    {"type": words("RequestHeaderModifier", "ResponseHeaderModifier")},
    {"requestHeaderModifier": HEADERS, "responseHeaderModifier": HEADERS},
)
ROUTED = section(
    {
        "matches": several(
            section({"path": section({"type": words("PathPrefix"), "value": PATH})})
        ),
        "backendRefs": several(section({"name": TEXT, "port": PORT})),
    },
    {
        "filters": several(FILTER),
        "timeouts": section({}, {"request": DURATION, "backendRequest": DURATION}),
    },
)
HTTP_ROUTE = section(
    {
        "parentRefs": several(section({"name": TEXT}, {"namespace": TEXT, "sectionName": TEXT})),
        "rules": several(ROUTED),
    },
    {"hostnames": several(HOST)},
)

KAFKA_TOPIC = section(
    {
        "topicName": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,249}$"},
        "partitions": COUNT,
        "replicas": COUNT,
    },
    {
        "config": {
            "type": "object",
            "additionalProperties": {"type": ["string", "number", "boolean"]},
        }
    },
)
ACL = section(
    {
        "resource": section(
            {"type": words("topic", "group", "cluster", "transactionalId")},
            {"name": TEXT, "patternType": words("literal", "prefix")},
        ),
        "operations": several(
            words(
                *("Read", "Write", "Create", "Delete", "Alter", "Describe", "ClusterAction"),
                *("AlterConfigs", "DescribeConfigs", "IdempotentWrite", "All"),
            )
        ),
    },
    {"host": TEXT, "type": words("allow", "deny")},
)
KAFKA_USER = section(
    {"authorization": section({"type": words("simple"), "acls": several(ACL)})},
    {"authentication": section({"type": words("tls", "tls-external", "scram-sha-512")})},
)

TRIGGER = section(
    {
        "type": words("prometheus"),
        "metadata": section({"serverAddress": TEXT, "query": TEXT, "threshold": TEXT}),
    },
    {"metricType": words("AverageValue", "Value")},
)
SCALED_OBJECT = section(
    {
        "scaleTargetRef": section({"name": TEXT}),
        "minReplicaCount": COUNT,
        "maxReplicaCount": COUNT,
        "triggers": several(TRIGGER),
    }
)
VERTICAL_AUTOSCALER = section(
    {
        "targetRef": section({"apiVersion": TEXT, "kind": words("Deployment"), "name": TEXT}),
        "updatePolicy": section({"updateMode": words("Off", "Initial", "Recreate", "Auto")}),
        "resourcePolicy": section(
            {
                "containerPolicies": several(
                    section(
                        {
                            "containerName": TEXT,
                            "controlledResources": several(words("cpu", "memory")),
                            "minAllowed": TEXTS,
                        }
                    )
                )
            }
        ),
    }
)

STRIMZI_VERSIONS = ("kafka.strimzi.io/v1", "kafka.strimzi.io/v1beta2")
CLUSTER = "strimzi.io/cluster"
EXPECTED: dict[tuple[str, str], Draft202012Validator] = {
    ("monitoring.coreos.com/v1", "ServiceMonitor"): whole(SERVICE_MONITOR),
    ("monitoring.coreos.com/v1", "PodMonitor"): whole(POD_MONITOR),
    ("monitoring.coreos.com/v1", "PrometheusRule"): whole(PROMETHEUS_RULE),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): whole(HTTP_ROUTE),
    ("keda.sh/v1alpha1", "ScaledObject"): whole(SCALED_OBJECT),
    ("autoscaling.k8s.io/v1", "VerticalPodAutoscaler"): whole(VERTICAL_AUTOSCALER),
    **{(version, "KafkaTopic"): whole(KAFKA_TOPIC, CLUSTER) for version in STRIMZI_VERSIONS},
    **{(version, "KafkaUser"): whole(KAFKA_USER, CLUSTER) for version in STRIMZI_VERSIONS},
}
"""By API version and kind."""
