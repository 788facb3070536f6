"""``make planted-bugs``: plant every known mistake in a copy of the product, and let the simulator find it.

For each bug it tells the seed that found it and what the simulator said. That seed passes in the product as
it is. Ends with code 1 when a bug hides for ``SEEDS_MAX`` seeds. The seeds that find are kept in
``caught.json``, where the tests look first.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from tests.planted.patches import DIRECTORY, ROOMS, TREE, PlantedBug, apply, planted_bugs

SEEDS_MAX = 500
SAID_MAX = 110
"""Letters of what the simulator said that the list shows."""

WORLD = ("hosts", "spares", "shards", "learners", "seconds", "kinds")
"""What a bug's World line may say."""

KEPT = DIRECTORY / "caught.json"


@attrs.frozen
class Found:
    """What came of a search: the first seed that failed as expected and the simulator's words, or None twice.

    ``passed``: how many seeds noticed nothing. ``other``: the first failure that is not this mistake.
    """

    seed: int | None
    reason: str | None
    passed: int
    other: str | None


@contextlib.contextmanager
def planted(bug: PlantedBug) -> Iterator[Path]:
    """A copy of the product with ``bug`` in it, for as long as the block lasts. Raises ``PatchRefused``."""
    with tempfile.TemporaryDirectory(prefix="planted-") as name:
        tree = Path(name).resolve()
        for room in ROOMS:
            shutil.copytree(TREE / room, tree / room)
        for path in apply(bug, tree):
            # Compiled code is known by its source's time and size, which a patch may leave as they are.
            for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
                compiled.unlink()
        yield tree


def search(bug: PlantedBug, tree: Path, seeds: Sequence[int], processes: int = 1) -> Found:
    """Simulate ``seeds`` in order, with the product in ``tree``, until one of them finds ``bug``."""
    world = attrs.asdict(bug.options(0))
    order = {
        "tree": str(tree),
        "world": {name: world[name] for name in WORLD},
        "seeds": list(seeds),
        "caught_by": bug.caught_by,
        "processes": processes,
    }
    path = os.pathsep.join((str(tree), str(tree / "router")))
    command = [sys.executable, str(DIRECTORY / "seeds.py"), json.dumps(order)]
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return Found(**json.loads(done.stdout))


def passes(bug: PlantedBug, seed: int) -> bool:
    """Whether the product as it is keeps every promise in the world that finds ``bug``."""
    found = search(bug, TREE, [seed])
    return found.passed == 1


def find(bug: PlantedBug, kept: int | None, seeds_max: int = SEEDS_MAX, processes: int = 1) -> Found:
    """Look for ``bug``: at the kept seed first, then from 0 on."""
    with planted(bug) as tree:
        if kept is not None:
            found = search(bug, tree, [kept])
            if found.seed is not None:
                return found
        return search(bug, tree, range(seeds_max), processes)


def load() -> dict[str, int]:
    """The kept seed of each bug that was ever caught."""
    kept: dict[str, int] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    return kept


def save(kept: dict[str, int]) -> None:
    """Keep these seeds."""
    KEPT.write_text(json.dumps(dict(sorted(kept.items())), indent=2) + "\n")


class Finding:
    """The list as it grows."""

    def __init__(self, processes: int, seeds_max: int, afresh: bool) -> None:
        self.hidden: list[str] = []
        self._seeds_max = seeds_max
        self._processes = processes
        self._afresh = afresh
        self._kept = load()

    def look_for(self, bug: PlantedBug) -> None:
        """One line of the list, or several when there is something to complain about."""
        kept = None if self._afresh else self._kept.get(bug.name)
        found = find(bug, kept, self._seeds_max, self._processes)
        if found.other is not None:
            print(f"  {bug.name}: an accident that proves nothing: {found.other}", flush=True)
        if found.seed is None or found.reason is None:
            self.hidden.append(bug.name)
            print(f"{bug.name:34} HIDES for {found.passed} seeds: {bug.mistake}", flush=True)
            return
        if not passes(bug, found.seed):
            self.hidden.append(bug.name)
            print(f"{bug.name:34} seed {found.seed} fails without the bug, too", flush=True)
            return
        self._kept[bug.name] = found.seed
        save(self._kept)
        print(f"{bug.name:34} seed {found.seed:3}  {found.reason.splitlines()[0][:SAID_MAX]}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make planted-bugs", description="Find every known mistake.")
    parser.add_argument("names", nargs="*", help="the bugs to find (default: all)")
    parser.add_argument("--afresh", action="store_true", help="forget the kept seeds and search from seed 0 on")
    parser.add_argument("--seeds", type=int, default=SEEDS_MAX, help="search so many of them (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    bugs = [bug for bug in planted_bugs() if not arguments.names or bug.name in arguments.names]
    finding = Finding(arguments.processes, arguments.seeds, arguments.afresh)
    for bug in bugs:
        finding.look_for(bug)
    print(f"{len(bugs) - len(finding.hidden)} of {len(bugs)} planted bugs are caught")
    return 1 if finding.hidden or not bugs else 0


if __name__ == "__main__":
    sys.exit(main())
