"""10: values from outside that get into the log as long as they are."""

from collections.abc import Iterator

from bridge.demo.child import wait_until
from tests.attacks.rig import Row, Target, target
from tests.support.senders import document
from tests.support.wire import Wire, post

LONG = 3_800_000
HEAD = 60_000


def run() -> Iterator[Row]:
    """Every place of a body, and of a head, that a log line may name."""
    z, y = "z" * LONG, "y" * HEAD
    bodies = {
        "an id": document(z),
        "a status": document("1", status=z),
        "a time": document("1").replace(b"2011-01-01 12:57:46", z.encode()),
        "an attribute's name": document("1").replace(b" sms=", f" {z}=".encode()),
        "an attribute's value": document("1").replace(b'sms="read"', f'sms="{z}"'.encode()),
        "a root's name": f"<{z}/>".encode(),
        "an entity's name": f"<response>&{z};</response>".encode(),
        "a child's name": f'<response><state id_sms="1"><{z}/></state></response>'.encode(),
        "an encoding": f'<?xml version="1.0" encoding="{z}"?><response/>'.encode(),
        "a doctype": f"<!DOCTYPE {z}><response/>".encode(),
        "no XML": z.encode(),
    }
    lines = {
        "X-Request-Id": f"X-Request-Id: {y}",
        "Content-Encoding": f"Content-Encoding: {y}",
        "Content-Length": f"Content-Length: {'1' * HEAD}",
        "Transfer-Encoding": f"Transfer-Encoding: {y}",
        "X-Forwarded-For": f"X-Forwarded-For: {y}",
        "traceparent": f"traceparent: {y}",
    }
    requests = {name: post("/open", body) for name, body in bodies.items()}
    requests |= {name: post("/open", document("1"), line) for name, line in lines.items()}
    requests["a path"] = post(f"/{y}", document("1"))
    for name, kafka, frozen in (
        ("Kafka well", {}, False),
        ("Kafka frozen", {"publish_timeout_seconds": 0.5}, True),
        ("no dead-letter topic", {"dead_letter_topic": None}, False),
    ):
        with target(server={"trusted_proxies": ["127.0.0.1"]}, kafka=kafka) as it:
            if frozen:
                it.broker.freeze()
            yield f"the longest log line, {name}", _worst(it, requests)
            it.broker.thaw()


def _worst(it: Target, requests: dict[str, bytes]) -> str:
    longest = {what: _longest(it, data) for what, data in requests.items()}
    worst = sorted(longest.items(), key=lambda pair: -pair[1])
    words = ", ".join(f"{what} {size:,}" for what, size in worst[:4])
    return f"{words}; of {len(worst)} places; the metrics: {len(it.metrics()):,} bytes"


def _longest(it: Target, data: bytes) -> int:
    """Of the lines that a request adds to the log, which a later request's line ends."""
    before = len(it.gateway.output)
    try:
        with Wire(it.public) as wire:
            wire.send(data)
            wire.reply()
    except (OSError, EOFError):
        pass  # refused; what matters is what is logged
    end = f"end-{before}"
    with Wire(it.public) as wire:
        wire.send(post("/open", document("end"), f"X-Request-Id: {end}"))
        wire.reply()

    def written() -> bool:
        came = it.gateway.output[before:]
        return end in came or "log lines dropped" in came  # for the long one before them

    wait_until(written, "the log has the line after it")
    return max(len(line) for line in it.gateway.output[before:].splitlines())
