"""A configuration file: what is wrong with it, at which place, all at once."""

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.config import loader as config
from bridge.config.settings import Place, Settings
from bridge.errors import ConfigError
from tests.config.texts import (
    ENDPOINT,
    EVENTS,
    LEAVES,
    REQUIRED,
    SECRET,
    at,
    messages,
    parse,
    problems,
    two_endpoints,
)

EXAMPLE = Path(__file__).parents[2] / "config" / "bridge.yaml"

ADDRESS = "must be host:port, with a port from 1 to 65535"
BOOL = "must be a number, not true or false"
DIVIDED = ", but with another topic: one source must have one topic"
HOST_BITS = "must be an address or a network, with no bits set beyond its prefix"
NETWORK = "must be an address or a network, such as 203.0.113.0/24 or 2001:db8::1"
QUOTES = 'inside [ ] and { } write "${...}" with the quotes'
_NO_TOKEN = "not valid YAML: found character that cannot start any token; "
TAB = f"{_NO_TOKEN}the line begins with a tab: YAML indents with spaces only"
TAB_INSIDE = f"{_NO_TOKEN}that character is a tab: write spaces"
STAR = "a value that begins with * needs quotes"
TIME_ZONE = "must be a time zone's IANA name, such as Europe/Kyiv or UTC"
TOPIC = 'must be 1 to 249 letters, digits, ".", "_" or "-", and not "." or ".."'


class TestMinimal:
    """The least that a file can say."""

    def test_takes_every_default(self) -> None:
        """A file with the required settings alone is complete."""
        parsed = parse(REQUIRED)
        assert parsed.kafka.bootstrap_servers == ("kafka:9092",)
        assert parsed.kafka.create_topics.config == {"min.insync.replicas": "2"}
        assert parsed.endpoints[0].auth is None
        assert parsed.topics == ("sms.status",)

    def test_section_without_content_takes_its_defaults(self) -> None:
        """A section whose every line is commented out is no mistake."""
        assert parse(f"server:\nlog:\n{REQUIRED}") == parse(REQUIRED)


class TestExample:
    """The file that is shipped."""

    @staticmethod
    def switched_on() -> str:
        """The example with its switched-off settings on."""
        text = EXAMPLE.read_text(encoding="utf-8").replace("    auth: none\n", "")
        for default in ("    protocol: PLAINTEXT\n", "  statuses: {}\n"):
            text = text.replace(default, "")
        return re.sub(r"^( *)#(?=\S)", r"\1", text, flags=re.MULTILINE)

    def test_loads_with_an_empty_environment_and_holds_the_defaults(self) -> None:
        """Deleting any line that is not required changes nothing."""
        assert config.load(EXAMPLE, {}) == parse(REQUIRED)

    @pytest.mark.parametrize("place", LEAVES, ids=str)
    def test_shows_every_setting(self, place: Place) -> None:
        """No setting exists that the example does not name."""
        assert at(yaml.safe_load(self.switched_on()), place) is not None

    def test_switched_off_settings_are_valid(self, tmp_path: Path) -> None:
        """What the example proposes can be used as it stands."""
        text = without(WITH_TOKEN, self.switched_on()).replace("/run/secrets", str(tmp_path))
        text = text.replace("      token: ${PROVIDER_TOKEN}\n", "")  # or login and password
        (tmp_path / "webhook-password").write_text("p\n")
        (tmp_path / "provider-password").write_text("pp\n")
        environ = {"WEBHOOK_TOKEN": "t", "KAFKA_PASSWORD": "k", "KAFKA_KEY_PASSWORD": "kk"}
        parsed = parse(text, environ)
        auth = parsed.endpoints[0].auth
        assert auth is not None
        assert auth.tokens[0].get_secret_value() == "t"
        assert auth.basic[0].password.get_secret_value() == "p"
        security = parsed.kafka.security
        assert security.protocol == "SASL_SSL"
        assert security.sasl is not None
        assert security.sasl.password is not None
        assert security.sasl.password.get_secret_value() == "k"
        assert auth.allow == ("203.0.113.0/24", "2001:db8::/32")
        provider = parsed.endpoints[0].provider
        assert provider is not None
        assert provider.password is not None
        assert provider.password.get_secret_value() == "pp"

    def test_a_login_with_a_token_is_valid_in_the_place_of_a_password(self) -> None:
        """What the example proposes for OAUTHBEARER."""
        parsed = yaml.safe_load(without(WITH_PASSWORD, self.switched_on()))
        sasl = parsed["kafka"]["security"]["sasl"] | {"mechanism": "OAUTHBEARER"}
        security = {"protocol": "SASL_SSL", "sasl": sasl}
        text = f"kafka: {{security: {json.dumps(security)}}}\n{REQUIRED}"
        kept = parse(text, {"KAFKA_CLIENT_SECRET": "s"}).kafka.security.sasl
        assert kept is not None
        assert kept.client_secret is not None
        assert kept.client_secret.get_secret_value() == "s"


WITH_PASSWORD = ("username", "password")
WITH_TOKEN = ("token_url", "client_id", "client_secret", "scope", "token_ca_file")


def without(keys: tuple[str, ...], text: str) -> str:
    """The example without some keys of `sasl`."""
    return re.sub(rf"^      ({'|'.join(keys)}):.*\n", "", text, flags=re.MULTILINE)


class TestPositions:
    """Where a problem is said to be."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("server:\n  prot: 1\n", 'F:2:3: server.prot: unknown key; did you mean "port"?'),
            ("server:\n  port: 70000\n", "F:2:9: server.port: must be at most 65535"),
            (
                "log: {level: info,\n  level: debug}\n",
                "F:2:3: log.level: duplicate key; the first is on line 1",
            ),
            ("admin:\n  host: ${H}\n", "F:2:9: admin.host: the environment variable H is not set"),
            (
                "kafka:\n  bootstrap_servers:\n    - a:1\n    - b\n",
                f"F:4:7: kafka.bootstrap_servers[1]: {ADDRESS}",
            ),
            ("kafka:\n  topic: &t 'a b'\n", f"F:2:10: kafka.topic: {TOPIC}"),
            (
                "kafka:\n  dead_letter_topic: sms.status\n",
                "F:2:22: kafka.dead_letter_topic: must differ from kafka.topic",
            ),
            ("admin: {port: 8080}\n", "F:1:15: admin.port: must differ from server.port"),
            ("server: {port: 8081}\n", "F:1:1: admin.port: must differ from server.port"),
            (
                "kafka: {topic: sms.status.rejected}\n",
                "F:1:1: kafka.dead_letter_topic: must differ from kafka.topic",
            ),
        ],
    )
    def test_names_the_offending_key_or_value(self, text: str, expected: str) -> None:
        """The key where it is unknown or duplicate, else the value, else what is around."""
        assert problems(text + REQUIRED) == [expected]

    def test_missing_key_is_placed_at_its_mapping(self) -> None:
        """A missing key has no place, so the key of the mapping around it is named."""
        text = (
            "log: {}\nevents:\n  content_mode: binary\nendpoints:\n  - name: a\n    path: /a\n"
            "    auth:\n      basic:\n        - username: u\n"
        )
        assert problems(text) == [
            "F:2:1: events.type_prefix: required",
            "F:5:5: endpoints[0].source: required",
            "F:5:5: endpoints[0].timezone: required",
            "F:9:11: endpoints[0].auth.basic[0].password: required",
        ]

    def test_missing_sections_are_placed_at_the_start(self) -> None:
        """The document's first key stands for the document."""
        assert problems("# a comment\nlog: {}\n") == [
            "F:2:1: endpoints: required",
            "F:2:1: events: required",
        ]

    def test_byte_order_mark_does_not_count(self) -> None:
        """Columns are what an editor shows."""
        assert problems("\ufeff" + "x: 1\n" + REQUIRED)[0].startswith("F:1:1: x: unknown key")

    def test_all_problems_come_at_once_in_order(self) -> None:
        """YAML's, the environment's, the values' and those between values, in one error."""
        text = """\
server:
  port: true
  port: 1
  nope: 1
admin: {port: "${UNSET}"}
kafka:
  topic: same
  dead_letter_topic: same
  compression: zip
endpoints:
  - {name: a, path: /a, source: "urn:a", timezone: UTC, auth: none}
  - {name: a, path: /a/, source: "urn:a", timezone: Mars/Base, auth: none, topic: other}
  - text
log: {level: 3}
"""
        assert problems(text) == [
            "F:1:1: events: required",
            "F:2:9: server.port: must be a number, not true or false",
            "F:3:3: server.port: duplicate key; the first is on line 2",
            "F:4:3: server.nope: unknown key; the keys here are "
            + ", ".join(type(parse(REQUIRED).server).model_fields),
            "F:5:15: admin.port: the environment variable UNSET is not set",
            "F:8:22: kafka.dead_letter_topic: must differ from kafka.topic",
            "F:9:16: kafka.compression: must be one of none, gzip, snappy, lz4, zstd",
            "F:12:12: endpoints[1].name: must differ from endpoints[0].name",
            "F:12:21: endpoints[1].path: must differ from endpoints[0].path",
            f"F:12:34: endpoints[1].source: the same as endpoints[0].source{DIVIDED}",
            f"F:12:53: endpoints[1].timezone: {TIME_ZONE}",
            "F:13:5: endpoints[2]: must be a mapping of keys to values",
            "F:14:14: log.level: must be one of debug, info, warning, error",
        ]

    def test_a_wrong_value_makes_no_conflicts_of_its_own(self) -> None:
        """Two names that cannot be read are not reported as the same name."""
        text = two_endpoints({"name": "a b"}).replace("'main'", "'c d'")
        assert [re.sub(r":.*", "", line) for line in messages(text)] == [
            "endpoints[0].name",
            "endpoints[1].name",
        ]


class TestWords:
    """How a problem is put."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("server: 3", "server: must be a mapping of keys to values"),
            ("server: {port: a}", "server.port: must be a whole number"),
            ("server: {port: 1.5}", "server.port: must be a whole number"),
            ("server: {port: [1]}", "server.port: must be a whole number"),
            ("server: {port: -1}", "server.port: must be at least 0"),
            ("server: {port: }", "server.port: needs a value"),
            ("server: {port: !!int x}", "server.port: is no number; text needs quotes here"),
            ("server: {port: !new 1}", "server.port: must not have a YAML tag"),
            ("server: {host: 3}", "server.host: must be text: put the value in quotes"),
            ("server: {host: yes}", "server.host: must be text: put the value in quotes"),
            ("server: {host: [a]}", "server.host: must be text"),
            ("server: {host: a b}", "server.host: must be a host name or an IP address"),
            ("server: {trusted_proxies: [x]}", f"server.trusted_proxies[0]: {NETWORK}"),
            (
                "server: {trusted_proxies: [10.0.0.1/8]}",
                f"server.trusted_proxies[0]: {HOST_BITS}",
            ),
            ("server: {max_states: 0}", "server.max_states: must be at least 1"),
            (
                "server: {body_timeout_seconds: 0}",
                "server.body_timeout_seconds: must be greater than 0",
            ),
            ("server: {body_timeout_seconds: x}", "server.body_timeout_seconds: must be a number"),
            ("server: {body_timeout_seconds: yes}", f"server.body_timeout_seconds: {BOOL}"),
            (
                "server: {body_timeout_seconds: .nan}",
                "server.body_timeout_seconds: must be at most 3600",
            ),
            (
                "kafka: {publish_timeout_seconds: 0}",
                "kafka.publish_timeout_seconds: must be greater than 0",
            ),
            (
                "kafka: {bootstrap_servers: []}",
                "kafka.bootstrap_servers: must have at least one item",
            ),
            ("kafka: {bootstrap_servers: 9092}", "kafka.bootstrap_servers: must be a list"),
            (
                "kafka: {create_topics: {enabled: 3}}",
                "kafka.create_topics.enabled: must be true or false",
            ),
            (
                "kafka: {create_topics: {config: 3}}",
                "kafka.create_topics.config: must be a mapping of keys to values",
            ),
            (
                "kafka: {create_topics: {config: {a: 3}}}",
                "kafka.create_topics.config.a: must be text: put the value in quotes",
            ),
            (
                "events: {type_prefix: com.example, content_mode: x}",
                "events.content_mode: must be one of structured, binary",
            ),
            (
                "8080: x",
                f"8080: unknown key; the keys here are {', '.join(Settings.model_fields)}",
            ),
            ("sever: x", 'sever: unknown key; did you mean "server"?'),
            ("? [a]\n: b", "a key must be text"),
            ("<<: [3]", "<< takes a mapping, or a list of them"),
        ],
    )
    def test_say_what_to_do(self, text: str, expected: str) -> None:
        """Each kind of mistake is told in plain words, and once."""
        required = f"endpoints: [{ENDPOINT}]\n" if "type_prefix" in text else REQUIRED
        assert messages(f"{text}\n{required}") == [expected]


class TestUnusableText:
    """What is no YAML mapping."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("", "F:1:1: is empty"),
            ("# nothing\n", "F:1:1: is empty"),
            ("- a\n", "F:1:1: must be a mapping of keys to values"),
            ("text\n", "F:1:1: must be a mapping of keys to values"),
            ("a: 1\n---\nb: 1\n", "F:2:1: not valid YAML: but found another document"),
            ("a: b: c\n", "F:1:5: not valid YAML: mapping values are not allowed here"),
            ("a: [b\n", "F:2:1: not valid YAML: expected ',' or ']', but got '<stream end>'"),
            (
                "a:\n  x: [${A}]\n",
                f"F:2:8: not valid YAML: expected ',' or ']', but got '{{'; {QUOTES}",
            ),
            (f"a: *{SECRET}\n", f"F:1:4: not valid YAML: found undefined alias; {STAR}"),
            ("a: &a\n  b: *a\n", "F:1:4: not valid YAML: an alias lies within its own anchor"),
            ("a: &a\n  <<: *a\n", "F:1:4: not valid YAML: an alias lies within its own anchor"),
            ("a: 1\nb: \x01\n", "F:2:4: the character U+0001 is not allowed in YAML"),
            ("a: 1\rb: \x01\n", "F:2:4: the character U+0001 is not allowed in YAML"),
            ("server:\n\tport: 8080\n", f"F:2:1: {TAB}"),
            ("endpoints:\n- name: a\n  \tpath: /x\n", f"F:3:3: {TAB}"),
            # YAML's own ends of lines, of which Python's "\n" is but one.
            (
                "a: 1\rb: [\r",
                "F:3:1: not valid YAML: expected the node content, but found '<stream end>'",
            ),
            ("a: 1\u2028b: 1\x85\tc: 1\n", f"F:3:1: {TAB}"),
            ("endpoints:\n- path:\t/x\n", f"F:2:8: {TAB_INSIDE}"),
            ("endpoints:\n-\tname: a\n", f"F:2:2: {TAB_INSIDE}"),
            ("log:\t\n  level: info\n", f"F:1:5: {TAB_INSIDE}"),
            ("log:\n  level: info\t# as ever\n", f"F:2:14: {TAB_INSIDE}"),
            ("[" * 5000, "F:1:1: is nested too deeply"),
        ],
    )
    def test_is_one_problem_with_its_place(self, text: str, expected: str) -> None:
        """Where there is no mapping there is nothing else to say."""
        assert problems(text) == [expected]

    def test_aliases_of_aliases_are_bounded(self) -> None:
        """Ten lines cannot become a billion values."""
        levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 10)]
        text = "\n".join(["l0: &l0 [x]", *levels])
        assert [line.split(": ", 1)[1] for line in problems(text)] == ["not valid YAML: too large"]

    def test_text_over_1_mib_is_refused(self) -> None:
        """Nobody's configuration is that large."""
        assert problems("#" * 1_048_577) == ["F: is larger than 1 MiB"]

    def test_aliases_and_merge_keys_work(self) -> None:
        """One endpoint can borrow from another, and its own keys win."""
        text = EVENTS + (
            "endpoints:\n  - &a {name: a, path: /a, source: 'urn:a', timezone: UTC, auth: none}\n"
            "  - {<<: *a, name: b, path: /b}\n  - {name: c, path: /c, <<: [{name: d}, *a]}\n"
        )
        assert [(e.name, e.path, e.source) for e in parse(text).endpoints] == [
            ("a", "/a", "urn:a"),
            ("b", "/b", "urn:a"),
            ("c", "/c", "urn:a"),
        ]


@st.composite
def edited_examples(draw: st.DrawFn) -> str:
    """The example with some stretches replaced by characters that matter to YAML."""
    text = EXAMPLE.read_text(encoding="utf-8")
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(text)))
        end = start + draw(st.integers(0, 40))
        noise = draw(st.text("\n :-#&*!|>'\"%@`{}[],?~<=$a1.\\\t\0é\ufeff", max_size=12))
        text = text[:start] + noise + text[end:]
    return text


@given(text=edited_examples())
@settings(deadline=None, max_examples=150)
def test_nothing_but_a_configuration_error_escapes(text: str) -> None:
    """Whatever was typed, the answer is settings, or problems with a place in the file."""
    for line in problems(text):
        assert re.match(r"F:\d+:\d+: .", line)


class TestLoad:
    """Reading the file itself."""

    def test_reads_a_file(self, tmp_path: Path) -> None:
        """A path may be a text or a Path; problems carry it as given."""
        path = tmp_path / "b.yaml"
        path.write_text(f"log: {{level: loud}}\n{REQUIRED}")
        with pytest.raises(ConfigError, match="must be one of") as caught:
            config.load(str(path), {})
        assert str(caught.value).startswith(f"{path}:1:14: log.level: ")

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("absent", "cannot be read: No such file or directory"),
            (".", "cannot be read: Is a directory"),
            ("latin", "cannot be read: it is not UTF-8 text"),
            ("large", "cannot be read: it is larger than 1 MiB"),
        ],
    )
    def test_unreadable_file_is_one_problem(self, tmp_path: Path, name: str, expected: str) -> None:
        """No place in the file is to blame, so none is named."""
        (tmp_path / "latin").write_bytes(b"a: \xff")
        (tmp_path / "large").write_bytes(b"#" * 1_048_577)
        with pytest.raises(ConfigError) as caught:
            config.load(tmp_path / name, {})
        assert str(caught.value) == f"{tmp_path / name}: {expected}"

    def test_placeholders(self, tmp_path: Path) -> None:
        """Checking without the environment works on files too."""
        path = tmp_path / "b.yaml"
        path.write_text(f"admin: {{port: '${{PORT}}'}}\n{REQUIRED}")
        assert config.load(path, {}, placeholders=True).admin.port == 8081
