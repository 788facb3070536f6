"""The rules of the house (ARCHITECTURE), each checked on the whole tree and shown to fail on a bad sample."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import rules
from tests.rules import ROOT, Module

PRODUCT = rules.product()
MODULES = {module.name: module for module in PRODUCT}
TEXTS = {
    str(path.relative_to(ROOT)): path.read_text()
    for folder in ("shardraft", "router", "tests", "examples", "bench", "compiling")
    for path in sorted((ROOT / folder).rglob("*.py"))
}

TOO_LONG: dict[str, str] = {}
"""The exceptions: a file, or file:function, that may be longer than the limits, and why."""

MAY_SLEEP = {
    "tests/eventually.py": "waits for other processes, whose progress nothing here can be woken by",
}


def test_imports_only_point_down() -> None:
    assert [problem for module in PRODUCT for problem in rules.upward_imports(module)] == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("shardraft.raft.log", "from shardraft.kv.commands import Batch"),
        ("shardraft.host.host", "import shardraft.wire.client"),
        ("shardraft.storage.store", "from shardraft.transport import listener"),
        ("shardraft.kv.machine", "def f():\n    from shardraft.learner import feed"),
        ("shardraft.sim.world", "from shardraft_router import open_router"),
        ("shardraft_router.core.route", "from shardraft.wire import framing"),
        ("shardraft_router.client", "from shardraft.host.events import Tick"),
        ("shardraft.learner.feed", "from ..host import events"),
    ],
)
def test_an_import_that_points_up_or_sideways_is_found(name: str, text: str) -> None:
    assert len(rules.upward_imports(Module(name, text))) >= 1


def test_every_room_is_in_the_table() -> None:
    assert {module.room for module in PRODUCT} - {"", "__main__"} <= set(rules.ROOMS)


def test_the_table_of_rooms_has_no_cycle() -> None:
    for room, below in rules.ROOMS.items():
        for other in below - {room}:
            assert room not in rules.ROOMS[other] - {other}, f"{room} and {other} may import each other"


def test_the_core_has_no_clock_entropy_thread_log_or_io() -> None:
    pure = [module for module in PRODUCT if module.room in rules.PURE]
    assert [problem for module in pure for problem in rules.impurities(module)] == []


@pytest.mark.parametrize(
    "text",
    [
        "import time",
        "import logging.handlers",
        "from random import choice",
        "import random\nrandom.shuffle([])",
        "async def f() -> None: ...",
        "open('x')",
        "def f():\n    import trio",
        "from os import urandom",
    ],
)
def test_an_impurity_is_found(text: str) -> None:
    assert len(rules.impurities(Module("shardraft.raft.log", text))) >= 1


def test_a_seeded_generator_is_pure() -> None:
    text = "import random\nfrom random import Random\ndef f(r: random.Random) -> Random: return random.Random(1)"
    assert rules.impurities(Module("shardraft.raft.log", text)) == []


def test_the_simulator_reaches_no_trio_lmdb_or_capnp() -> None:
    starts = [module.name for module in PRODUCT if module.room == "sim"]
    assert starts
    forbidden = {"trio", "lmdb", "capnp", "anyio", "asyncio", "threading"}
    for start in starts:
        assert forbidden & set(rules.reachable(start, MODULES)) == set(), start


def test_an_import_is_followed_through_others() -> None:
    modules = {
        "shardraft": Module("shardraft", "", True),
        "shardraft.sim": Module("shardraft.sim", "from shardraft.host import host", True),
        "shardraft.host": Module("shardraft.host", "", True),
        "shardraft.host.host": Module("shardraft.host.host", "import trio.abc"),
    }
    assert rules.reachable("shardraft.sim", modules)["trio"] == "shardraft.host.host"


def test_the_router_reaches_only_the_rooms_that_a_client_needs() -> None:
    starts = [module.name for module in PRODUCT if module.room in ("router", "router.core")]
    reached = {name for start in starts for name in rules.reachable(start, MODULES)}
    assert "shardraft_router.core.core" in reached
    rooms = {rules.room_of(name) for name in reached if name in MODULES}
    assert rooms <= {"", "types", "errors", "config", "octets", "shards", "kv", "wire", "router", "router.core"}
    assert "lmdb" not in reached


def test_files_and_functions_are_small() -> None:
    found = {name: lines for path, text in TEXTS.items() for name, lines in rules.too_long(path, text)}
    assert {name: lines for name, lines in found.items() if name not in TOO_LONG} == {}
    assert set(TOO_LONG) <= set(found), "an exception that is needed no more"


def test_a_long_file_and_a_long_function_are_found() -> None:
    body = "\n".join("    x = 1" for _ in range(60))
    text = f"class A:\n  def f(self):\n{body}\n" + "\n" * 400
    assert rules.too_long("a.py", text) == [("a.py", 462), ("a.py:A.f", 61)]


def test_no_identifier_holds_a_banned_word() -> None:
    assert [problem for path, text in TEXTS.items() for problem in rules.banned_names(Path(path).stem, text)] == []


@pytest.mark.parametrize(
    "text",
    ["class ShardManager: ...", "def f(host_info): ...", "x.utils = 1", "import a as helpers", "isMaster = 1"],
)
def test_a_banned_word_is_found(text: str) -> None:
    assert len(rules.banned_names("sample", text)) == 1


def test_a_banned_file_name_is_found() -> None:
    assert len(rules.banned_names("log_util", "")) == 1


def test_a_word_that_only_contains_a_banned_one_is_fine() -> None:
    assert rules.banned_names("sample", "mastery = 1\nclass Informed: ...\nlog.info('x')") == []


def test_nothing_catches_everything() -> None:
    assert [problem for path, text in TEXTS.items() for problem in rules.bare_excepts(path, text)] == []


def test_a_bare_except_is_found() -> None:
    assert rules.bare_excepts("a", "try: f()\nexcept: pass") == ["a:2"]


def test_no_test_sleeps() -> None:
    tests = {path: text for path, text in TEXTS.items() if path.startswith("tests/") and path not in MAY_SLEEP}
    assert [problem for path, text in tests.items() for problem in rules.sleeps(path, text)] == []


def test_a_sleep_is_found() -> None:
    assert rules.sleeps("a", "time.sleep(1)\nwaiting = trio.sleep(0.1)\nsleep(2)") == ["a:1", "a:2", "a:3"]


def test_every_package_says_what_it_never_does() -> None:
    assert [problem for module in PRODUCT for problem in rules.silent_packages(module)] == []


def test_a_package_without_that_is_found() -> None:
    assert rules.silent_packages(Module("shardraft.raft", '"""Does things."""', True)) != []


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
    )


def test_the_router_is_importable_where_lmdb_is_not_installed() -> None:
    use = "from shardraft_router import *; open_router('127.0.0.1:1')"
    ran = run_python("-c", f"import sys; sys.modules['lmdb'] = None; {use}")
    assert (ran.returncode, ran.stderr) == (0, "")


def test_blocking_a_module_that_way_does_block_it() -> None:
    ran = run_python("-c", "import sys; sys.modules['lmdb'] = None; import lmdb")
    assert "ModuleNotFoundError" in ran.stderr


@pytest.mark.parametrize("arguments", [("-m", "shardraft", "--version"), ("-c", "import shardraft_router")])
def test_python_without_assertions_is_refused(arguments: tuple[str, ...]) -> None:
    assert run_python(*arguments).returncode == 0
    ran = run_python("-O", *arguments)
    assert ran.returncode != 0
    assert "refuses to run under python -O" in ran.stderr


def test_importing_shardraft_loads_no_event_loop_disk_or_wire() -> None:
    ran = run_python("-c", "import sys, shardraft; print({'trio', 'lmdb', 'capnp'} & set(sys.modules))")
    assert ran.stdout == "set()\n"
