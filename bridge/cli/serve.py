"""The `serve` command: the gateway."""

import errno
import gc
import logging
import os
import resource
from pathlib import Path

import click

from bridge.cli.common import config_option, fail, load_settings


@click.command()
@config_option
def serve(config_file: Path) -> None:
    """Run the gateway."""
    gc.disable()  # until it serves: what is imported now is there to stay
    import structlog
    import uvloop

    from bridge.config.warnings import warnings
    from bridge.gateway import server
    from bridge.observability import logging as logs
    from bridge.observability import tracing
    from bridge.versions import VERSIONS, expat_warning

    settings = load_settings(config_file)
    log_writer = logs.configure(settings.log.level, settings.log.format)
    log = structlog.get_logger(__name__)
    for warning in warnings(settings):
        log.warning(warning.what, **warning.fields)
    if what := expat_warning():
        log.warning(what)
    log.info("starting", **VERSIONS)
    try:
        try:
            uvloop.run(server.serve(settings, tracing.start(os.environ), log_writer))
        finally:
            logging.shutdown()  # the last lines go out before what is said of how it ended
    except OSError as exc:
        fail(_too_few_files() if exc.errno == errno.EMFILE else str(exc))


def _too_few_files() -> str:
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return f"only {allowed} open files are allowed, too few: raise ulimit -n, or LimitNOFILE"
