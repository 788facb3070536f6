"""The leader's side of copies that others send: whom it ordered to send one to whom, and when it does so itself.

Decision 0016. A follower that needs a copy gets it from another that is caught up; the leader only says so, asks now
and then how it goes, and sends the copy itself where nobody can, or where nothing happens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from shardraft.config import Limits
from shardraft.host.followers import sources_of_copies
from shardraft.host.messages import CopyOrder, CopyOrderOutcome, CopyOrderReply
from shardraft.host.outbox import Outbox
from shardraft.host.turn import CopyNote
from shardraft.host.voter import Voter
from shardraft.types import Index, ReplicaId, ShardId

_Key = tuple[ShardId, ReplicaId]

_QUESTIONS: Final = 4
"""An order is sent again, which asks how it goes, this often before it is given up."""


@attrs.define(slots=True, eq=False)
class _Given:
    """An order that was given; ``index`` is that of the copy, 0 while it is not known."""

    order: CopyOrder
    answered_us: int
    asked_us: int
    index: Index = 0


class CopyOrders:
    """The one owner of the orders that this host's leaders gave. At most one stands for each follower.

    ``send_ourselves`` is called for a follower to whom nobody else sends. ``first_order`` must be above
    every number that this host used in earlier starts.
    """

    def __init__(
        self,
        limits: Limits,
        first_order: int,
        voters: dict[ShardId, Voter],
        outbox: Outbox,
        send_ourselves: Callable[[Voter, ReplicaId, int], None],
    ) -> None:
        self._next_order = first_order
        self._voters = voters
        self._outbox = outbox
        self._send_ourselves = send_ourselves
        self._silence_us = limits.copy_order_ms_max * 1000
        self._ask_us = max(1, self._silence_us // _QUESTIONS)
        self._given: dict[_Key, _Given] = {}

    def give(self, voter: Voter, target: ReplicaId, now_us: int) -> bool:
        """Order the best source to send ``target`` a copy; False when there is none."""
        index_min = voter.log.first_index - 1
        sources = sources_of_copies(voter, target, index_min, now_us)
        if not sources:
            return False
        source = min(sources, key=lambda each: (self._busy(voter, each.replica), -each.match_index, each.replica))
        order = self._order(voter, source.replica, target, index_min)
        self._given[voter.shard, target] = given = _Given(order, now_us, now_us)
        self._send(voter, given.order)
        self._note(voter, order, "copy ordered")
        return True

    def _busy(self, voter: Voter, source: ReplicaId) -> int:
        """How many copies the host of ``source`` was ordered to send."""
        host = voter.host_of(source)
        hosts = [self._voters[shard].host_of(given.order.source) for (shard, _), given in self._given.items()]
        return hosts.count(host)

    def _order(self, voter: Voter, source: ReplicaId, target: ReplicaId, index_min: Index) -> CopyOrder:
        raft = voter.raft
        number, self._next_order = self._next_order, self._next_order + 1
        return CopyOrder(voter.shard, raft.term, raft.replica, source, number, index_min, source, target)

    def _send(self, voter: Voter, order: CopyOrder, *others: ReplicaId) -> None:
        for replica in {order.source: None, order.target: None, **dict.fromkeys(others)}:
            if replica != voter.raft.replica:
                self._outbox.to_host(voter.host_of(replica), attrs.evolve(order, to_replica=replica))

    def answered(self, voter: Voter, reply: CopyOrderReply, now_us: int) -> None:
        """A source says what has come of its order; one that was withdrawn or has ended is nobody's any more."""
        key, given = self._find(voter, reply)
        if given is None:
            return
        given.answered_us = now_us
        if reply.outcome is CopyOrderOutcome.SENDING:
            given.index = max(given.index, reply.index)
        elif reply.outcome is CopyOrderOutcome.INSTALLED:
            del self._given[key]
            self._note(voter, given.order, f"copy at index {reply.index} installed")
            voter.raft.copy_finished(given.order.target, reply.index)
        else:
            self._relieve(voter, given, "the order failed", now_us)

    def _find(self, voter: Voter, reply: CopyOrderReply) -> tuple[_Key, _Given | None]:
        raft = voter.raft
        for key, given in self._given.items():
            if key[0] != voter.shard or given.order.order != reply.order:
                continue
            if reply.from_replica != given.order.source or reply.term != given.order.term:
                raft.refuse(f"replica {reply.from_replica} answers an order that replica {given.order.source} got")
            elif reply.index > raft.log.last_index:
                raft.refuse(f"replica {reply.from_replica} sends a copy at entry {reply.index}, which is not there")
            else:
                return key, given
        return (voter.shard, 0), None

    def turn(self, now_us: int) -> None:
        """Ask again, forget what has ended, and send ourselves what nobody sends."""
        for key, given in tuple(self._given.items()):
            voter = self._voters.get(key[0])
            if voter is None or voter.raft.leading is None or voter.raft.term != given.order.term:
                del self._given[key]
                continue
            progress = voter.raft.leading.progress.get(given.order.target)
            if progress is None or not progress.copying:
                del self._given[key]  # It has the copy and said so, or needs none any more.
            elif now_us - given.answered_us >= self._silence_us:
                self._relieve(voter, given, "nothing was heard of the order", now_us)
            elif now_us - given.asked_us >= self._ask_us:
                given.asked_us = now_us
                self._send(voter, given.order)

    def _relieve(self, voter: Voter, given: _Given, why: str, now_us: int) -> None:
        """Never two sources for one target: the former and the target hear that the leader sends now."""
        former = given.order
        del self._given[voter.shard, former.target]
        self._note(voter, former, f"copy is sent by the leader, {why}")
        order = self._order(voter, voter.raft.replica, former.target, former.index_min)
        self._send(voter, order, former.source)
        self._send_ourselves(voter, former.target, now_us)

    def forget(self, shard: ShardId) -> None:
        """The replica of ``shard`` leaves this host."""
        for key in [key for key in self._given if key[0] == shard]:
            del self._given[key]

    def has_given(self, shard: ShardId, target: ReplicaId) -> bool:
        """Whether another replica was ordered to send ``target`` a copy."""
        return (shard, target) in self._given

    def index_on_its_way_to(self, shard: ShardId, target: ReplicaId) -> Index:
        """The index of the copy that another sends ``target``; 0 while it is not known."""
        given = self._given.get((shard, target))
        return given.index if given is not None else 0

    @property
    def idle(self) -> bool:
        """No order stands."""
        return not self._given

    @property
    def deadline_us(self) -> int | None:
        """When ``turn`` has something to do; None while no order stands."""
        due = [min(each.asked_us + self._ask_us, each.answered_us + self._silence_us) for each in self._given.values()]
        return min(due, default=None)

    def _note(self, voter: Voter, order: CopyOrder, what: str) -> None:
        host = voter.host_of(order.target)
        text = f"{what}, from host {voter.host_of(order.source)} to host {host}"
        self._outbox.notes.append(CopyNote(voter.shard, host, text))
