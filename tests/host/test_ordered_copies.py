"""Copies that a leader orders from a follower (decision 0016): who sends, who takes over, and what nobody takes."""

from __future__ import annotations

import attrs
import pytest

from shardraft.config import HostConfig, Limits
from shardraft.host.events import PeerFrameReceived
from shardraft.host.messages import CopyChunk, CopyOrder, CopyOrderOutcome, CopyOrderReply, OrderedChunk, PeerMessage
from shardraft.host.voter import Voter
from shardraft.raft.core import Raft
from shardraft.raft.messages import AppendEntries, Heartbeat
from shardraft.raft.ready import Refused
from shardraft.types import TERM_MAX
from tests.host.cluster import Cluster, Process
from tests.host.test_compaction import Story, said
from tests.host.test_host import SHARD, put

LIMITS = Limits(log_bytes_max=8_000, log_hold_ms_max=2_000, flush_age_ms_max=100, copies_max=1)
SLOW = attrs.evolve(LIMITS, copy_bytes_per_second_max=4_000, copy_chunks_in_flight_max=1)
ORDER_MS = LIMITS.copy_order_ms_max


class Orders(Story):
    """The slow one was away for so long that it needs a copy; ``source`` is the third host."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        super().__init__(limits)
        self.cluster.loses = self._loses
        self.sent: list[tuple[int, CopyChunk]] = []
        self.lost: set[tuple[type, int, int]] = set()
        self.source = next(p for p in self.cluster.processes.values() if p is not self.leader and p is not self.slow)
        self.leave()
        self.write(80)
        assert self.log.first_index > 20, "what the slow one lacks is gone"

    def _loses(self, source: int, target: int, message: object) -> bool:
        if (type(message), source, target) in self.lost:
            return True
        if isinstance(message, CopyChunk):
            self.sent.append((source, message))
        return False

    def lose(self, kind: type, source: Process, target: Process) -> None:
        self.lost.add((kind, source.host.host, target.host.host))

    def senders(self) -> list[int]:
        """Who sent chunks, in order, each as often as it took over."""
        hosts = [host for host, _ in self.sent]
        return [host for place, host in enumerate(hosts) if place == 0 or hosts[place - 1] != host]

    def run_until_installed(self, *, seconds_max: int = 60) -> float:
        begun_us = self.cluster.now_us
        while not self.copies_installed:
            assert self.cluster.now_us < begun_us + seconds_max * 1_000_000, "no copy was installed"
            self.cluster.run(0.1)
        return (self.cluster.now_us - begun_us) / 1e6


def test_a_follower_that_needs_a_copy_gets_it_from_another_follower() -> None:
    story = Orders()
    story.come_back()
    assert story.run_until_installed() < 1
    story.write(5)
    assert story.caught_up()
    assert story.copies_installed == 1
    assert story.senders() == [story.source.host.host]
    assert all(type(chunk) is OrderedChunk for _, chunk in story.sent)
    assert (said(story.leader, "copy begun"), said(story.source, "copy begun")) == (0, 1)


def test_the_leader_sends_the_copy_where_no_other_follower_lives() -> None:
    story = Orders()
    story.lose(AppendEntries, story.leader, story.slow)
    story.come_back()
    del story.cluster.processes[story.source.host.host]
    story.cluster.run(3)
    assert story.sent == []
    story.lost.clear()
    assert story.run_until_installed() < 1
    assert story.senders() == [story.leader.host.host]
    assert said(story.leader, "copy ordered") == 0


def test_the_leader_sends_the_copy_when_nothing_is_heard_of_the_order() -> None:
    story = Orders()
    story.lose(CopyOrder, story.leader, story.source)
    story.come_back()
    assert ORDER_MS / 1000 <= story.run_until_installed() < ORDER_MS / 1000 + 1
    assert story.senders() == [story.leader.host.host]
    assert said(story.leader, "nothing was heard of the order") == 1


def test_a_lost_order_or_answer_is_made_good_by_the_next() -> None:
    story = Orders()
    story.lose(CopyOrder, story.leader, story.source)
    story.come_back()
    story.cluster.run(0.5)
    assert story.sent == []
    story.lost.clear()
    assert story.run_until_installed() < ORDER_MS / 1000
    assert story.senders() == [story.source.host.host]


def test_a_target_that_was_not_told_takes_nothing_until_it_is() -> None:
    story = Orders()
    story.lose(CopyOrder, story.leader, story.slow)
    story.come_back()
    story.cluster.run(1)
    assert story.copies_installed == 0
    assert refusals(story.slow, "was not ordered")
    story.lost.clear()
    story.run_until_installed()
    assert story.senders() == [story.source.host.host]


def test_a_follower_that_sends_as_many_as_it_may_refuses_and_the_leader_sends_at_once() -> None:
    story = Orders(SLOW)
    story.cluster.add_learner(9, story.source.host.host)
    story.cluster.run(1)
    del story.cluster.processes[9]
    story.come_back()
    story.cluster.run(1)
    assert story.senders() == [story.leader.host.host]
    assert said(story.leader, "the order failed") == 1


def test_a_broken_link_to_the_source_is_resumed() -> None:
    story = Orders(attrs.evolve(SLOW, copy_chunk_bytes=500))
    story.slow.store = story.slow.store
    story.come_back()
    while len(story.sent) < 3:
        story.cluster.run(0.1)
    story.lose(OrderedChunk, story.source, story.slow)
    story.cluster.run(4)
    story.lost.clear()
    story.run_until_installed()
    assert [chunk.number for _, chunk in story.sent].count(0) == 1
    assert story.senders() == [story.source.host.host]


def test_never_two_sources_send_to_one_target() -> None:
    """The leader hears nothing of its order any more and takes over; the follower hears it and stops."""
    story = Orders(attrs.evolve(SLOW, copy_bytes_per_second_max=1_000))
    story.lose(CopyOrderReply, story.source, story.leader)
    story.come_back()
    story.run_until_installed()
    assert story.senders() == [story.source.host.host, story.leader.host.host]
    assert story.copies_installed == 1


def test_chunks_of_a_source_that_was_relieved_are_not_taken() -> None:
    story = Orders(SLOW)
    story.come_back()
    while not story.sent:
        story.cluster.run(0.1)
    _, old = story.sent[0]
    assert isinstance(old, OrderedChunk)
    order = order_for(story, source=story.leader, order=old.order + 1)
    hear(story, story.slow, story.leader, order)
    reply = story.slow.host.begin_turn(story.cluster.now_us)
    hear(story, story.slow, story.source, old)
    turn = story.slow.host.begin_turn(story.cluster.now_us)
    assert (turn.messages, turn.copies, turn.notes) == ((), (), ()), "it is merely late"
    assert reply.copies == ()


def test_orders_end_with_the_term() -> None:
    story = Orders(SLOW)
    story.come_back()
    while not story.sent:
        story.cluster.run(0.1)
    raft = raft_of(story.source)
    beat = Heartbeat(SHARD, raft.term + 1, raft_of(story.slow).replica, raft.replica, 0, 1)
    hear(story, story.source, story.slow, beat)
    story.source.host.begin_turn(story.cluster.now_us)
    assert not story.source.host.copying._outbound.is_full


# What nobody takes.


def voter_of(process: Process) -> Voter:
    return process.host.voters[SHARD]


def raft_of(process: Process) -> Raft:
    return voter_of(process).raft


def hear(story: Story, receiver: Process, sender: Process, message: PeerMessage) -> None:
    receiver.host.step(PeerFrameReceived(story.cluster.now_us, sender.host.host, (message,)))


def refusals(process: Process, what: str) -> int:
    return sum(1 for note in process.notes if isinstance(note, Refused) and what in note.reason)


def order_for(story: Orders, *, source: Process, order: int = 1) -> CopyOrder:
    leader, slow = raft_of(story.leader), raft_of(story.slow)
    return CopyOrder(SHARD, leader.term, leader.replica, slow.replica, order, 1, raft_of(source).replica, slow.replica)


@pytest.fixture
def ordered() -> Orders:
    """The slow one is back and knows its leader; it was told that ``source`` sends it a copy."""
    story = Orders()
    story.cluster.loses = lambda source, target, message: isinstance(message, CopyOrder | CopyChunk)
    story.come_back()
    story.cluster.run(1)
    hear(story, story.slow, story.leader, order_for(story, source=story.source, order=1 << 60))
    story.slow.host.begin_turn(story.cluster.now_us)
    return story


def chunk_of(story: Orders, **changes: int) -> OrderedChunk:
    source, slow = raft_of(story.source), raft_of(story.slow)
    index = source.commit_index
    chunk = OrderedChunk(
        SHARD, source.term, source.replica, slow.replica, 1, index, source.term, 0, 2, 0, b"", order=1 << 60
    )
    return attrs.evolve(chunk, **changes)


def test_the_ordered_chunk_is_taken(ordered: Orders) -> None:
    hear(ordered, ordered.slow, ordered.source, chunk_of(ordered))
    turn = ordered.slow.host.begin_turn(ordered.cluster.now_us)
    assert [type(command).__name__ for command in turn.copies] == ["StageChunk"]


@pytest.mark.parametrize("wrong", ["order", "term", "impossible term", "source"])
def test_chunks_that_nobody_ordered_are_refused_and_counted(ordered: Orders, wrong: str) -> None:
    term = raft_of(ordered.slow).term
    changes = {
        "order": {"order": (1 << 60) + 1},
        "term": {"term": term + 1},
        "impossible term": {"term": TERM_MAX + 1},
        "source": {"from_replica": raft_of(ordered.leader).replica},
    }[wrong]
    sender = ordered.leader if wrong == "source" else ordered.source
    before = state_of(ordered.slow)
    hear(ordered, ordered.slow, sender, chunk_of(ordered, **changes))
    turn = ordered.slow.host.begin_turn(ordered.cluster.now_us)
    assert [type(note) for note in turn.notes] == [Refused]
    assert (turn.copies, turn.messages) == ((), ())
    assert state_of(ordered.slow) == before


def test_a_leader_takes_no_ordered_chunk(ordered: Orders) -> None:
    leader = raft_of(ordered.leader)
    before = state_of(ordered.leader)
    ordered.leader.host.begin_turn(ordered.cluster.now_us)
    hear(ordered, ordered.leader, ordered.source, chunk_of(ordered, to_replica=leader.replica))
    turn = ordered.leader.host.begin_turn(ordered.cluster.now_us)
    assert [type(note) for note in turn.notes] == [Refused]
    assert (turn.copies, state_of(ordered.leader)) == ((), before)


@pytest.mark.parametrize("wrong", ["sender", "later term", "earlier term", "source is target"])
def test_orders_of_another_than_the_leader_are_not_followed(ordered: Orders, wrong: str) -> None:
    source, slow = raft_of(ordered.source), raft_of(ordered.slow)
    order = attrs.evolve(order_for(ordered, source=ordered.source, order=1 << 61), to_replica=source.replica)
    changes = {
        "sender": {"from_replica": slow.replica},
        "later term": {"term": source.term + 1},
        "earlier term": {"term": source.term - 1},
        "source is target": {"target": source.replica},
    }[wrong]
    before = state_of(ordered.source)
    hear(ordered, ordered.source, ordered.slow if wrong == "sender" else ordered.leader, attrs.evolve(order, **changes))
    turn = ordered.source.host.begin_turn(ordered.cluster.now_us)
    assert [type(note) for note in turn.notes] == ([] if wrong == "earlier term" else [Refused])
    assert (turn.copies, turn.messages) == ((), ())
    assert state_of(ordered.source) == before


def state_of(process: Process) -> tuple[object, ...]:
    raft = raft_of(process)
    return raft.role, raft.term, raft.voted_for, raft.leader, raft.commit_index, raft.log.last_index


# The source waits for what the leader's log follows.


def test_a_source_flushes_what_the_order_asks_for_first() -> None:
    cluster = Cluster(shards=1, config=HostConfig(limits=Limits(flush_age_ms_max=3_600_000)))
    cluster.run(3)
    leader = cluster.leader_of(SHARD)
    source, target = (p for p in cluster.processes.values() if p is not leader)
    put(cluster, leader, 1, b"a")
    cluster.run(1)
    raft, machine = raft_of(source), voter_of(source).machine
    assert machine.flushed_index < machine.last_applied
    answers: list[CopyOrderReply] = []

    def note(sender: int, receiver: int, message: object) -> bool:
        if isinstance(message, CopyOrderReply):
            answers.append(message)
        return isinstance(message, CopyOrderReply | CopyChunk)

    cluster.loses = note
    leads = raft_of(leader)
    between = (SHARD, leads.term, leads.replica, raft.replica)
    order = CopyOrder(*between, 5, machine.last_applied, raft.replica, raft_of(target).replica)
    source.host.step(PeerFrameReceived(cluster.now_us, leader.host.host, (order,)))
    cluster.run(0.1)
    assert machine.flushed_index == order.index_min
    assert [(answer.outcome, answer.index) for answer in answers] == [
        (CopyOrderOutcome.SENDING, 0),
        (CopyOrderOutcome.SENDING, order.index_min),
    ]
    answers.clear()
    later = attrs.evolve(order, order=6, index_min=machine.last_applied + 9)
    source.host.step(PeerFrameReceived(cluster.now_us, leader.host.host, (later,)))
    cluster.run(5.1)
    assert [answer.outcome for answer in answers] == [CopyOrderOutcome.SENDING, CopyOrderOutcome.FAILED]


# What a leader believes of its orders.


@pytest.mark.parametrize("wrong", ["sender", "index", "unknown order"])
@pytest.mark.parametrize("outcome", CopyOrderOutcome)
def test_an_answer_that_is_none_ends_no_order(outcome: CopyOrderOutcome, wrong: str) -> None:
    """From another replica than was ordered, of an entry that is not there; one of an order that ended is late."""
    story = Orders(SLOW)
    story.come_back()
    while not story.sent:
        story.cluster.run(0.1)
    _, chunk = story.sent[0]
    assert isinstance(chunk, OrderedChunk)
    leader, source, slow = (raft_of(process) for process in (story.leader, story.source, story.slow))
    reply = CopyOrderReply(SHARD, leader.term, source.replica, leader.replica, chunk.order, chunk.index, outcome)
    changes = {
        "sender": {"from_replica": slow.replica},
        "index": {"index": leader.log.last_index + 1},
        "unknown order": {"order": chunk.order + 1},
    }[wrong]
    story.leader.host.begin_turn(story.cluster.now_us)
    hear(story, story.leader, story.slow if wrong == "sender" else story.source, attrs.evolve(reply, **changes))
    turn = story.leader.host.begin_turn(story.cluster.now_us)
    assert [type(note) for note in turn.notes] == ([] if wrong == "unknown order" else [Refused])
    assert (turn.messages, turn.copies) == ((), ())
    assert story.leader.host.copying.orders.has_given(SHARD, slow.replica)
    assert leader.leading is not None
    assert leader.leading.progress[slow.replica].copying
