"""All copies that a host sends: who waits, who shares, what is kept and what is dropped."""

from __future__ import annotations

import pytest

from shardraft.config import Limits
from shardraft.host.copy import CopyTarget
from shardraft.host.events import CopySpooled
from shardraft.host.messages import CopyChunk, CopyReply, OrderedChunk
from shardraft.host.outbound_copies import CopiesReady, OutboundCopies
from shardraft.host.turn import DropCopy, SpoolCopy
from shardraft.types import Index, ShardId

SECOND_US = 1_000_000
FIRST_ID = 5 << 32


class Source:
    """A host that spools what it is asked for at once, at index 100, in two chunks."""

    def __init__(self, limits: Limits | None = None, *, spools: bool = True) -> None:
        self.first_index: dict[ShardId, Index] = {}
        self.spools = spools
        self.index = 100
        self.now_us = 0
        self.commands: list[SpoolCopy | DropCopy] = []
        self.copies = OutboundCopies(
            limits or Limits(), FIRST_ID, lambda copy_id, number: b"data", lambda shard: self.first_index.get(shard, 1)
        )

    def want(self, *targets: CopyTarget) -> CopiesReady:
        for target in targets:
            self.copies.want(target, self.now_us)
        return self.turn()

    def turn(self) -> CopiesReady:
        ready = self.copies.take_ready(self.now_us)
        self.commands += ready.commands
        for command in ready.commands:
            if self.spools and isinstance(command, SpoolCopy):
                self.spooled(command)
        return ready

    def spooled(self, command: SpoolCopy) -> None:
        self.copies.spooled(CopySpooled(self.now_us, command.shard, command.copy_id, self.index, 4, 2))

    def later(self, seconds: int) -> CopiesReady:
        self.now_us += seconds * SECOND_US
        self.copies.tick(self.now_us)
        return self.turn()

    def reply(self, target: CopyTarget, copy_id: int, next_number: int, *, refused: bool = False) -> CopiesReady:
        reply = CopyReply(
            target.shard, target.term, target.to_replica, target.from_replica, copy_id, next_number, refused
        )
        if target.connection:
            self.copies.reply_of_child(target.connection, reply, self.now_us)
        else:
            self.copies.reply_of_follower(target.host, reply, self.now_us)
        return self.turn()


def learner(connection: int, shard: ShardId = 7) -> CopyTarget:
    return CopyTarget(shard, connection=connection)


FOLLOWER = CopyTarget(7, host=3, term=5, from_replica=1, to_replica=3)


def test_a_copy_is_spooled_then_sent_then_finished() -> None:
    source = Source(spools=False)
    assert source.want(FOLLOWER).commands == (SpoolCopy(7, FIRST_ID),)
    assert source.copies.is_spooling(7)
    assert source.turn().chunks == ()
    source.spooled(SpoolCopy(7, FIRST_ID))
    assert source.copies.index_on_its_way_to(7, 3) == 100
    ready = source.turn()
    assert [(target, chunk.number, chunk.to_replica) for target, chunk in ready.chunks] == [
        (FOLLOWER, 0, 3),
        (FOLLOWER, 1, 3),
    ]
    ready = source.reply(FOLLOWER, FIRST_ID, 2)
    assert ready.finished == ((FOLLOWER, 100),)
    assert source.copies.index_on_its_way_to(7, 3) == 0
    assert source.turn().finished == (), "it is said once"


def test_entries_above_a_snapshot_are_needed_from_before_it_is_made_until_it_is_dropped() -> None:
    source = Source(spools=False)
    assert source.copies.needed_above(7) is None
    source.want(learner(1))
    assert source.copies.needed_above(7) == 0, "its index is not known yet"
    assert source.copies.needed_above(8) is None
    source.spooled(SpoolCopy(7, FIRST_ID))
    assert source.copies.needed_above(7) == 100
    source.turn()
    source.reply(learner(1), FIRST_ID, 2)
    source.later(9)
    assert source.copies.needed_above(7) == 100, "the receiver looks for what follows it"
    source.later(1)
    assert source.copies.needed_above(7) is None


def test_entries_above_a_snapshot_that_was_refused_are_not_needed() -> None:
    source = Source()
    source.want(learner(1))
    source.copies.forget_connection(1, 0)
    assert source.copies.needed_above(7) == 100
    source.want(learner(2))
    source.reply(learner(2), FIRST_ID, 0, refused=True)
    assert source.copies.needed_above(7) is None


def test_receivers_of_one_shard_share_one_snapshot() -> None:
    source = Source()
    source.want(FOLLOWER, learner(9))
    assert source.commands == [SpoolCopy(7, FIRST_ID)]
    assert {chunk.copy_id for _, chunk in source.turn().chunks} == {FIRST_ID}


def test_a_bounded_number_is_sent_at_once_and_the_others_wait_their_turn() -> None:
    source = Source(Limits(copies_max=2))
    source.want(learner(1), learner(2), learner(3), learner(4))
    assert sorted({target.connection for target, _ in source.turn().chunks}) == [1, 2]
    ready = source.reply(learner(2), FIRST_ID, 2)
    assert {target.connection for target, _ in ready.chunks} == {3}
    source.copies.forget_connection(1, 0)
    source.copies.forget_connection(3, 0)
    assert {target.connection for target, _ in source.turn().chunks} == {4}


def test_wanting_what_is_under_way_changes_nothing() -> None:
    source = Source()
    source.want(FOLLOWER, FOLLOWER)
    source.turn()
    assert source.want(FOLLOWER).chunks == ()
    assert source.commands == [SpoolCopy(7, FIRST_ID)]


def test_a_new_term_begins_the_transfer_anew_from_the_same_snapshot() -> None:
    source = Source()
    source.want(FOLLOWER)
    source.turn()
    newer = CopyTarget(7, host=3, term=6, from_replica=1, to_replica=3)
    ready = source.want(newer)
    assert {(chunk.term, chunk.copy_id) for _, chunk in ready.chunks} == {(6, FIRST_ID)}
    assert source.commands == [SpoolCopy(7, FIRST_ID)]


def test_a_snapshot_is_kept_a_while_for_a_broken_link_to_resume() -> None:
    source = Source()
    source.want(learner(1))
    source.copies.forget_connection(1, source.now_us)
    source.later(9)
    ready = source.want(learner(2))
    assert {chunk.copy_id for _, chunk in ready.chunks} == {FIRST_ID}
    assert source.commands == [SpoolCopy(7, FIRST_ID)]


def test_a_snapshot_that_nobody_receives_is_dropped_in_the_end() -> None:
    source = Source()
    source.want(learner(1))
    source.reply(learner(1), FIRST_ID, 2)
    assert source.copies.next_deadline_us == 10 * SECOND_US
    assert source.later(9).commands == ()
    assert source.later(1).commands == (DropCopy(FIRST_ID),)
    assert source.copies.next_deadline_us is None
    assert source.turn() == CopiesReady()


def test_a_snapshot_that_the_log_no_longer_follows_is_not_used_again() -> None:
    source = Source()
    source.want(learner(1))
    source.first_index[7] = 101
    source.want(learner(2))
    assert source.commands == [SpoolCopy(7, FIRST_ID)], "entry 101 follows index 100"
    source.copies.forget_connection(2, 0)
    source.first_index[7] = 102
    source.index = 150
    source.want(learner(2))
    assert source.commands[1:] == [SpoolCopy(7, FIRST_ID + 1)]
    source.turn()
    source.copies.forget_connection(1, 0)
    source.turn()
    assert source.commands[2:] == [DropCopy(FIRST_ID)], "the former one went when its last receiver did"


def test_a_refused_copy_is_not_offered_again() -> None:
    source = Source()
    source.want(learner(1))
    assert source.reply(learner(1), FIRST_ID, 0, refused=True).failed == (learner(1),)
    assert source.commands[1:] == [DropCopy(FIRST_ID)]
    source.want(learner(1))
    assert source.commands[2:] == [SpoolCopy(7, FIRST_ID + 1)]


def test_a_silent_receiver_loses_its_place_to_the_next() -> None:
    source = Source(Limits(copies_max=1))
    source.want(learner(1), learner(2))
    source.turn()
    *waited, last = [source.later(1) for _ in range(10)]
    assert [ready.failed for ready in waited] == [()] * 9
    assert last.failed == (learner(1),)
    assert {target.connection for target, _ in last.chunks} == {2}
    assert source.reply(learner(2), FIRST_ID, 2).finished == ((learner(2), 100),)


def test_when_leadership_ends_its_followers_copies_end_and_learners_go_on() -> None:
    source = Source()
    source.want(FOLLOWER, learner(9))
    source.copies.forget_followers(7, 0)
    source.copies.forget_followers(8, 0)
    assert {target for target, _ in source.turn().chunks} == {learner(9)}
    assert source.reply(FOLLOWER, FIRST_ID, 2).finished == ()


def test_a_receiver_forgotten_while_it_waits_is_sent_nothing() -> None:
    source = Source(Limits(copies_max=1))
    source.want(learner(1), learner(2))
    source.copies.forget_connection(2, 0)
    source.reply(learner(1), FIRST_ID, 2)
    assert source.turn().chunks == ()


def test_a_snapshot_spooled_for_nobody_is_dropped_too() -> None:
    source = Source(spools=False)
    source.want(learner(1))
    source.copies.forget_connection(1, 0)
    source.spooled(SpoolCopy(7, FIRST_ID))
    assert source.later(10).commands == (DropCopy(FIRST_ID),)
    source.spooled(SpoolCopy(7, FIRST_ID))
    assert source.turn().commands == ()


# How fast they leave.


class Receivers:
    """Learners that take every chunk at once, on a host that may send ``bytes_per_second_max``."""

    def __init__(self, count: int, *, chunks: int, chunk_bytes: int, limits: Limits) -> None:
        self.now_us = 0
        self.left: list[tuple[int, int, int]] = []
        """When, to which connection, and how many bytes."""
        self.finished_us: dict[int, int] = {}
        self.chunks = chunks
        data = b"." * chunk_bytes
        self.copies = OutboundCopies(limits, FIRST_ID, lambda copy_id, number: data, lambda shard: 1)
        for connection in range(1, count + 1):
            self.copies.want(learner(connection), 0)

    def run_until(self, end_us: int) -> None:
        """Take a turn whenever one is due."""
        while self.now_us <= end_us:
            self.copies.tick(self.now_us)
            ready = self.copies.take_ready(self.now_us)
            for command in ready.commands:
                if isinstance(command, SpoolCopy):
                    self.copies.spooled(CopySpooled(self.now_us, 7, command.copy_id, 100, 4, self.chunks))
            assert not ready.failed
            for target, _ in ready.finished:
                self.finished_us[target.connection] = self.now_us
            for target, chunk in ready.chunks:
                self.left.append((self.now_us, target.connection, len(chunk.data)))
                reply = CopyReply(7, 0, 0, 0, chunk.copy_id, chunk.number + 1)
                self.copies.reply_of_child(target.connection, reply, self.now_us)
            if not (ready.commands or ready.chunks):
                due_us = self.copies.next_deadline_us
                if due_us is None:
                    return
                self.now_us = max(due_us, self.now_us + 1)


def test_all_copies_together_keep_to_the_bandwidth_and_use_it() -> None:
    limits = Limits(copy_bytes_per_second_max=1_000_000, copies_max=2)
    receivers = Receivers(2, chunks=500, chunk_bytes=3_000, limits=limits)
    receivers.run_until(60 * SECOND_US)
    first_us, last_us = receivers.left[0][0], receivers.left[-1][0]
    assert len(receivers.left) == 1000
    assert last_us - first_us == pytest.approx(3 * SECOND_US, rel=0.03)
    for position, (begin_us, _, _) in enumerate(receivers.left):
        within = [size for at_us, _, size in receivers.left[position : position + 200] if at_us <= begin_us + 100_000]
        assert sum(within) <= 100_000 + 50_000 + 3_000


def test_receivers_share_the_bandwidth_evenly() -> None:
    limits = Limits(copy_bytes_per_second_max=100_000, copies_max=3)
    receivers = Receivers(3, chunks=1000, chunk_bytes=5_000, limits=limits)
    receivers.run_until(10 * SECOND_US)
    counts = [sum(1 for _, to, _ in receivers.left if to == connection) for connection in (1, 2, 3)]
    assert max(counts) - min(counts) <= 1
    assert sum(counts) == pytest.approx(200, rel=0.05)


def test_a_receiver_whose_chunks_wait_for_bandwidth_is_not_silent() -> None:
    """One chunk in twenty seconds: longer than a receiver may be silent."""
    limits = Limits(copy_bytes_per_second_max=50, copy_silence_ms_max=10_000)
    receivers = Receivers(1, chunks=4, chunk_bytes=1_000, limits=limits)
    receivers.run_until(100 * SECOND_US)
    assert [at_us // SECOND_US for at_us, _, _ in receivers.left] == [0, 19, 39, 59]
    assert receivers.finished_us.keys() == {1}


def test_a_receiver_is_silent_from_its_first_unanswered_chunk_on() -> None:
    source = Source(Limits(copy_bytes_per_second_max=2, copies_max=1))
    source.want(learner(1))
    waited = [source.later(1) for _ in range(12)]
    assert [bool(ready.chunks) for ready in waited[:2]] == [True, False]
    assert [bool(ready.failed) for ready in waited] == [False] * 10 + [True, False]


def test_without_a_limit_chunks_leave_at_once() -> None:
    receivers = Receivers(1, chunks=1000, chunk_bytes=100_000, limits=Limits(copy_bytes_per_second_max=0))
    receivers.run_until(SECOND_US)
    assert receivers.finished_us == {1: 0}
    receivers = Receivers(1, chunks=1000, chunk_bytes=100_000, limits=Limits(copy_bytes_per_second_max=1 << 20))
    receivers.run_until(SECOND_US)
    assert receivers.finished_us == {}


def ordered(index_min: Index, order: int = 9) -> CopyTarget:
    return CopyTarget(7, host=4, term=5, from_replica=2, to_replica=4, order=order, index_min=index_min)


def test_an_ordered_copy_is_one_that_the_leaders_log_follows_whatever_follows_it_here() -> None:
    source = Source()
    source.want(learner(1))
    source.first_index[7] = 200
    source.want(ordered(100))
    assert source.commands == [SpoolCopy(7, FIRST_ID)], "the snapshot at 100 is shared"
    source.index = 150
    source.want(ordered(101, order=10))
    assert source.commands[1:] == [SpoolCopy(7, FIRST_ID + 1)]


def test_chunks_of_an_ordered_copy_name_the_order() -> None:
    source = Source()
    source.want(ordered(100), FOLLOWER)
    chunks = [chunk for _, chunk in source.turn().chunks]
    assert {chunk.order for chunk in chunks if isinstance(chunk, OrderedChunk)} == {9}
    assert {chunk.to_replica: type(chunk) for chunk in chunks} == {4: OrderedChunk, 3: CopyChunk}


def test_a_host_is_full_while_one_more_copy_would_have_to_wait() -> None:
    source = Source(Limits(copies_max=2))
    source.want(learner(1))
    assert not source.copies.is_full
    source.want(ordered(1))
    assert source.copies.is_full
    source.copies.forget_follower(7, 4, source.now_us)
    assert not source.copies.is_full
