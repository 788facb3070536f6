"""A process may open as many files as its connections need, or takes fewer connections and says so."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.rules import ROOT

FIT = """
import resource, sys
from shardraft.config import HostConfig
from shardraft.server.open_files import fit_open_files
from shardraft.server.telemetry import Telemetry, log_to_stderr
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
log_to_stderr("info", "text")
config = fit_open_files(HostConfig(), Telemetry(1))
print(config.limits.connections_max, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""
"""In a process of its own, since a hard limit cannot be raised again."""


@pytest.mark.parametrize(
    ("soft", "hard", "connections_max", "open_files_max"),
    [
        (256, 8192, 4096, 4096 + 64 + 128),
        (8192, 8192, 4096, 8192),
        (256, 512, 512 - 64 - 128, 512),
        (64, 64, 1, 64),
    ],
)
def test_open_files_fit_the_connections(soft: int, hard: int, connections_max: int, open_files_max: int) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", FIT, str(soft), str(hard)], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert ran.stdout.split() == [str(connections_max), str(open_files_max)]
    said = f"few-open-files host=1 open_files_max={open_files_max} connections_max={connections_max}"
    assert (said in ran.stderr) == (connections_max < 4096)
