"""How many files the operating system lets this process open, which every connection counts against.

A host that runs out of them could not open its own files any more, and would have to end. So the soft limit is
raised to what ``connections_max`` needs, and where the hard limit is lower than that, ``connections_max`` is lowered.
"""

from __future__ import annotations

import resource
from typing import Final

import attrs

from shardraft.config import HostConfig
from shardraft.server.telemetry import Telemetry

OTHER_FILES_MAX: Final = 128
"""Environments, copies on their way, links to other hosts, the event loop."""


def fit_open_files(config: HostConfig, telemetry: Telemetry) -> HostConfig:
    """``config``, with ``connections_max`` lowered, and a word about it, where the process may not open that many."""
    others = OTHER_FILES_MAX + config.transport.refusals_max
    wanted = config.limits.connections_max + others
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft < wanted:
            connections_max = max(1, soft - others)
            telemetry.warn("few-open-files", open_files_max=soft, connections_max=connections_max)
            return attrs.evolve(config, limits=attrs.evolve(config.limits, connections_max=connections_max))
    return config
