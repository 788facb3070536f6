"""Configurations follow one another as in etcd-io/raft's data files (its ``confchange/testdata``).

Those files speak of voters (``v``), learners (``l``), removal (``r``) and updates (``u``). What they
call a learner is *staging* here, and a voter that becomes a learner when the joint configuration is
left (``learners_next``) is staging while it is still among the outgoing voters. An update changes
nothing there; here a member is nothing but its replica number and host, so there is nothing to
update. The files also tell what a leader keeps of each replica: from which index on it sends, fixed
when the replica became a member and kept while it stays one.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import attrs
import pytest

from shardraft.errors import Conflict, InvalidArgument, ShardraftError
from shardraft.raft.membership import (
    UNKNOWN,
    Edit,
    EditKind,
    decode_membership,
    encode_membership,
    enter_joint,
    leave_joint,
    simple,
)
from shardraft.types import Membership

ROOT = Path(__file__).resolve().parent.parent.parent
DATA = Path(os.environ.get("SHARDRAFT_CONFORMANCE_DIR", ROOT.parent / "shared" / "conformance"))
FILES = (
    "joint_autoleave",
    "joint_idempotency",
    "joint_learners_next",
    "joint_safety",
    "simple_idempotency",
    "simple_promote_demote",
    "simple_safety",
    "update",
    "zero",
)
KINDS = {"v": EditKind.VOTE, "l": EditKind.STAGE, "r": EditKind.REMOVE}
REFUSALS = {
    "config is already joint": (Conflict, "joint already"),
    "can't leave a non-joint config": (Conflict, "not joint"),
    "can't make a zero-voter config joint": (InvalidArgument, "without voters"),
    "can't apply simple config change in joint config": (Conflict, "has to be left first"),
    "removed all voters": (InvalidArgument, "no voter would remain"),
    "more than one voter changed without entering joint config": (InvalidArgument, "takes a joint configuration"),
}


@attrs.frozen(slots=True)
class Otherwise:
    """A case in which this project chose otherwise: why, and what it answers instead."""

    reason: str
    answer: str


EXCEPTIONS = {
    ("joint_autoleave", "enter-joint autoleave=true v2 v3"): Otherwise(
        "there is no such flag: every joint configuration is left by itself as soon as it is committed",
        "voters=(1 2 3)&&(1)\n1: StateProbe match=0 next=1\n2: StateProbe match=0 next=1\n3: StateProbe match=0 next=1",
    ),
    ("zero", "simple v1 r0 v0 l0"): Otherwise(
        "replica 0 means nobody; whoever asks to change it made a mistake, and is told so instead of being ignored",
        "InvalidArgument: 0 is no replica number",
    ),
}


@attrs.frozen(slots=True)
class Case:
    """One command of a data file with its edits, and its answer."""

    line: int
    command: str
    edits: tuple[str, ...]
    expected: str

    @property
    def name(self) -> str:
        return " ".join([self.command, *self.edits])


def cases_of(text: str) -> list[Case]:
    cases = []
    for found in re.finditer(r"^([a-z][^\n]*)\n((?:[^\n]+\n)?)----\n((?:[^\n]+(?:\n|\Z))*)", text, re.MULTILINE):
        line = text.count("\n", 0, found.start()) + 1
        cases.append(Case(line, found[1].strip(), tuple(found[2].split()), found[3].strip()))
    return cases


class Files:
    """The state that one file's commands act upon: a configuration, and what a leader would keep of its members."""

    def __init__(self) -> None:
        self.membership = UNKNOWN
        self.next_index: dict[int, int] = {}
        self.last_index = 0

    def run(self, case: Case) -> str:
        edits = [Edit(KINDS[text[0]], int(text[1:]), int(text[1:])) for text in case.edits if text[0] != "u"]
        try:
            self.membership = self._changed(case.command.split()[0], edits)
        except ShardraftError as refusal:
            return f"{type(refusal).__name__}: {refusal}"
        finally:
            members = [member.replica for member in self.membership.members]
            self.next_index = {member: self.next_index.get(member, max(self.last_index, 1)) for member in members}
            self.last_index += 1
        assert decode_membership(encode_membership(self.membership)) == self.membership
        return self.show()

    def _changed(self, verb: str, edits: list[Edit]) -> Membership:
        if verb == "leave-joint":
            assert not edits
            return leave_joint(self.membership)
        return {"simple": simple, "enter-joint": enter_joint}[verb](self.membership, edits)

    def show(self) -> str:
        membership = self.membership
        outgoing = membership.voters_outgoing
        learners = [replica for replica in membership.staging if replica not in outgoing]
        learners_next = [replica for replica in membership.staging if replica in outgoing]
        first = f"voters={_listed(membership.voters)}"
        first += f"&&{_listed(outgoing)}" if outgoing else ""
        first += f" learners={_listed(learners)}" if learners else ""
        first += f" learners_next={_listed(learners_next)}" if learners_next else ""
        lines = [
            f"{replica}: StateProbe match=0 next={index}{' learner' if replica in learners else ''}"
            for replica, index in self.next_index.items()
        ]
        return "\n".join([first, *lines])


def _listed(replicas: list[int] | tuple[int, ...]) -> str:
    return f"({' '.join(map(str, replicas))})"


def _load(name: str) -> list[Case]:
    path = DATA / "etcd-raft" / "confchange" / "testdata" / f"{name}.txt"
    if not path.is_file():
        pytest.skip(f"the conformance data is not at {DATA}; set SHARDRAFT_CONFORMANCE_DIR to where it is")
    return cases_of(path.read_text())


@pytest.mark.parametrize("name", FILES)
def test_every_case_gives_the_same_answer(name: str) -> None:
    files = Files()
    cases = _load(name)
    for case in cases:
        answer = files.run(case)
        known = EXCEPTIONS.get((name, case.name))
        expected = case.expected if known is None else known.answer
        if known is None and expected in REFUSALS:
            kind, text = REFUSALS[expected]
            assert answer.startswith(f"{kind.__name__}: "), (case, answer)
            assert text in answer, (case, answer)
        else:
            assert answer == expected, (case, answer)


def test_no_command_of_the_files_is_overlooked() -> None:
    """Each command ends with a line of dashes."""
    for name in FILES:
        cases = _load(name)
        path = DATA / "etcd-raft" / "confchange" / "testdata" / f"{name}.txt"
        assert len(cases) == path.read_text().splitlines().count("----")


def test_there_are_no_more_files() -> None:
    _load(FILES[0])
    folder = DATA / "etcd-raft" / "confchange" / "testdata"
    assert sorted(path.stem for path in folder.glob("*.txt")) == sorted(FILES)


def test_at_most_five_cases_are_exceptions_and_each_of_them_differs() -> None:
    assert len(EXCEPTIONS) <= 5
    for (name, command), known in EXCEPTIONS.items():
        (case,) = [case for case in _load(name) if case.name == command]
        assert case.expected != known.answer
        assert known.reason
