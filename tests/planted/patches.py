"""A planted bug is a file: a few lines that say what it breaks, then a unified diff against the tree.

::

    Mistake: the follower acknowledges entries before they are durable.
    Breaks: PROTOCOL, "Terms, votes, turns in flight"; section 5.3 with Figure 2 ("persistent state").
    Caught by: promised what is not on its disk | counts as committed but
    World: --hosts 5 --seconds 10 --kinds "shorten reigns,crash leader"

    --- a/shardraft/raft/follower.py
    +++ b/shardraft/raft/follower.py
    @@ ...

*Caught by* holds parts of the sentences with which the simulator may refuse it: anything else that happens
in the patched world is an accident of the patch and proves nothing. *World* is optional: options of
``shardraft sim``. With the two or three kinds of faults that a mistake takes, what is rare becomes frequent.

The diff is applied by its text alone, whatever its line numbers: the lines that a hunk expects must stand
in their file exactly once. So it survives changes elsewhere in the file, and fails loudly when its own
place has changed.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import attrs

from shardraft.sim.options import SimulationOptions

DIRECTORY = Path(__file__).parent
TREE = DIRECTORY.parents[1]
ROOMS = ("shardraft", "router")
"""What a patch may change, and what a patched tree holds."""

_FIELDS = ("Mistake", "Breaks", "Caught by", "World")


class PatchRefused(Exception):
    """A file is no planted bug, or the tree is not the one that it was made for."""


@attrs.frozen
class Hunk:
    """In the file at ``path`` the lines ``before``, wherever they stand, become ``after``."""

    path: str
    before: tuple[str, ...]
    after: tuple[str, ...]


@attrs.frozen
class PlantedBug:
    """One known mistake. ``caught_by``: parts of what the simulator may say of it; ``world``: which one shows it."""

    name: str
    mistake: str
    breaks: str
    caught_by: tuple[str, ...]
    world: str
    hunks: tuple[Hunk, ...]

    def recognizes(self, reason: str) -> bool:
        """Whether a failure for that reason is this mistake, found."""
        return any(part in reason for part in self.caught_by)

    def options(self, seed: int) -> SimulationOptions:
        """The world of ``seed``. Raises ``PatchRefused``."""
        words = shlex.split(self.world)
        given: dict[str, object] = {}
        for option, value in zip(words[::2], words[1::2], strict=True):
            name = option.removeprefix("--")
            if name in ("hosts", "spares", "shards"):
                given[name] = int(value)
            elif name == "seconds":
                given[name] = float(value)
            elif name == "learners":
                given[name] = tuple(int(count) for count in value.split(",") if count != "0")
            elif name == "kinds":
                given[name] = tuple(value.split(","))
            else:
                raise PatchRefused(f"{self.name}: there is no option {option}")
        return SimulationOptions(seed=seed, **given)


def planted_bugs() -> list[PlantedBug]:
    """All of them, in the order of their names."""
    return [read(path) for path in sorted(DIRECTORY.glob("*.patch"))]


def read(path: Path) -> PlantedBug:
    """The bug in a file. Raises ``PatchRefused``."""
    header, mark, diff = path.read_text().partition("\n--- ")
    said = dict.fromkeys(_FIELDS, "")
    for line in header.splitlines():
        name, colon, value = line.partition(":")
        if line and (not colon or name not in said):
            raise PatchRefused(f'{path.name}: "{line}" says nothing known')
        if line:
            said[name] = value.strip()
    missing = [name for name in _FIELDS[:3] if not said[name]]
    if missing or not mark:
        raise PatchRefused(f"{path.name} lacks {', '.join(missing) or 'a diff'}")
    caught_by = tuple(part.strip() for part in said["Caught by"].split("|"))
    hunks = _hunks(mark.lstrip("\n") + diff)
    return PlantedBug(path.stem, said["Mistake"], said["Breaks"], caught_by, said["World"], hunks)


def _hunks(diff: str) -> tuple[Hunk, ...]:
    hunks: list[Hunk] = []
    path, before, after = "", [], []

    def end() -> None:
        if before or after:
            hunks.append(Hunk(path, tuple(before), tuple(after)))
        before.clear()
        after.clear()

    for line in diff.splitlines():
        if line.startswith(("@@ ", "--- ")):
            end()
        elif line.startswith("+++ "):
            path = line.removeprefix("+++ b/")
        else:
            if line[:1] in ("", " ", "-"):
                before.append(line[1:])
            if line[:1] in ("", " ", "+"):
                after.append(line[1:])
    end()
    return tuple(hunks)


def apply(bug: PlantedBug, tree: Path) -> list[Path]:
    """Plant ``bug`` in the files below ``tree``; the files that it changed. Raises ``PatchRefused``."""
    changed: dict[Path, None] = {}
    for hunk in bug.hunks:
        path = tree / hunk.path
        if not path.is_file():
            raise PatchRefused(f"{bug.name}: there is no file {hunk.path}")
        path.write_text(_changed(bug.name, hunk, path.read_text()))
        changed[path] = None
    return list(changed)


def _changed(name: str, hunk: Hunk, text: str) -> str:
    lines, before = text.split("\n"), list(hunk.before)
    places = [place for place in range(len(lines)) if lines[place : place + len(before)] == before]
    if len(places) != 1:
        expected = "\n".join(before)
        raise PatchRefused(f"{name}: these lines stand {len(places)} times in {hunk.path}, not once:\n{expected}")
    lines[places[0] : places[0] + len(before)] = hunk.after
    return "\n".join(lines)
