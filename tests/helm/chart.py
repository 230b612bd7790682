"""Renders the chart with Helm, and validates what comes out."""

import copy
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate.utils
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from tests.helm.custom import EXPECTED

CHART = Path(__file__).parents[2] / "helm"
RELEASE, NAMESPACE = "statuses", "messaging"
OLDEST, NEWEST = "1.27", "1.37"
HELM_TIMEOUT_SECONDS = 60

Object = dict[str, Any]
Values = Mapping[str, Any]


class RefusedError(Exception):
    """Helm did not take the values; the text is what it said."""


@dataclass(slots=True)
class Helm:
    """One major version. What it rendered once, it does not render again."""

    program: Path
    major: str
    home: Path
    _rendered: dict[str, str] = field(default_factory=dict)

    def template(
        self,
        *values: Values,
        kube_version: str = NEWEST,
        chart: Path = CHART,
        release: str = RELEASE,
    ) -> str:
        """The manifests, hooks included. Raises RefusedError."""
        key = json.dumps([values, kube_version, str(chart), release], sort_keys=True)
        if key not in self._rendered:
            self._rendered[key] = self.render_anew(
                *values, kube_version=kube_version, chart=chart, release=release
            )
        return self._rendered[key]

    def render_anew(
        self,
        *values: Values,
        kube_version: str = NEWEST,
        chart: Path = CHART,
        release: str = RELEASE,
    ) -> str:
        """As `template`, whatever was rendered before."""
        capabilities = ["--kube-version", f"{kube_version}.0"]
        return self._run(["template", release, str(chart), *capabilities], values)

    def objects(self, *values: Values, kube_version: str = NEWEST) -> list[Object]:
        """The rendered objects."""
        return objects_of(self.template(*values, kube_version=kube_version))

    def lint(self, *values: Values) -> str:
        """Lint strictly. Raises RefusedError."""
        return self._run(["lint", "--strict", str(CHART)], values)

    def notes(self, *values: Values) -> str:
        """What an installation says at its end, without one."""
        if self.major == "3":
            return self._notes_as_object(values)
        said = self._run(["install", RELEASE, str(CHART), "--dry-run=client"], values)
        return said.partition("NOTES:\n")[2].strip()

    def _notes_as_object(self, values: Sequence[Values]) -> str:
        """Helm 3's own dry run wants a cluster even on the client's side."""
        include = '{{ include (print .Template.BasePath "/NOTES.txt") . | toJson }}'
        carrier = f"kind: Notes\nmetadata: {{name: notes}}\ntext: {include}\n"
        whole = merged({}, *values)
        whole["extraObjects"] = [*whole.get("extraObjects", []), carrier]
        return str(one(objects_of(self.template(whole)), "Notes")["text"]).strip()

    def package(self, directory: Path) -> Path:
        """The chart as it is handed out."""
        self._run(["package", str(CHART), "--destination", str(directory)], ())
        return next(directory.glob("*.tgz"))

    def _run(self, arguments: Sequence[str], values: Sequence[Values]) -> str:
        with tempfile.TemporaryDirectory() as directory:
            flags: list[str] = []
            for number, content in enumerate(values):
                file = Path(directory) / f"values-{number}.yaml"
                file.write_text(json.dumps(dict(content)), encoding="utf-8")
                flags += ["--values", str(file)]
            scope = [] if arguments[0] == "package" else ["--namespace", NAMESPACE]
            done = subprocess.run(
                [self.program, *arguments, *scope, *flags],
                capture_output=True,
                text=True,
                check=False,
                timeout=HELM_TIMEOUT_SECONDS,
                env=self._environment(),
            )
        if done.returncode != 0:
            raise RefusedError(done.stdout + done.stderr)
        return done.stdout

    def _environment(self) -> dict[str, str]:
        """No cluster, no plug-ins, and nothing of the user's own configuration."""
        homes = {name: str(self.home) for name in ("HOME", "HELM_CONFIG_HOME", "HELM_CACHE_HOME")}
        nowhere = {"KUBECONFIG": os.devnull, "HELM_DATA_HOME": str(self.home)}
        return {"PATH": os.environ["PATH"], **homes, **nowhere}


def objects_of(manifests: str) -> list[Object]:
    """The objects of a stream of YAML documents; not to be changed, since they are shared."""
    return _parsed(manifests)


@cache
def _parsed(manifests: str) -> list[Object]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # several times as fast
    return [document for document in yaml.load_all(manifests, loader) if document]


def one(objects: Sequence[Object], kind: str, suffix: str = "") -> Object:
    """The only object of a kind whose name ends so."""
    (found,) = [o for o in objects if o["kind"] == kind and o["metadata"]["name"].endswith(suffix)]
    return found


def custom_resources(objects: Sequence[Object]) -> list[Object]:
    """Those whose schemas are not Kubernetes's own."""
    return [o for o in objects if (o["apiVersion"], o["kind"]) in EXPECTED]


def kinds(objects: Sequence[Object]) -> list[str]:
    """Every object's kind, in order of the alphabet."""
    return sorted(o["kind"] for o in objects)


def configuration(objects: Sequence[Object]) -> str:
    """The text of the program's configuration file, as the Deployment's pods mount it."""
    return mounted(one(objects, "Deployment")["spec"]["template"])


def mounted(pod: Object) -> str:
    """What a pod, or its template, has for the program in its volume `config`."""
    (volume,) = [v["downwardAPI"] for v in pod["spec"]["volumes"] if v["name"] == "config"]
    (item,) = volume["items"]
    assert item["path"] == "bridge.yaml"
    match = re.fullmatch(r"metadata\.annotations\['(.+)'\]", item["fieldRef"]["fieldPath"])
    assert match is not None
    return str(pod["metadata"]["annotations"][match[1]])


def container(objects: Sequence[Object]) -> Object:
    """The gateway's container in the rendered Deployment."""
    return dict(one(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0])


def merged(base: Values, *others: Values) -> dict[str, Any]:
    """Values laid over values, as Helm does it; null stays."""
    result = copy.deepcopy(dict(base))
    for other in others:
        for key, value in other.items():
            inner = result.get(key)
            if isinstance(inner, dict) and isinstance(value, Mapping):
                result[key] = merged(inner, value)
            else:
                result[key] = copy.deepcopy(value)
    return result


def problems(thing: Object, kube_version: str) -> list[str]:
    """What Kubernetes of that version would not take, or of a custom resource is not expected."""
    validator = EXPECTED.get((thing["apiVersion"], thing["kind"])) or _built_in(
        thing["apiVersion"], thing["kind"], kube_version
    )
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(thing)]


@cache
def _built_in(api_version: str, kind: str, kube_version: str) -> Draft202012Validator:
    """The schema that refuses unknown keys; a kind that the version lacks is a KeyError."""
    definitions = _definitions(kube_version)
    group, _, version = api_version.rpartition("/")
    name = "-".join(filter(None, [kind.lower(), group.partition(".")[0], version]))
    schema = _contents(kube_version, f"{name}.json")
    return Draft202012Validator(schema, registry=definitions)


@cache
def _definitions(kube_version: str) -> Registry[Any]:
    contents = _contents(kube_version, "_definitions.json")
    return Resource.from_contents(contents) @ Registry()


def _contents(kube_version: str, name: str) -> Any:
    path = f"kubernetes-json-schema/v{kube_version}.0-local-strict/{name}"
    return kubernetes_validate.utils.schema_contents(path, kube_version)


def fenced(text: str, language: str) -> Iterator[str]:
    """Each fenced block of a page of Markdown in a language."""
    yield from re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
