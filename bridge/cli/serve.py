"""The `serve` command: the gateway."""

import errno
import gc
import logging
import os
import resource
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click

from bridge.cli.common import config_option, fail, loaded
from bridge.config.conflicts import conflicts
from bridge.config.settings import MAX_PROCESSES, Settings, dotted
from bridge.errors import BridgeError
from bridge.interrupts import interruptible

WORKER = "--worker"


@click.command()
@config_option
@click.option(
    "--processes",
    type=click.IntRange(1, MAX_PROCESSES),
    help="How many processes share the port, whatever server.processes says.",
)
@click.option(WORKER, "handed", hidden=True, help="What the parent process hands down.")
def serve(config_file: Path, processes: int | None, handed: str | None) -> None:
    """Run the gateway."""
    gc.disable()  # until it serves: what is imported now is there to stay
    import structlog
    import uvloop

    from bridge.config.file import ConfigFile
    from bridge.config.warnings import warnings
    from bridge.gateway import server
    from bridge.observability import logging as logs
    from bridge.observability import tracing
    from bridge.versions import VERSIONS, expat_warning

    worker = None
    if handed is not None:
        from bridge.gateway.worker import Worker

        worker = Worker.of(handed)
    given = worker.files if worker is not None else {}
    file = ConfigFile(config_file, os.environ, partial(_with, config_file, processes), given)
    try:
        settings = loaded(config_file, file.load)
    except BridgeError as exc:
        raise click.BadParameter(str(exc), param_hint="--processes") from exc
    log_writer = logs.configure(settings.log.level, settings.log.format)
    if worker is None:
        log = structlog.get_logger(__name__)
        for warning in warnings(settings):
            log.warning(warning.what, **warning.fields)
        if what := expat_warning():
            log.warning(what)
        log.info("starting", **VERSIONS)
    try:
        with ExitStack() as stack:
            # The last lines go out before what is said of how it ended.
            stack.callback(logging.shutdown)
            stack.enter_context(interruptible())
            if worker is not None:
                spans = tracing.start(os.environ)
                uvloop.run(server.serve(settings, spans, log_writer, file, worker))
            elif settings.server.processes > 1:
                from bridge.gateway import processes as several

                # Whichever way this program was started, with the same options of the interpreter.
                again = [sys.executable, *sys.orig_argv[1:], WORKER]
                sys.exit(uvloop.run(several.supervise(settings, again, log_writer, file)))
            else:
                uvloop.run(server.serve(settings, tracing.start(os.environ), log_writer, file))
    except OSError as exc:
        fail(_too_few_files() if exc.errno == errno.EMFILE else str(exc))


def _with(config_file: Path, processes: int | None, settings: Settings) -> Settings:
    """The settings with so many processes, if that is said.

    Raises BridgeError if they do not fit: at the start that is wrong usage, later a reload refused.
    """
    if processes is None:
        return settings
    changed = settings.server.model_copy(update={"processes": processes})
    settings = settings.model_copy(update={"server": changed})
    if found := next(conflicts(settings), None):
        what = f"{dotted(found.place)}: {found.what}, and --processes is {processes}"
        raise BridgeError(f"{config_file}: {what}")
    return settings


def _too_few_files() -> str:
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return f"only {allowed} open files are allowed, too few: raise ulimit -n, or LimitNOFILE"
