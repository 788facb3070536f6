"""The compiled core takes the same decisions as the source it is made of, and a wheel that holds it works.

``make test-compiled`` runs this file and compiles what changed first; ``make test`` needs no C compiler and does not.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import attrs
import pytest

from shardraft.sim.options import SimulationOptions
from shardraft.sim.run import simulate
from tests.rules import ROOT

TREE = ROOT / "build" / "compiled"
COMPILE_SECONDS_MAX = 1200
WORLDS = (
    SimulationOptions(seed=1, seconds=6),
    SimulationOptions(seed=2, seconds=6, hosts=5, shards=5, spares=1),
    SimulationOptions(seed=3, seconds=6, shards=2, learners=(1, 2), spares=2),
)
"""What is simulated both ways: three hosts, five with members that change, and a tree of learners."""

HASHES = """
import json, sys
from shardraft import build
from shardraft.sim.options import SimulationOptions
from shardraft.sim.run import simulate
assert build() == "compiled"
worlds = [SimulationOptions(**{**world, "learners": tuple(world["learners"])}) for world in json.load(sys.stdin)]
print(json.dumps([simulate(world).trace_hash for world in worlds]))
"""
FROZEN = """
from shardraft.raft.messages import Heartbeat
message = Heartbeat(1, 2, 3, 4, 5, 6)
try:
    message.term = 9
except AttributeError:
    print(message.term)
"""
PICKLED = """
import pickle
from shardraft.sim.options import SimulationOptions
world = SimulationOptions(seed=3, learners=(2, 1))
print(pickle.loads(pickle.dumps(world)) == world)
"""
UNIT_TESTS = (
    *("octets", "raft", "kv", "shards", "learner", "host", "conformance", "wire"),
    *("storage", "formats", "runtime", "transport", "server", "router"),
)


def run(arguments: Sequence[str], given: str = "") -> subprocess.CompletedProcess[str]:
    """A Python program that finds the compiled packages before those of the source tree."""
    environment = {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join((str(TREE), str(ROOT)))}
    return subprocess.run(
        [sys.executable, *arguments],
        input=given,
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=COMPILE_SECONDS_MAX,
    )


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    """Compiles what changed; of several processes that want the tree at once, one makes it and the others wait."""
    made = subprocess.run(
        [sys.executable, "-m", "compiling", str(TREE)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=COMPILE_SECONDS_MAX,
    )
    assert made.returncode == 0, made.stdout + made.stderr


@pytest.mark.slow
def test_worlds_go_the_same_way_compiled() -> None:
    worlds = [
        {"seed": world.seed, "seconds": world.seconds, "hosts": world.hosts, "shards": world.shards}
        | {"learners": world.learners, "spares": world.spares}
        for world in WORLDS
    ]
    ran = run(["-c", HASHES], json.dumps(worlds))
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == [simulate(world).trace_hash for world in WORLDS]
    other = simulate(attrs.evolve(WORLDS[0], seed=99)).trace_hash
    assert other not in json.loads(ran.stdout)


@pytest.mark.slow
def test_the_compiled_rooms_pass_their_tests() -> None:
    tests = [f"tests/{room}" for room in UNIT_TESTS]
    options = ["-q", "-o", "pythonpath=", "-p", "no:cacheprovider", "-m", "not replaces_code"]
    ran = run(["-m", "pytest", *options, *tests])
    assert ran.returncode == 0, ran.stdout[-4000:]
    # A roster that is compiled takes no group of a test's own, so these tests fail, and what passed above was compiled.
    assert run(["-m", "pytest", *options[:-2], "tests/host/test_roster.py"]).returncode == pytest.ExitCode.TESTS_FAILED


def test_frozen_values_stay_frozen() -> None:
    assert run(["-c", FROZEN]).stdout == "2\n"


def test_values_go_from_process_to_process() -> None:
    assert run(["-c", PICKLED]).stdout == "True\n"


@pytest.mark.slow
def test_a_soak_runs_compiled() -> None:
    ran = run(["-m", "tests.sim.soak", "--minutes", "0.02", "--processes", "2", "--first", "1"])
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r" [1-9]\d* seeds, 0 failed", ran.stdout), ran.stdout


@pytest.mark.slow
def test_a_compiled_wheel_is_for_this_platform_and_works(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    environment = {**os.environ, "HATCH_BUILD_HOOKS_ENABLE": "1"}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=COMPILE_SECONDS_MAX)
    (wheel,) = tmp_path.glob("*.whl")
    assert f"cp{sys.version_info.major}{sys.version_info.minor}-" in wheel.name
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    assert _installed(site, "--version").endswith(", compiled\n")
    assert "seed 1" in _installed(site, "sim", "--seed", "1", "--seconds", "2")


def _installed(site: Path, *arguments: str) -> str:
    """What the command says that lies in ``site``, as if it were installed there."""
    program = f"import sys; sys.path.insert(0, {str(site)!r}); from shardraft.cli.main import main; main()"
    command = [sys.executable, "-I", "-c", program, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
