"""The target's side of copies that a leader ordered from another follower: whose chunks are taken (decision 0016)."""

from __future__ import annotations

import attrs

from shardraft.host.messages import CopyOrder, OrderedChunk
from shardraft.host.voter import Voter
from shardraft.raft.ready import Role
from shardraft.types import ShardId


class CopyAdmission:
    """The last order for each replica of this host that is to receive a copy from another follower.

    Nothing that is refused here changes a term, and nothing that is taken: who leads which term is what the
    leader itself says.
    """

    def __init__(self) -> None:
        self._orders: dict[ShardId, CopyOrder] = {}

    def admit(self, voter: Voter, order: CopyOrder) -> bool:
        """From now on chunks of ``order`` are taken; True when that makes those of another source strangers."""
        former = self._orders.get(voter.shard)
        if former is not None and (order.term, order.order) < (former.term, former.order):
            return False
        self._orders[voter.shard] = order
        return former is not None and former.source != order.source

    def withdraw(self, shard: ShardId) -> bool:
        """The leader sends a copy itself; True when another replica was to send one."""
        order = self._orders.get(shard)
        if order is None or order.source == order.from_replica:
            return False
        self._orders[shard] = attrs.evolve(order, source=order.from_replica)
        return True

    def forget(self, shard: ShardId) -> None:
        """The replica of ``shard`` leaves this host."""
        self._orders.pop(shard, None)

    def admits(self, voter: Voter, chunk: OrderedChunk) -> bool:
        """Whether the leader that is followed here ordered this chunk; refused and counted when it never did.

        A chunk of an earlier order, or of a term that is over, is merely late.
        """
        raft, order = voter.raft, self._orders.get(voter.shard)
        if chunk.term < raft.term or (order is not None and (chunk.term, chunk.order) < (order.term, order.order)):
            return False
        if (
            order is None
            or (order.term, order.order, order.source) != (chunk.term, chunk.order, chunk.from_replica)
            or (raft.term, raft.leader) != (order.term, order.from_replica)
        ):
            raft.refuse(f"replica {chunk.from_replica} sends a snapshot in term {chunk.term} that was not ordered")
            return False
        return raft.role is Role.FOLLOWER
