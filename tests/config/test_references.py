"""References to the environment and to files, and that no secret shows."""

import traceback
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from bridge.config import loader as config
from bridge.config.settings import Place
from bridge.errors import ConfigError
from tests.config.texts import (
    LEAVES,
    REQUIRED,
    SECRET,
    endpoint,
    messages,
    parse,
    problems,
    put,
    two_endpoints,
)

SECURITY = {
    "protocol": "SASL_SSL",
    "sasl": {"mechanism": "PLAIN", "username": "u", "password": "p"},
    "tls": {"cert_file": "/tls.crt", "key_file": "/tls.key"},
}
PROVIDER = {"url": "https://provider.example.com/xml", "login": "l", "password": "p"}


class TestReferences:
    """${NAME}, ${NAME:-default} and ${file:PATH}."""

    @pytest.mark.parametrize(
        ("value", "environ", "expected"),
        [
            ("${A}", {"A": "x"}, "x"),
            ("${A}-${B}", {"A": "x", "B": "y"}, "x-y"),
            ("${A}.${A:-z}", {"A": "x"}, "x.x"),
            ("${A:-z}", {}, "z"),
            ("${A:-z}", {"A": ""}, "z"),
            ("a${A:-}", {}, "a"),
            ("a${A}", {"A": ""}, "a"),
            ("${A:-a:-b}", {}, "a:-b"),
            ("$A", {"A": "x"}, "$A"),
            ("$${A}", {"A": "x"}, "${A}"),
            ("$$${A}", {"A": "x"}, "$${A}"),
            ("${A}", {"A": "${B}", "B": "x"}, "${B}"),
            ("${A}", {"A": "$${B}"}, "$${B}"),
            ("${file}", {"file": "x"}, "x"),
        ],
    )
    def test_are_replaced_once(self, value: str, environ: Mapping[str, str], expected: str) -> None:
        """As in a shell, and what came from outside is never looked into again."""
        text = f"kafka: {{create_topics: {{config: {{k: '{value}'}}}}}}\n{REQUIRED}"
        assert parse(text, environ).kafka.create_topics.config == {"k": expected}

    def test_take_the_type_of_the_setting(self) -> None:
        """A number, a truth value, a list and an open endpoint can all come from outside."""
        text = """\
server: {port: "${P}", body_timeout_seconds: "${T}"}
kafka: {bootstrap_servers: "${K}", create_topics: {enabled: "${E}"}}
""" + endpoint(auth="${AUTH}")
        environ = {"P": "0", "T": "2.5", "K": "a:1, b:2", "E": "true", "AUTH": "none"}
        parsed = parse(text, environ)
        assert (parsed.server.port, parsed.server.body_timeout_seconds) == (0, 2.5)
        assert parsed.kafka.bootstrap_servers == ("a:1", "b:2")
        assert parsed.kafka.create_topics.enabled is True
        assert parsed.endpoints[0].auth is None

    @pytest.mark.parametrize("style", ["${P}", "'${P}'", '"${P}"', ">-\n    ${P}"])
    def test_work_in_every_kind_of_scalar(self, style: str) -> None:
        """Quotes do not matter."""
        assert parse(f"admin:\n  port: {style}\n{REQUIRED}", {"P": "9"}).admin.port == 9

    def test_keys_are_left_alone(self) -> None:
        """Only values are replaced."""
        text = f"kafka: {{create_topics: {{config: {{'${{A}}': x}}}}}}\n{REQUIRED}"
        assert parse(text).kafka.create_topics.config == {"${A}": "x"}

    def test_every_absent_name_of_a_value_is_reported(self) -> None:
        """And nothing else is said about that value."""
        assert messages(f"kafka: {{topic: '${{A}}.${{B}}'}}\n{REQUIRED}") == [
            "kafka.topic: the environment variable A is not set",
            "kafka.topic: the environment variable B is not set",
        ]

    @pytest.mark.parametrize(
        "value", ["${", "${}", "${1}", "${A-b}", "${A", "${A:-${B}}", "${file:}"]
    )
    @pytest.mark.parametrize("placeholders", [False, True])
    def test_malformed_ones_are_errors(self, value: str, placeholders: bool) -> None:
        """A typing error in a reference is never taken for text, nor excused as unset."""
        text = f"kafka: {{topic: '{value}'}}\n{REQUIRED}"
        (problem,) = problems(text, {"A": "a", "B": "b"}, placeholders=placeholders)
        assert problem.startswith("F:1:16: kafka.topic: must hold ${NAME}, ${NAME:-default} or")

    @pytest.mark.parametrize(
        ("content", "expected"),
        [("x\n", "x"), ("x", "x"), ("x\r\n", "x"), ("x\n\n", "x\n"), ("${A}\n", "${A}")],
    )
    def test_file_gives_its_content(self, tmp_path: Path, content: str, expected: str) -> None:
        """Less one line break at the end, and unexpanded."""
        path = tmp_path / "secret"
        path.write_bytes(content.encode())
        text = f"kafka: {{create_topics: {{config: {{k: '${{file:{path}}}'}}}}}}\n{REQUIRED}"
        assert parse(text, {"A": "a"}).kafka.create_topics.config == {"k": expected}

    def test_unreadable_file_is_named(self, tmp_path: Path) -> None:
        """The error names the path, never the content."""
        (tmp_path / "bad").write_bytes(SECRET.encode() + b"\xff")
        text = (
            f"kafka: {{topic: '${{file:{tmp_path}/no}}', client_id: '${{file:{tmp_path}/bad}}'}}\n"
        )
        assert messages(text + REQUIRED) == [
            f"kafka.topic: cannot read the file {tmp_path}/no: No such file or directory",
            f"kafka.client_id: cannot read the file {tmp_path}/bad: it is not UTF-8 text",
        ]


class TestPlaceholders:
    """Checking without the environment."""

    @pytest.mark.parametrize("place", LEAVES, ids=str)
    @pytest.mark.parametrize("value", ["${UNSET}", "a-${UNSET}", "${file:/nowhere/at/all}"])
    def test_stand_for_any_setting(self, place: Place, value: str) -> None:
        """Whatever its type, a missing value makes no further problem at its place."""
        whole = yaml.safe_load(endpoint(provider=PROVIDER)) | {"kafka": {"security": SECURITY}}
        text = yaml.safe_dump(put(whole, place, value))
        found = problems(text, placeholders=True)
        assert [line for line in found if not line.endswith(": required")] == []

    @pytest.mark.parametrize("section", ["server", "admin", "kafka", "endpoints", "events", "log"])
    def test_stand_for_whole_sections(self, section: str) -> None:
        """Even where a single variable is meant to hold a section."""
        text = yaml.safe_dump(yaml.safe_load(REQUIRED) | {section: "${UNSET}"})
        parsed = config.parse(text, file="F", environ={}, placeholders=True)
        assert parsed == parse(REQUIRED)

    def test_leave_the_rest_checked(self) -> None:
        """A list with a placeholder in it still has its other items looked at."""
        auth = {"tokens": ["${UNSET}", ""], "basic": [{"username": "${UNSET}", "password": 3}]}
        assert [
            line.split(": ", 1)[1] for line in problems(endpoint(auth=auth), placeholders=True)
        ] == [
            "endpoints[0].auth.tokens[1]: must not be empty",
            "endpoints[0].auth.basic[0].password: must be text: put the value in quotes",
        ]

    def test_are_never_in_conflict(self) -> None:
        """Two values that are not known are not the same value."""
        unset = {"name": "${N}", "path": "${P}", "source": "${S}", "topic": "${T}"}
        text = two_endpoints(unset, "admin: {port: '${A}'}\nkafka: {dead_letter_topic: '${D}'}\n")
        text = text.replace("'main'", "'${N}'").replace("'/webhook'", "'${P}'")
        assert problems(text, placeholders=True) == []
        assert (
            problems(
                f"kafka: {{topic: sms.status.rejected, dead_letter_topic: '${{D}}'}}\n{REQUIRED}",
                placeholders=True,
            )
            == []
        )

    def test_set_names_and_defaults_still_count(self) -> None:
        """Only what is absent is excused."""
        text = f"server: {{port: '${{P}}'}}\nadmin: {{port: '${{Q:-no}}'}}\n{REQUIRED}"
        assert len(problems(text, {"P": "70000"}, placeholders=True)) == 2


class TestOptionalItems:
    """An item `${NAME:-}` that is empty is none: a second token, while there is a second one."""

    def tokens(self, items: list[str], **environ: str) -> list[str]:
        auth = parse(endpoint(auth={"tokens": items}), environ).endpoints[0].auth
        assert auth is not None
        return [token.get_secret_value() for token in auth.tokens]

    @pytest.mark.parametrize("environ", [{}, {"OLD": ""}])
    def test_is_left_out_where_it_is_empty(self, environ: dict[str, str]) -> None:
        assert self.tokens(["${NEW}", "${OLD:-}"], NEW="n", **environ) == ["n"]
        assert self.tokens(["${OLD:-}", "${NEW}"], NEW="n", **environ) == ["n"]

    def test_counts_where_it_is_not(self) -> None:
        assert self.tokens(["${NEW}", "${OLD:-}"], NEW="n", OLD="o") == ["n", "o"]

    @pytest.mark.parametrize("item", ["", "${EMPTY}", "x${OLD:-}", "${EMPTY}${OLD:-}"])
    def test_only_where_it_says_so(self, item: str) -> None:
        """What is empty by accident is refused as ever."""
        found = messages(endpoint(auth={"tokens": ["t", item]}), {"EMPTY": ""})
        empty = ["endpoints[0].auth.tokens[1]: must not be empty"]
        assert found == ([] if item.startswith("x") else empty)

    @pytest.mark.parametrize("key", ["tokens", "allow"])
    def test_does_not_open_an_endpoint(self, key: str) -> None:
        """A list of which nothing is left is refused, whatever else restricts the endpoint."""
        other = {"tokens": ["t"], "allow": ["192.0.2.1"]}
        found = messages(endpoint(auth=other | {key: ["${OLD:-}"]}))
        assert found == [f"endpoints[0].auth.{key}: none of its items has a value"]

    def test_does_not_shift_the_place_of_a_problem(self) -> None:
        text = endpoint(auth={"tokens": ["${OLD:-}", "t", ""]})
        (problem,) = problems(text)
        assert problem.endswith("endpoints[0].auth.tokens[1]: must not be empty")
        assert f":{text.index(repr('')) + 1}: " in problem


class TestSecrets:
    """No value is ever shown."""

    CASES = (
        endpoint(auth={"tokens": [SECRET], "nope": 1}),
        endpoint(auth={"tokens": SECRET}),
        endpoint(auth=SECRET),
        endpoint(auth={"tokens": [SECRET + "\n", f" {SECRET}"]}),
        endpoint(auth={"basic": [{"username": "u", "password": [SECRET]}]}),
        endpoint(auth={"basic": [{"username": "u:u", "password": SECRET}]}),
        endpoint(auth={"basic": [SECRET]}),
        endpoint(auth={"tokens": ["${TOKEN} "]}),
        endpoint(auth={"tokens": ["${" + SECRET + "!}"]}),
        endpoint(name="${TOKEN} ", path="${TOKEN}", source="${TOKEN} ", timezone="${TOKEN}"),
        f"server: {{port: '{SECRET}', host: '${{TOKEN}} '}}\n{REQUIRED}",
        f"kafka: {{bootstrap_servers: '{SECRET}', compression: '{SECRET}'}}\n{REQUIRED}",
        f"kafka: {{security: {{sasl: {{password: ['{SECRET}'], username: [{SECRET}]}}}}}}\n"
        + REQUIRED,
        f"kafka: {{security: {{tls: {{key_password: ' {SECRET}', nope: {SECRET}}}}}}}\n{REQUIRED}",
        f"kafka: {{security: {{sasl: '{SECRET}', protocol: '{SECRET}'}}}}\n{REQUIRED}",
        f"a: '{SECRET}\n",
        f"a: {SECRET}: b: c\n",
        f"a: [*{SECRET}]\n",
        f"a: !{SECRET}!b c\n",
        f"a: [&{SECRET} x, &{SECRET} y]\nb: [\n",
        f"a: !{SECRET} c\n",
    )

    @pytest.mark.parametrize("text", CASES)
    def test_no_problem_shows_a_value(self, text: str) -> None:
        """Neither the error, nor its traceback, nor what it was raised from."""
        with pytest.raises(ConfigError) as caught:
            parse(text, {"TOKEN": SECRET})
        shown = [str(caught.value), repr(caught.value), *traceback.format_exception(caught.value)]
        # The traceback's source lines are this file's: they name the constant, not its value.
        assert SECRET not in "".join(shown)

    def test_settings_show_no_secret(self) -> None:
        """Neither printed, nor dumped, nor as JSON."""
        auth = {"tokens": [SECRET], "basic": [{"username": "u", "password": SECRET}]}
        parsed = parse(endpoint(auth=auth))
        shown = (
            repr(parsed),
            str(parsed),
            str(parsed.model_dump()),
            parsed.model_dump_json(),
        )
        assert all(SECRET not in text for text in shown)
        kept = parsed.endpoints[0].auth
        assert kept is not None
        assert kept.tokens[0].get_secret_value() == SECRET
