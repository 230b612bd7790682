"""Kafka's own command line: the commands of pages and of the log, as an operator types them."""

import shlex
import subprocess
from pathlib import Path

from tests.support.maven import JarsUnavailableError, maven_libraries
from tests.support.needs import skipped_without

POM = Path(__file__).parents[1] / "kafka/tools/pom.xml"
# What each of Kafka's shell scripts starts.
CLASSES = {
    "kafka-configs.sh": "org.apache.kafka.tools.ConfigCommand",
    "kafka-topics.sh": "org.apache.kafka.tools.TopicCommand",
}
TIMEOUT_SECONDS = 120.0


def run_tool(command: str, directory: Path | None = None) -> str:
    """Run one of the scripts' commands in a directory, and return what it prints.

    It must succeed.
    """
    script, *arguments = shlex.split(command)
    with skipped_without("tools of Kafka's", JarsUnavailableError):
        jars = maven_libraries("kafka-tools", POM)
    java = ["java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", f"{jars}/*", CLASSES[script]]
    done = subprocess.run(
        [*java, *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
        cwd=directory,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
