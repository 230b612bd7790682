"""The command that sends a request once more."""

import asyncio

import pytest

from bridge.config.settings import Auth
from bridge.inspector import Target, credentials_of
from bridge.inspector.curl import command
from bridge.inspector.highlight import is_clean
from tests.inspector.observed import OPEN, TOKEN

URL = "http://127.0.0.1:8080"


@pytest.mark.parametrize(
    "body",
    [
        b"<response/>",
        b"it's $HOME `id` \\ \n!x",
        b"@/etc/passwd",
        b"\x00\x1b[201~ rm\n",
        "\u202e".encode(),
        b"<r>\r\n</r>",
        b"\xff" * 300,
        b"x" * 20_000,
        b"-d @x",
    ],
)
async def test_the_command_posts_the_very_bytes(body: bytes) -> None:
    """Run by a shell, with a program in curl's place that says what it was given."""
    line = command(OPEN, URL, body)
    fake = (
        'curl() { for a in "$@"; do [ "$last" = --data-raw ] && printf %s "$a"; '
        '[ "$last" = --data-binary ] && { [ "$a" = @- ] && cat; }; last="$a"; done; }\n'
    )
    shell = await asyncio.create_subprocess_exec(
        "sh", "-c", fake + line, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await shell.communicate()
    assert out == body
    assert is_clean(line.encode())


def test_json_is_posted_as_json() -> None:
    assert "-H 'Content-Type: application/json'" in command(OPEN, URL, b' [{"id_sms": 1}]')
    assert "-H 'Content-Type: text/xml'" in command(OPEN, URL, b"<response/>")


@pytest.mark.parametrize(
    ("auth", "part"),
    [
        (None, "curl -i -H 'Content-Type"),
        (Auth.model_validate({"allow": ["192.0.2.1"]}), "curl -i -H 'Content-Type"),
        (Auth.model_validate({"tokens": [TOKEN]}), "Bearer ${TOKEN:?"),
        (
            Auth.model_validate({"basic": [{"username": "u", "password": TOKEN}]}),
            "${CREDENTIALS:?",
        ),
    ],
)
def test_the_command_asks_for_the_secret_and_does_not_hold_it(auth: Auth | None, part: str) -> None:
    line = command(Target("/webhook", credentials_of(auth)), URL, b"<response/>")
    assert part in line
    assert TOKEN not in line
