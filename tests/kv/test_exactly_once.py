"""Exactly once under random retries, reorderings, regroupings, flushes, restarts and changes of the range.

Clients freeze batches, the network delivers them in any order and as often as it likes, whole or regrouped, and
the machine must always equal a reference that remembers the first result of every operation for ever.
"""

from __future__ import annotations

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from shardraft.config import Limits
from shardraft.kv.commands import ABSENT, ANY_REVISION, DELETE, PUT, Batch, BatchResult, Outcome, Refusal
from shardraft.kv.door import check_batch
from shardraft.kv.evaluate import select
from shardraft.kv.sessions import split_result
from shardraft.shards.keyspace import KeyRange
from tests.kv.reference import Reference, Told
from tests.kv.replica import SHARD, Op, Replica, batch_of

WINDOW = 6
SESSIONS = (b"session-0-------", b"session-1-------")
RANGES = (KeyRange(), KeyRange(b"b", b"d"), KeyRange(b"", b"c"), KeyRange(b"c", b""))

operations = st.lists(
    st.tuples(
        st.sampled_from((PUT, PUT, DELETE)),
        st.sampled_from((b"a", b"b", b"c", b"d")),
        st.sampled_from((ANY_REVISION, ANY_REVISION, ABSENT, 1, 2, 5)),
    ),
    min_size=1,
    max_size=5,
)


@attrs.define
class Client:
    """What one session has sent and holds results of."""

    next_sequence: int = 0
    answered_below: int = 0
    is_open: bool = False


class ExactlyOnce(RuleBasedStateMachine):
    sent = Bundle("sent")

    def __init__(self) -> None:
        super().__init__()
        self.limits = Limits(session_window_max=WINDOW)
        self.replica = Replica(self.limits)
        self.reference = Reference(KeyRange())
        self.clients = {session: Client() for session in SESSIONS}
        self.revision_owner: dict[int, tuple[bytes, int, int]] = {}
        self.values_made = 0

    @rule(target=sent, session=st.sampled_from(SESSIONS), wanted=operations, atomic=st.booleans())
    def freeze(self, session: bytes, wanted: list[tuple[int, bytes, int]], atomic: bool) -> Batch:
        """A client freezes a batch; every value written is unique, so that a second write would show."""
        client = self.clients[session]
        listed = []
        for kind, key, condition in wanted:
            self.values_made += 1
            listed.append(Op(kind, key, b"%d" % self.values_made if kind == PUT else b"", condition))
        batch = batch_of(
            *listed,
            sequence=client.next_sequence,
            session=session,
            answered_below=client.answered_below,
            opens_session=not client.is_open,
            atomic=atomic,
        )
        check_batch(batch, self.limits, SHARD, KeyRange(), epoch=1)
        client.next_sequence += 1
        return batch

    @rule(target=sent, batch=consumes(sent), mask=st.lists(st.booleans(), min_size=5, max_size=5))
    def regroup(self, batch: Batch, mask: list[bool]) -> object:
        """After a map change some operations go one way and the others another."""
        places = range(len(batch.keys))
        groups = [[place for place in places if mask[place] == side] for side in (True, False)]
        if batch.atomic or not all(groups):
            return batch
        return multiple(batch, *(select(batch, group) for group in groups))

    @rule(batches=st.lists(sent, min_size=1, max_size=6))
    def deliver(self, batches: list[Batch]) -> None:
        """The network delivers batches: the first time, again, late, after their parts or before them."""
        for batch in batches:
            self.apply(batch)

    def apply(self, batch: Batch) -> None:
        client = self.clients[batch.session]
        result = self.replica.apply(batch)
        if not isinstance(result, BatchResult):
            self.check_refusal(batch, result)
            return
        client.is_open = True
        told = [(Outcome(each.outcome), each.revision, each.found_revision) for each in split_result(result)]
        expected = self.reference.apply(batch)
        assert told == expected
        self.check_revisions(batch, told)

    def check_refusal(self, batch: Batch, refusal: Refusal) -> None:
        [record] = [each for each in self.replica.machine.state().sessions if each.session == batch.session]
        if refusal is Refusal.WINDOW_FULL:
            assert batch.sequence >= record.answered_below + WINDOW
            assert not any(told[:2] == (batch.session, batch.sequence) for told in self.reference.told)
        else:
            assert refusal is Refusal.SESSION_EXPIRED
            assert batch.sequence < record.answered_below

    def check_revisions(self, batch: Batch, told: list[Told]) -> None:
        """No two operations ever share a revision, whatever became of them."""
        for position, (_, revision, _) in zip(batch.positions or range(len(told)), told, strict=True):
            identity = (batch.session, batch.sequence, position)
            assert self.revision_owner.setdefault(revision, identity) == identity

    @rule(session=st.sampled_from(SESSIONS), steps=st.integers(1, 4))
    def acknowledge(self, session: bytes, steps: int) -> None:
        """The client holds more results; its later batches say so."""
        client = self.clients[session]
        client.answered_below = min(client.answered_below + steps, client.next_sequence)

    @rule()
    def begin_flush(self) -> None:
        if not self.replica.machine.is_flushing:
            self.replica.begin_flush()

    @rule()
    def end_flush(self) -> None:
        if self.replica.machine.is_flushing:
            self.replica.end_flush()

    @rule()
    def flush(self) -> None:
        self.end_flush()
        self.replica.flush()

    @rule()
    def crash(self) -> None:
        self.replica.crash()

    @rule(key_range=st.sampled_from(RANGES))
    def change_range(self, key_range: KeyRange) -> None:
        """A split or merge: keys outside are another shard's for now, but this test has no other shard."""
        if self.replica.machine.is_flushing:
            self.replica.end_flush()
        self.replica.change_range(key_range)
        self.reference.key_range = key_range

    @invariant()
    def state_equals_the_reference(self) -> None:
        held = {key: (stored.revision, stored.value) for key, stored in self.replica.everything().items()}
        assert held == self.reference.values
        assert self.replica.machine.revision == self.reference.revision
        for key in (b"a", b"b", b"c", b"d"):
            stored = self.replica.machine.get(key)
            assert (None if stored is None else (stored.revision, stored.value)) == self.reference.values.get(key)

    @invariant()
    def the_table_is_bounded(self) -> None:
        for record in self.replica.machine.state().sessions:
            sequences = {sequence for sequence, _, _ in record.results}
            assert all(record.answered_below <= each < record.answered_below + WINDOW for each in sequences)


TestExactlyOnce = ExactlyOnce.TestCase
TestExactlyOnce.settings = settings(
    max_examples=200, stateful_step_count=50, deadline=None, derandomize=True, database=None
)
