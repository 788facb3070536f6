"""Messages that no correct replica sends, to every role: refused and noted, no crash, no change of term.

``test_refusals`` has the cells that need a story; here is every message at every role, and noise.
"""

from __future__ import annotations

import random
from itertools import permutations
from typing import Any, get_args

import attrs
import pytest

from shardraft.raft.checks import impossible
from shardraft.raft.core import Raft
from shardraft.raft.entry import Entry, EntryKind, encode_entry
from shardraft.raft.membership import UNKNOWN, encode_membership
from shardraft.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    CommitAdvance,
    Heartbeat,
    HeartbeatReply,
    RaftMessage,
    RequestPreVote,
    RequestPreVoteReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from shardraft.raft.ready import Ready, Refused, Role
from shardraft.types import TERM_MAX, Membership
from tests.raft.cluster import Cluster
from tests.raft.law import SHARD
from tests.raft.test_table import cluster_with, example

MESSAGES = get_args(RaftMessage)
ABOVE = (TERM_MAX + 1, 2**64 - 1)
IMPOSSIBLE_TERMS = (-1, *ABOVE)
NUMBERS = (-(2**63), -1, 0, 1, 2, 3, 4, 7, TERM_MAX - 1, TERM_MAX, TERM_MAX + 1, 2**64 - 1)

FIELDS: dict[type[Any], tuple[str, ...]] = {
    RequestPreVote: ("last_log_index", "last_log_term"),
    RequestPreVoteReply: (),
    RequestVote: ("last_log_index", "last_log_term"),
    RequestVoteReply: (),
    AppendEntries: ("prev_log_index", "prev_log_term", "leader_commit"),
    AppendEntriesReply: ("match_index", "conflict_index", "conflict_term"),
    CommitAdvance: ("commit_index",),
    Heartbeat: ("commit_index", "round"),
    HeartbeatReply: ("round",),
    TimeoutNow: (),
}
"""The indexes, terms and rounds that a message names besides its own term."""


def state_of(raft: Raft) -> tuple[object, ...]:
    log = raft.log
    who = (raft.role, raft.term, raft.voted_for, raft.leader, raft.deadline_us, raft.commit_index)
    return (*who, log.last_index, log.last_term, log.generation, raft.membership)


def check_refused(raft: Raft, message: RaftMessage, now_us: int) -> None:
    before = state_of(raft)
    raft.step(message, now_us)
    ready = raft.take_ready()
    (note,) = ready.notes
    assert isinstance(note, Refused)
    assert note.reason
    assert ready == Ready(notes=ready.notes)
    assert state_of(raft) == before


def test_every_field_that_is_a_number_is_in_the_table() -> None:
    addresses = {"shard", "term", "from_replica", "to_replica"}
    for kind in MESSAGES:
        numbers = {field.name for field in attrs.fields(kind) if field.type in ("Index", "Term", "int")} - addresses
        assert numbers == set(FIELDS[kind])


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("kind", MESSAGES)
def test_a_message_for_or_from_another_address_is_refused(role: Role, kind: type[Any]) -> None:
    """For another replica or shard, from oneself, from nobody."""
    cluster = cluster_with(role)
    message: Any = example(kind, 2)
    for change in ({"to_replica": 2}, {"shard": SHARD + 1}, {"from_replica": 1}, {"from_replica": 0}):
        check_refused(cluster.raft(1), attrs.evolve(message, **change), cluster.now_us)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("kind", MESSAGES)
def test_a_message_of_an_impossible_term_is_refused(role: Role, kind: type[Any]) -> None:
    """Negative, above ``TERM_MAX``, or 0, which nobody leads or campaigns for."""
    cluster = cluster_with(role)
    for term in (*IMPOSSIBLE_TERMS, *((0,) if kind is not RequestPreVoteReply else ())):
        check_refused(cluster.raft(1), attrs.evolve(example(kind, 2), term=term), cluster.now_us)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("kind", MESSAGES)
def test_a_message_that_names_an_impossible_index_term_or_round_is_refused(role: Role, kind: type[Any]) -> None:
    """In its own term, and in a later one that it must not bring about."""
    cluster = cluster_with(role)
    for field in FIELDS[kind]:
        too_high = () if field == "round" else ABOVE
        for value in (-1, *too_high):
            for term in (2, 9):
                check_refused(cluster.raft(1), attrs.evolve(example(kind, term), **{field: value}), cluster.now_us)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x02" + encode_membership(Membership.of({1: 1}))[1:], id="a newer format"),
        pytest.param(encode_membership(Membership.of({1: 1}))[:-1], id="cut short"),
        pytest.param(encode_membership(UNKNOWN), id="without voters"),
    ],
)
@pytest.mark.parametrize("role", [Role.FOLLOWER, Role.PRE_CANDIDATE, Role.CANDIDATE])
def test_a_configuration_that_cannot_be_is_refused_before_it_is_appended(role: Role, payload: bytes) -> None:
    cluster = cluster_with(role)
    entry = encode_entry(SHARD, 1, 1, EntryKind.MEMBERSHIP, 1, payload)
    for term in (2, 9):
        check_refused(cluster.raft(1), AppendEntries(SHARD, term, 2, 1, 0, 0, 0, (entry,)), cluster.now_us)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("kind", MESSAGES)
@pytest.mark.parametrize("term", [1, 2, 5])
def test_the_second_copy_of_a_message_changes_nothing(role: Role, kind: type[Any], term: int) -> None:
    """Whatever the first one did; an order to campaign is of the term before by then."""
    cluster = cluster_with(role)
    raft, message = cluster.raft(1), example(kind, term)
    raft.step(message, cluster.now_us)
    raft.take_ready()
    before = state_of(raft)
    raft.step(message, cluster.now_us)
    assert state_of(raft) == before


def entries(low: int, high: int) -> tuple[Entry, ...]:
    return tuple(encode_entry(SHARD, index, 1, EntryKind.BATCH, index, b"x") for index in range(low, high + 1))


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_messages_in_any_order_leave_a_log_without_gaps(order: tuple[int, ...]) -> None:
    """What does not fit yet is refused in Raft's own way, which tells the leader where to go on."""
    raft = Cluster().raft(2)
    stream = [AppendEntries(SHARD, 1, 1, 2, 2 * n, min(n, 1), 2 * n, entries(2 * n + 1, 2 * n + 2)) for n in range(4)]
    held = 0
    for n in order:
        raft.step(stream[n], 0)
        held = max(held, 2 * n + 2) if 2 * n <= held else held
        assert (raft.log.last_index, raft.term, raft.leader) == (held, 1, 1)
        assert raft.commit_index <= held
    for message in stream:
        raft.step(message, 0)
    assert (raft.log.last_index, raft.commit_index) == (8, 6)
    assert not any(isinstance(note, Refused) for note in raft.take_ready().notes)


def noise(dice: random.Random) -> RaftMessage:
    """Any message with any numbers, half of them addressed rightly."""
    kind = dice.choice(MESSAGES)
    message: RaftMessage = example(kind, dice.choice((0, 1, 2, 2, 2, 3, dice.choice(NUMBERS))))
    changes: dict[str, Any] = {}
    for field in FIELDS[kind]:
        if dice.random() < 0.6:
            changes[field] = dice.choice(NUMBERS)
    if dice.random() < 0.2:
        changes[dice.choice(("from_replica", "to_replica", "shard"))] = dice.choice((0, 1, 2, 3, 99))
    for flag in ("vote_granted", "success", "hint", "transfer"):
        if hasattr(message, flag):
            changes[flag] = dice.random() < 0.5
    if kind is AppendEntries and dice.random() < 0.7:
        changes["entries"] = tuple(some_entry(dice) for _ in range(dice.randrange(4)))
        if changes["entries"] and dice.random() < 0.8:
            changes |= follow(dice, changes["entries"])
    return attrs.evolve(message, **changes)


def some_entry(dice: random.Random) -> Entry:
    payload = dice.choice((b"", b"x", encode_membership(Membership.of({1: 1, 2: 2})), encode_membership(UNKNOWN)))
    return encode_entry(SHARD, dice.randrange(1, 6), dice.randrange(1, 5), dice.choice(list(EntryKind)), 1, payload)


def follow(dice: random.Random, given: tuple[Entry, ...]) -> dict[str, Any]:
    """The same entries as a row that may stand in a log."""
    first, term = dice.randrange(1, 6), dice.randrange(1, 4)
    row = [
        encode_entry(SHARD, first + place, term, EntryKind(entry.kind), 1, entry.payload)
        for place, entry in enumerate(given)
    ]
    previous = dice.randrange(1, term + 1) if first > 1 else 0
    return {"entries": tuple(row), "prev_log_index": first - 1, "prev_log_term": previous}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("seed", range(12))
def test_noise_crashes_nobody_and_what_is_refused_has_no_effect(role: Role, seed: int) -> None:
    """Terms, commit indexes and votes only move as Raft lets them, whoever writes the messages."""
    dice = random.Random(f"{role.value} {seed}")
    cluster = cluster_with(role)
    raft, now_us = cluster.raft(1), cluster.now_us
    for _ in range(300):
        now_us += dice.choice((0, 0, 0, 10_000, 700_000))
        if dice.random() < 0.1:
            raft.tick(now_us)
            raft.take_ready()
        before, term, commit_index, voted_for = state_of(raft), raft.term, raft.commit_index, raft.voted_for
        message = noise(dice)
        raft.step(message, now_us)
        ready = raft.take_ready()
        if impossible(message) is not None:
            assert (state_of(raft), len(ready.notes), ready.write) == (before, 1, None)
        assert term <= raft.term <= TERM_MAX
        assert commit_index <= raft.commit_index <= raft.log.last_index
        assert raft.term > term or voted_for in (0, raft.voted_for)
        if ready.write is not None and dice.random() < 0.9:
            raft.persisted(ready.write)
