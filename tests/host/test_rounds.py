"""Rounds between hosts: who rests on them, what wakes a group, and what counts for nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import attrs
import pytest

from shardraft.config import HostConfig, RaftConfig
from shardraft.host.events import PeerConnected, PeerDisconnected, PeerFrameReceived
from shardraft.host.messages import ROUND_CHANGES_MAX, PeerMessage, Round, RoundReply
from shardraft.kv.requests import Consistency, ReadReply
from shardraft.raft.contact import Contact, Place
from shardraft.raft.messages import Heartbeat
from shardraft.raft.ready import BecameLeader, Campaigned, Refused, Role
from shardraft.types import INTEGER_MAX
from tests.host.cluster import Cluster, Process
from tests.host.test_host import SHARD, follower_of, put, read

HANDED_BACK_SECONDS = RaftConfig().preferred_after_ms / 1000 + 0.5
"""After this a preferred replica that lives leads again; until then its group does not rest."""


class Wire(Cluster):
    """A cluster that counts what is sent and loses what it is told to."""

    def __init__(self, shards: int = 2, config: HostConfig | None = None) -> None:
        super().__init__(shards=shards, config=config)
        self.sent: Counter[type] = Counter()
        self.last: dict[type, tuple[Process, int, PeerMessage]] = {}
        self.answers: list[tuple[int, int, RoundReply]] = []
        self.lost: set[type] = set()
        self.isolated: set[int] = set()
        self.frames: Counter[tuple[int, int]] = Counter()

    def _send(self, process: Process, messages: tuple[tuple[int, tuple[object, ...]], ...]) -> None:
        own = process.host.host
        passed = []
        for host, of_host in messages:
            self.frames[own, host] += 1
            self.sent.update(type(message) for message in of_host)
            self.last.update({type(message): (process, host, message) for message in of_host})  # type: ignore[misc]
            self.answers += [(own, host, message) for message in of_host if isinstance(message, RoundReply)]
            kept = tuple(message for message in of_host if type(message) not in self.lost)
            if kept and own not in self.isolated and host not in self.isolated:
                passed.append((host, kept))
        super()._send(process, tuple(passed))

    def give(self, process: Process, sender: int, *messages: PeerMessage) -> None:
        process.host.step(PeerFrameReceived(self.now_us, sender, messages))
        self.settle()

    def notes_of(self, *kinds: type) -> list[object]:
        return [note for process in self.processes.values() for note in process.notes if isinstance(note, kinds)]

    def forget(self) -> None:
        self.sent.clear()
        for process in self.processes.values():
            process.notes.clear()


@pytest.fixture
def cluster() -> Wire:
    cluster = Wire()
    cluster.run(3)
    cluster.forget()
    return cluster


def rests(process: Process, shard: int = SHARD) -> bool:
    raft = process.host.voters[shard].raft
    return raft.leading.rest.resting if raft.leading is not None else raft.resting_on is not None


def all_rest(processes: Iterable[Process]) -> bool:
    return all(rests(process, shard) for process in processes for shard in process.host.voters)


def test_idle_groups_send_rounds_of_their_hosts_and_nothing_else(cluster: Wire) -> None:
    cluster.run(10)
    assert set(cluster.sent) == {Round, RoundReply}
    assert cluster.sent[Round] == cluster.sent[RoundReply]
    pairs = 2 * len({process.host.host for process in cluster.processes.values() if process.host.leads()})
    assert cluster.sent[Round] <= pairs * 10 * 20 + pairs
    assert all_rest(cluster.processes.values())
    assert cluster.notes_of(Campaigned) == []


def test_a_hundred_idle_groups_cost_as_many_messages_as_two() -> None:
    cluster = Wire(shards=100)
    cluster.run(3)
    cluster.forget()
    cluster.run(5)
    assert set(cluster.sent) == {Round, RoundReply}
    assert cluster.sent[Round] <= 6 * (5 * 10 + 1)


def test_a_write_wakes_its_group_and_it_rests_again(cluster: Wire) -> None:
    leader = cluster.leader_of(SHARD)
    put(cluster, leader, 1, b"k")
    cluster.settle()
    assert cluster.reply_to(leader, 1) is not None
    assert not rests(leader)
    cluster.run(0.5)
    assert all_rest(cluster.processes.values())


def test_two_hosts_that_follow_each_other_exchange_one_frame_each_way_between_two_rounds(cluster: Wire) -> None:
    cluster.run(2)
    cluster.forget()
    cluster.frames.clear()
    cluster.run(1)
    rounds = 1000 // (RaftConfig().election_timeout_ms // 3)
    follow_each_other = [pair for pair, count in cluster.frames.items() if count]
    assert follow_each_other
    assert max(cluster.frames.values()) <= rounds + 2
    assert cluster.sent[RoundReply] >= cluster.sent[Round] - len(follow_each_other), "and every round is answered"


@pytest.mark.parametrize(
    ("heartbeat_ms", "round_ms"),
    [(50, 166), (166, 166)],
    ids=["a third of the election timeout", "no more often than heartbeats"],
)
def test_how_far_rounds_lie_apart(heartbeat_ms: int, round_ms: int) -> None:
    config = HostConfig(raft=RaftConfig(heartbeat_ms=heartbeat_ms, election_timeout_ms=500))
    cluster = Wire(config=config)
    cluster.run(HANDED_BACK_SECONDS)
    cluster.frames.clear()
    cluster.run(3)
    assert all_rest(cluster.processes.values())
    assert 3000 // round_ms - 3 <= max(cluster.frames.values()) <= 3000 // round_ms + 3


def test_a_linearizable_read_sends_a_round_of_the_groups_own(cluster: Wire) -> None:
    leader = cluster.leader_of(SHARD)
    cluster.lost.add(Heartbeat)
    read(leader, cluster, 1, b"k", Consistency.LINEARIZABLE)
    cluster.run(0.3)
    assert cluster.sent[Heartbeat] > 0
    assert cluster.reply_to(leader, 1) is None, "a round between hosts proves nothing about a group"
    cluster.lost.clear()
    cluster.run(0.2)
    assert isinstance(cluster.reply_to(leader, 1), ReadReply)


def test_with_leases_on_no_group_rests() -> None:
    cluster = Wire(config=HostConfig(raft=RaftConfig(lease_ms=300)))
    cluster.run(3)
    assert cluster.sent[Round] == 0
    assert cluster.sent[Heartbeat] > 0


def test_when_a_host_falls_silent_each_of_its_groups_is_led_again_and_nobody_votes_when_it_returns() -> None:
    cluster = Wire(shards=60)
    cluster.run(3)
    dead = cluster.leader_of(SHARD)
    led = set(dead.host.leads())
    cluster.forget()
    cluster.isolated.add(dead.host.host)
    cluster.run(3)
    assert not dead.host.leads(), "check-quorum ends the office of those that rested, too"
    won = [note.shard for note in cluster.notes_of(BecameLeader) if isinstance(note, BecameLeader)]
    assert set(won) == led
    assert len(won) <= 2 * len(led)
    alive = [process for process in cluster.processes.values() if process is not dead]
    assert all_rest(alive), "they rest without the dead host"
    cluster.forget()
    cluster.isolated.clear()
    for process in alive:
        process.host.step(PeerConnected(cluster.now_us, dead.host.host))
        dead.host.step(PeerConnected(cluster.now_us, process.host.host))
    cluster.run(3)
    assert cluster.notes_of(BecameLeader) == []
    cluster.run(HANDED_BACK_SECONDS)
    assert set(dead.host.leads()) == led, "what it should lead is handed back to it, without a vote against anybody"
    assert all_rest(cluster.processes.values())


def test_a_closed_connection_lets_followers_that_rest_ask_early(cluster: Wire) -> None:
    leader = cluster.leader_of(SHARD)
    host = leader.host.host
    cluster.isolated.add(host)
    for process in cluster.processes.values():
        if process is not leader:
            process.host.step(PeerDisconnected(cluster.now_us, host))
    cluster.run(0.1)
    assert cluster.leader_of(SHARD) is not leader


def test_a_host_that_comes_back_unnoticed_wakes_its_leaders_by_asking(cluster: Wire) -> None:
    leader = cluster.leader_of(SHARD)
    lost = follower_of(cluster)
    cluster.isolated.add(lost.host.host)
    cluster.run(3)
    cluster.isolated.clear()
    cluster.forget()
    cluster.run(3)
    assert cluster.leader_of(SHARD) is leader
    assert cluster.notes_of(BecameLeader) == []
    cluster.run(HANDED_BACK_SECONDS)
    assert all_rest(cluster.processes.values())


def test_a_follower_that_restarted_is_excepted_until_it_heard_its_leader(cluster: Wire) -> None:
    leader, follower = cluster.leader_of(SHARD), follower_of(cluster)
    follower.start(cluster.now_us)
    cluster.run(1)
    assert cluster.sent[Heartbeat] > 0, "the exception woke the leader"
    assert cluster.leader_of(SHARD) is leader
    assert [note for note in cluster.notes_of(Campaigned) if isinstance(note, Campaigned) and note.shard == SHARD] == []
    cluster.run(HANDED_BACK_SECONDS)
    assert all_rest(cluster.processes.values())


def test_a_leader_that_restarted_counts_on_above_its_former_rounds(cluster: Wire) -> None:
    leader = cluster.leader_of(SHARD)
    host = leader.host.host
    listeners = [process for process in cluster.processes.values() if process is not leader]
    before = [process.host.rounds._peer(host).heard for process in listeners]
    leader.start(cluster.now_us)
    cluster.run(4)
    assert all_rest(cluster.processes.values())
    target = listeners[0].host.host
    first = Round(leader.host.rounds._peer(target).sent + 1, 1, 0)
    assert all(first.number > number for number in before)


def test_a_change_of_the_list_that_is_lost_is_told_again(cluster: Wire) -> None:
    leader = cluster.leader_of(SHARD)
    put(cluster, leader, 1, b"k")
    cluster.lost.add(Round)
    cluster.run(0.3)
    assert rests(leader)
    cluster.lost.clear()
    cluster.run(0.1)
    assert all_rest(cluster.processes.values())
    assert cluster.notes_of(Campaigned) == []


def test_lost_answers_change_nothing_but_the_groups_wake(cluster: Wire) -> None:
    leader = cluster.leader_of(SHARD)
    cluster.lost.add(RoundReply)
    cluster.run(0.8)
    assert cluster.sent[Heartbeat] > 0
    assert cluster.leader_of(SHARD) is leader
    assert cluster.notes_of(Campaigned) == []


def test_rounds_of_a_stale_leader_are_excepted_after_a_higher_term(cluster: Wire) -> None:
    stale = cluster.leader_of(SHARD)
    _, _, message = cluster.last[Round]
    assert isinstance(message, Round)
    follower = follower_of(cluster)
    raft = follower.host.voters[SHARD].raft
    place = Place(SHARD, raft.term, raft.leader, raft.replica)
    raft.become_follower(raft.term + 1, 0, "a later term was seen")
    peer = follower.host.rounds._peer(stale.host.host)
    number = peer.heard + 1
    cluster.lost.add(Heartbeat)
    cluster.give(follower, stale.host.host, Round(number, peer.version, 0, (place,)))
    assert peer.contact.left == {SHARD}
    assert not rests(follower)


def test_a_leader_whose_follower_saw_a_higher_term_gives_way(cluster: Wire) -> None:
    stale, follower = cluster.leader_of(SHARD), follower_of(cluster)
    raft = follower.host.voters[SHARD].raft
    term = raft.term
    raft.become_follower(term + 1, 0, "a later term was seen")
    follower.host.touch(follower.host.voters[SHARD])
    cluster.run(0.1)
    assert stale.host.voters[SHARD].raft.term > term, "the exception made it ask, and the answer deposed it"


def test_a_round_twice_or_overtaken_counts_for_nothing(cluster: Wire) -> None:
    _, receiver, message = cluster.last[Round]
    assert isinstance(message, Round)
    process = cluster.processes[receiver]
    sender = next(host for host, peer in process.host.rounds._peers.items() if peer.heard == message.number)
    peer = process.host.rounds._peer(sender)
    heard_us, version = peer.contact.heard_us, peer.version
    cluster.now_us += 7
    cluster.forget()
    cluster.give(process, sender, message, attrs.evolve(message, number=message.number - 1, since=0, places=()))
    assert (peer.contact.heard_us, peer.version) == (heard_us, version)
    assert cluster.sent[RoundReply] == 0


@pytest.mark.parametrize(
    "message",
    [
        Round(INTEGER_MAX, 1, 2),
        Round(INTEGER_MAX, INTEGER_MAX + 1, 0),
        Round(INTEGER_MAX, 1, 0, (), (1,) * (ROUND_CHANGES_MAX + 1)),
        RoundReply(INTEGER_MAX, 1),
        RoundReply(1, INTEGER_MAX + 1),
        RoundReply(1, 1, (1,) * (ROUND_CHANGES_MAX + 1)),
    ],
)
def test_an_impossible_round_is_refused_and_changes_nothing(cluster: Wire, message: PeerMessage) -> None:
    leader, follower = cluster.leader_of(SHARD), follower_of(cluster)
    terms = [voter.raft.term for voter in follower.host.voters.values()]
    cluster.give(follower, leader.host.host, message)
    assert len(cluster.notes_of(Refused)) == 1
    assert [voter.raft.term for voter in follower.host.voters.values()] == terms
    cluster.run(0.5)
    assert all_rest(cluster.processes.values())


@pytest.mark.parametrize("place", [Place(99, 1, 1, 2), Place(SHARD, 2**63, 1, 2), Place(SHARD, 1, 9, 9)])
def test_a_place_that_cannot_be_is_excepted(cluster: Wire, place: Place) -> None:
    follower = follower_of(cluster)
    term = follower.host.voters[SHARD].raft.term
    sender = cluster.leader_of(SHARD).host.host
    number = follower.host.rounds._peer(sender).heard + 1
    cluster.give(follower, sender, Round(number, 1, 0, (place,)))
    assert (follower.host.host, sender, RoundReply(number, 1, (place.shard,))) in cluster.answers
    assert follower.host.voters[SHARD].raft.term == term
    assert follower.host.voters[SHARD].raft.role is Role.FOLLOWER


def test_a_long_list_is_told_in_parts() -> None:
    contact = Contact(10)
    for shard in range(1, 6):
        contact.lead(Place(shard, 1, 1, 2), 0)
    assert contact.changes_since(0, 3) == (13, [1, 2, 3])
    assert contact.changes_since(13, 3) == (15, [4, 5])
    contact.wake(2)
    assert contact.changes_since(13, 3) == (16, [4, 5, 2])
    contact.forget_until(16)
    assert contact.changes_since(0, 9) == (16, [1, 3, 4, 5])
    assert contact.changes_since(16, 9) == (16, [])
    contact.wake(3)
    contact.forget_until(16)
    assert contact.changes_since(16, 9) == (17, [3]), "that it woke is not told yet"
    contact.forget_until(17)
    assert contact.changes_since(0, 9) == (17, [1, 4, 5])


def test_hosts_fall_into_step_so_that_all_rounds_cost_few_wake_ups() -> None:
    cluster = Wire(shards=30)
    cluster.run(3)
    assert all(process.host.leads() for process in cluster.processes.values())
    cluster.now_us += 13_000
    for process in cluster.processes.values():
        process.host.rounds._due_us = cluster.now_us + 5_000 * process.host.host
    cluster.run(1)
    assert len({process.host.rounds._due_us for process in cluster.processes.values()}) == 1
