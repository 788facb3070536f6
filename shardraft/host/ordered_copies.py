"""The source's side of copies that a leader ordered from a follower: what was ordered here, and what came of it.

Decision 0016. The copy itself is one of ``outbound_copies``, like those of a leader, and keeps to the same limits.
"""

from __future__ import annotations

import attrs

from shardraft.config import Limits
from shardraft.host.copy import CopyTarget
from shardraft.host.flushing import Flushing
from shardraft.host.messages import CopyOrder, CopyOrderOutcome, CopyOrderReply
from shardraft.host.outbound_copies import OutboundCopies
from shardraft.host.outbox import Outbox
from shardraft.host.voter import Voter
from shardraft.types import NO_HOST, HostId, Index, ReplicaId, ShardId

_Key = tuple[ShardId, ReplicaId]


@attrs.define(slots=True, eq=False)
class _Taken:
    """An order that was taken, of the leader on ``leader``, for the follower on ``host``.

    ``index`` is what the leader was last told. The order is kept with its outcome, since it may be sent again.
    """

    order: CopyOrder
    leader: HostId
    host: HostId
    taken_us: int
    outcome: CopyOrderOutcome = CopyOrderOutcome.SENDING
    is_begun: bool = False
    index: Index = 0


class OrderedCopies:
    """The one owner of the orders that this host's followers took: at most one for each target."""

    def __init__(
        self,
        limits: Limits,
        outbound: OutboundCopies,
        outbox: Outbox,
        flushing: Flushing,
        voters: dict[ShardId, Voter],
    ) -> None:
        self._outbound = outbound
        self._outbox = outbox
        self._flushing = flushing
        self._voters = voters
        self._wait_us = limits.copy_order_ms_max * 1000
        self._taken: dict[_Key, _Taken] = {}

    def take(self, voter: Voter, leader: HostId, order: CopyOrder, now_us: int) -> None:
        """The leader on host ``leader`` lets this follower send a copy, or asks how that goes."""
        key = voter.shard, order.target
        taken = self._taken.get(key)
        if taken is None or _supersedes(order, taken.order):
            self._end(key, now_us)
            taken = self._taken[key] = _Taken(order, leader, voter.host_of(order.target), now_us)
            if voter.installing or taken.host in (NO_HOST, leader) or self._outbound.is_full:
                taken.outcome = CopyOrderOutcome.FAILED
            else:
                self._begin(voter, taken, now_us)
        if taken.order.order == order.order:
            self._answer(voter, taken)

    def withdraw(self, order: CopyOrder, now_us: int) -> None:
        """Another replica sends the copy: what was ordered here before that is not sent any more."""
        key = order.shard, order.target
        taken = self._taken.get(key)
        if taken is not None and _supersedes(order, taken.order):
            self._end(key, now_us)

    def _begin(self, voter: Voter, taken: _Taken, now_us: int) -> None:
        """Send what is flushed, if it is new enough for the leader's log to follow it; else wait for the flush."""
        order, machine = taken.order, voter.machine
        if machine.flushed_index >= order.index_min:
            taken.is_begun = True
            target = CopyTarget(
                voter.shard,
                taken.host,
                term=order.term,
                from_replica=voter.raft.replica,
                to_replica=order.target,
                order=order.order,
                index_min=order.index_min,
            )
            self._outbound.want(target, now_us)
        elif now_us - taken.taken_us >= self._wait_us:
            taken.outcome = CopyOrderOutcome.FAILED
        elif machine.last_applied >= order.index_min:
            self._flushing.want()

    def ended(self, target: CopyTarget, index: Index | None) -> None:
        """The copy is installed at ``index``, or has failed (None): the leader hears it."""
        taken = self._taken.get((target.shard, target.to_replica))
        voter = self._voters.get(target.shard)
        if taken is None or voter is None or taken.order.order != target.order:
            return
        taken.outcome = CopyOrderOutcome.FAILED if index is None else CopyOrderOutcome.INSTALLED
        taken.index = index or 0
        self._answer(voter, taken)

    def turn(self, now_us: int) -> None:
        """Begin what waited for a flush, say from where the leader's log is needed, and forget other terms' orders."""
        for key, taken in tuple(self._taken.items()):
            voter = self._voters.get(key[0])
            if voter is None or voter.raft.term != taken.order.term or voter.stopped:
                self._end(key, now_us)
            elif taken.outcome is CopyOrderOutcome.SENDING:
                self._go_on(voter, taken, now_us)

    def _go_on(self, voter: Voter, taken: _Taken, now_us: int) -> None:
        if not taken.is_begun:
            self._begin(voter, taken, now_us)
        index = self._outbound.index_on_its_way_to(voter.shard, taken.host) if taken.is_begun else 0
        if index != taken.index or taken.outcome is not CopyOrderOutcome.SENDING:
            taken.index = index
            self._answer(voter, taken)

    def forget(self, shard: ShardId) -> None:
        """The replica of ``shard`` leaves this host; its copies have ended."""
        for key in [key for key in self._taken if key[0] == shard]:
            del self._taken[key]

    def _end(self, key: _Key, now_us: int) -> None:
        taken = self._taken.pop(key, None)
        if taken is not None and taken.is_begun and taken.outcome is CopyOrderOutcome.SENDING:
            self._outbound.forget_follower(key[0], taken.host, now_us)

    @property
    def idle(self) -> bool:
        """No order is kept."""
        return not self._taken

    @property
    def deadline_us(self) -> int | None:
        """When one that waits for a flush has waited long enough; None while none waits."""
        waiting = [
            taken.taken_us + self._wait_us
            for taken in self._taken.values()
            if not taken.is_begun and taken.outcome is CopyOrderOutcome.SENDING
        ]
        return min(waiting, default=None)

    def _answer(self, voter: Voter, taken: _Taken) -> None:
        order = taken.order
        between = (voter.shard, order.term, voter.raft.replica, order.from_replica)
        self._outbox.to_host(taken.leader, CopyOrderReply(*between, order.order, taken.index, taken.outcome))


def _supersedes(order: CopyOrder, former: CopyOrder) -> bool:
    """Whether ``order`` counts instead of ``former``, which is for the same target."""
    return (order.term, order.order) > (former.term, former.order)
