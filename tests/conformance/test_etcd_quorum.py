"""The quorum arithmetic gives the answers of etcd-io/raft's data files (its ``quorum/testdata``).

The files are found through ``SHARDRAFT_CONFORMANCE_DIR`` (default ``../shared/conformance`` beside
the repository). Ids are given their numbers in the order in which the configurations name them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import attrs
import pytest

from shardraft.raft.quorum import VoteResult, majority_index, majority_vote, quorum_index, quorum_vote
from shardraft.types import INTEGER_MAX

ROOT = Path(__file__).resolve().parent.parent.parent
DATA = Path(os.environ.get("SHARDRAFT_CONFORMANCE_DIR", ROOT.parent / "shared" / "conformance"))
FILES = ("majority_commit", "majority_vote", "joint_commit", "joint_vote")
RESULTS = {"VoteWon": VoteResult.WON, "VoteLost": VoteResult.LOST, "VotePending": VoteResult.PENDING}


@attrs.frozen(slots=True)
class Case:
    """One command of a data file and the last line of its answer."""

    line: int
    verb: str
    voters: tuple[int, ...]
    voters_outgoing: tuple[int, ...] | None
    given: tuple[str, ...]
    expected: str

    def assign(self) -> dict[int, str]:
        """Which voter each given value belongs to; ``_`` means that nothing is known of it."""
        ids = list(dict.fromkeys((*self.voters, *(self.voters_outgoing or ()))))
        return {voter: value for voter, value in zip(ids, self.given, strict=False) if value != "_"}


def _list(text: str, name: str) -> tuple[str, ...] | None:
    found = re.search(rf"\b{name}=(zero|\(([^)]*)\))", text)
    if found is None:
        return None
    return tuple(item.strip() for item in (found.group(2) or "").split(",") if item.strip())


def _cases(path: Path) -> list[Case]:
    lines = path.read_text().splitlines()
    cases = []
    for number, line in enumerate(lines):
        if line != "----":
            continue
        command = lines[number - 1]
        answer = number + 1
        while answer + 1 < len(lines) and lines[answer + 1].strip():
            answer += 1
        outgoing = _list(command, "cfgj")
        cases.append(
            Case(
                number,
                command.split()[0],
                tuple(map(int, _list(command, "cfg") or ())),
                None if outgoing is None else tuple(map(int, outgoing)),
                _list(command, "idx") or _list(command, "votes") or (),
                lines[answer].strip(),
            )
        )
    return cases


def _load(name: str) -> list[Case]:
    path = DATA / "etcd-raft" / "quorum" / "testdata" / f"{name}.txt"
    if not path.is_file():
        pytest.skip(f"the conformance data is not at {DATA}; set SHARDRAFT_CONFORMANCE_DIR to where it is")
    return _cases(path)


@pytest.mark.parametrize("name", FILES)
def test_every_case_gives_the_same_answer(name: str) -> None:
    cases = _load(name)
    assert len(cases) >= 13
    for case in cases:
        if case.verb == "committed":
            _check_committed(case)
        else:
            assert case.verb == "vote"
            _check_vote(case)


def _check_committed(case: Case) -> None:
    reached = {voter: int(value) for voter, value in case.assign().items()}
    expected = INTEGER_MAX if case.expected.endswith("∞") else int(case.expected)
    outgoing = case.voters_outgoing or ()
    assert quorum_index(case.voters, outgoing, reached) == expected, case
    assert quorum_index(outgoing, case.voters, reached) == expected, f"the halves are not alike: {case}"
    if not outgoing:
        assert majority_index(case.voters, reached) == expected, case
        assert quorum_index(case.voters, case.voters, reached) == expected, f"joint with itself: {case}"


def _check_vote(case: Case) -> None:
    votes = {voter: value == "y" for voter, value in case.assign().items()}
    expected = RESULTS[case.expected]
    outgoing = case.voters_outgoing or ()
    assert quorum_vote(case.voters, outgoing, votes) is expected, case
    assert quorum_vote(outgoing, case.voters, votes) is expected, f"the halves are not alike: {case}"
    if not outgoing:
        assert majority_vote(case.voters, votes) is expected, case
        assert quorum_vote(case.voters, case.voters, votes) is expected, f"joint with itself: {case}"
