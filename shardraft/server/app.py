"""One process of a cluster as a program: options in, exit code out."""

from __future__ import annotations

import sys
from typing import Final

import attrs
import trio

from shardraft.errors import InvalidArgument, StorageError
from shardraft.server.open_files import fit_open_files
from shardraft.server.options import ServerOptions
from shardraft.server.process import PortRefused, Process
from shardraft.server.telemetry import Telemetry, log_to_stderr
from shardraft.transport.sockets import check_listen_address

EXIT_REFUSED: Final = 1
EXIT_USAGE: Final = 2
_SWITCH_SECONDS: Final = 0.0005
"""How long a disk thread may keep the loop from running Python; the interpreter's own default is ten times that."""


def run(options: ServerOptions) -> int:
    """Run a voter host (``options.peers``) or a learner (``options.parents``) until it is stopped.

    Returns the process's exit code: 0 after a graceful stop, 1 when its disk, data or port failed it, 2 when
    the options make no sense, 128 and the signal's number when a second signal cut the stop short. The reason
    is one line on standard error.
    """
    log_to_stderr(options.log_level, options.log_format)
    sys.setswitchinterval(_SWITCH_SECONDS)
    telemetry = Telemetry(options.host)
    try:
        check_listen_address(options.listen.host, insecure=options.insecure)
    except InvalidArgument as error:
        telemetry.fail(error)
        return EXIT_USAGE
    exit_code = EXIT_REFUSED
    try:
        options = attrs.evolve(options, config=fit_open_files(options.config, telemetry))
        exit_code = trio.run(Process(options, telemetry).run)
    except* (StorageError, PortRefused) as errors:
        telemetry.fail(_leaf(errors))
    return exit_code


def _leaf(error: BaseException) -> BaseException:
    """The first error inside groups of groups: each nursery on its way wrapped it once more."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
