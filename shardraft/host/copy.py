"""One full copy of a shard on its way: the sender's and the receiver's side of one transfer.

A copy is a spooled snapshot, cut into chunks numbered from 0. The same transfer serves a follower
whose next entry is compacted (Raft section 7) and a learner that its parent has no entries for.
The receiver says which chunk it needs next and so steers: what is lost, doubled, reordered or
damaged on the way costs time and nothing else, and a broken link resumes.

A copy is known by its sender's host, ``copy_id``, index, term and number of chunks; chunks of two
copies never mix. A host never uses a ``copy_id`` twice, restarts included, and later ones are higher.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final

import attrs

from shardraft.config import Limits
from shardraft.host.events import CopySpooled
from shardraft.host.messages import CopyChunk, CopyReply, OrderedChunk
from shardraft.host.turn import InstallCopy, StageChunk
from shardraft.octets.functions import crc32
from shardraft.types import NO_HOST, NO_REPLICA, HostId, Index, ReplicaId, ShardId, Term

ReadChunk = Callable[[int, int], bytes]
"""``Store.read_chunk``: the bytes of chunk ``number`` of ``copy_id``."""

_BAD_CHECKSUMS_MAX: Final = 2
"""The same chunk damaged this often is damaged at its source: the copy is refused."""


@attrs.frozen(slots=True)
class CopyTarget:
    """Who receives a copy: a follower by its ``host``, or a learner by its ``connection`` (the other is 0).

    ``term`` is the leader's, ``from_replica`` the sender's, ``to_replica`` the follower's; 0 for a learner.
    ``order`` is the leader's where another replica sends the copy, and ``index_min`` the index it must have then.
    """

    shard: ShardId
    host: HostId = NO_HOST
    connection: int = 0
    term: Term = 0
    from_replica: ReplicaId = NO_REPLICA
    to_replica: ReplicaId = NO_REPLICA
    order: int = 0
    index_min: Index = 0


class SenderState(Enum):
    """How far a sender is; it ends in one of the last two."""

    WAITING = "waiting for the snapshot"
    SENDING = "sending"
    FINISHED = "finished"
    FAILED = "failed"


class CopySender:
    """Sends one spooled copy to one receiver, at most ``copy_chunks_in_flight_max`` chunks ahead of its replies.

    Once the state is FAILED, ``failure`` says why in a few words, and ``was_refused`` whether the
    receiver said so (else it fell silent).
    """

    def __init__(self, target: CopyTarget, limits: Limits, read_chunk: ReadChunk) -> None:
        self.target = target
        self.state = SenderState.WAITING
        self.failure = ""
        self.was_refused = False
        self.chunks_sent = 0
        self._read_chunk = read_chunk
        self._window = limits.copy_chunks_in_flight_max
        self._retry_us = limits.copy_retry_ms * 1000
        self._silence_us = limits.copy_silence_ms_max * 1000
        self._copy: CopySpooled | None = None
        self._next_number = 0
        self._sent_number = 0
        self._told_number = 0
        self._going_back_to: int | None = None
        self._retry_due_us = 0
        self._waits_since_us: int | None = None

    @property
    def index(self) -> Index:
        """The index of the copy; it must have been spooled."""
        assert self._copy is not None
        return self._copy.index

    def begin(self, copy: CopySpooled) -> None:
        """The snapshot is ready."""
        assert self.state is SenderState.WAITING, "a sender sends one copy"
        assert copy.chunks > 0, "a snapshot has at least one chunk"
        self._copy = copy
        self.state = SenderState.SENDING

    def received(self, reply: CopyReply, now_us: int) -> None:
        """The receiver holds all chunks below ``reply.next_number``.

        A reply that repeats what was known says that a chunk did not arrive whole: from there on
        everything is sent again, once; if that fails too, the retry timer sends it.
        """
        copy = self._copy
        if self.state is not SenderState.SENDING or copy is None or reply.copy_id != copy.copy_id:
            return
        number = reply.next_number
        if reply.refused:
            self.was_refused = True
            self._fail("the receiver refused it")
        elif number == copy.chunks:
            self.state = SenderState.FINISHED
        elif number < copy.chunks:
            self._told_number = number
            if number > self._next_number:
                self._next_number = number
                self._sent_number = max(self._sent_number, number)
                self._going_back_to = None
                self._retry_due_us = now_us + self._retry_us
            elif number == self._next_number and self._going_back_to != number:
                self._go_back_to(number)
            self._waits_since_us = now_us if self._sent_number > number else None

    def tick(self, now_us: int) -> None:
        """Give up a silent receiver; send again, from where it last said it is, what was not answered."""
        if self.state is not SenderState.SENDING or self._waits_since_us is None:
            return
        if now_us - self._waits_since_us >= self._silence_us:
            self._fail("the receiver is silent")
        elif now_us >= self._retry_due_us:
            # The receiver may have been restarted, so what it said last counts even if it is less than before.
            self._next_number = self._told_number
            self._go_back_to(self._told_number)
            self._retry_due_us = now_us + self._retry_us

    @property
    def next_deadline_us(self) -> int | None:
        """When ``tick`` is due; None while no answer is awaited."""
        if self.state is not SenderState.SENDING or self._waits_since_us is None:
            return None
        return min(self._retry_due_us, self._waits_since_us + self._silence_us)

    @property
    def has_chunk(self) -> bool:
        """Whether a chunk may leave, as far as the receiver is concerned."""
        copy = self._copy
        if self.state is not SenderState.SENDING or copy is None:
            return False
        return self._sent_number < min(copy.chunks, self._next_number + self._window)

    def take_chunk(self, now_us: int) -> CopyChunk:
        """The next chunk, once; there must be one (``has_chunk``). From now on an answer is awaited."""
        assert self._copy is not None
        assert self.has_chunk, "no chunk may leave"
        chunk = self._chunk(self._copy, self._sent_number)
        self._sent_number += 1
        self.chunks_sent += 1
        self._retry_due_us = now_us + self._retry_us
        if self._waits_since_us is None:
            # A chunk that waited for bandwidth was not sent: nobody was silent meanwhile.
            self._waits_since_us = now_us
        return chunk

    def _chunk(self, copy: CopySpooled, number: int) -> CopyChunk:
        target = self.target
        data = self._read_chunk(copy.copy_id, number)
        chunk = CopyChunk(
            shard=target.shard,
            term=target.term,
            from_replica=target.from_replica,
            to_replica=target.to_replica,
            copy_id=copy.copy_id,
            index=copy.index,
            index_term=copy.term,
            number=number,
            chunks=copy.chunks,
            checksum=crc32(data),
            data=data,
        )
        return OrderedChunk(**attrs.asdict(chunk), order=target.order) if target.order else chunk

    def _go_back_to(self, number: int) -> None:
        self._going_back_to = self._sent_number = number

    def _fail(self, why: str) -> None:
        self.state = SenderState.FAILED
        self.failure = why


@attrs.frozen(slots=True)
class _CopyName:
    """What makes two chunks parts of one copy."""

    source: HostId
    copy_id: int
    index: Index
    index_term: Term
    chunks: int


@attrs.frozen(slots=True)
class Received:
    """What comes of one chunk: the answer, if there is one, and commands for the store, in order."""

    reply: CopyReply | None = None
    commands: tuple[StageChunk | InstallCopy, ...] = ()


_SILENCE: Final = Received()


class CopyReceiver:
    """Takes the chunks of one copy of one shard in order, has them staged, and has the copy installed.

    Between ``InstallCopy`` and ``installed`` the shard must take no entries (``installing``).
    ``bad_checksums`` counts damaged chunks for an operator.
    """

    def __init__(self, shard: ShardId, limits: Limits) -> None:
        self.shard = shard
        self.bad_checksums = 0
        self._silence_us = limits.copy_silence_ms_max * 1000
        self._receiving: _CopyName | None = None
        self._installed: _CopyName | None = None
        self._installing: CopyChunk | None = None
        self._install_number = 0
        self._next_number = 0
        self._bad_in_a_row = 0
        self._heard_us = 0

    @property
    def installing(self) -> bool:
        """All chunks are staged and the store is replacing state and log."""
        return self._installing is not None

    @property
    def installs_ordered(self) -> bool:
        """The copy that the store is installing was sent by another than the leader."""
        return isinstance(self._installing, OrderedChunk)

    @property
    def index_on_its_way(self) -> Index | None:
        """The index of the copy being received."""
        return self._receiving.index if self._receiving is not None else None

    def receive(self, source: HostId, chunk: CopyChunk, own_index: Index, now_us: int) -> Received:
        """One chunk from host ``source``. A copy that is not newer than ``own_index`` is refused.

        ``own_index`` is up to where this replica needs no copy: a follower's commit index, a learner's
        last index. The same chunk again is answered again.
        """
        name = _CopyName(source, chunk.copy_id, chunk.index, chunk.index_term, chunk.chunks)
        if name == self._installed:
            return Received(_reply(chunk, chunk.chunks))
        if self._installing is not None:
            # The last chunk is answered only when the copy stands; this says that we live.
            return Received(_reply(chunk, self._next_number - 1)) if name == self._receiving else _SILENCE
        if chunk.index <= own_index or not 0 <= chunk.number < chunk.chunks:
            return Received(_reply(chunk, 0, refused=True))
        if name != self._receiving:
            return self._of_another_copy(name, chunk, now_us)
        self._heard_us = now_us
        if chunk.number != self._next_number:
            return Received(_reply(chunk, self._next_number))
        return self._in_order(chunk) if _is_whole(chunk) else self._damaged(chunk)

    def installed(self, number: int) -> CopyReply | None:
        """The store installed the copy durably: the sender may hear that it is complete."""
        chunk = self._installing
        if chunk is None or number != self._install_number:
            return None
        self._installed, self._receiving, self._installing = self._receiving, None, None
        return _reply(chunk, chunk.chunks)

    def rejected(self, number: int) -> CopyReply | None:
        """The store would not install the copy: the sender may hear that it is refused, and make another."""
        chunk = self._installing
        if chunk is None or number != self._install_number:
            return None
        self._receiving = self._installing = None
        return _reply(chunk, 0, refused=True)

    def abandon(self) -> None:
        """This copy is not wanted any more; nothing happens to one that is being installed."""
        if self._installing is None:
            self._receiving = None

    def _of_another_copy(self, name: _CopyName, chunk: CopyChunk, now_us: int) -> Received:
        """Begin another copy at its first chunk, if it is the better one (see ``_gives_way``)."""
        if not self._gives_way(name, now_us):
            return _SILENCE
        if chunk.number != 0:
            return Received(_reply(chunk, 0))
        if not _is_whole(chunk):
            self.bad_checksums += 1
            return Received(_reply(chunk, 0))
        self._receiving = name
        self._next_number = 0
        self._heard_us = now_us
        return self._in_order(chunk)

    def _gives_way(self, name: _CopyName, now_us: int) -> bool:
        """Whether the copy being received, if any, gives way to ``name``.

        To a later one of the same sender, which has dropped the former; to a newer index; to any when
        its own sender has fallen silent. A stray chunk of an older copy changes nothing.
        """
        current = self._receiving
        if current is None:
            return True
        if name.source == current.source:
            return name.copy_id > current.copy_id
        return name.index > current.index or now_us - self._heard_us >= self._silence_us

    def _in_order(self, chunk: CopyChunk) -> Received:
        self._bad_in_a_row = 0
        self._next_number += 1
        stage = StageChunk(self.shard, chunk.number, chunk.data)
        if self._next_number < chunk.chunks:
            return Received(_reply(chunk, self._next_number), (stage,))
        self._installing = chunk
        self._install_number += 1
        install = InstallCopy(self.shard, self._install_number, chunk.index, chunk.index_term)
        return Received(None, (stage, install))

    def _damaged(self, chunk: CopyChunk) -> Received:
        self.bad_checksums += 1
        self._bad_in_a_row += 1
        if self._bad_in_a_row < _BAD_CHECKSUMS_MAX:
            return Received(_reply(chunk, self._next_number))
        self._bad_in_a_row = 0
        self._receiving = None
        return Received(_reply(chunk, 0, refused=True))


def _is_whole(chunk: CopyChunk) -> bool:
    return crc32(chunk.data) == chunk.checksum


def _reply(chunk: CopyChunk, next_number: int, *, refused: bool = False) -> CopyReply:
    return CopyReply(
        shard=chunk.shard,
        term=chunk.term,
        from_replica=chunk.to_replica,
        to_replica=chunk.from_replica,
        copy_id=chunk.copy_id,
        next_number=next_number,
        refused=refused,
    )
