"""The operator of a simulated cluster: asks hosts to change the voters of a shard, or its leader."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from shardraft.errors import ShardraftError
from shardraft.host.events import RequestReceived, Tick
from shardraft.host.voter import Voter
from shardraft.kv.requests import ClientReply, ErrorReply, TransferReply, TransferRequest
from shardraft.raft.membership import MembershipChange
from shardraft.sim.process import Process
from shardraft.types import NO_HOST, NO_REPLICA, HostId, Member, ShardId

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
        """Ask for other voters; the request's id, or None when nobody leads.

        It is answered at once: with an ``ErrorReply``, or with the leader that has appended the first step.
        """
        leader = self._leader_of(shard)
        if leader is None or leader.host is None:
            return None
        number = self._take_number()
        voter = leader.host.voters[shard]
        try:
            voter.raft.propose_membership(_change(voter, add, remove), leader.clock.now_us())
        except ShardraftError as error:
            self.answers[number] = ErrorReply(number, error)
        else:
            self.answers[number] = TransferReply(number, leader.node, voter.raft.term)
            leader.host.touch(voter)
            leader.take(Tick)
        return number

    def transfer(self, shard: ShardId, host: HostId) -> int | None:
        """Ask for another leader; the request's id, or None when nobody leads."""
        return self._ask(shard, lambda number: TransferRequest(number, shard, _TIMEOUT_MS, host))

    def _ask(self, shard: ShardId, request_of: Callable[[int], Any]) -> int | None:
        leader = self._leader_of(shard)
        if leader is None:
            return None
        number = self._take_number()
        leader.take(RequestReceived, _CONNECTION, request_of(number))
        return number

    def _take_number(self) -> int:
        self._next_request_id += 1
        return self._next_request_id - 1

    def hear(self, replies: Iterable[tuple[int, tuple[ClientReply, ...]]]) -> None:
        """Replies leave a host; those on the operator's connection arrive here at once."""
        for connection, of_connection in replies:
            if connection == _CONNECTION:
                self.answers.update((reply.request_id, reply) for reply in of_connection)


def _change(voter: Voter, add: HostId, remove: HostId) -> MembershipChange:
    """The change, under a replica number above all that the log and the state know of (PROTOCOL, members)."""
    raft = voter.raft
    known = [member.replica for each in raft.configurations.since(0) for member in each.members]
    number = max([*known, voter.machine.last_replica]) + 1
    leaves = raft.membership.replica_on(remove) if remove else NO_REPLICA
    joins = (Member(number, add),) if add else ()
    return MembershipChange(joins, (leaves,) if leaves else ())
