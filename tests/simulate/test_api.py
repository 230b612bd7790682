"""The simulated API answers as the provider's page has it, and with each fault that it is told."""

import http.client
import json
import re
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner

from bridge.cli.main import main
from bridge.demo.child import free_ports, wait_until
from bridge.simulate import Plan, states
from bridge.simulate.api import NOT_KNOWN, Api, ApiFault
from tests.support.provider import TIME, known

CREDENTIALS = '<security><token value="t"/></security>'


def ask(api: Api | str, path: str, body: str) -> tuple[int, bytes]:
    address = urlsplit(api if isinstance(api, str) else api.url).netloc
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request("POST", path, body.encode())
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def states_of(*ids: str) -> str:
    asked = "".join(f"<id_sms>{i}</id_sms>" for i in ids)
    return f"<request>{CREDENTIALS}<get_state>{asked}</get_state></request>"


def test_it_tells_the_latest_state_of_each_message_in_order() -> None:
    with Api(known(["1", "2"])) as api:
        status, body = ask(api, "/xml/state.php", states_of("2", "9", "1"))
    root = ET.fromstring(body)
    assert (status, root.tag) == (200, "response")
    assert [(e.get("id_sms"), e.get("time"), e.text) for e in root] == [
        ("2", TIME, "deliver"),
        ("9", "", NOT_KNOWN),
        ("1", TIME, "deliver"),
    ]


def test_its_json_form_is_a_list_with_another_name_for_the_time() -> None:
    asked = json.dumps([{"token": "t", "id_sms": 1}, {"token": "t", "id_sms": "02"}])
    with Api(known(["1", "02"])) as api:
        _, body = ask(api, "/json/state.php", asked)
    assert [(s["id_sms"], s["time_change_state"], s["state"]) for s in json.loads(body)] == [
        (1, TIME, "deliver"),
        ("02", TIME, "deliver"),
    ]


def test_its_clock_is_that_of_its_time_zone() -> None:
    with Api({}, timezone="Asia/Kolkata") as api:
        _, xml = ask(api, "/xml/time.php", f"<request>{CREDENTIALS}</request>")
        _, in_json = ask(api, "/json/time.php", '{"token": "t"}')
    for text in (ET.fromstring(xml).findtext("time") or "", json.loads(in_json)["time"]):
        now = datetime.now(ZoneInfo("Asia/Kolkata")).replace(tzinfo=None)
        assert abs((datetime.fromisoformat(text) - now).total_seconds()) < 60


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (states_of("1").replace('"t"', '"wrong"'), 200, "Incorrect login or password"),
        ("<request/>", 400, "Incorrect XML document format"),
        ("nothing", 400, "Incorrect XML document format"),
    ],
)
def test_what_it_refuses(body: str, status: int, said: str) -> None:
    with Api(known(["1"]), token="t") as api:
        answered, error = ask(api, "/xml/state.php", body)
    assert answered == status
    assert ET.fromstring(error).findtext("error") == said


def test_other_paths_are_not_there() -> None:
    with Api({}) as api:
        assert ask(api, "/xml/send.php", states_of("1"))[0] == 404


def test_each_fault_is_for_one_request_in_order() -> None:
    with Api(known(["1"]), faults=[ApiFault.UNAVAILABLE, ApiFault.REDIRECT]) as api:
        statuses = [ask(api, "/xml/state.php", states_of("1"))[0] for _ in range(3)]
    assert statuses == [503, 302, 200]


# --- the command -------------------------------------------------------------------------


def test_simulate_serves_the_api_of_the_messages_that_it_posts(tmp_path: Path) -> None:
    """Whoever receives lists nothing: after its attempts the API still knows them."""
    (port,) = free_ports(1)
    report = tmp_path / "report.json"
    arguments = [
        *("--url", "http://127.0.0.1:1/", "--attempts", "1", "--messages", "5", "--seed", "1"),
        *("--serve-api", f"127.0.0.1:{port}", "--api-fault", "html", "--report", str(report)),
    ]
    command = [sys.executable, "-m", "bridge", "simulate", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        address = re.search(r"(http://127\.0\.0\.1:\d+)/xml", said)
        assert address is not None, said
        wait_until(report.exists, "the end of the attempts")
        expected = list(states(Plan(url="http://x", messages=5, seed=1)))
        body = states_of(*(s.id_sms for s in expected))
        assert b"<!DOCTYPE html>" in ask(address[1], "/xml/state.php", body)[1]
        answer = ask(address[1], "/xml/state.php", body)[1]
        process.send_signal(signal.SIGTERM)
    assert [e.text for e in ET.fromstring(answer)] == [s.status for s in expected]
    assert process.returncode == 1  # no state was acknowledged


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--url or --serve-api"),
        (["--serve-api", "here"], "must be host:port"),
        (["--serve-api", "127.0.0.1:99999"], "must be host:port"),
        (["--serve-api", "127.0.0.1:0", "--api-timezone", "Mars/Olympus"], "not a time zone"),
        (["--serve-api", "127.0.0.1:0", "--api-timezone", "Europe/Kiyv"], '"Europe/Kyiv"?'),
        (["--serve-api", "127.0.0.1:0", "--api-fault", "flood"], "--api-fault"),
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(main, ["simulate", "--messages", "1", *arguments])
    assert done.exit_code == 2
    assert said in done.stderr
