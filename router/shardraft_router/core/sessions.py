"""Exactly-once sessions as the router keeps them (thesis 6.3; PROTOCOL, "Operations, sessions, revisions").

A session belongs to one router and one shard. All of a router's sessions have ids derived from
its one random 128-bit number, so the identity of an operation, (session, sequence, position), is
unique in the cluster, sequences of a shard have no gaps that would use up its window, and tables
that a merge unites cannot confuse two operations.
"""

from __future__ import annotations

from typing import Final

from shardraft.types import SessionId

SESSION_BYTES: Final = 16


class Session:
    """Numbers batches, and knows which of them may still be sent again.

    ``opened`` once the shard acknowledged a batch. ``outstanding`` counts, per sequence, the pieces of
    the batch that are not settled; a batch has several after it was regrouped. It is ordered, since
    sequences are handed out ascending.
    """

    __slots__ = ("next_sequence", "opened", "outstanding", "session")

    def __init__(self, session: SessionId) -> None:
        self.session = session
        self.next_sequence = 0
        self.opened = False
        self.outstanding: dict[int, int] = {}

    @property
    def answered_below(self) -> int:
        """Nothing below this will ever be sent again, so the shard may forget its results.

        A late copy of something below is refused by the shard, never applied afresh.
        """
        for sequence in self.outstanding:
            return sequence
        return self.next_sequence

    def begin(self) -> int:
        """The sequence of a fresh batch."""
        sequence = self.next_sequence
        self.next_sequence = sequence + 1
        self.outstanding[sequence] = 1
        return sequence

    def divide(self, sequence: int, pieces: int) -> None:
        """One piece of ``sequence`` became ``pieces`` (0: it is settled)."""
        remaining = self.outstanding[sequence] - 1 + pieces
        if remaining:
            self.outstanding[sequence] = remaining
        else:
            del self.outstanding[sequence]

    def finish(self, sequence: int) -> None:
        """One piece of ``sequence`` is settled: answered, or given up and never sent again."""
        self.divide(sequence, 0)


class SessionSource:
    """Derives session ids from the router's random number: no two of a router are equal."""

    __slots__ = ("_next",)

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SESSION_BYTES:
            raise ValueError(f"a session is {SESSION_BYTES} random bytes, not {len(seed)}")
        self._next = int.from_bytes(seed, "big")

    def fresh(self) -> Session:
        number = self._next
        self._next = (number + 1) % (1 << (8 * SESSION_BYTES))
        return Session(number.to_bytes(SESSION_BYTES, "big"))
