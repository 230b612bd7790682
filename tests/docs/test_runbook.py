"""Every word in code of the runbook is one that the program, Kafka or the chart has.

test_runbook_walk.py provokes each fault, and looks at what the page says to look at.
"""

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.contract.event_schemas import status_schema
from bridge.kafka.causes import CAUSES
from bridge.kafka.supervisor import Timing
from bridge.model import REASONS, Result
from bridge.observability.metrics import RESTART_CAUSES
from bridge.observability.requests import REFUSALS
from tests.config.texts import LEAVES
from tests.docs.runbook import PAGE, ROOT, commands, events, fields, sections, words
from tests.helm.readings import known_metrics
from tests.support.brokers import ExternalKafka
from tests.support.needs import program

WALK = Path(__file__).with_name("test_runbook_walk.py")
# What else stands in code: values that are written so, other programs' words, other pages' names.
OTHER = {
    *("3234", '"3234"', "-", "YYYY-MM-DD HH:MM:SS", ".venv/bin/sms-bridge", "X-Request-Id"),
    *("/readyz", "--tail=-1", "find", "reconcile", "received at", "require", "info", "warning"),
    *("wrong", "missing", "other", '"event": "request"', "producer_byte_rate"),
    "no answer in time",
    *("cannot change while the gateway runs", "traceparent", "id"),
    *("prometheusRule.silentAfter", "resources.limits.memory", "monitoring", "brokers"),
}
LABELS = {*REASONS, *REFUSALS, *CAUSES, *RESTART_CAUSES, *Result}
COMMANDS = re.compile(r"(sms-bridge|kubectl|helm|curl|kafka-[a-z]+\.sh) ")
KAFKA = re.compile(r"[a-z]+(\.[a-z]+){2,}")  # a setting of a topic
# Lines of the log that are provoked by other tests than the walk.
ELSEWHERE = {
    "log lines dropped": "tests/observability/test_log_writer.py",
    "unlisted ids": "tests/gateway/test_unlisted_ids.py",
    "topic not authorized": "tests/kafka/test_supervisor.py",
    "connections with new credentials fail": "tests/kafka/test_new_credentials.py",
}


def settings() -> Iterator[str]:
    """Every key of the configuration, and those of a section by themselves."""
    for place in LEAVES:
        names = [str(step) for step in place if step not in (0, "accepted")]
        for start, end in ((s, e) for e in range(1, len(names) + 1) for s in (0, 1)):
            yield ".".join(names[start:end])


def event_fields() -> set[str]:
    return {*status_schema()["properties"]}


def is_known(word: str) -> bool:
    """Whether somebody has that word: the program, Kafka's settings, or the list of the others."""
    key = re.split("[:…]", word)[0]
    return (
        word in OTHER | LABELS | events() | fields() | event_fields() | known_metrics()
        or any(event.startswith(f"{word};") for event in events())
        or key in settings()
        or (word.endswith("…") and any(each.startswith(key) for each in settings()))
        or COMMANDS.match(word) is not None
        or KAFKA.fullmatch(word) is not None
    )


@pytest.mark.parametrize("section", sections())
def test_every_word_in_code_is_somebody_s(section: str) -> None:
    """An operator greps for it, or types it."""
    assert [word for word in words(section) if not is_known(word)] == []


def test_the_settings_of_topics_are_kafka_s(kafka: ExternalKafka, kafka_topic: str) -> None:
    named = {word for word in words() if KAFKA.fullmatch(word)} - {*settings()} - OTHER
    assert named >= {"min.insync.replicas", "max.message.bytes"}
    assert named <= {*kafka.topic_configuration(kafka_topic)}


def walked() -> set[str]:
    """Every text in the code of the walk."""
    nodes = ast.walk(ast.parse(WALK.read_text("utf-8")))
    constants = [node.value for node in nodes if isinstance(node, ast.Constant)]
    return {value for value in constants if isinstance(value, str)}


def test_every_line_of_the_log_that_is_named_is_provoked() -> None:
    """By the walk, which names it, or by another test that does."""
    named = {word for word in words() for event in events() if event.split(";")[0] == word}
    assert len(named) > 10
    assert {each for each in named if not any(w.startswith(each) for w in walked())} == {*ELSEWHERE}
    for event, test in ELSEWHERE.items():
        assert event in (ROOT / test).read_text("utf-8")


def test_every_command_of_the_program_is_run() -> None:
    """By the walk, whose `run` runs no others; those of `reconcile` one after the other."""
    run = walked()
    own = [each for each in commands() if each.startswith("sms-bridge")]
    assert len(own) > 8
    assert {each for each in own if each not in run} == {
        each for each in own if each.startswith("sms-bridge reconcile")
    }


def test_the_line_that_repeats_does_so_as_often_as_the_page_says() -> None:
    assert f"at least every {Timing().complaint:.0f} seconds" in PAGE


# --- commands of others ------------------------------------------------------------------


@pytest.mark.parametrize("line", [each for each in commands() if each.startswith("kubectl")])
def test_kubectl_has_the_command_and_its_options(line: str, tmp_path: Path) -> None:
    """There is no cluster here: it is understood, and nobody answers at the address."""
    nowhere = tmp_path / "kubeconfig"
    nowhere.write_text("apiVersion: v1\nkind: Config\n")
    kubectl, *arguments = [program("kubectl", "kubernetes-client"), *shlex.split(line)[1:]]
    if arguments[:2] == ["logs", "--previous"]:
        arguments.append("a-pod")
    done = subprocess.run(
        [kubectl, *arguments, "--kubeconfig", str(nowhere), "--server", "http://127.0.0.1:9"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "refused" in done.stderr, done.stderr
