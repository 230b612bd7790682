"""`sms-bridge schema --register`: what it registers, and what it says when it cannot."""

import base64
import copy
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from click.testing import CliRunner, Result

from bridge.cli.main import main
from bridge.contract.documents import DOCUMENTS
from bridge.demo.child import free_ports
from tests.support.registry import SchemaRegistry

EXAMPLE = Path(__file__).parents[2] / "config/bridge.yaml"
NO_CREDENTIALS = dict.fromkeys(
    ("SCHEMA_REGISTRY_USERNAME", "SCHEMA_REGISTRY_PASSWORD", "SCHEMA_REGISTRY_TOKEN")
)


def register(document: str, url: str, *arguments: str, **environment: str) -> Result:
    call = ["schema", document, "--register", url, *arguments]
    return CliRunner().invoke(main, call, env={**NO_CREDENTIALS, **environment})


# --- a real registry ---------------------------------------------------------------------


@pytest.mark.parametrize("document", ["envelope", "status", "rejected-envelope", "rejected"])
def test_a_schema_is_registered_once(
    schema_registry: SchemaRegistry, topic: str, document: str
) -> None:
    """As the program prints it, but for the dialect; again it is the same version."""
    for _ in range(2):
        result = register(document, schema_registry.url, "--topic", topic)
        assert result.exit_code == 0, result.stderr
    kept = schema_registry.call("GET", f"subjects/{topic}-value/versions/latest")

    assert result.stdout == f"registered {document} as {topic}-value: id {kept['id']}\n"
    assert (kept["version"], kept["schemaType"]) == (1, "JSON")
    written = {**DOCUMENTS[document](), "$schema": "http://json-schema.org/draft-07/schema#"}
    assert json.loads(kept["schema"]) == written


def without_a_field(schema: dict[str, Any]) -> None:
    del schema["properties"]["traceparent"]


def with_another_type(schema: dict[str, Any]) -> None:
    schema["properties"]["id"] = {"type": "integer"}


@pytest.mark.parametrize(
    ("level", "change", "compatible"),
    [
        ("FORWARD", without_a_field, True),
        ("BACKWARD", without_a_field, False),
        ("FORWARD", with_another_type, False),
    ],
)
def test_an_older_schema_is_replaced_only_if_the_registry_calls_this_one_compatible(
    schema_registry: SchemaRegistry,
    topic: str,
    level: str,
    change: Callable[[dict[str, Any]], None],
    compatible: bool,
) -> None:
    """A field more is compatible forward, as docs/types.md advises; another type is never."""
    older = copy.deepcopy(DOCUMENTS["envelope"]())
    older["$schema"] = "http://json-schema.org/draft-07/schema#"
    change(older)
    subject = f"{topic}-value"
    versions = f"subjects/{subject}/versions"
    schema_registry.call("POST", versions, {"schemaType": "JSON", "schema": json.dumps(older)})
    schema_registry.call("PUT", f"config/{subject}", {"compatibility": level})

    result = register("envelope", schema_registry.url, "--topic", topic)

    assert schema_registry.call("GET", versions) == ([1, 2] if compatible else [1])
    assert result.exit_code == (0 if compatible else 1)
    if not compatible:
        said = f"sms-bridge: {subject} has a schema that this one is incompatible with: "
        assert result.stderr.startswith(said)
        assert result.stderr.count("\n") == 1


def test_the_subjects_are_those_of_the_configuration(
    schema_registry: SchemaRegistry, topic: str, tmp_path: Path
) -> None:
    written = yaml.safe_load(EXAMPLE.read_text("utf-8"))
    written["kafka"] |= {"topic": topic, "dead_letter_topic": f"{topic}.rejected"}
    (main_endpoint, *_) = written["endpoints"]
    brand = {**main_endpoint, "name": "brand", "path": "/brand", "source": "urn:example:brand"}
    written["endpoints"] = [main_endpoint, {**brand, "topic": f"{topic}.brand"}]
    file = tmp_path / "bridge.yaml"
    file.write_text(yaml.safe_dump(written))

    statuses = register("envelope", schema_registry.url, "--config", str(file))
    rejected = register("rejected-envelope", schema_registry.url, "--config", str(file))

    assert (statuses.exit_code, rejected.exit_code) == (0, 0)
    assert {topic, f"{topic}.brand", f"{topic}.rejected"} <= {
        subject.removesuffix("-value") for subject in schema_registry.call("GET", "subjects")
    }
    other = register("status", schema_registry.url, "--config", str(file))
    assert other.exit_code == 2
    assert "structured register envelope or rejected-envelope" in other.stderr


# --- a registry of our own ---------------------------------------------------------------


class Registry(ThreadingHTTPServer):
    """Answers each path's end as it was told to, and keeps the requests."""

    daemon_threads = True

    def __init__(self, answers: dict[str, tuple[int, Any]]) -> None:
        self.answers = answers
        self.requests: list[tuple[str, dict[str, str]]] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Registry

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, {**self.headers}))
        kind = self.path.split("/")[1]
        status, said = self.server.answers[kind]
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the tests' output clean."""


Answers = Mapping[str, tuple[int, Any]]
GOOD: Answers = {
    "compatibility": (404, {"error_code": 40401, "message": "Subject not found."}),
    "subjects": (200, {"id": 7}),
}


@contextmanager
def registry(changes: Answers = GOOD, context: ssl.SSLContext | None = None) -> Iterator[Any]:
    """One that registers everything, but for what is said; its `url` is its address."""
    with Registry({**GOOD, **changes}) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "http" if context is None else "https"
        server.url = f"{scheme}://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def test_compatibility_is_asked_for_before_anything_is_changed() -> None:
    with registry() as server:
        result = register("envelope", f"{server.url}/", "--topic", "a b/c")
    incompatible = {"is_compatible": False, "messages": ["id is gone", "type is another"]}
    with registry({"compatibility": (200, incompatible)}) as strict:
        refused = register("envelope", strict.url, "--topic", "t")

    assert (result.exit_code, result.stdout) == (0, "registered envelope as a b/c-value: id 7\n")
    assert [path for path, _ in server.requests] == [
        "/compatibility/subjects/a%20b%2Fc-value/versions/latest?verbose=true",
        "/subjects/a%20b%2Fc-value/versions",
    ]
    assert (refused.exit_code, len(strict.requests)) == (1, 1)
    assert refused.stderr.endswith("is incompatible with: id is gone; type is another\n")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"SCHEMA_REGISTRY_TOKEN": "t0ken"}, "Bearer t0ken"),
        (
            {"SCHEMA_REGISTRY_USERNAME": "u", "SCHEMA_REGISTRY_PASSWORD": "pä:ss"},
            f"Basic {base64.b64encode('u:pä:ss'.encode()).decode()}",
        ),
    ],
)
def test_the_credentials_are_those_of_the_environment(
    environment: dict[str, str], expected: str | None
) -> None:
    with registry() as server:
        assert register("status", server.url, "--topic", "t", **environment).exit_code == 0

    assert [headers.get("Authorization") for _, headers in server.requests] == [expected] * 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"compatibility": (401, {"message": "no t0ken-0f-mine"})}, "401: wrong or missing"),
        ({"compatibility": (403, b"<html>")}, "403: these credentials may not write"),
        ({"subjects": (404, b"")}, "404: is it the registry's URL?"),
        ({"subjects": (409, {"message": "id is gone"})}, "is incompatible with: id is gone"),
        ({"subjects": (422, {"message": "Invalid schema"})}, "422: Invalid schema"),
        ({"subjects": (500, b"\xff")}, "answers HTTP 500\n"),
        ({"subjects": (200, [7])}, "answers with no id: is it the registry's URL?"),
        ({"subjects": (302, b"")}, "answers HTTP 302"),
    ],
)
def test_what_the_registry_refuses_is_one_line(
    changes: dict[str, tuple[int, Any]], said: str
) -> None:
    """No secret is in it, though the registry may repeat it."""
    with registry(changes) as server:
        result = register(
            "envelope", server.url, "--topic", "t", SCHEMA_REGISTRY_TOKEN="t0ken-0f-mine"
        )

    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert said in result.stderr
    assert "t0ken" not in result.stderr


def test_a_registry_that_is_not_there_is_one_line() -> None:
    (port,) = free_ports(1)

    result = register("envelope", f"http://127.0.0.1:{port}", "--topic", "t")

    assert result.exit_code == 1
    assert result.stderr.startswith(f"sms-bridge: cannot reach http://127.0.0.1:{port}/")
    assert result.stderr.endswith(": Connection refused\n")


def test_a_ca_of_one_s_own_is_trusted_when_it_is_named(tmp_path: Path) -> None:
    ca, ca_file = trustme.CA(), tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(ca_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)

    with registry(context=context) as server:
        trusted = register("envelope", server.url, "--topic", "t", "--ca-file", str(ca_file))
        other = register("envelope", server.url, "--topic", "t")
    missing = register("envelope", server.url, "--topic", "t", "--ca-file", str(tmp_path / "no"))

    assert (trusted.exit_code, trusted.stderr) == (0, "")
    assert other.exit_code == missing.exit_code == 1
    assert "is not valid: " in other.stderr
    assert other.stderr.endswith(" (--ca-file)\n")
    assert missing.stderr.endswith("no: No such file or directory\n")


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["envelope", "--register", "http://h"], {}, "--topic"),
        (["config", "--register", "http://h", "--topic", "t"], {}, "--register is for envelope"),
        (["envelope", "--register", "h:1", "--topic", "t"], {}, "http or https URL"),
        (["envelope", "--register", "http://[", "--topic", "t"], {}, "http or https URL"),
        (["envelope", "--register", "http://u:p@h", "--topic", "t"], {}, "$SCHEMA_REGISTRY_USERN"),
        (["envelope", "--register", "http://h", "--topic", "t", "--config", "f"], {}, "not both"),
        (["envelope", "--topic", "t"], {}, "go with --register"),
        (["envelope", "--ca-file", "f"], {}, "go with --register"),
        *(
            (["envelope", "--register", "http://h", "--topic", "t"], environment, said)
            for environment, said in (
                ({"PASSWORD": "p"}, "needs $SCHEMA_REGISTRY_USERNAME"),
                ({"USERNAME": "u", "TOKEN": "t"}, "and not both"),
                ({"TOKEN": "tö"}, "no token has"),
            )
        ),
    ],
)
def test_wrong_usage_ends_with_2(
    arguments: list[str], environment: dict[str, str], said: str
) -> None:
    variables = {f"SCHEMA_REGISTRY_{name}": value for name, value in environment.items()}

    result = CliRunner().invoke(main, ["schema", *arguments], env={**NO_CREDENTIALS, **variables})

    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


def test_a_bad_configuration_ends_with_78(tmp_path: Path) -> None:
    result = register("envelope", "http://h", "--config", str(tmp_path / "missing.yaml"))

    assert result.exit_code == 78
