"""Every known mistake has a patch that still fits the product, and the simulator finds it."""

from __future__ import annotations

import shutil
from pathlib import Path

import attrs
import pytest

from shardraft.sim.options import SimulationOptions
from tests.planted.finder import find, load
from tests.planted.patches import TREE, Hunk, PatchRefused, PlantedBug, apply, planted_bugs, read

BUGS = planted_bugs()
NAMES = [bug.name for bug in BUGS]

SEEDS_TRIED = 40
"""After a change of the simulator each seed is another world; most bugs are found within a few."""

KNOWN = {
    "terms and votes": (
        "vote-not-persisted",
        "vote-forgotten-at-start",
        "vote-before-fsync",
        "candidacy-before-fsync",
        "term-not-persisted",
        "two-votes-in-a-term",
        "vote-for-a-shorter-log",
        "pre-vote-raises-the-term",
        "pre-vote-taken-for-a-later-term",
        "early-pre-vote-deposes-a-live-leader",
    ),
    "replication and the commit rule": (
        "ack-before-fsync",
        "leader-counts-itself-early",
        "unmatched-tail-acknowledged",
        "unmatched-tail-committed",
        "committed-entries-truncated",
        "older-term-committed-by-counting",
        "previous-term-unchecked",
        "heartbeat-commits-what-was-not-matched",
    ),
    "members": (
        "two-changes-at-once",
        "change-before-own-commit",
        "staging-voter-counted",
        "joint-majority-of-one-half",
        "configuration-missing-from-copies",
        "configuration-outlives-its-entry",
    ),
    "reads and leases": (
        "stale-read-of-a-deposed-leader",
        "read-before-own-commit",
        "read-outlives-its-term",
        "vote-within-a-lease",
        "lease-from-the-answer",
        "lease-forgotten-at-start",
        "lease-kept-while-handing-over",
        "lease-not-shortened-by-rho",
        "read-joins-an-earlier-round",
    ),
    "log, state and snapshots": (
        "flush-past-what-is-persisted",
        "overwritten-entries-look-persisted",
        "compaction-past-the-flushed-state",
        "applied-index-ahead-of-the-state",
        "applied-index-behind-the-state",
        "replay-past-the-commit-index",
        "vote-lost-with-the-log",
        "log-not-reconciled-at-start",
        "log-reset-before-the-state",
        "wiped-disk-let-in",
        "old-copy-let-in",
    ),
    "sessions and revisions": (
        "sessions-missing-from-copies",
        "no-session-deduplication",
        "highest-sequence-instead-of-a-set",
        "one-revision-per-entry",
    ),
}
"""What PROTOCOL marks as planted, and the mistakes that Raft's papers and other programs' histories warn of."""


def test_every_known_mistake_is_planted() -> None:
    assert sorted(NAMES) == sorted(name for names in KNOWN.values() for name in names)


@pytest.mark.parametrize("bug", BUGS, ids=NAMES)
def test_the_patch_still_fits_the_product(bug: PlantedBug, tmp_path: Path) -> None:
    for path in {hunk.path for hunk in bug.hunks}:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TREE / path, tmp_path / path)
    for path in apply(bug, tmp_path):
        patched = path.read_text()
        assert patched != (TREE / path.relative_to(tmp_path)).read_text()
        compile(patched, str(path), "exec")


@pytest.mark.parametrize("bug", BUGS, ids=NAMES)
def test_the_simulator_finds_it(bug: PlantedBug) -> None:
    found = find(bug, load().get(bug.name), SEEDS_TRIED)
    assert found.seed is not None, (
        f"{bug.name} hides from its kept seed and from {SEEDS_TRIED} others; what they see instead: {found.other};"
        " see how `make planted-bugs` fares, which tries 500"
    )


# What the tool itself must not get wrong.


def harmless(old: str, new: str) -> PlantedBug:
    """A patch of one line that no world can mind."""
    hunk = Hunk("shardraft/raft/quorum.py", (old,), (new,))
    return PlantedBug("harmless", "none.", "nothing.", ("election safety",), "--shards 1 --seconds 1", (hunk,))


DOCSTRING = '    """What the votes that have come in so far decide."""'


def test_a_patch_for_other_lines_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "shardraft" / "raft"
    path.mkdir(parents=True)
    shutil.copy(TREE / "shardraft/raft/quorum.py", path)
    with pytest.raises(PatchRefused, match="stand 0 times"):
        apply(harmless("No such line.", ""), tmp_path)
    with pytest.raises(PatchRefused, match="stand 2 times"):
        apply(harmless("    if not voters:", ""), tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "Mistake: m\nBreaks: b\n\n--- a/x\n+++ b/x\n",
        "Mistake: m\nBreaks: b\nCaught by: c\n",
        "Mistake: m\nBreaks: b\nCaught by: c\nSeed: 5\n\n--- a/x\n+++ b/x\n",
    ],
    ids=["nothing catches it", "nothing is changed", "an unknown line"],
)
def test_a_file_that_does_not_say_what_it_is_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "some.patch"
    path.write_text(text)
    with pytest.raises(PatchRefused):
        read(path)


def test_a_bug_names_the_world_that_shows_it() -> None:
    bug = attrs.evolve(harmless(DOCSTRING, ""), world='--spares 2 --learners 0 --kinds "add member,crash leader"')
    options = bug.options(7)
    assert options == SimulationOptions(seed=7, spares=2, learners=(), kinds=("add member", "crash leader"))
    with pytest.raises(PatchRefused, match="no option --speed"):
        attrs.evolve(bug, world="--speed 3").options(7)


def test_a_patch_that_breaks_nothing_is_not_found() -> None:
    found = find(harmless(DOCSTRING, '    """Who wins."""'), None, seeds_max=2)
    assert (found.seed, found.passed, found.other) == (None, 2, None)


def test_a_crash_is_not_a_find() -> None:
    line = "    quorum = len(voters) // 2 + 1"
    found = find(harmless(line, "    quorum = voters.nothing"), None, seeds_max=1)
    assert (found.seed, found.passed) == (None, 0)
    assert found.other is not None
    assert "AttributeError" in found.other
