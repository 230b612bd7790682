"""The OpenAPI document: valid, and true of what the program answers."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import xmltodict
import yaml
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from bridge.cli.main import main
from bridge.config.settings import Settings
from bridge.contract.openapi import openapi_document
from bridge.demo.embedded_broker import EmbeddedBroker
from bridge.gateway.responses import Answer, nothing_taken, overloaded, refusal
from bridge.model import Form
from bridge.observability.metrics import CONTENT_TYPE
from tests.gateway.on_the_wire import gateway_on
from tests.support.gateway import Gateway, configuration
from tests.support.topics import make_topics
from tests.support.wire import Wire

GATEWAY = Path(__file__).parents[2] / "bridge/gateway"
DOCUMENT = openapi_document()
RESPONSES = DOCUMENT["components"]["responses"]
WEBHOOK = DOCUMENT["paths"]["/sms/statuses"]["post"]
TOKEN = "s3cret"
EXAMPLES = 25  # of an operation, in each phase
# Nobody is refused for what the schema does not describe: what is wrong with a state becomes a dead
# letter, and costs no other one.
NOT_PROMISED = "negative_data_rejection"


def resolved(reference: Mapping[str, str]) -> Any:
    """What a reference leads to."""
    found: Any = DOCUMENT
    for step in reference["$ref"].split("/")[1:]:
        found = found[step]
    return found


# --- the document ------------------------------------------------------------------------


def test_it_is_valid() -> None:
    assert [*OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def test_the_validator_would_say_what_is_wrong() -> None:
    document = openapi_document()
    document["paths"]["/livez"]["get"]["responses"]["200"] = {"content": {}}

    assert [*OpenAPIV31SpecValidator(document).iter_errors()]


def test_the_examples_are_valid() -> None:
    for content in [WEBHOOK["requestBody"]["content"], RESPONSES["Ok"]["content"]]:
        told = content["application/json"]
        assert Draft202012Validator(resolved(told["schema"])).is_valid(told["example"])


def statuses_of_the_code() -> set[int]:
    """Each status in a call that makes an answer, or an error that becomes one."""
    found = set()
    for path in GATEWAY.glob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        named = {
            target.id: statuses
            for node in tree.body
            if isinstance(node, ast.Assign) and len(statuses := [*statuses_in(node.value)]) == 1
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            name = getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""
            if isinstance(node, ast.Call) and name in {"Answer", "refusal", "RequestError"}:
                for argument in [*node.args, *(each.value for each in node.keywords)]:
                    found |= {*statuses_in(argument)}
                    if isinstance(argument, ast.Name):
                        found |= {*named.get(argument.id, ())}
    return found


def statuses_in(node: ast.expr) -> Iterator[int]:
    if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "HTTPStatus":
        yield HTTPStatus[node.attr].value


def test_every_status_that_the_program_can_answer_is_documented() -> None:
    """And no other."""
    assert {int(status) for status in WEBHOOK["responses"]} == statuses_of_the_code()
    assert {id(resolved(each)) for each in WEBHOOK["responses"].values()} == {
        id(each) for each in RESPONSES.values()
    }


def test_a_configuration_s_endpoints_are_described() -> None:
    """Each by its path, with its ways in; no secret is in it."""
    ways = {
        "open": "none",
        "token": {"tokens": [TOKEN]},
        "basic": {"basic": [{"username": "u", "password": TOKEN}]},
        "both": {"tokens": [TOKEN], "basic": [{"username": "u", "password": TOKEN}]},
        "address": {"allow": ["192.0.2.1"]},
    }
    content = configuration("kafka:9092", "t", server={"port": 8000, "max_body_bytes": 1234567})
    content["endpoints"] = [
        content["endpoints"][0] | {"name": f"is-{name}", "path": f"/{name}", "auth": auth}
        for name, auth in ways.items()
    ]
    document = openapi_document(Settings.model_validate(content))

    assert [*OpenAPIV31SpecValidator(document).iter_errors()] == []
    security = {
        path: each.get("post", each.get("get"))["security"]
        for path, each in document["paths"].items()
    }
    assert security == {
        "/open": [],
        "/token": [{"token": []}, {"bearer": []}],
        "/basic": [{"basic": []}],
        "/both": [{"token": []}, {"bearer": []}, {"basic": []}],
        "/address": [],
        "/livez": [],
        "/readyz": [],
        "/metrics": [],
    }
    assert document["paths"]["/both"]["post"]["operationId"] == "postStatuses_is-both"
    assert document["servers"][0]["variables"]["origin"]["default"] == "http://127.0.0.1:8000"
    assert json.dumps(document).count("1,234,567 bytes") == 6
    assert TOKEN not in json.dumps(document)


def test_the_command_describes_a_configuration(tmp_path: Path) -> None:
    """Secrets that are not set in this place are not needed for it."""
    content = configuration("kafka:9092", "t")
    content["endpoints"][0]["auth"] = {"tokens": ["${NOWHERE_SET}"]}
    file = tmp_path / "bridge.yaml"
    file.write_text(yaml.safe_dump(content))

    result = CliRunner().invoke(main, ["schema", "openapi", "--config", str(file)])

    assert result.exit_code == 0, result.output
    paths = json.loads(result.output)["paths"]
    assert [*paths] == ["/webhook", "/livez", "/readyz", "/metrics"]
    assert paths["/webhook"]["post"]["security"] == [{"token": []}, {"bearer": []}]


def test_a_configuration_is_of_no_use_to_other_documents() -> None:
    result = CliRunner().invoke(main, ["schema", "status", "--config", "bridge.yaml"])

    assert result.exit_code == 2
    assert "--config is for openapi" in result.output


# --- beside the running program ----------------------------------------------------------

STATES = b'<response><state id_sms="1">send</state></response>'


def request(path: str = "/open", *headers: str, body: bytes = STATES, start: str = "") -> bytes:
    """A POST with the length of its body, if none of `headers` says how long that is."""
    framed = any(line.startswith(("Content-Length", "Transfer-Encoding")) for line in headers)
    length = () if framed else (f"Content-Length: {len(body)}",)
    lines = [start or f"POST {path} HTTP/1.1", "Host: x", *headers, *length, "", ""]
    return "\r\n".join(lines).encode() + body


PROVOKED = {
    "states": (200, request()),
    "states in JSON": (200, request(body=b'[{"id_sms": "1", "state": "send"}]')),
    "no states": (200, request(body=b"<response/>")),
    "neither": (400, request(body=b"nonsense")),
    "bad JSON": (400, request(body=b"[nonsense")),
    "empty": (400, request(body=b"")),
    "no HTTP": (400, b"nonsense\r\n\r\n"),
    "no token": (401, request("/token")),
    "another address": (403, request("/allowed")),
    "another path": (404, request("/nowhere")),
    "another method": (405, request(start="PUT /open HTTP/1.1")),
    "an unfinished body": (408, request("/open", "Content-Length: 1000")),
    "no length": (411, b"POST /open HTTP/1.0\r\nHost: x\r\n\r\n"),
    "a large body": (413, request("/open", "Content-Length: 10000000")),
    "a compressed body": (415, request("/open", "Content-Encoding: gzip")),
    "a large head": (431, request("/open", f"X: {'x' * 70_000}")),
    "a coding": (501, request("/open", "Transfer-Encoding: gzip, chunked")),
}


@pytest.fixture(scope="module")
def gateway(embedded: EmbeddedBroker) -> Iterator[Gateway]:
    """A body may be a second late."""
    make_topics(embedded.bootstrap_servers, "wire", "wire.rejected")
    with gateway_on(embedded, body_timeout_seconds=1) as running:
        yield running


@pytest.mark.parametrize("name", PROVOKED)
def test_what_is_answered_is_documented(gateway: Gateway, name: str) -> None:
    """Status, type, headers and content."""
    status, sent = PROVOKED[name]
    with Wire(gateway.server_address, timeout=60) as wire:
        wire.send(sent)
        reply = wire.reply()

    assert reply.status == status, reply.body
    is_documented(status, reply.headers, reply.body)


UNPROVOKED = (nothing_taken, overloaded, partial(refusal, HTTPStatus.INTERNAL_SERVER_ERROR, "why"))


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize("answer", UNPROVOKED)
def test_what_takes_a_fault_is_documented(answer: Callable[..., Answer], form: Form) -> None:
    """As the program would send it: Kafka away, too much in flight, a fault of its own."""
    status, body, kind, headers = answer(form=form)
    named = {name.decode(): value.decode() for name, value in headers}

    is_documented(int(status), named | {"content-type": kind.decode()}, body)


def test_nothing_that_is_documented_is_left_out() -> None:
    unprovoked = {answer(form=Form.XML).status for answer in UNPROVOKED}
    provoked = {status for status, _ in PROVOKED.values()}

    assert {int(status) for status in WEBHOOK["responses"]} == provoked | unprovoked


def is_documented(status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Type, content and headers of an answer are those of the document."""
    response = resolved(WEBHOOK["responses"][str(status)])
    kind = headers["content-type"].partition(";")[0]
    schema = resolved(response["content"][kind]["schema"])
    content = json.loads(body) if kind.endswith("json") else as_json(body, schema)
    Draft202012Validator(schema).validate(content)
    for name, reference in response.get("headers", {}).items():
        assert headers[name.lower()]
        constant = resolved(reference)["schema"].get("const")
        assert constant in {None, headers[name.lower()]}


def as_json(body: bytes, schema: Mapping[str, Any]) -> Any:
    """What an XML document of these elements is for the schema."""
    (root, content), *_ = xmltodict.parse(body, force_list=("id_sms",)).items()
    assert root == schema["xml"]["name"]
    namespace = (content or {}).pop("@xmlns", None)
    assert namespace == schema["xml"].get("namespace")
    if "status" in (content or {}):
        content["status"] = int(content["status"])
    return content or {}


def test_the_examples_are_what_the_program_answers(gateway: Gateway) -> None:
    sent, answered = WEBHOOK["requestBody"]["content"], RESPONSES["Ok"]["content"]
    for kind in ("text/xml", "application/json"):
        example = sent[kind]["example"]
        body = example if isinstance(example, str) else json.dumps(example)
        reply = gateway.post(body.encode(), path="/open")
        told = answered[kind]["example"]
        if isinstance(told, str):
            assert reply.body.decode() == told
        else:
            assert json.loads(reply.body) == told


def test_the_private_listener_answers_as_documented(gateway: Gateway) -> None:
    for path in ("/livez", "/readyz", "/metrics"):
        documented = DOCUMENT["paths"][path]["get"]["responses"]
        reply = gateway.admin(path)
        assert str(reply.status) in documented
        (kind,) = documented[str(reply.status)]["content"]
        assert reply.headers["content-type"].startswith(f"{kind};")
        schema = documented[str(reply.status)]["content"][kind]["schema"]
        Draft202012Validator(schema).validate(reply.body.decode())
    assert CONTENT_TYPE.startswith("text/plain;")


# --- schemathesis ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tag", "auth"), [("webhook", "none"), ("webhook", {"tokens": [TOKEN]}), ("private", "none")]
)
def test_schemathesis_finds_nothing(
    embedded: EmbeddedBroker, topic: str, tmp_path: Path, tag: str, auth: Any
) -> None:
    """What it makes up of the document, valid or not, is answered as documented."""
    make_topics(embedded.bootstrap_servers, topic, f"{topic}.rejected")
    content = configuration(embedded.bootstrap_servers, topic)
    content["kafka"]["publish_timeout_seconds"] = 60
    content["endpoints"][0]["auth"] = auth
    document = tmp_path / "openapi.json"
    document.write_text(json.dumps(openapi_document(Settings.model_validate(content))))
    if auth != "none":
        known = (
            f'[auth.openapi]\ntoken = {{api_key = "{TOKEN}"}}\nbearer = {{bearer = "{TOKEN}"}}\n'
        )
        (tmp_path / "schemathesis.toml").write_text(known)
    with Gateway(content) as running:
        address = running.admin_address if tag == "private" else running.server_address
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", str(document), "--no-color"),
                *("--url", f"http://127.0.0.1:{address[1]}", "--include-tag", tag),
                *("--seed", "1", "--max-examples", str(EXAMPLES), "--exclude-checks", NOT_PROMISED),
                *("--request-timeout", "60", "--suppress-health-check", "all"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Test cases:\n  (\d+) generated, \1 passed", done.stdout), done.stdout
    assert "WARNINGS" not in done.stdout, done.stdout
