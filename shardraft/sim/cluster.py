"""A simulated cluster for stories: nothing breaks but what the story breaks.

::

    cluster = Cluster()
    leader = cluster.elect()
    cluster.isolate(leader)
    write = cluster.put(b"k", b"v", via=leader)
    cluster.run(seconds=5)
    assert not write.done
    cluster.heal()
    cluster.settle()
    assert cluster.get_everywhere(b"k") is None

The invariants are checked all the time. Calls are those of the router's core: ``done``, then
``error`` or ``revision``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from shardraft.config import HostConfig
from shardraft.host.host import Host
from shardraft.kv.commands import ANY_REVISION, DELETE, PUT
from shardraft.kv.requests import ClientReply, Consistency, ErrorReply
from shardraft.sim.client import SimClient
from shardraft.sim.network import Node
from shardraft.sim.options import SimulationOptions
from shardraft.sim.process import Process
from shardraft.sim.settled import is_settled
from shardraft.sim.trace import Listener
from shardraft.sim.workload import WorkloadOptions
from shardraft.sim.world import World
from shardraft.types import HostId, ShardId, Term
from shardraft_router.core import RouterLimits
from shardraft_router.core.calls import Call, ReadCall, WriteCall

SETTLE_SECONDS_MAX: Final = 10.0
_STEP_US: Final = 5_000


class Cluster:
    """Verbs for a story about ``hosts`` voter hosts, their shards and their learners.

    ``spares`` are further hosts, numbered after those, which hold nothing until they are added to a shard.
    """

    def __init__(
        self,
        *,
        hosts: int = 3,
        spares: int = 0,
        shards: int = 1,
        learners: tuple[int, ...] = (),
        seed: int = 1,
        config: HostConfig | None = None,
        router: RouterLimits | None = None,
        listener: Listener | None = None,
    ) -> None:
        options = SimulationOptions(
            seed=seed,
            hosts=hosts,
            spares=spares,
            shards=shards,
            learners=learners,
            faults=False,
            config=config or HostConfig(),
            workload=WorkloadOptions(clients=0),
        )
        self.world = World(options, listener)
        self._router = router or RouterLimits()
        self._clients: dict[HostId, SimClient] = {}
        self.world.start()

    # Time.

    @property
    def now_ms(self) -> float:
        """Virtual time since the cluster began."""
        return self.world.agenda.now_us / 1000

    def run(self, *, seconds: float) -> None:
        """Let time pass."""
        self.world.run(seconds)

    def run_until(self, condition: Callable[[], bool], *, seconds_max: float = SETTLE_SECONDS_MAX) -> None:
        """Let time pass until ``condition`` holds; raises ``SimulationFailure`` when it does not within that time."""
        limit_us = self.world.agenda.now_us + int(seconds_max * 1e6)
        while not condition():
            if self.world.agenda.now_us >= limit_us:
                raise self.world.failure(f"it did not come to pass within {seconds_max} s")
            self.world.run_until(self.world.agenda.now_us + _STEP_US)

    def settle(self, *, seconds_max: float = SETTLE_SECONDS_MAX) -> None:
        """Let time pass until every shard has a leader and everybody has applied all that is committed."""
        self.run_until(self.world.has_settled, seconds_max=seconds_max)

    # Who is who.

    def elect(self, shard: ShardId = 1) -> HostId:
        """Let time pass until ``shard`` has a leader; its host."""
        self.run_until(lambda: self.leader(shard) is not None)
        leader = self.leader(shard)
        assert leader is not None
        return leader

    def elect_other_than(self, host: HostId, shard: ShardId = 1) -> HostId:
        """Let time pass until another host than ``host`` leads ``shard`` in the latest term."""
        self.run_until(lambda: self.leader(shard) not in (None, host))
        return self.elect(shard)

    def leader(self, shard: ShardId = 1) -> HostId | None:
        """The host that leads ``shard`` in the latest term, as far as any host says so."""
        process = self.world.leader_of(shard)
        return None if process is None else process.node

    def followers(self, shard: ShardId = 1) -> list[HostId]:
        """The members' hosts but the leader's."""
        return [host for host in self.members(shard) if host != self.leader(shard)]

    def members(self, shard: ShardId = 1) -> list[HostId]:
        """The hosts of the shard's members, by the latest configuration that is committed."""
        return sorted(member.host for member in self.world.invariants.members.committed(shard).members)

    def holders(self, shard: ShardId = 1) -> list[HostId]:
        """The voter hosts that are up and hold a replica of the shard, whether it is a member or not."""
        return [p.node for p in self.world.voters() if p.host is not None and shard in p.host.replicas]

    def learners(self) -> list[HostId]:
        """The learners, tier by tier."""
        return [process.node for process in self.world.learners()]

    def process(self, node: HostId) -> Process:
        """The process of a host or learner."""
        return self.world.processes[node]

    def host(self, node: HostId) -> Host:
        """The ``Host`` of a process that is up."""
        host = self.process(node).host
        assert host is not None, f"{node} is down"
        return host

    def term(self, node: HostId, shard: ShardId = 1) -> Term:
        """The current term of a voter."""
        return self.host(node).voters[shard].raft.term

    def leads(self, node: HostId, shard: ShardId = 1) -> bool:
        """Does that host believe that it leads ``shard``?"""
        return shard in self.host(node).leads()

    # What happens to them.

    def crash(self, *nodes: HostId) -> None:
        """Kill these processes."""
        for node in nodes:
            self.world.crash(node)

    def restart(self, *nodes: HostId) -> None:
        """Start these processes from their disks."""
        for node in nodes:
            self.world.start_process(node)

    def isolate(self, node: HostId) -> None:
        """Cut a host off from all other hosts and learners; clients still reach it."""
        others = [other for other in self.world.processes if other != node]
        self.world.cut([(node, other) for other in others] + [(other, node) for other in others])

    def cut_one_way(self, source: Node, *targets: Node) -> None:
        """Let nothing that ``source`` sends arrive at ``targets``."""
        self.world.cut([(source, target) for target in targets])

    def heal(self) -> None:
        """Connect everybody, start everybody, let disks and network be good."""
        self.world.heal()

    # What an operator asks.

    def ask_members(self, *, add: HostId = 0, remove: HostId = 0, shard: ShardId = 1) -> int:
        """Ask the leader for other voters; the request's id."""
        self.run_until(lambda: self._has_ready_leader(shard))
        request = self.world.operator.change_members(shard, add=add, remove=remove)
        assert request is not None
        return request

    def _has_ready_leader(self, shard: ShardId) -> bool:
        leader = self.leader(shard)
        raft = self.host(leader).voters[shard].raft if leader is not None else None
        return raft is not None and raft.leading is not None and raft.leading.committed_own_term

    def answer(self, request: int) -> ClientReply:
        """The answer to what an operator asked; waits for it, and until no step is left uncommitted."""
        self.run_until(lambda: request in self.world.operator.answers)
        self.run_until(self._steps_are_committed)
        return self.world.operator.answers[request]

    def _steps_are_committed(self) -> bool:
        hosts = [process.host for process in self.world.voters() if process.host is not None]
        rafts = [voter.raft for host in hosts for voter in host.voters.values()]
        return all(raft.membership_index <= raft.commit_index for raft in rafts if raft.leading is not None)

    def change_members(self, *, add: HostId = 0, remove: HostId = 0, shard: ShardId = 1) -> None:
        """Ask for other voters, and let time pass until the change has come to its end."""
        answer = self.answer(self.ask_members(add=add, remove=remove, shard=shard))
        # A leader that removed itself leads no more when its first step is committed, and cannot vouch for it.
        assert not isinstance(answer, ErrorReply) or answer.error.applied == "unknown", answer
        self.run_until(lambda: self._has_changed(shard, add, remove), seconds_max=30)

    def _has_changed(self, shard: ShardId, add: HostId, remove: HostId) -> bool:
        members = self.members(shard)
        return (not add or add in members) and remove not in members and is_settled(self.world.leader_of(shard), shard)

    def transfer(self, host: HostId, shard: ShardId = 1) -> int:
        """Ask the leader to hand over to ``host``; the request's id."""
        request = self.world.operator.transfer(shard, host)
        assert request is not None
        return request

    # What clients ask.

    def client(self, via: HostId | None = None) -> SimClient:
        """A client that reaches every host, or only the one named."""
        name = via or 0
        if name not in self._clients:
            client = self._clients[name] = self.world.add_client(self._router)
            others = [process.node for process in self.world.processes.values() if via not in (None, process.node)]
            self.world.cut([(client.node, other) for other in others])
        return self._clients[name]

    def put(
        self,
        key: bytes,
        value: bytes,
        *,
        via: HostId | None = None,
        if_revision: int = ANY_REVISION,
        timeout_seconds: float = 10.0,
    ) -> WriteCall:
        """Begin a put."""
        return self._write(PUT, key, value, if_revision, via, timeout_seconds)

    def delete(self, key: bytes, *, via: HostId | None = None, timeout_seconds: float = 10.0) -> WriteCall:
        """Begin a delete."""
        return self._write(DELETE, key, b"", ANY_REVISION, via, timeout_seconds)

    def _write(
        self, kind: int, key: bytes, value: bytes, condition: int, via: HostId | None, timeout_seconds: float
    ) -> WriteCall:
        client = self.client(via)
        deadline_us = client.clock.now_us() + int(timeout_seconds * 1e6)
        call = client.core.write(kind, key, value, condition, deadline_us)
        call.waiter = None
        client.pump()
        return call

    def get(
        self, key: bytes, *, via: HostId | None = None, stale: bool = False, timeout_seconds: float = 10.0
    ) -> ReadCall:
        """Begin a read."""
        client = self.client(via)
        consistency = Consistency.STALE if stale else Consistency.LINEARIZABLE
        call = client.core.read(key, consistency, client.clock.now_us() + int(timeout_seconds * 1e6))
        call.waiter = None
        client.pump()
        return call

    def wait(self, *calls: Call) -> None:
        """Let time pass until all of these are done."""
        self.run_until(lambda: all(call.done for call in calls), seconds_max=60.0)

    def write(self, key: bytes, value: bytes) -> int:
        """Put and wait; the revision. Raises the call's error."""
        call = self.put(key, value)
        self.wait(call)
        if call.error is not None:
            raise call.error
        return call.revision

    def read(self, key: bytes) -> bytes | None:
        """Read linearizably and wait. Raises the call's error."""
        call = self.get(key)
        self.wait(call)
        if call.error is not None:
            raise call.error
        return call.values[0]

    def get_everywhere(self, key: bytes) -> bytes | None:
        """What every replica has applied for ``key``; asserts that they agree."""
        shard, routing = self.world.shard_map.locate(key)
        found = {}
        for node, process in self.world.processes.items():
            if process.host is not None and shard.shard in process.host.replicas:
                stored = process.host.replicas[shard.shard].machine.get(routing)
                found[node] = None if stored is None else stored.value
        values = list(found.values())
        assert values.count(values[0]) == len(values), f"replicas differ: {found}"
        return values[0]
