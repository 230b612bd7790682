"""A ceiling: the bridge's own server, answering a constant. It parses and publishes nothing."""

import argparse
from functools import partial
from http import HTTPStatus

import uvicorn
from starlette.types import Receive, Scope, Send

from bridge.ack import answer
from bridge.gateway.app import Paths
from bridge.gateway.connections import Connections
from bridge.gateway.http_protocol import HttpProtocol
from bridge.gateway.listeners import BACKLOG
from bridge.gateway.responses import Answer, not_found

HOST = "127.0.0.1"
REPLY = Answer(HTTPStatus.OK, answer(["320000000000001"]))


class Constant:
    """Reads the body to its end and gives the same answer to all."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        del scope
        chunks = []
        more = True
        while more:
            message = await receive()
            chunks.append(message.get("body", b""))
            more = message.get("more_body", False)
        b"".join(chunks)
        await REPLY.send(send, close=False)


def main() -> None:
    """Serve until a signal, with the settings of the bridge's public listener."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.constant", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(
        Paths({"/webhook": Constant()}, default=not_found),
        host=HOST,
        port=parser.parse_args().port,
        backlog=BACKLOG,
        loop="uvloop",
        http=partial(HttpProtocol, connections=Connections()),  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )


if __name__ == "__main__":
    main()
