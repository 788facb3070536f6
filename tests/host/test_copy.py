"""One full copy on its way: what the receiver says steers the sender, whatever the network does."""

from __future__ import annotations

import random

import attrs
import pytest

from shardraft.config import Limits
from shardraft.host.copy import CopyReceiver, CopySender, CopyTarget, Received, SenderState
from shardraft.host.events import CopySpooled
from shardraft.host.messages import CopyChunk, CopyReply
from shardraft.host.turn import InstallCopy, StageChunk

SHARD, SOURCE = 7, 1
LIMITS = Limits()
SECOND_US = 1_000_000
TARGET = CopyTarget(SHARD, host=3, term=5, from_replica=1, to_replica=3)


def data_of(copy_id: int, number: int) -> bytes:
    return f"chunk {number} of copy {copy_id}".encode()


def spooled(copy_id: int = 11, index: int = 100, chunks: int = 6) -> CopySpooled:
    return CopySpooled(0, SHARD, copy_id, index, 4, chunks)


def sender_of(copy: CopySpooled) -> CopySender:
    sender = CopySender(TARGET, LIMITS, data_of)
    sender.begin(copy)
    return sender


def take_chunks(sender: CopySender, now_us: int) -> list[CopyChunk]:
    """All that may leave at that moment."""
    taken = []
    while sender.has_chunk:
        taken.append(sender.take_chunk(now_us))
    return taken


def chunks_of(copy: CopySpooled) -> list[CopyChunk]:
    """All chunks of a copy, in order, as a sender with a wide window sends them."""
    sender = CopySender(TARGET, Limits(copy_chunks_in_flight_max=1000), data_of)
    sender.begin(copy)
    return take_chunks(sender, 0)


def damaged(chunk: CopyChunk) -> CopyChunk:
    return attrs.evolve(chunk, data=bytes([chunk.data[0] ^ 1]) + chunk.data[1:])


def reply_to(copy: CopySpooled, next_number: int, *, refused: bool = False) -> CopyReply:
    return CopyReply(SHARD, 5, 3, 1, copy.copy_id, next_number, refused)


def numbers(chunks: list[CopyChunk]) -> list[int]:
    return [chunk.number for chunk in chunks]


def next_number(received: Received) -> int | None:
    return received.reply.next_number if received.reply is not None else None


# The sender.


def test_a_sender_waits_for_its_snapshot() -> None:
    sender = CopySender(TARGET, LIMITS, data_of)
    assert take_chunks(sender, 0) == []
    assert sender.next_deadline_us is None
    sender.begin(spooled())
    assert numbers(take_chunks(sender, 0)) == [0, 1, 2, 3]


def test_a_chunk_says_what_it_is_part_of() -> None:
    (chunk, *_) = take_chunks(sender_of(spooled()), 0)
    assert chunk == CopyChunk(SHARD, 5, 1, 3, 11, 100, 4, 0, 6, chunk.checksum, b"chunk 0 of copy 11")


def test_a_bounded_number_of_chunks_is_on_its_way() -> None:
    sender = sender_of(spooled())
    take_chunks(sender, 0)
    assert take_chunks(sender, 1) == []
    sender.received(reply_to(spooled(), 2), 2)
    assert numbers(take_chunks(sender, 2)) == [4, 5]
    assert sender.chunks_sent == 6


def test_the_copy_is_finished_when_the_receiver_needs_no_further_chunk() -> None:
    sender = sender_of(spooled())
    sender.received(reply_to(spooled(), 5), 1)
    assert sender.state is SenderState.SENDING
    sender.received(reply_to(spooled(), 6), 2)
    assert (sender.state, sender.index) == (SenderState.FINISHED, 100)
    assert take_chunks(sender, 2) == []


def test_a_sender_resumes_where_the_receiver_says_it_is() -> None:
    sender = sender_of(spooled(chunks=20))
    take_chunks(sender, 0)
    sender.received(reply_to(spooled(), 9), 1)
    assert numbers(take_chunks(sender, 1)) == [9, 10, 11, 12]


def test_what_is_not_answered_for_a_second_is_sent_again() -> None:
    sender = sender_of(spooled())
    take_chunks(sender, 0)
    sender.received(reply_to(spooled(), 1), 300_000)
    assert numbers(take_chunks(sender, 300_000)) == [4]
    sender.tick(1_299_999)
    assert take_chunks(sender, 1_299_999) == []
    assert sender.next_deadline_us == 1_300_000
    sender.tick(1_300_000)
    assert numbers(take_chunks(sender, 1_300_000)) == [1, 2, 3, 4]


def test_a_repeated_reply_makes_it_go_back_once() -> None:
    sender = sender_of(spooled())
    take_chunks(sender, 0)
    sender.received(reply_to(spooled(), 1), 1)
    take_chunks(sender, 1)
    for _ in range(3):
        sender.received(reply_to(spooled(), 1), 2)
    assert numbers(take_chunks(sender, 2)) == [1, 2, 3, 4]
    sender.received(reply_to(spooled(), 1), 3)
    assert take_chunks(sender, 3) == []


def test_a_receiver_that_was_restarted_is_sent_everything_again() -> None:
    sender = sender_of(spooled())
    take_chunks(sender, 0)
    sender.received(reply_to(spooled(), 4), 1)
    take_chunks(sender, 1)
    sender.received(reply_to(spooled(), 0), 2)
    sender.tick(SECOND_US + 2)
    assert numbers(take_chunks(sender, SECOND_US + 2)) == [0, 1, 2, 3]


def test_replies_to_another_copy_and_replies_that_make_no_sense_change_nothing() -> None:
    sender = sender_of(spooled())
    take_chunks(sender, 0)
    sender.received(reply_to(spooled(copy_id=10), 6), 1)
    sender.received(reply_to(spooled(), 7), 1)
    assert sender.state is SenderState.SENDING
    assert take_chunks(sender, 1) == []


def test_a_refused_copy_failed() -> None:
    sender = sender_of(spooled())
    sender.received(reply_to(spooled(), 0, refused=True), 1)
    assert (sender.state, sender.was_refused) == (SenderState.FAILED, True)


def test_a_silent_receiver_is_given_up() -> None:
    sender = sender_of(spooled())
    for second in range(10):
        sender.tick(second * SECOND_US)
        take_chunks(sender, second * SECOND_US)
        assert sender.state is SenderState.SENDING
    sender.tick(10 * SECOND_US)
    assert (sender.state, sender.was_refused) == (SenderState.FAILED, False)
    assert sender.next_deadline_us is None


# The receiver.


def test_chunks_are_staged_in_order_and_answered_and_the_last_has_the_copy_installed() -> None:
    receiver = CopyReceiver(SHARD, LIMITS)
    first, second = chunks_of(spooled(chunks=2))
    assert receiver.receive(SOURCE, first, 50, 0) == Received(
        CopyReply(SHARD, 5, 3, 1, 11, 1), (StageChunk(SHARD, 0, data_of(11, 0)),)
    )
    assert receiver.index_on_its_way == 100
    assert not receiver.installing
    received = receiver.receive(SOURCE, second, 50, 0)
    assert received.commands == (StageChunk(SHARD, 1, data_of(11, 1)), InstallCopy(SHARD, 1, 100, 4))
    assert received.reply is None, "nothing is promised before it is persisted"
    assert receiver.installing
    assert receiver.installed(1) == CopyReply(SHARD, 5, 3, 1, 11, 2)
    assert not receiver.installing
    assert receiver.index_on_its_way is None


def test_a_chunk_out_of_order_is_answered_with_the_one_that_is_needed() -> None:
    receiver = CopyReceiver(SHARD, LIMITS)
    chunks = chunks_of(spooled())
    receiver.receive(SOURCE, chunks[0], 50, 0)
    for number, needed, staged in ((2, 1, []), (1, 2, [1]), (0, 2, []), (1, 2, []), (5, 2, []), (2, 3, [2])):
        received = receiver.receive(SOURCE, chunks[number], 50, 0)
        assert next_number(received) == needed
        assert list(received.commands) == [StageChunk(SHARD, n, data_of(11, n)) for n in staged]


def test_a_damaged_chunk_is_asked_for_again_and_twice_damaged_the_copy_is_refused() -> None:
    receiver = CopyReceiver(SHARD, LIMITS)
    chunks = chunks_of(spooled())
    receiver.receive(SOURCE, chunks[0], 50, 0)
    received = receiver.receive(SOURCE, damaged(chunks[1]), 50, 0)
    assert (next_number(received), received.commands) == (1, ())
    assert next_number(receiver.receive(SOURCE, chunks[1], 50, 0)) == 2
    receiver.receive(SOURCE, damaged(chunks[2]), 50, 0)
    received = receiver.receive(SOURCE, damaged(chunks[2]), 50, 0)
    assert received.reply is not None
    assert received.reply.refused
    assert receiver.bad_checksums == 3
    assert receiver.index_on_its_way is None


def test_a_copy_that_is_not_newer_than_the_own_state_is_refused() -> None:
    receiver = CopyReceiver(SHARD, LIMITS)
    received = receiver.receive(SOURCE, chunks_of(spooled(index=100))[0], 100, 0)
    assert received.reply is not None
    assert received.reply.refused
    assert received.commands == ()


def test_a_copy_in_the_making_is_refused_once_the_own_state_passed_it() -> None:
    receiver = CopyReceiver(SHARD, LIMITS)
    chunks = chunks_of(spooled(index=100, chunks=2))
    receiver.receive(SOURCE, chunks[0], 50, 0)
    received = receiver.receive(SOURCE, chunks[1], 100, 0)
    assert received.reply is not None
    assert received.reply.refused
    assert not receiver.installing


@pytest.mark.parametrize(("number", "chunks"), [(6, 6), (-1, 6), (0, 0)])
def test_a_chunk_with_an_impossible_number_is_refused(number: int, chunks: int) -> None:
    receiver = CopyReceiver(SHARD, LIMITS)
    chunk = attrs.evolve(chunks_of(spooled())[0], number=number, chunks=chunks)
    received = receiver.receive(SOURCE, chunk, 50, 0)
    assert received.reply is not None
    assert received.reply.refused


def test_a_receiver_that_knows_nothing_of_a_copy_asks_for_its_beginning() -> None:
    receiver = CopyReceiver(SHARD, LIMITS)
    received = receiver.receive(SOURCE, chunks_of(spooled())[3], 50, 0)
    assert (next_number(received), received.commands) == (0, ())


def test_chunks_of_two_copies_never_mix() -> None:
    receiver = CopyReceiver(SHARD, LIMITS)
    old, later = chunks_of(spooled(11)), chunks_of(spooled(12, index=100))
    receiver.receive(SOURCE, old[0], 50, 0)
    assert next_number(receiver.receive(SOURCE, later[1], 50, 0)) == 0, "a later copy begins at its beginning"
    assert next_number(receiver.receive(SOURCE, old[1], 50, 0)) == 2, "until then the former one goes on"
    assert receiver.receive(SOURCE, later[0], 50, 0).commands == (StageChunk(SHARD, 0, data_of(12, 0)),)
    assert receiver.receive(SOURCE, old[2], 50, 0) == Received(), "a stray chunk of a former copy is ignored"
    assert next_number(receiver.receive(SOURCE, later[1], 50, 0)) == 2


def test_a_copy_of_another_source_takes_over_when_it_is_newer_or_the_first_fell_silent() -> None:
    receiver = CopyReceiver(SHARD, LIMITS)
    ours = chunks_of(spooled(11, index=100))
    receiver.receive(SOURCE, ours[0], 50, 0)
    same_age = chunks_of(spooled(5, index=100))
    assert receiver.receive(2, same_age[0], 50, 0) == Received()
    assert receiver.receive(2, same_age[0], 50, 10 * SECOND_US).commands != ()
    newer = chunks_of(spooled(4, index=101))
    assert receiver.receive(3, newer[0], 50, 10 * SECOND_US).commands != ()
    assert receiver.index_on_its_way == 101


def test_while_a_copy_is_installed_its_sender_hears_that_the_receiver_lives() -> None:
    receiver = CopyReceiver(SHARD, LIMITS)
    (only,) = chunks_of(spooled(chunks=1))
    receiver.receive(SOURCE, only, 50, 0)
    assert receiver.receive(SOURCE, only, 50, 1) == Received(CopyReply(SHARD, 5, 3, 1, 11, 0))
    assert receiver.receive(SOURCE, chunks_of(spooled(12, index=200))[0], 50, 1) == Received()
    receiver.abandon()
    assert receiver.installing, "the store is at it; it cannot be called back"
    receiver.installed(1)
    assert next_number(receiver.receive(SOURCE, only, 100, 2)) == 1, "the last answer was lost"


def test_an_installation_that_was_not_asked_for_is_no_news() -> None:
    receiver = CopyReceiver(SHARD, LIMITS)
    assert receiver.installed(1) is None
    (only,) = chunks_of(spooled(chunks=1))
    receiver.receive(SOURCE, only, 50, 0)
    assert receiver.installed(2) is None
    assert receiver.installing


# Both, with a network between them.


class Transfer:
    """A sender, a receiver, and a network that loses, doubles, reorders and damages by its seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.copy_id = 11
        self.now_us = 0
        self.wild = True
        self.own_index = 50
        self.store: dict[int, bytes] = {}
        self.installed: list[bytes] = []
        self.installing: InstallCopy | None = None
        self.network: list[CopyChunk | CopyReply] = []
        self.receiver = CopyReceiver(SHARD, LIMITS)
        self.restart_sender()

    def restart_sender(self) -> None:
        self.copy_id += 1
        self.sender = sender_of(spooled(self.copy_id, 100 + self.copy_id % 2, chunks=9))

    def restart_receiver(self) -> None:
        if self.installing is None:
            self.receiver = CopyReceiver(SHARD, LIMITS)

    def send(self, message: CopyChunk | CopyReply) -> None:
        if not self.wild:
            self.network.append(message)
            return
        if isinstance(message, CopyChunk) and self.random.random() < 0.05:
            message = damaged(message)
        for _ in range(self.random.choice((0, 1, 1, 1, 1, 2))):
            self.network.insert(self.random.randint(max(0, len(self.network) - 3), len(self.network)), message)

    def step(self) -> None:
        self.now_us += self.random.randint(1, 200_000)
        self.sender.tick(self.now_us)
        if self.sender.state is SenderState.FAILED:
            self.restart_sender()
        if self.wild and self.random.random() < 0.01:
            self.restart_sender()
        if self.wild and self.random.random() < 0.01:
            self.restart_receiver()
        for chunk in take_chunks(self.sender, self.now_us):
            self.send(chunk)
        for _ in range(self.random.randint(0, 4)):
            if self.network:
                self.deliver(self.network.pop(0))
        if self.installing is not None and self.random.random() < 0.5:
            self.install(self.installing)

    def deliver(self, message: CopyChunk | CopyReply) -> None:
        if isinstance(message, CopyReply):
            self.sender.received(message, self.now_us)
            return
        received = self.receiver.receive(SOURCE, message, self.own_index, self.now_us)
        for command in received.commands:
            if isinstance(command, StageChunk):
                if command.number == 0:
                    self.store.clear()
                assert command.number == len(self.store), "the store gets its chunks in order"
                self.store[command.number] = command.data
            else:
                self.installing = command
        if received.reply is not None:
            self.send(received.reply)

    def install(self, command: InstallCopy) -> None:
        copies = {data.split()[-1] for data in self.store.values()}
        assert len(copies) == 1, "chunks of two copies mixed"
        assert [data.split()[1] for data in self.store.values()] == [str(n).encode() for n in range(9)]
        self.installed.append(copies.pop())
        assert command.index > self.own_index
        self.own_index = command.index
        self.installing = None
        reply = self.receiver.installed(command.number)
        assert reply is not None
        self.send(reply)


@pytest.mark.parametrize("seed", range(60))
def test_under_loss_doubling_reordering_damage_and_restarts_a_copy_arrives_whole_or_not_at_all(seed: int) -> None:
    transfer = Transfer(seed)
    for _ in range(400):
        transfer.step()
        if transfer.sender.state is SenderState.FINISHED:
            break
    transfer.wild = False
    for _ in range(600):
        transfer.step()
        if transfer.own_index >= transfer.sender.index:
            break
    assert transfer.own_index >= transfer.sender.index, "once the network behaves, the copy arrives"
    if transfer.sender.state is SenderState.FINISHED:
        assert transfer.installed[-1] == str(transfer.copy_id).encode(), "what counts as finished was installed"
