"""The `serve` command: the gateway."""

import errno
import gc
import logging
import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bridge.cli.common import config_option, fail, load_settings
from bridge.config.conflicts import conflicts
from bridge.config.settings import MAX_PROCESSES, Settings, dotted

if TYPE_CHECKING:
    from bridge.observability.log_writer import LogWriter

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

    from bridge.config.warnings import warnings
    from bridge.observability import logging as logs
    from bridge.versions import VERSIONS, expat_warning

    settings = _with(processes, load_settings(config_file))
    log_writer = logs.configure(settings.log.level, settings.log.format)
    if handed is None:
        log = structlog.get_logger(__name__)
        for warning in warnings(settings):
            log.warning(warning.what, **warning.fields)
        if what := expat_warning():
            log.warning(what)
        log.info("starting", **VERSIONS)
    try:
        try:
            status = _run(settings, handed, log_writer)
        finally:
            logging.shutdown()  # the last lines go out before what is said of how it ended
    except OSError as exc:
        fail(_too_few_files() if exc.errno == errno.EMFILE else str(exc))
    sys.exit(status)


def _run(settings: Settings, handed: str | None, log_writer: "LogWriter | None") -> int:
    """Serve in this process, or in several that are this command again; the exit status."""
    import uvloop

    if handed is None and settings.server.processes > 1:
        from bridge.gateway import processes

        # Whichever way this program was started, with the same options of the interpreter.
        again = [sys.executable, *sys.orig_argv[1:], WORKER]
        return uvloop.run(processes.supervise(settings, again, log_writer))
    from bridge.gateway import server
    from bridge.observability import tracing

    if handed is None:
        uvloop.run(server.serve(settings, tracing.start(os.environ), log_writer))
    else:
        from bridge.gateway.worker import Worker

        worker = Worker.of(handed)
        uvloop.run(server.serve(settings, tracing.start(os.environ), log_writer, worker))
    return 0


def _with(processes: int | None, settings: Settings) -> Settings:
    """The settings with so many processes, if that is said; a usage error if they do not fit."""
    if processes is None:
        return settings
    changed = settings.server.model_copy(update={"processes": processes})
    settings = settings.model_copy(update={"server": changed})
    if found := next(conflicts(settings), None):
        raise click.BadParameter(f"{dotted(found.place)}: {found.what}", param_hint="--processes")
    return settings


def _too_few_files() -> str:
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return f"only {allowed} open files are allowed, too few: raise ulimit -n, or LimitNOFILE"
