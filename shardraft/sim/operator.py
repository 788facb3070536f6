"""The operator of a simulated cluster: asks hosts to change the voters of a shard, or its leader."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from shardraft.errors import ShardraftError
from shardraft.host.changing import next_replica
from shardraft.host.events import RequestReceived, Tick
from shardraft.kv.requests import ChangeMembersRequest, ClientReply, TransferRequest
from shardraft.raft.membership import MembershipChange
from shardraft.sim.process import Process
from shardraft.types import NO_HOST, HostId, Member, ShardId

_CONNECTION: Final = 0
"""Hosts number their connections from 1; what is said on this one reaches the operator and nobody else."""
_TIMEOUT_MS: Final = 10_000


class Operator:
    """Asks the leader of the moment, as far as any says so. ``answers`` are by request id, while they are kept."""

    def __init__(self, leader_of: Callable[[ShardId], Process | None]) -> None:
        self.answers: dict[int, ClientReply] = {}
        self._leader_of = leader_of
        self._next_request_id = 1

    def change_members(self, shard: ShardId, *, add: HostId = NO_HOST, remove: HostId = NO_HOST) -> int | None:
        """Ask for other voters; the request's id, or None when nobody leads."""
        return self._ask(shard, lambda number: ChangeMembersRequest(number, shard, _TIMEOUT_MS, add, remove))

    def change_several(self, shard: ShardId, add: Sequence[HostId], remove: Sequence[HostId]) -> bool:
        """Begin any change at all, which no request can ask for yet; False when nobody leads or it is refused."""
        leader = self._leader_of(shard)
        if leader is None or leader.host is None or leader.is_paused:
            return False
        voter = leader.host.voters[shard]
        first = next_replica(voter)
        joins = tuple(Member(replica, host) for replica, host in enumerate(add, first))
        leaves = tuple(sorted(voter.raft.membership.replica_on(host) for host in remove))
        try:
            voter.raft.propose_membership(MembershipChange(joins, leaves), leader.clock.now_us())
        except ShardraftError:
            return False
        leader.host.touch(voter)
        leader.take(Tick)
        return True

    def transfer(self, shard: ShardId, host: HostId) -> int | None:
        """Ask for another leader; the request's id, or None when nobody leads."""
        return self._ask(shard, lambda number: TransferRequest(number, shard, _TIMEOUT_MS, host))

    def _ask(self, shard: ShardId, request_of: Callable[[int], Any]) -> int | None:
        leader = self._leader_of(shard)
        if leader is None:
            return None
        number = self._next_request_id
        self._next_request_id += 1
        leader.take(RequestReceived, _CONNECTION, request_of(number))
        return number

    def hear(self, replies: Iterable[tuple[int, tuple[ClientReply, ...]]]) -> None:
        """Replies leave a host; those on the operator's connection arrive here at once."""
        for connection, of_connection in replies:
            if connection == _CONNECTION:
                self.answers.update((reply.request_id, reply) for reply in of_connection)
