"""The README and the examples do what they say: every block of code is run, or the reason why not is here."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import pytest

from shardraft.cli import failures
from shardraft.cli.layout import LOOPBACK, free_ports
from shardraft.config import Limits
from tests.dev_cluster import SHARDRAFT, DevCluster, dev_cluster
from tests.eventually import eventually
from tests.rules import ROOT

README = (ROOT / "README.md").read_text()
NOT_RUN = {
    "pip install .": "installs the package that is being tested; the cluster it then starts is this module's fixture",
    "shardraft member replace --host 3 --by 4 --at 10.0.0.6:7400": "its machines are those of the test about machines",
    "make demo": "the demo is run below; make test is what runs this",
}
BIN = Path(sys.executable).parent


@attrs.frozen
class Block:
    """One fenced block of the README."""

    language: str
    text: str

    @property
    def first_line(self) -> str:
        return self.text.splitlines()[0]

    @property
    def is_server(self) -> bool:
        """Whether it starts a process that stays: those of the section about three machines."""
        return self.text.startswith(("shardraft host", "shardraft learner"))


FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
BLOCKS = [Block(language, text) for language, text in FENCED.findall(README)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """The cluster of the README's first five minutes: fresh, because it says which revision a first write has."""
    with dev_cluster(tmp_path_factory.mktemp("readme")) as running:
        yield running


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the files that the README's commands name."""
    directory = tmp_path_factory.mktemp("desk")
    (directory / "docs").mkdir()
    (directory / "docs" / "guide.md").write_text("# Guide\n")
    (directory / "logo.png").write_bytes(bytes(range(256)))
    return directory


def environment(cluster: DevCluster) -> dict[str, str]:
    return cluster.environment | {"PATH": f"{BIN}:{os.environ['PATH']}"}


def test_every_block_of_the_readme_is_run_or_excused() -> None:
    kinds = {(block.language, block.is_server, block.first_line in NOT_RUN) for block in BLOCKS}
    assert kinds == {("sh", False, True), ("sh", False, False), ("sh", True, False), ("python", False, False)}
    assert set(NOT_RUN) <= {block.first_line for block in BLOCKS}


def test_the_readme_works_from_top_to_bottom(cluster: DevCluster, desk: Path) -> None:
    """In order, because a block may use what an earlier one stored."""
    for block in BLOCKS:
        if block.is_server or block.first_line in NOT_RUN:
            continue
        text = block.text.replace("127.0.0.1:7400", cluster.endpoints[0])
        command = [sys.executable, "-c", text] if block.language == "python" else ["bash", "-euc", text]
        ran = subprocess.run(
            command, cwd=desk, env=environment(cluster), capture_output=True, text=True, timeout=120, check=False
        )
        assert ran.returncode == 0, f"{block.text}\n{ran.stdout}{ran.stderr}"
        if block.language == "python":
            first, second, reading = ran.stdout.splitlines()
            assert (first, second) == ("b'hello'", "1000")
            assert reading.startswith("Reading(")
    assert (desk / "copy.png").read_bytes() == (desk / "logo.png").read_bytes()


def test_the_python_example_is_about_ten_lines() -> None:
    (program,) = [block.text for block in BLOCKS if block.language == "python"]
    assert len([line for line in program.splitlines() if line.strip()]) <= 11


class Machines:
    """The README's machines, 10.0.0.1 and so on, each played by a port of loopback and a directory."""

    def __init__(self, directory: Path, ports: Iterator[int]) -> None:
        self.directory = directory
        self.ports = {number: next(ports) for number in range(1, 7)}

    def on_loopback(self, text: str, number: int) -> list[str]:
        """The words of a command of machine ``number``, with addresses and directory of this machine."""
        text = text.replace("/var/lib/shardraft", str(self.directory / str(number)))
        text = re.sub(r"10\.0\.0\.(\d):7400", lambda found: f"{LOOPBACK}:{self.ports[int(found[1])]}", text)
        return shlex.split(text.replace("\\\n", " "))[1:]

    def endpoint(self, number: int) -> str:
        return f"{LOOPBACK}:{self.ports[number]}"


@contextmanager
def process(arguments: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that stays until the end of the body, and then stops gracefully."""
    with open(log, "wb") as output:
        running = subprocess.Popen([*SHARDRAFT, *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 0, log.read_text()


def test_three_machines_make_a_cluster_two_more_follow_it_and_one_joins(tmp_path: Path) -> None:
    machines = Machines(tmp_path, free_ports(()))
    servers = [block.text for block in BLOCKS if block.is_server]
    assert len(servers) == 6
    hosts = ",".join(machines.endpoint(number) for number in (1, 2, 3))

    def shardraft(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*SHARDRAFT, *arguments, "--endpoint", hosts], capture_output=True, text=True, timeout=60, check=False
        )

    with ExitStack() as running:
        for number, text in enumerate(servers, start=1):
            arguments = machines.on_loopback(text, number)
            running.enter_context(process(arguments, tmp_path / f"{number}.log"))
        assert shardraft("put", "k", "v", "--timeout", "30").returncode == 0

        def followed() -> bool:
            ran = shardraft("get", "k", "--stale", "--json")
            return ran.returncode == 0 and '"tier": 2' in ran.stdout

        eventually(followed)
        (replace,) = [block.text for block in BLOCKS if block.text.startswith("shardraft member")]
        ran = shardraft(*machines.on_loopback(replace, 6))
        assert ran.returncode == 0, ran.stderr
        assert "host 4 replaces host 3" in ran.stdout


def test_the_exit_codes_of_the_readme_are_those_of_the_program() -> None:
    table = dict(re.findall(r"^\| (\d) \| (\w+)", README, re.MULTILINE))
    assert table == {
        "0": "done",
        str(failures.EXIT_REFUSED): "refused",
        str(failures.EXIT_USAGE): "usage",
        str(failures.EXIT_UNAVAILABLE): "unavailable",
        str(failures.EXIT_UNKNOWN): "outcome",
    }


def test_the_limits_of_the_readme_are_those_of_the_program() -> None:
    limits = Limits()
    assert f"| key | 1 to {limits.key_bytes_max} bytes |" in README
    assert f"| value | {limits.value_bytes_max >> 20} MiB |" in README
    assert f"{limits.batch_operations_max:,} operations, {limits.batch_bytes_max >> 20} MiB" in README
    assert f"{limits.deadline_ms_max // 1000} s, 10 s by default" in README
    assert limits.session_timeout_ms == 3_600_000
    assert "one hour since the session was last used" in README
    assert f"| log kept per shard | {limits.log_bytes_max >> 20} MiB" in README
    held = f"follower that was heard within {limits.log_hold_ms_max // 1000} s | {limits.log_held_bytes_max >> 30} GiB"
    assert f"| log held per shard for a {held} |" in README
    assert f"| log kept per host | {limits.host_log_bytes_max >> 30} GiB" in README
    copies = f"{limits.copies_max} at once, {limits.copy_bytes_per_second_max >> 20} MiB/s together"
    assert f"| full copies sent by one host | {copies} |" in README
    assert f"| children of one host or learner | {limits.children_max} |" in README


def test_every_target_that_the_readme_names_is_in_the_makefile() -> None:
    named = set(re.findall(r"`?make ([a-z-]+)`?", README))
    assert named >= {"demo", "test", "check", "bench-puts"}
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in named)


def test_every_file_that_the_documents_name_exists() -> None:
    for document in (ROOT / "README.md", ROOT / "shardraft" / "ARCHITECTURE.md"):
        for name in re.findall(r"`([\w/.]+\.(?:py|md|capnp)|LICENSE)`", document.read_text()):
            assert (ROOT / name).exists() or (ROOT / "shardraft" / name).exists(), f"{document.name}: {name}"


def test_every_room_is_on_the_map_of_the_architecture() -> None:
    text = (ROOT / "shardraft" / "ARCHITECTURE.md").read_text()
    rooms = [path.parent.name for path in (ROOT / "shardraft").glob("*/__init__.py")]
    assert [room for room in rooms if f"| `{room}` |" not in text] == []


def test_the_counter_example_counts(cluster: DevCluster) -> None:
    ran = subprocess.run(
        [sys.executable, "examples/counter.py", ",".join(cluster.endpoints)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("200 increments in ")


@pytest.mark.slow
def test_reads_from_the_tree_are_answered_by_learners_alone() -> None:
    ran = subprocess.run(
        [sys.executable, "examples/read_tree.py"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    rows = re.findall(r"│ [\d.:]+ │ +(\d) │ +([\d,]+) / [\d.]+ │ +([\d,]+) / [\d.]+ │", ran.stdout)
    assert [tier for tier, _, _ in rows] == ["0"] * 3 + ["1"] * 2 + ["2"] * 4
    assert all(from_leaders == "0" for tier, from_leaders, _ in rows if tier != "0")
    assert all(from_tree == "0" for tier, _, from_tree in rows if tier == "0")
    assert re.search(r"joined and answered [1-9]\d* of 500 reads", ran.stdout)


@pytest.mark.slow
def test_the_demo_loses_a_host_and_nothing_else() -> None:
    ran = subprocess.run(
        [sys.executable, "examples/demo.py"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    said = " ".join(ran.stdout.split())
    assert re.search(r"acknowledged writes lost │ 0 │", said)
    assert re.search(r"killed with SIGKILL │ host \d", said)
    assert re.search(r"longest gap without a successful │ \d+\.\d\d s, on the worst of 8 shards │", said)
    assert "the cluster stopped cleanly" in said


@pytest.mark.slow
def test_the_bench_reads_back_all_that_it_wrote(cluster: DevCluster) -> None:
    ran = subprocess.run(
        [sys.executable, "bench/puts.py", "--seconds", "0.3", "--endpoint", cluster.endpoints[0], "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    rows = json.loads(ran.stdout)
    assert [row["loop"] for row in rows] == ["trio"] * 4 + ["asyncio"] * 4
    assert all(row["wrong"] == 0 and row["read_back"] >= row["puts"] > 0 for row in rows)
