"""A real Prometheus for the tests, and the chart's alerts and dashboard as it would see them."""

import json
import re
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bridge.demo.child import HOST, STOP_SECONDS, Child, free_ports

HELM = Path(__file__).parents[2] / "helm" / "files"
JOB = "statuses-sms-status-bridge-admin"
NAMESPACE = "messaging"
# What the Prometheus Operator puts on every target; `endpoint` is the name of the port.
TARGET_LABELS = {"job": JOB, "namespace": NAMESPACE, "endpoint": "admin", "pod": "bridge-1"}
SCRAPE_SECONDS = 0.5
SILENT_AFTER = "20m"
RATE_INTERVAL = "15s"  # for the dashboard's $__rate_interval


def rules() -> list[dict[str, Any]]:
    """The chart's alerts, filled in as the template does it."""
    text = (HELM / "rules.yaml").read_text(encoding="utf-8")
    values = {"JOB": JOB, "NAMESPACE": NAMESPACE, "RUNBOOK": "docs/runbook.md"}
    for name, value in (values | {"SILENT_AFTER": SILENT_AFTER}).items():
        text = text.replace(f"@{name}@", value)
    found: list[dict[str, Any]] = yaml.safe_load(text)
    return found


def hastened(rule: Mapping[str, Any], *, window: str, pending: str) -> dict[str, Any]:
    """The alert with shorter ranges and a shorter wait, to see within seconds what it says."""
    expr = re.sub(r"\[\d+[mh]\]", f"[{window}]", rule["expr"])
    return {**rule, "expr": expr, **({"for": pending} if "for" in rule else {})}


def group(rules: Sequence[Mapping[str, Any]]) -> str:
    """A file of rules."""
    return yaml.safe_dump({"groups": [{"name": "bridge", "rules": list(rules)}]})


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    queries: tuple[str, ...]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HELM / "dashboard.json").read_text(encoding="utf-8"))
    return found


def panels() -> Iterator[Panel]:
    """The dashboard's panels, their queries as Grafana sends them with everything chosen."""
    for panel in dashboard()["panels"]:
        if panel["type"] != "row":
            yield Panel(panel["title"], tuple(filled(t["expr"]) for t in panel["targets"]))


def filled(query: str) -> str:
    values = {"$__rate_interval": RATE_INTERVAL, "$namespace": ".*", "$endpoint": ".*"}
    for variable, value in values.items():
        query = query.replace(variable, value)
    assert "$" not in query, query
    return query


class Prometheus(Child):
    """One run of it, on loopback, with targets and a file of rules."""

    def __init__(self, program: str, targets: Sequence[str], rules: str = "") -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="sms-prometheus-")
        home = Path(self._directory.name)
        (home / "rules.yaml").write_text(rules or "groups: []\n")
        (home / "prometheus.yaml").write_text(yaml.safe_dump(_configuration(targets)))
        (port,) = free_ports(1)
        self._address = f"{HOST}:{port}"
        options = (
            f"--config.file={home / 'prometheus.yaml'}",
            f"--storage.tsdb.path={home / 'data'}",
            f"--web.listen-address={self._address}",
        )
        super().__init__("Prometheus", program, *options, log=home / "log")

    def start(self) -> None:
        """Start it and wait until it is ready."""
        super().start()
        self.wait_until(self._is_ready, "Prometheus is ready")

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """End it, and its files with it."""
        super().stop(seconds)
        self._directory.cleanup()

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The labels and the value of each series that the expression gives now."""
        result = self._get("query", query=expression)["result"]
        return [(series["metric"], float(series["value"][1])) for series in result]

    def label_values(self, label: str, selector: str) -> list[str]:
        """What the dashboard's variables offer."""
        found: list[str] = self._get(f"label/{label}/values", **{"match[]": selector})
        return found

    def rules(self) -> list[dict[str, Any]]:
        """Every rule: its name, its health, and its alerts."""
        groups = self._get("rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        alerts = self._get("alerts")["alerts"]
        return {a["labels"]["alertname"] for a in alerts if a["state"] == "firing"}

    def _get(self, what: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"http://{self._address}/api/v1/{what}?{query}") as response:
            return json.load(response)["data"]

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self._address}/-/ready") as response:
                return bool(response.status == 200)
        except OSError:
            return False


def _configuration(targets: Sequence[str]) -> dict[str, Any]:
    return {
        "global": {
            "scrape_interval": f"{int(SCRAPE_SECONDS * 1000)}ms",
            "scrape_timeout": f"{int(SCRAPE_SECONDS * 1000)}ms",
            "evaluation_interval": "500ms",
        },
        "rule_files": ["rules.yaml"],
        "scrape_configs": [
            {
                "job_name": JOB,
                "honor_labels": True,
                "static_configs": [{"targets": list(targets), "labels": TARGET_LABELS}],
            }
        ],
    }
