"""A feed with a log that the test writes, as the tests of the parent's side see it."""

from __future__ import annotations

from shardraft.config import Limits
from shardraft.learner.feed import Feed
from shardraft.learner.messages import (
    Attach,
    AttachOutcome,
    AttachReply,
    ChildHello,
    FeedAck,
    FeedEntries,
    LearnerMessage,
    ParentHello,
)
from shardraft.learner.ready import FeedReady
from shardraft.types import Index, Term
from tests.learner.logs import SHARD, ListLog, entries, entry

VOTER = 1
HELLO = ParentHello(VOTER, 0, (VOTER,))
ENTRY_BYTES = len(entry(1).encoded)


class Parent:
    """A feed of one shard whose log the test writes; everything sent is kept by connection."""

    def __init__(self, limits: Limits | None = None, log: ListLog | None = None) -> None:
        self.log = log if log is not None else ListLog()
        self.hashes: dict[Index, int] = {}
        self.feed = Feed(VOTER, limits or Limits(), heartbeat_ms=50)
        self.feed.set_hello(HELLO)
        self.feed.add_shard(SHARD, self.log, self.log.last_index, self.hashes.get)
        self.sent: dict[int, list[LearnerMessage]] = {}
        self.last = FeedReady()

    def child(self, connection: int, *, host: int | None = None) -> None:
        self.feed.greet(connection, ChildHello(host or 100 + connection, f"child{connection}:1", ()))

    def attach(self, connection: int, index: Index, term: Term = 1, applied_hash: int = 0) -> AttachOutcome:
        if connection not in {child.connection for child in self.feed.children()}:
            self.child(connection)
        outcome = self.feed.attach(connection, Attach(SHARD, index, term, applied_hash, 1))
        self.turn()
        return outcome

    def commit(self, index: Index, term: Term = 1, *, payload_bytes: int = 0) -> None:
        """Append and commit everything up to ``index``, and take a turn."""
        self.log.append(entries(self.log.last_index + 1, index, term, payload_bytes=payload_bytes))
        self.feed.committed(SHARD, index)
        self.turn()

    def acknowledge(self, connection: int, index: Index) -> None:
        self.feed.acknowledged(connection, FeedAck(SHARD, index))
        self.turn()

    def turn(self) -> None:
        self.last = self.feed.take_ready()
        for connection, messages in self.last.messages:
            self.sent.setdefault(connection, []).extend(messages)

    def given(self, connection: int) -> list[Index]:
        """Every index sent to that child, in order."""
        sent = [m for m in self.sent.get(connection, []) if isinstance(m, FeedEntries)]
        return [item.index for message in sent for item in message.entries]

    def told(self, connection: int) -> list[AttachOutcome]:
        return [m.outcome for m in self.sent.get(connection, []) if isinstance(m, AttachReply)]
